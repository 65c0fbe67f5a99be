"""Each direction beside its controls: whether the direction matters, or the amount cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import PairSet
from matchlens.directions import Cut, How
from matchlens.errors import InputError
from matchlens.plan import CONTROLS, OF_ROWS, Condition, Control
from matchlens.ranking import compare, holm
from matchlens.ranking.effects import (
    ALPHA,
    HOLDS,
    MARGIN,
    NOT,
    UNDECIDED,
    Effect,
    Evidence,
    check_margin,
    decide,
    effect,
    of_effect,
    unready,
)
from matchlens.results import Result, records
from matchlens.sets import check_once
from matchlens.studies.cuts.cut_modes import ModedCut, expand_modes, feasible, note
from matchlens.studies.cuts.cut_study import CutStudy, Settings, conduct
from matchlens.studies.cuts.measuring import RANDOM
from matchlens.studies.presets import COSTLY_PAIRS
from matchlens.studies.presets import preset as preset_of

if TYPE_CHECKING:
    from matchlens.engine import Progress
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner


DRAWS, MOST_DRAWS = 3, 1000


def control_conditions(
    cuts: Sequence[str], hows: Sequence[str] | None, draws: int, how: str = "zero"
) -> tuple[dict[str, Condition], list[ModedCut], list[dict[str, object]]]:
    """The conditions, the cuts among them, and what each control is.

    Rows that are scaled have no draw, and a cut by ``mask`` has no control of rows. ``how`` is that
    of cuts that name none, where there are no hows.
    """
    if not 1 <= draws <= MOST_DRAWS:
        raise InputError(f"draws is {draws}; expected 1 to {MOST_DRAWS}")
    modes, _ = expand_modes(list(dict.fromkeys(cuts)), hows or None, how)
    if not modes:
        raise InputError("no cut given; expected at least one, for example 'Q->D'")
    check_once(moded.cut for moded in modes)
    conditions: dict[str, Condition] = {"": []}
    about: list[dict[str, object]] = []
    for text in (moded.cut for moded in modes):
        cut = Cut.parse(text)
        conditions[text] = [cut]
        for kind in CONTROLS:
            if kind in OF_ROWS and cut.how != How.ZERO:
                continue
            for draw in range(1 if kind == "scaled" else draws):
                name = f"{text} | {kind} {draw}"
                conditions[name] = [Control(cut, kind, draw)]
                about.append({"of": text, "control": kind, "draw": draw, "cut": name})
    return conditions, modes, about


PRIMARY = "rows"
MOST_OVERLAP = 0.5
"""A control that takes more than this share of its attention from the direction itself cannot show
that only the amount counts."""
BEYOND, ONLY, LESS = "beyond the amount", "only the amount", "less than the amount"


@typed
def controls(
    model: Reranker,
    pairs: PairSet,
    cuts: Sequence[str | Cut] | None = None,
    *,
    hows: Sequence[str] | None = None,
    draws: int = DRAWS,
    margin: float = MARGIN,
    preset: str = "default",
    measure: str | Sequence[str] = "nDCG@10",
    rel: int | None = None,
    tie_tol: float | None = None,
    rank_easy: bool = False,
    seed: int = 0,
    most_pairs: int | None = COSTLY_PAIRS,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> Result:
    """Cut each direction, and as much of something else in its place.

    The row-matched control is the primary one: in each pair, layer and head that the cut names,
    each row of the cut loses the attention that it would lose to the cut there, on random columns
    outside it; on the cut's own columns only where the others hold too little. ``scaled``: the same
    rows are multiplied by 1 minus that attention. Two older controls take random edges (pairs of
    tokens, special ones included) of all rows, CLS's among them: as many as the direction has, or
    until their attention is as near as can be to the direction's. The layers' draws are
    independent; heads share them, as they share the direction.

    A cut by ``mask`` has no control of rows: it divides what is left of a row by its sum, so that
    no row loses attention as a whole.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        cuts: the cuts to control; the preset's directions (Figure 1a) in all layers where None.
        hows: ``zero`` or ``mask`` or both, for cuts that name none; where None, such cuts take the
            preset's.
        draws: random draws a control and cut; their mean is compared.
        margin: share of (original - random), query by query, up to which cut and control are taken
            to do the same.

    The arguments ``preset``, ``measure``, ``rel``, ``tie_tol``, ``rank_easy``, ``seed``,
    ``most_pairs``, ``batch_tokens``, ``progress`` and ``runner`` are those of
    :func:`matchlens.ablation`.

    Returns:
        Tables ``controls`` (a row for each cut: base, how, cut, mean, diff with its interval, and
        for each control, rows, scaled, edges and mass: rows_diff (change of the measure, mean over
        draws) with rows_ci_low, rows_ci_high, rows_diff_p, rows_diff_p_holm; rows_beyond (the cut's
        change minus the control's) with rows_low, rows_high, rows_p, rows_p_holm: 95% intervals and
        paired t-tests over queries; rows_overlap_edges and rows_overlap_mass: the share of the
        edges and of the attention that the control took which lies in the direction itself.
        verdict, against the row-matched control: ``beyond the amount`` (the cut does more damage),
        ``only the amount`` (equivalence within the margin is shown), ``less than the amount``
        or ``undecided``, and then what is lacking; verdict_p and verdict_p_holm of the deciding
        test, uncorrected and corrected over the cuts; p_beyond and p_only, uncorrected; margin in
        units of the measure), ``draws`` (a row for each condition) and ``queries``.

    Raises:
        InputError: if a cut, a how or the pairs cannot be used, or a cut comes in two spellings.

    Source: science 2, "Controls of a direction", and 3; the controls are this project's.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=4, per_grade=1)
    >>> result = matchlens.controls(matchlens.load("demo"), pairs, ["D->D"], draws=1)
    >>> result.to_frame()["cut"].tolist()
    ['D->D']
    """
    check_margin(margin)
    chosen = preset_of(preset, model.decodes)
    texts = [str(cut) for cut in (chosen.directions if cuts is None else cuts)]
    conditions, modes, about = control_conditions(texts, hows, draws, chosen.how)
    done = conduct(
        model,
        pairs,
        conditions,
        Settings(preset, measure, rel, tie_tol, rank_easy, seed, batch_tokens, most_pairs),
        families={name: "control" if "|" in name else "cut" for name in conditions},
        progress=progress,
        runner=runner,
    )
    named = pd.DataFrame([asdict(moded) for moded in modes])
    own = feasible(named.merge(done.table, on="cut", how="left", validate="one_to_one"))
    if own.empty:
        raise InputError(
            f"none of the cuts removes anything: {'; '.join(note(done.reasons.values()))}; give "
            "other cuts"
        )
    drawn = pd.DataFrame(about)
    tables = {
        "controls": _beside(own, drawn, done, margin),
        "draws": drawn.merge(done.table, on="cut", how="left", validate="one_to_one"),
        "queries": done.queries,
    }
    options = {
        "cuts": texts,
        "hows": list(dict.fromkeys(moded.how for moded in modes)),
        "draws": draws,
        "margin": margin,
    }
    return done.result("controls", options, tables)


def _beside(own: pd.DataFrame, about: pd.DataFrame, done: CutStudy, margin: float) -> pd.DataFrame:
    """Each cut beside the mean of each control's draws, query by query, and the verdict."""
    seed = done.settings.seed
    wide = done.queries.pivot(index=["collection", "qid"], columns="cut", values="value")
    collections = [str(name) for name in wide.index.get_level_values("collection")]
    original = wide[""].to_numpy()
    out = own.reset_index(drop=True)
    tested = ["diff", "ci_low", "ci_high", "p"]
    for kind in CONTROLS:
        rows = []
        for cut in own["cut"]:
            drawn = _draws_of(about, cut, kind)
            if not drawn:
                rows.append({})
                continue
            control = wide[drawn].mean(axis=1).to_numpy()
            test = compare(wide[[cut]].to_numpy().T.copy(), control, collections, seed=seed).iloc[0]
            alone = compare(control[None].copy(), original, collections, seed=seed).iloc[0]
            values = (*alone[tested], *test[tested], *_overlap(done, drawn))
            rows.append(dict(zip(_OF_A_CONTROL, values, strict=True)))
        columns = pd.DataFrame(rows, columns=pd.Index(_OF_A_CONTROL), dtype=np.float64)
        for name in ("p", "diff_p"):
            columns[f"{name}_holm"] = holm(columns[name].to_numpy())
        out = out.join(columns.add_prefix(f"{kind}_"))
    return out.join(_verdicts(out, about, wide, margin, seed))


def _draws_of(about: pd.DataFrame, cut: object, kind: str) -> list[str]:
    """The conditions that are the draws of one control of a cut."""
    return about.loc[(about["of"] == cut) & (about["control"] == kind), "cut"].tolist()


_OF_A_CONTROL = (
    *("diff", "ci_low", "ci_high", "diff_p", "beyond", "low", "high", "p"),
    *("overlap_edges", "overlap_mass"),
)


def _overlap(done: CutStudy, names: list[str]) -> Iterator[float]:
    """The share of what controls took that lies in the direction: of edges, and of attention."""
    from matchlens.models.random_edges import TAKEN

    places = [done.out.plan.controls.index(name) for name in names]
    total: dict[str, float] = dict(
        zip(TAKEN, done.out.taken[places].sum((0, 1)).tolist(), strict=True)
    )
    for name in ("edges", "mass"):
        yield total[f"{name}_inside"] / total[name] if total[name] else float("nan")


def _verdicts(
    rows: pd.DataFrame, about: pd.DataFrame, wide: pd.DataFrame, margin: float, seed: int
) -> pd.DataFrame:
    """Whether each cut does more than its row-matched control, no more, or less; see `controls`."""
    collections = [str(name) for name in wide.index.get_level_values("collection")]
    original = wide[""].to_numpy()
    better = original - wide[RANDOM].to_numpy()
    test = partial(effect, better=better, collections=collections, margin=margin, interval=False)
    proofs: list[Evidence] = []
    effects: list[Effect | None] = []
    reasons: list[str] = []
    barred: list[bool] = []  # from being called "only the amount"
    short = unready(better)
    for row in records(rows):
        drawn = _draws_of(about, row["cut"], PRIMARY)
        overlap = row[f"{PRIMARY}_overlap_mass"]
        inside = overlap if isinstance(overlap, float) else 0.0
        barred.append(inside > MOST_OVERLAP)
        if not drawn:
            effects.append(None)
            proofs.append(Evidence(np.nan, np.nan, "mask"))
            reasons.append("a cut by mask takes nothing from a row as a whole")
            continue
        cut = wide[str(row["cut"])].to_numpy()
        beyond = test(cut - wide[drawn].mean(axis=1).to_numpy(), seed=seed)
        alone = test(cut - original)
        proof, why = of_effect([beyond]), short
        if not short and not alone.shown(-1) <= ALPHA < alone.p_none:
            why = "the cut itself is not shown to lower the measure"
        proof = replace(proof, lacking=why)
        if not why and barred[-1]:
            # a control that is nearly the cut itself cannot show that only the amount counts
            why = f"{inside:.0%} of what the control takes lies in the direction itself"
            proof = replace(proof, p_not=beyond.shown(1))
        effects.append(beyond)
        proofs.append(proof)
        reasons.append(why or "neither test is passed")
    verdicts = []
    told = zip(effects, reasons, barred, decide(proofs), strict=True)
    for beyond, why, never_only, decided in told:
        verdict = decided.verdict
        if verdict == HOLDS:
            verdict = BEYOND
        elif verdict == NOT and beyond is not None:
            only = not never_only and beyond.p_none <= beyond.shown(1)
            verdict = ONLY if only else LESS
        verdicts.append(
            {
                "verdict": verdict,
                "verdict_p": decided.p,
                "verdict_p_holm": decided.p_corrected,
                "p_beyond": np.nan if beyond is None else beyond.shown(-1),
                "p_only": np.nan if beyond is None else beyond.p_none,
                "margin": np.nan if beyond is None else beyond.margin,
                "lacking": why if verdict == UNDECIDED else "",
            }
        )
    return pd.DataFrame(verdicts)
