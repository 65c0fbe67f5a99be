"""Sweeps: cuts up to each layer (Figure 1a), from it, in it alone, in windows, and by head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import PairSet
from matchlens.corpora.own import named_parts, own_parts
from matchlens.directions import Cut, Direction
from matchlens.errors import Brief, InputError
from matchlens.parts import PADDING, OwnPart, Part
from matchlens.plan import Condition, LayerCut, bound, single_cuts
from matchlens.ranking import compare, holm
from matchlens.results import Result
from matchlens.studies.common import half
from matchlens.studies.cuts.cut_modes import (
    agreement,
    expand_modes,
    feasible,
    left_out,
    plain_directions,
    starred,
)
from matchlens.studies.cuts.cut_study import Settings, conduct, pairs_run
from matchlens.studies.cuts.measuring import corrected
from matchlens.studies.presets import preset as preset_of

if TYPE_CHECKING:
    from matchlens.engine import Progress
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner


KINDS = ("up-to", "from", "only", "window", "heads")
WINDOW = 3
"""Layers of a window where none are named."""
WHOLE_HEAD = "{CLS,Q,SEP1,D,SEP2}->All"


@dataclass(frozen=True, repr=False)
class Point(Brief):
    """One condition of a sweep.

    Args:
        direction: the direction that is cut, as it was passed.
        how: the mode of the cut.
        n: up-to: number of layers cut from the bottom; from: first layer cut; only: the layer;
            window: its first layer; heads: the layer.
        head: the head, where heads are cut alone; -1 elsewhere.
        cut: the cut's text, by which results are keyed.
    """

    direction: str
    how: str
    n: int
    head: int
    cut: str


@typed
def sweep_points(
    kind: str,
    directions: Sequence[str],
    *,
    layers: int,
    heads: int,
    window: int = 1,
    hows: Sequence[str] = ("zero",),
) -> tuple[list[Point], list[str]]:
    """The conditions of a sweep, in reading order, and those that cannot be made.

    Args:
        kind: ``up-to`` (layers 0 to n - 1, for n = 0 to L: Figure 1a), ``from`` (n to the top),
            ``only`` (one layer), ``window`` (layers n to n + window - 1) or ``heads`` (each alone).
        directions: directions, or several joined by ``+``, without layers, heads or how.
        layers: layers of the model.
        heads: heads a layer.
        window: layers of a window.
        hows: modes of cutting.

    Returns:
        One point for each condition, where directions and hows that stand twice count once; and the
        cuts that a mode cannot make (``sink`` where SEP2 is cut).

    Raises:
        InputError: if the kind, a direction, the window or a how cannot be used, or one direction
            comes in two spellings.

    >>> [point.cut for point in sweep_points("up-to", ["Q->D"], layers=2, heads=2)[0]]
    ['Q->D@0:0', 'Q->D@0:1', 'Q->D@0:2']
    >>> [point.cut for point in sweep_points("heads", ["Q->D"], layers=1, heads=2)[0]]
    ['Q->D#0.0', 'Q->D#0.1']
    """
    if kind not in KINDS:
        raise InputError(f"sweep {kind!r} is not known; expected one of {', '.join(KINDS)}")
    if kind == "window" and not 1 <= window <= layers:
        raise InputError(f"window is {window} layers; expected 1 to {layers}")
    plain = plain_directions(directions)
    spots = {
        "up-to": [(n, -1, f"@0:{n}") for n in range(layers + 1)],
        "from": [(n, -1, f"@{n}:{layers}") for n in range(layers + 1)],
        "only": [(n, -1, f"@{n}") for n in range(layers)],
        "window": [(n, -1, f"@{n}:{n + window}") for n in range(layers - window + 1)],
        "heads": [(n, head, f"#{n}.{head}") for n in range(layers) for head in range(heads)],
    }[kind]
    cuts, impossible = expand_modes(plain, hows)
    points = [
        Point(cut.base, cut.how, n, head, f"{cut.base}{where}{cut.cut.removeprefix(cut.base)}")
        for cut in cuts
        for n, head, where in spots
    ]
    return points, impossible


MOST = 10
"""Most heads that are selected."""


def select(
    points: pd.DataFrame, queries: pd.DataFrame, seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """The heads whose cut moves the measure most on half 0 of the queries, tested on half 1.

    The halves are by a hash of the query's id and the seed. On half 0 the heads with
    Benjamini-Hochberg's q <= .05, each mode of cutting apart, are taken, at most ten, the largest
    change first; where there is none, the ten of the largest change, which the column ``q_select``
    shows. On half 1 Holm's correction is over all that are taken.

    Returns:
        Columns direction, how, n, head, cut, diff_select, q_select, diff_report, ci_low, ci_high,
        p_report, p_report_holm, held (same sign, and corrected p <= .05, on half 1); and notes.
    """
    columns = ["direction", "how", "n", "head", "cut"]
    wide = queries.pivot(index=["collection", "qid"], columns="cut", values="value")
    side = np.array([half(str(qid), seed) for qid in wide.index.get_level_values("qid")])
    if min((side == 0).sum(), (side == 1).sum()) < 2:
        empty = pd.DataFrame(columns=[*columns, *_REPORTED])
        return empty, ["too few queries to select heads on one half and report them on the other"]
    tests = [
        corrected(
            compare(
                wide.loc[side == which, points["cut"]].to_numpy().T.copy(),
                wide.loc[side == which, ""].to_numpy(),
                list(wide.index.get_level_values("collection")[side == which]),
                seed=seed,
            ),
            points["how"].tolist(),
        )
        for which in (0, 1)
    ]
    # Chosen by half 0 alone; whatever half 1 says of them is not biased by the choice.
    order = np.argsort(-tests[0]["diff"].abs().to_numpy(), kind="stable")
    significant = tests[0]["q"].to_numpy() <= 0.05
    chosen = [place for place in order if significant[place] or not significant.any()][:MOST]
    selected = points.loc[chosen, columns].reset_index(drop=True)
    first, second = (test.loc[chosen].reset_index(drop=True) for test in tests)
    selected["diff_select"], selected["q_select"] = first["diff"], first["q"]
    selected["diff_report"] = second["diff"]
    selected["ci_low"], selected["ci_high"] = second["ci_low"], second["ci_high"]
    selected["p_report"] = second["p"]
    selected["p_report_holm"] = holm(second["p"].to_numpy())
    selected["held"] = (selected["p_report_holm"] <= 0.05) & (
        np.sign(selected["diff_select"]) == np.sign(selected["diff_report"])
    )
    return selected, []


_REPORTED = (
    *("diff_select", "q_select", "diff_report", "ci_low", "ci_high"),
    *("p_report", "p_report_holm", "held"),
)


@typed
def sweep(
    model: Reranker,
    pairs: PairSet,
    kind: str = "up-to",
    *,
    directions: Sequence[str | Direction] | None = None,
    window: int = WINDOW,
    hows: Sequence[str] | None = None,
    preset: str = "default",
    measure: str | Sequence[str] = "nDCG@10",
    rel: int | None = None,
    tie_tol: float | None = None,
    rank_easy: bool = False,
    seed: int = 0,
    most_pairs: int | None = None,
    screened: int | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> Result:
    """Cut directions layer by layer, or head by head, and measure the ranking (Figure 1a).

    What two conditions share is computed once: a direction cut up to each of L layers costs
    L(L+1)/2 layer passes and the untouched run.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        kind: ``up-to``, ``from``, ``only``, ``window`` or ``heads``; see :func:`sweep_points`.
        directions: what is cut; the preset's where None (the nine directions of Figure 1a), for
            ``heads`` the whole head.
        window: for ``window``: its layers.
        hows: modes of cutting, each a curve of its own, corrected by itself; the preset's where
            None. A cut that a mode cannot make is left out and noted.
        screened: for ``heads``: of each direction only so many heads are cut, those of the largest
            first-order effect on the scores (:func:`matchlens.screen`); all where None.

    The arguments ``preset``, ``measure``, ``rel``, ``tie_tol``, ``rank_easy``, ``seed``,
    ``most_pairs``, ``batch_tokens``, ``progress`` and ``runner`` are those of
    :func:`matchlens.ablation`.

    Returns:
        Tables ``points`` (a row for each point: direction, how, n, head, cut, and what the
        ablation's table has; ``q`` is Benjamini-Hochberg's over the sweep, each of several hows
        apart) and ``queries``; with several hows ``agreement``; for ``heads`` also ``selected``:
        the heads chosen on one half of the queries, with their effect on the other.

    Raises:
        InputError: if an option or the pairs cannot be used.

    Source: Vast et al. 2025, Figure 1a.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2)
    >>> model = matchlens.load("demo")
    >>> result = matchlens.sweep(model, pairs, "only", directions=["Q->D"])
    >>> result.to_frame()["n"].tolist()
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    """
    if kind in KINDS and kind != "window" and window != WINDOW:
        raise InputError(
            f"window is {window} and has no effect on the sweep {kind!r}; expected it with the "
            "sweep 'window' alone: leave it out, or give kind='window'"
        )
    chosen = preset_of(preset, model.decodes)
    costly = kind == "heads"
    default = (WHOLE_HEAD,) if costly else chosen.directions
    points, impossible = sweep_points(
        kind,
        default if directions is None else [str(direction) for direction in directions],
        layers=model.family.n_layers,
        heads=model.family.n_heads,
        window=window,
        hows=(chosen.how,) if hows is None else hows,
    )
    settings = Settings(preset, measure, rel, tie_tol, rank_easy, seed, batch_tokens, most_pairs)
    notes = left_out(impossible)
    if screened is not None:
        used, _ = pairs_run(pairs, settings)
        points, more = put_forward(model, used, points, screened, batch_tokens)
        notes += more
    conditions = single_cuts(point.cut for point in points)
    families = {point.cut: point.how for point in points}
    done = conduct(
        model, pairs, conditions, settings, families=families, progress=progress, runner=runner
    )
    about = pd.DataFrame([asdict(point) for point in points])
    by_cut = pd.DataFrame(done.table[~done.table["cut"].isin(["", "random"])])
    table = about.merge(by_cut, on="cut", how="left", validate="one_to_one")
    tables = {"points": table, "queries": done.queries}
    measured = feasible(table)
    stars = "q" if costly and chosen.stars == "holm" else chosen.stars
    modes = list(dict.fromkeys(point.how for point in points))
    if len(modes) > 1 and len(measured):
        base = [cut.partition("~")[0] for cut in measured["cut"]]
        tables["agreement"] = agreement(measured.assign(base=base), starred(measured, stars))
    if costly and len(measured):
        tables["selected"], more = select(measured, done.queries, seed)
        notes += more
    options = {
        "kind": kind,
        "directions": list(dict.fromkeys(point.direction for point in points)),
        "hows": modes,
        "window": window if kind == "window" else None,
        **({} if screened is None else {"screened": screened}),
        "stars": stars,
    }
    return done.result(f"sweep-{kind}", options, tables, notes)


def spread(points: Sequence[Point], limit: int | None) -> list[Point]:
    """Of each direction so many heads, evenly over the layers, as they may be put forward."""
    if limit is None:
        return list(points)
    check_screened(points)
    kept: list[Point] = []
    for direction in dict.fromkeys(point.direction for point in points):
        own = [point for point in points if point.direction == direction]
        kept += own[:: max(1, len(own) // limit)][:limit]
    return kept


def check_screened(points: Sequence[Point]) -> None:
    """Check that the screen says something of each point: of a single head, cut by zero."""
    for point in points:
        if point.head < 0 or point.how != "zero":
            raise InputError(
                f"cut {point.cut!r} cannot be screened; expected single heads, cut by zero: leave "
                "out screened (--screen), or sweep heads by zero alone (--how zero)"
            )


def put_forward(
    model: Reranker,
    pairs: PairSet,
    points: Sequence[Point],
    limit: int,
    batch_tokens: int | None = None,
) -> tuple[list[Point], list[str]]:
    """Of each direction the heads of the largest first-order effect, and a note on it."""
    from matchlens import gating

    if limit < 1:
        raise InputError(f"screened is {limit}; expected 1 or more heads to cut")
    check_screened(points)
    texts = {point.cut: [Cut.parse(point.cut)] for point in points}
    conditions = bound(texts, own_parts(pairs.pairs))
    gating.check_gates(model)
    own, heads = named_parts(pairs.pairs), model.family.n_heads
    edges = [_edges(conditions[point.cut], point, heads, own) for point in points]
    total = np.zeros(len(points))

    def keep(rows: np.ndarray, values: np.ndarray) -> None:
        for at, (point, (x, y)) in enumerate(zip(points, edges, strict=True)):
            total[at] += np.abs(values[:, point.n, point.head, x, y].sum(1)).sum()

    gating.stream_slopes(model, pairs.pairs, keep, batch_tokens=batch_tokens, own=own)
    kept: set[int] = set()
    for direction in dict.fromkeys(point.direction for point in points):
        own = np.array([at for at, point in enumerate(points) if point.direction == direction])
        kept |= set(own[np.argsort(-total[own], kind="stable")[:limit]].tolist())
    return [points[at] for at in sorted(kept)], [
        f"screened: of {len(points)} heads {len(kept)} were cut, in each direction the {limit} of "
        "the largest first-order effect on the scores; the others are screened, not cut, and not "
        "in the table"
    ]


def _edges(
    cuts: Condition, point: Point, heads: int, own: Sequence[OwnPart]
) -> tuple[np.ndarray, ...]:
    """The parts between which a cut removes the attention of its head, without padding's label."""
    table = LayerCut.of(cuts, point.n, heads, tuple(Part), own).table[point.head] > 0
    return np.nonzero(np.delete(np.delete(table, PADDING, 0), PADDING, 1))
