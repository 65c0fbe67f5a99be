"""The screen: the first-order effect of every head in every direction, held against exact cuts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from matchlens.arguments import typed
from matchlens.corpora import PairSet
from matchlens.corpora.own import named_parts, own_parts
from matchlens.errors import InputError, counted, printed
from matchlens.meters.arrays import PairArray
from matchlens.parts import NAMED, AnyPart
from matchlens.plan import single_cuts
from matchlens.ranking import Candidates, Measure, benjamini_hochberg, evaluate, random_expectation
from matchlens.ranking.effects import LEAST_QUERIES, effect, one_sided
from matchlens.ranking.significance import bootstrap_t
from matchlens.results import Result
from matchlens.studies.common import Execution, half, on_disk, ranked, relevant_grade, tolerance
from matchlens.studies.cuts.cut_study import CutStudy, Settings, conduct, pairs_run
from matchlens.studies.cuts.sweeps import MOST, select
from matchlens.studies.presets import CHECK_PAIRS, LARGEST, OTHERS

if TYPE_CHECKING:
    from matchlens.engine import Progress
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner

NAME = "screen"
CORRELATED, AGREEING = 0.9, 0.9
"""Pearson and sign agreement within queries below which predictions are withheld."""
FELT = 0.05
"""Logits above which a change's sign counts."""
RESAMPLES = 2_000
SELECTED_FROM = 50
"""Gates of the largest effect on half of the queries, of which the selected ones are taken."""
OF_THE_CHECK = ("original", "random", "layer_passes", "layer_passes_unshared", "batches")
"""Options of the exact cuts, on fewer pairs, which the manifest names ``check_...``."""
_NAMED = ["layer", "head", "direction"]
CUT, SCREENED, NOTHING = "cut", "screened, not cut", "nothing to cut"


@typed
def screen(
    model: Reranker,
    pairs: PairSet,
    *,
    others: int = OTHERS,
    preset: str = "default",
    measure: str = "nDCG@10",
    rel: int | None = None,
    tie_tol: float | None = None,
    most_pairs: int | None = None,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> Result:
    """Screen every head in every direction by one forward and one backward pass.

    The estimate of what cutting a head in a direction does to a score is the negative derivative
    by its gate. It is an estimate of that cut alone: estimates do not add up over a set. It is
    always held against exact cuts of some gates; where these disagree, predictions of the measure
    are withheld.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        others: gates beside the ten largest that are cut exactly, drawn over the layers.
        preset: whose test and digits the measure under the exact cuts is shown with.
        measure: a measure of ir_measures by name.
        rel: lowest grade that counts as relevant for binary measures; where None: 2 where the
            judgements reach 2, else 1.
        tie_tol: scores closer than this (logits) are tied; by the weights' type where None.
        most_pairs: at most so many pairs, as :func:`matchlens.thin` chooses them; all where None.
        seed: of the draws, resampling and halves.
        batch_tokens: largest number of tokens in a layer call; speed and memory only.
        progress: called with pairs done and pairs in all.
        runner: runs the exact cuts.

    Returns:
        Tables ``gates`` (a row for each head and direction: mean change of the score in logits,
        ``size``, its mean absolute value over the pairs, predicted change of the measure, with
        intervals and tests over queries; what the exact cut does where it was made), ``agreement``
        (screen and exact cuts over all pairs and within queries), ``check`` (a row for each gate
        that was cut), ``selected`` (gates chosen on one half of the queries, seen on the other)
        and ``queries`` (the measure under the exact cuts); and the array ``slopes`` [pair, layer,
        head, row part, column part], derivatives of the score by the gates. Own parts are
        screened as well: their gates are in those of Q or D.

    Raises:
        InputError: if an option or the pairs cannot be used.

    Source: science 9; Nanda 2023; Kramar et al. 2024 (attribution patching).

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.screen(matchlens.load("demo"), pairs, others=12)
    >>> len(result.to_frame("gates")), result.to_frame("agreement")["scope"].tolist()
    (3600, ['all pairs', 'within queries'])
    """
    from matchlens import gating

    if others < 1:
        raise InputError(f"others is {others}; expected 1 or more gates to check the screen by")
    options = {"preset": preset, "measure": measure, "rel": rel, "tie_tol": tie_tol, "seed": seed}
    options |= {"batch_tokens": batch_tokens}
    used, rows = pairs_run(pairs, Settings(**options, most_pairs=most_pairs))
    tol = tolerance(tie_tol, model.dtype)
    parsed, queries, left_out = ranked(used, measure, relevant_grade(pairs, rel))
    gating.check_gates(model)
    started = time.perf_counter()
    folder = Execution(model, runner=runner).temporary_folder()
    screened = Screened.of(model, used, Path(folder.name), progress, batch_tokens)
    log = f"{NAME}: {len(rows)} pairs: {time.perf_counter() - started:.1f} s"
    effects = _effects(screened, parsed, queries, tol, seed)
    selected, notes = _selected(screened, effects, queries, seed)
    largest, drawn = _to_check(screened, others, seed)
    cuts = list(dict.fromkeys([*largest, *drawn, *selected["cut"]]))
    checked = conduct(
        model,
        used,
        single_cuts(cuts),
        Settings(**options, most_pairs=CHECK_PAIRS),
        progress=progress,
        runner=runner,
    )
    check, agreement = _check(screened, checked, largest, drawn)
    withheld = bool(agreement["withheld"].iloc[-1])
    gates = _gate_table(screened, effects, checked)
    own = own_parts(used.pairs)
    if own:
        wholes = " and ".join(sorted({str(of) for of in own.values()}))
        notes.append(
            f"gates of {', '.join(own)} are within those of {wholes}: their effects are a share of "
            "these"
        )
    if len(queries) < LEAST_QUERIES:
        notes.append(f"intervals need {LEAST_QUERIES} queries; here are {len(queries)}")
    if len(rows) < len(pairs.pairs):
        screened_of = f"screened {len(rows)} of {counted(len(pairs.pairs), 'pair')}"
        notes.insert(0, f"{screened_of}, {counted(len(queries), 'query')}")
    notes = [*left_out, *notes, *_notes(agreement, withheld, len(cuts), len(screened.names))]
    if withheld:
        gates[list(PREDICTED)] = np.nan
        selected = selected.iloc[:0]
    few = len(checked.rows) < len(rows)
    said = [
        f"of the exact cuts: {text}" if few and text != model.cls_note else text
        for text in checked.notes
    ]
    own_options = {
        f"check_{name}" if name in OF_THE_CHECK else name: value
        for name, value in checked.options.items()
    }
    result = replace(
        checked,
        pairs=pairs,
        rows=[rows[row] for row in checked.rows],
        options=own_options,
        notes=tuple(said),
    ).result(
        NAME,
        {
            "original": float(effects.base.mean()),
            "random": float(effects.random.mean()),
            "others": others,
            "largest": len(largest),
            "most_pairs": most_pairs,
            "pairs_run": len(rows),
            "pairs_checked": len(checked.rows),
            "gates": len(screened.names),
            **({"parts": [*map(str, screened.parts)]} if own else {}),
            "withheld": withheld,
        },
        {
            "gates": gates,
            "agreement": agreement,
            "check": check,
            "selected": _under_cuts(selected, checked, seed),
            "queries": checked.queries,
        },
        notes,
    )
    # The untouched scores of all pairs that were screened, not of those alone that were cut.
    untouched = pd.DataFrame({"cut": "", "pair": np.array(rows), "score": screened.scores})
    of_cuts = pd.DataFrame(result.scores[result.scores["cut"] != ""])
    result.scores = pd.concat([untouched, of_cuts], ignore_index=True)
    result.arrays, result.held = {"slopes": screened.slopes.path}, folder
    result.log = (log, *result.log)
    short = int(result.pairs["truncated"].to_numpy()[rows].sum())
    if few and short:
        text = f"{short} of {counted(len(rows), 'pair')} were cut to the length limit"
        result.notes = (*result.notes, text)
    return result


@dataclass(frozen=True)
class Screened:
    """The screen's estimates."""

    pairs: PairSet  # what was screened
    # row and column parts of the gates; own parts, which are in Q or D, last
    parts: tuple[AnyPart, ...]
    # layer, head and direction of each gate, in the order of the array's axes
    names: list[tuple[int, int, str]]
    scores: Float[np.ndarray, " pair"]  # untouched, logits
    slopes: PairArray  # [pair, layer, head, row part, column part]
    # [gate], mean over the pairs of the estimate's absolute value, logits
    size: Float[np.ndarray, " gate"]

    @classmethod
    def of(
        cls,
        model: Reranker,
        pairs: PairSet,
        folder: Path,
        progress: Progress | None,
        batch_tokens: int | None = None,
    ) -> Screened:
        """Screen pairs; the derivatives go to a file."""
        from matchlens import gating

        family, own = model.family, named_parts(pairs.pairs)
        parts: list[AnyPart] = [*NAMED, *own]
        labels = [*map(int, NAMED), *range(gating.PARTS, gating.PARTS + len(own))]
        shape = (len(pairs.pairs), family.n_layers, family.n_heads, len(parts), len(parts))
        axes = range(family.n_layers), range(family.n_heads), parts, parts
        names = [(layer, head, f"{x!s}->{y!s}") for layer, head, x, y in product(*axes)]
        total = np.zeros(len(names))
        with on_disk("the derivatives", folder, [shape]):
            array = PairArray(folder / "slopes.npy", shape)

            def keep(rows: np.ndarray, values: np.ndarray) -> None:
                named = gating.united(values, own)[..., labels, :][..., labels]
                array.write(rows, named)
                np.add(total, np.abs(named).sum(0).ravel(), out=total)

            scores = gating.stream_slopes(
                model, pairs.pairs, keep, None, batch_tokens, progress, own=own
            )
        size = total / len(scores)
        return cls(pairs, tuple(parts), names, scores.astype(np.float64), array, size)

    def estimates(self, rows: np.ndarray | Sequence[int]) -> Float[np.ndarray, "pair gate"]:
        """What cutting each gate alone would do to some pairs' scores, to first order, logits."""
        some = self.slopes.mapped()[np.asarray(rows, dtype=np.int64)]
        return -some.reshape(len(some), -1).astype(np.float64)

    def cut(self, gate: int) -> str:
        """The cut that a gate at 0 is."""
        layer, head, direction = self.names[gate]
        return f"{direction}#{layer}.{head}"

    @property
    def order(self) -> np.ndarray:
        """The gates that change a score at all, the largest mean effect first."""
        order = np.argsort(-self.size, kind="stable")
        return order[self.size[order] > 0]


@dataclass(frozen=True)
class _Effects:
    """What cutting each gate would do, to first order."""

    base: np.ndarray  # the measure of the untouched model [query]
    random: np.ndarray  # of a random ranking [query]
    change: np.ndarray  # mean changes of the score [gate, query]
    values: np.ndarray  # of the measure [gate, query]
    table: pd.DataFrame  # a row for each gate


PREDICTED = ("predicted", "ci_low", "ci_high", "p", "p_none", "q")
"""Columns that predict the measure."""


def _effects(
    screened: Screened, measure: Measure, queries: Sequence[Candidates], tol: float, seed: int
) -> _Effects:
    """Mean changes of score and measure over queries, with intervals and tests."""
    count = len(screened.names)
    change, values = np.zeros((2, count, len(queries)))
    base = evaluate(measure, queries, screened.scores, tie_tol=tol, seed=seed).values
    random = random_expectation(measure, queries, seed=seed).values
    better = base - random
    for at, query in enumerate(queries):
        estimates = screened.estimates(query.rows).T
        change[:, at] = estimates.mean(1)
        values[:, at] = _predicted(measure, query, screened.scores, estimates, tol, seed)
    collections = [query.collection for query in queries]
    table = pd.DataFrame(screened.names, columns=_NAMED)
    table["cut"] = [screened.cut(gate) for gate in range(count)]
    table["size"] = screened.size
    for moved, names in (
        (change, ("change", "change_low", "change_high", "p_change", None, "q_change")),
        (values - base, PREDICTED),
    ):
        mean, low, high, p, p_none, q = names
        ends = np.full((2, count), np.nan)
        if len(queries) >= LEAST_QUERIES:
            ends = bootstrap_t(moved, collections, seed=seed, resamples=RESAMPLES)
        tests = [effect(row, better, collections, seed=seed, interval=False) for row in moved]
        table[mean], table[low], table[high] = moved.mean(1), *ends
        table[p] = [test.p_change for test in tests]
        if p_none is not None:
            table[p_none] = [test.p_none for test in tests]
        table[q] = benjamini_hochberg(table[p].to_numpy())
    return _Effects(base, random, change, values, table)


def _predicted(
    measure: Measure,
    query: Candidates,
    scores: np.ndarray,
    estimates: Float[np.ndarray, "gate candidate"],
    tol: float,
    seed: int,
) -> Float[np.ndarray, " gate"]:
    """The measure of one query under score plus estimate, gate by gate."""
    own = replace(query, rows=np.arange(len(query.rows)))
    plain = scores[query.rows]

    def value(of: np.ndarray) -> float:
        return evaluate(measure, [own], of, tie_tol=tol, seed=seed).values[0]

    # A gate under which no two neighbours of the ranking come within a tie of each other leaves it
    # as it is, and costs nothing.
    order = np.argsort(-plain, kind="stable")
    moved = (plain + estimates)[:, order]
    before, after = -np.diff(plain[order]), -np.diff(moved)
    same = (after > tol).all(1) & bool((before > tol).all())
    out = np.full(len(estimates), value(plain))
    for gate in np.flatnonzero(~same).tolist():
        out[gate] = value(plain + estimates[gate])
    return out


def _selected(
    screened: Screened, effects: _Effects, queries: Sequence[Candidates], seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """Gates chosen by their predicted change on one half of the queries, reported on the other."""
    first = np.array([half(query.qid, seed) == 0 for query in queries])
    size = np.zeros(len(screened.names))
    if first.any():
        size = np.abs(effects.change[:, first]).mean(1)
    order = np.argsort(-size, kind="stable")[:SELECTED_FROM].tolist()
    top = [gate for gate in order if size[gate] > 0]
    points = pd.DataFrame(
        [(direction, "zero", layer, head, screened.cut(gate))
         for gate in top for layer, head, direction in [screened.names[gate]]],
        columns=["direction", "how", "n", "head", "cut"],
    )  # fmt: skip
    if points.empty:
        return points, ["no gate changes a score"]
    by_cut = {"": effects.base, **{screened.cut(gate): effects.values[gate] for gate in top}}
    table = pd.DataFrame(
        [
            (cut, query.collection, query.qid, value)
            for cut, values in by_cut.items()
            for query, value in zip(queries, values.tolist(), strict=True)
        ],
        columns=["cut", "collection", "qid", "value"],
    )
    return select(points, table, seed)


def _under_cuts(selected: pd.DataFrame, checked: CutStudy, seed: int) -> pd.DataFrame:
    """The selected gates, with what their exact cuts do on the other half of the queries."""
    table = checked.queries
    other = np.array([half(str(qid), seed) == 1 for qid in table["qid"]], dtype=bool)
    wide = pd.DataFrame(table[other]).pivot(
        index=["collection", "qid"], columns="cut", values="value"
    )
    out = selected.head(MOST).copy()
    diffs = [
        (wide[cut] - wide[""]).to_numpy() if cut in wide else np.empty(0) for cut in out["cut"]
    ]
    out["queries_cut"] = [len(diff) for diff in diffs]
    out["diff_cut"] = [float(diff.mean()) if len(diff) else np.nan for diff in diffs]
    out["p_cut"] = [
        min(1.0, 2 * min(one_sided(diff, 1), one_sided(diff, -1))) if len(diff) > 1 else np.nan
        for diff in diffs
    ]
    return out


def _to_check(screened: Screened, others: int, seed: int) -> tuple[list[str], list[str]]:
    """The gates of the largest effect, and others drawn over the layers."""
    order = screened.order
    largest, rest = order[:LARGEST], order[LARGEST:]
    draw = np.random.default_rng([5, int(seed < 0), abs(seed)])
    layers = np.array([screened.names[gate][0] for gate in rest.tolist()], dtype=np.int64)
    turns = [draw.permutation(rest[layers == layer]).tolist() for layer in np.unique(layers)]
    drawn: list[int] = []
    while len(drawn) < min(others, len(rest)):
        # a whole round over the layers, so that each has as many where it can
        drawn += [turn.pop() for turn in turns if turn]
    return [screened.cut(g) for g in largest.tolist()], [screened.cut(g) for g in drawn]


def _check(
    screened: Screened, checked: CutStudy, largest: Sequence[str], drawn: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each gate that was cut to be compared, its estimate beside its cut; and how they agree."""
    at = {screened.cut(gate): gate for gate in range(len(screened.names))}
    cuts = [*largest, *drawn]
    gates = [at[cut] for cut in cuts]
    estimates = screened.estimates(checked.rows).T[gates]
    scores = checked.out.scores
    exact = np.stack([scores.of(cut).astype(np.float64) for cut in cuts]) - scores.of("")
    pairs = [screened.pairs.pairs[row] for row in checked.rows]
    _, queries = np.unique([f"{p.collection}\0{p.qid}" for p in pairs], return_inverse=True)
    table = pd.DataFrame([screened.names[gate] for gate in gates], columns=_NAMED)
    table["cut"] = cuts
    table["chosen"] = ["largest" if cut in largest else "drawn" for cut in cuts]
    table["estimate"] = estimates.mean(1)
    table["exact"] = exact.mean(1)
    table["estimate_size"] = np.abs(estimates).mean(1)
    table["exact_size"] = np.abs(exact).mean(1)
    table["largest_miss"] = np.abs(estimates - exact).max(1)
    return table, _agreement(table, estimates, exact, queries, len(largest))


def _agreement(
    check: pd.DataFrame,
    estimates: Float[np.ndarray, "gate pair"],
    exact: Float[np.ndarray, "gate pair"],
    queries: np.ndarray,
    largest: int,
) -> pd.DataFrame:
    """How well the screen agrees with exact cuts, over all pairs and within queries."""
    # A drawn gate is missed where its cut moves scores more than the least of the largest ones is
    # screened to do.
    sizes = check["estimate_size"].to_numpy()
    drawn = check["exact_size"].to_numpy()[largest:]
    missed = int((drawn > sizes[:largest].min()).sum()) if largest and len(drawn) else 0
    rows = []
    for scope, compare in (
        ("all pairs", (estimates, exact)),
        ("within queries", (_within(estimates, queries), _within(exact, queries))),
    ):
        agreement = compared(*(values.ravel() for values in compare))
        # What cannot be checked (no change is above FELT: nan) is not predicted either.
        sound = agreement["pearson"] >= CORRELATED and agreement["signs"] >= AGREEING
        row = {"scope": scope, "gates": len(exact), **agreement, "missed": missed}
        bound = {"drawn": len(drawn), "missed_at_most": _upper(missed, len(drawn))}
        rows.append({**row, **bound, "withheld": not sound})
    return pd.DataFrame(rows)


def compared(estimates: Float[np.ndarray, " n"], exact: Float[np.ndarray, " n"]) -> dict:
    """Pearson, slope of exact on estimate, sign agreement above .05 logits, and the largest miss.

    >>> import numpy as np
    >>> agreement = compared(np.array([0.1, 0.2, -0.3]), np.array([0.2, 0.4, -0.6]))
    >>> [round(float(agreement[name]), 3) for name in ("pearson", "slope", "signs")]
    [1.0, 2.0, 1.0]
    """
    spread, felt = estimates.std(), np.abs(exact) > FELT
    apart = spread * exact.std()
    covariance = float(((estimates - estimates.mean()) * (exact - exact.mean())).mean())
    agree = np.sign(estimates[felt]) == np.sign(exact[felt])
    return {
        "pearson": covariance / apart if apart > 0 else float("nan"),
        "slope": covariance / spread**2 if spread > 0 else float("nan"),
        "signs": float(agree.mean()) if felt.any() else float("nan"),
        "signs_of": int(felt.sum()),
        "largest_miss": float(np.abs(estimates - exact).max()),
    }


def _within(values: Float[np.ndarray, "gate pair"], queries: np.ndarray) -> np.ndarray:
    """Each gate's changes less their mean over the query's candidates: only these rank."""
    member = np.eye(int(queries.max()) + 1)[queries]
    return values - (values @ member / member.sum(0))[:, queries]


def _upper(missed: int, drawn: int) -> float:
    """The largest share of all gates that may be missed, at 95% (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    if missed >= drawn:
        return 1.0
    return float(betaincinv(missed + 1, drawn - missed, 0.95))


def _gate_table(screened: Screened, effects: _Effects, checked: CutStudy) -> pd.DataFrame:
    """A row for each gate, with what its cut does where it was made."""
    table, scores = effects.table.copy(), checked.out.scores
    plain = scores.of("").astype(np.float64)
    done = {
        str(row["cut"]): (float((scores.of(str(row["cut"])) - plain).mean()), row["diff"])
        for row in checked.table.to_dict("records")
        if row["cut"] not in ("", "random") and row["impossible"] is None
    }
    for place, name in enumerate(("exact", "diff")):
        table[name] = [done[cut][place] if cut in done else np.nan for cut in table["cut"]]
    table["status"] = [
        CUT if cut in done else (SCREENED if size > 0 else NOTHING)
        for cut, size in zip(table["cut"], table["size"], strict=True)
    ]
    order = np.argsort(-screened.size, kind="stable")
    return pd.DataFrame(table.iloc[order]).reset_index(drop=True)


def _notes(agreement: pd.DataFrame, withheld: bool, cut: int, gates: int) -> list[str]:
    """Notes on how the screen agrees with exact cuts."""
    overall, within = (dict(agreement.iloc[at]) for at in (0, 1))
    signs = (
        f"signs agree in {overall['signs']:.1%} and {within['signs']:.1%} of the changes above "
        f"{FELT} logits"
        if overall["signs_of"] and within["signs_of"]
        else f"signs cannot be compared, since changes above {FELT} logits are lacking"
    )
    notes = [
        f"{cut} of {gates:,} gates were cut, the others are screened, not cut; of those compared, "
        f"Pearson {printed(overall['pearson'])} over all pairs and {printed(within['pearson'])} "
        f"within queries, {signs}, the largest miss is {overall['largest_miss']:.2g} logits",
        f"{overall['missed']} of {overall['drawn']} gates that were drawn, evenly over the layers, "
        "move scores more than the screen says of the tenth largest: at 95% fewer than "
        f"{overall['missed_at_most']:.1%} of the gates beyond the {LARGEST} largest do",
    ]
    if withheld:
        notes.append(
            f"the measure is not predicted: within queries, Pearson {printed(within['pearson'])}, "
            f"and {CORRELATED} is needed, with signs that agree in {AGREEING:.0%}"
        )
    return notes
