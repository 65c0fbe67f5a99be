"""How each of the paper's claims is decided: stored tables in, a verdict with its number out.

A decision takes the results by study, the margin and the seed. One whose numbers were not made is
undecided, and says what is lacking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from matchlens.ranking import holm
from matchlens.results import Result, records
from matchlens.studies.sizes import GATHERING
from matchlens.studies.verdicts import (
    ALPHA,
    HOLDS,
    MATTERS,
    NONE,
    NOT,
    UNDECIDED,
    Found,
    Mean,
    Row,
    average,
    effect,
    lacking,
    mean_of,
    number,
    runs_of_none,
    sign_verdict,
    superiority,
)

Results = Mapping[str, Result]
SEPS = (
    "SEP1->All",
    "SEP2->All",
    *(f"{x}->{y}" for x in ("CLS", "Q", "D") for y in ("SEP1", "SEP2")),
)
"""The cells of Table 1 in which a SEP reads, or is read by CLS, the query or the document."""
HALF = 0.5


def plain(value: float) -> str:
    """A number in a sentence.

    >>> plain(0.0512), plain(-0.2), plain(-0.0001)
    ('.051', '-.200', '.000')
    """
    text = f"{round(value, 3) + 0.0:.3f}"  # no minus before a zero
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def _p(p: float) -> str:
    return "p < .001" if p < 0.001 else f"p = {plain(p)}"


def impossible(rows: Sequence[Row]) -> str:
    """Why one of these cuts is none in this model; empty where all can be made.

    >>> impossible([{"cut": "Q->D", "impossible": "Q stands before D"}, {"cut": "D->D"}])
    'Q->D is no cut here (Q stands before D)'
    """
    for row in rows:
        if row.get("impossible"):
            return f"{row['cut']} is no cut here ({row['impossible']})"
    return ""


def _in_layers(number: int) -> str:
    """So many layers from the bottom.

    >>> _in_layers(1), _in_layers(4)
    ('the first layer', 'the first 4 layers')
    """
    return "the first layer" if number == 1 else f"the first {number} layers"


def _table1(results: Results) -> dict[str, Row]:
    if "ablation" not in results:
        return {}
    return {str(row["cut"]): row for row in records(results["ablation"].tables["table1"])}


def _change(row: Row, name: str, measure: str) -> str:
    diff, low, high, p = (number(row, key) for key in ("diff", "ci_low", "ci_high", "p_holm"))
    interval = f" [{plain(low)}, {plain(high)}]" if low <= high else ", without an interval"
    said = f"{name} changes {measure} by {plain(diff)}{interval}"
    return f"{said}, {_p(p)}" if not np.isnan(p) else f"{said}, untested"


def _of_row(verdict: str, words: str, row: Row, unit: str, source: str) -> Found:
    """A claim whose number is the change of the measure under one cut."""
    numbers = [number(row, key) for key in ("diff", "ci_low", "ci_high", "p_holm")]
    diff, low, high, p = (None if np.isnan(value) else value for value in numbers)
    count = int(number(row, "queries"))
    return Found(verdict, words, diff, low, high, f"change of {unit}", count, "queries", p, source)


def one_cut(cut: str, matters: bool) -> Callable[[Results, float, int], Found]:
    """A claim that one cell of Table 1 matters, or that it does not."""

    def decide(results: Results, margin: float, seed: int) -> Found:
        table = _table1(results)
        if cut not in table:
            return lacking(f"{cut} was not cut in all layers (study ablation)")
        if why := impossible([table[cut]]):
            return lacking(why)
        row, measure = table[cut], str(results["ablation"].options["measure"])
        seen = effect(row, margin)
        wanted, other = (MATTERS, NONE) if matters else (NONE, MATTERS)
        verdict = HOLDS if seen == wanted else NOT if seen == other else UNDECIDED
        words = f"Cutting {_change(row, cut, measure)}."
        return _of_row(verdict, words, row, measure, "ablation/table1")

    return decide


def separators(results: Results, margin: float, seed: int) -> Found:
    """SEP reads and is read for nothing."""
    table = _table1(results)
    if not set(SEPS) <= set(table):
        return lacking("the rows and columns of SEP were not cut (study ablation)")
    if why := impossible([table[cut] for cut in SEPS]):
        return lacking(why)
    measure = str(results["ablation"].options["measure"])
    seen = [effect(table[cut], margin) for cut in SEPS]
    name = max(SEPS, key=lambda cut: np.nan_to_num(abs(number(table[cut], "diff"))))
    worst = table[name]
    words = (
        f"Of {len(SEPS)} cuts that blind or hide SEP, {seen.count(NONE)} change nothing beyond "
        f"{plain(margin)} and {seen.count(MATTERS)} matter; the largest: "
        f"{_change(worst, name, measure)}."
    )
    said, written = _sinks(results, ("SEP1", "SEP2"))
    if MATTERS in seen:
        verdict = NOT
    elif all(one == NONE for one in seen) and written is not None:
        verdict = HOLDS if written else NOT
    else:
        verdict = UNDECIDED
    return _of_row(verdict, f"{words} {said}", worst, measure, "ablation/table1, attention/noop")


def _sinks(
    results: Results, parts: tuple[str, ...], below: int | None = None
) -> tuple[str, bool | None]:
    """Whether little is written from where much is read, in words and as an answer.

    Args:
        results: the studies.
        parts: those that are read.
        below: only layers below this one.
    """
    if "attention" not in results or "norm_CLS" not in results["attention"].tables["noop"]:
        return "What is written from there (norm mass) was not measured.", None
    rows = records(results["attention"].tables["noop"])
    mine = [row for row in rows if below is None or number(row, "layer") < below]
    mass, norm = (
        np.array([sum(number(row, f"{kind}_{part}") for part in parts) for row in mine])
        for kind in ("mass", "norm")
    )
    names = " and ".join(parts)
    sinks = mass >= HALF
    if not sinks.any():
        share, wrote = float(mass.mean()), float(norm.mean())
        return (
            f"No head gives {names} half of its attention; on average they get {plain(share)} of "
            f"it and {plain(wrote)} of what is written.",
            wrote <= share,
        )
    quiet = int((norm[sinks] < HALF).sum())
    return (
        f"Heads that give {names} half of their attention or more: {int(sinks.sum())}; of these, "
        f"heads that get less than half of what they write from there: {quiet}.",
        quiet > sinks.sum() / 2,
    )


def _points(results: Results, study: str, direction: str) -> list[Row]:
    """The points of a direction by n from 0, cut in the first way that there is."""
    if study not in results:
        return []
    rows = records(results[study].tables["points"])
    mine = [row for row in rows if row["direction"] == direction]
    return [row for row in mine if row["how"] == mine[0]["how"]]


def _layers(results: Results) -> int:
    return next(
        int(str(one.options["layers"])) for one in results.values() if "layers" in one.options
    )


def early_cls(results: Results, margin: float, seed: int) -> Found:
    """CLS can be blind in the early layers."""
    table = _points(results, "sweep-up-to", "CLS->All")
    if not table:
        return lacking("CLS->All was not cut up to each layer (study sweep)")
    if why := impossible(table[1:]):
        return lacking(why)
    early = math.ceil(_layers(results) / 3)
    measure = str(results["sweep-up-to"].options["measure"])
    seen = [effect(table[n], margin) for n in range(1, _layers(results) + 1)]
    row = table[early]
    said, written = _sinks(results, ("CLS",), early)
    words = (
        f"With CLS blind in {_in_layers(early)}: {_change(row, str(row['cut']), measure)}. The "
        f"number of layers from the bottom in which it can be blind without a change beyond "
        f"{plain(margin)}: {runs_of_none(seen)}. In {_in_layers(early)}: {said}"
    )
    if MATTERS in seen[:early]:
        verdict = NOT
    elif all(one == NONE for one in seen[:early]) and written is not None:
        verdict = HOLDS if written else NOT
    else:
        verdict = UNDECIDED
    return _of_row(verdict, words, row, measure, "sweep-up-to/points, attention/noop")


def _per_query(results: Results, table: str, direction: str) -> list[Row]:
    """The rows of a direction in one of the attention study's tables a query."""
    if "attention" not in results or table not in results["attention"].tables:
        return []
    rows = records(results["attention"].tables[table])
    return [row for row in rows if row["direction"] == direction]


def _mean(rows: Sequence[Row], key: str, seed: int) -> Mean:
    return mean_of(
        [number(row, key) for row in rows], [str(row["collection"]) for row in rows], seed
    )


def _of_mean(mean: Mean, words: str, unit: str, source: str) -> Found:
    """A claim that holds where a mean over queries is above 0."""
    verdict = sign_verdict(mean.low, mean.high)
    return Found(
        verdict, words, mean.value, mean.low, mean.high, unit, mean.n, "queries", mean.p, source
    )


def _with_interval(mean: Mean) -> str:
    return f"[{plain(mean.low)}, {plain(mean.high)}], {_p(mean.p)}"


def lexical_first(results: Results, margin: float, seed: int) -> Found:
    """Lexical matching lies in lower layers than semantic matching."""
    rows = _per_query(results, "stages", "Q->D")
    if len(rows) < 2:
        return lacking("the same-token share was not measured on two queries (study attention)")
    mean = _mean(rows, "later", seed)
    other = _per_query(results, "stages", "D->Q")
    more = f" D->Q: {plain(average(other, 'later'))} layers later." if other else ""
    return _of_mean(
        mean,
        "What the query reads more in relevant passages than in random ones is, on average, "
        f"lexical in layer {average(rows, 'lexical'):.1f} and semantic in layer "
        f"{average(rows, 'semantic'):.1f}: {plain(mean.value)} layers later {_with_interval(mean)}."
        f"{more}",
        "layers",
        "attention/stages",
    )


def hard_negatives(results: Results, margin: float, seed: int) -> Found:
    """Hard negatives get more semantic mass than easy ones."""
    rows = _per_query(results, "negatives", "Q->D")
    if len(rows) < 2:
        return lacking("semantic mass in hard and easy negatives was not measured on two queries")
    mean = _mean(rows, "more", seed)
    count = int(number(rows[0], "heads"))
    over = f"{count} semantic matching heads" if count else "all heads (none is a semantic one)"
    other = _per_query(results, "negatives", "D->Q")
    more = f" D->Q: {plain(average(other, 'more'))} more." if other else ""
    return _of_mean(
        mean,
        f"Semantic mass Q->D of {over}: {plain(average(rows, 'hard'))} in hard and "
        f"{plain(average(rows, 'easy'))} in easy negatives, {plain(mean.value)} more "
        f"{_with_interval(mean)}.{more}",
        "attention mass",
        "attention/negatives",
    )


def upper_right(results: Results, margin: float, seed: int) -> Found:
    """Matching heads have the higher alignment and the higher contrast."""
    if "circuits" not in results or "attention" not in results:
        return lacking("Figure 2 needs the studies circuits and attention")
    heads = records(results["circuits"].tables["heads"])
    found = records(results["attention"].tables["matching"])
    if not found:
        return lacking("no matching heads were looked for")
    mine = {
        (row["layer"], row["head"]) for row in found if row["direction"] == "Q->D" and row["held"]
    }
    matching = np.array([(row["layer"], row["head"]) in mine for row in heads])
    if matching.sum() < 2 or (~matching).sum() < 2:
        return lacking(f"{int(matching.sum())} of {len(heads)} heads are matching heads Q->D")
    seen = {}
    for name in ("alignment", "QD-DD"):
        values = np.array([number(row, name) for row in heads])
        seen[name] = superiority(values[matching], values[~matching], seed=seed)
    corrected = holm(np.array([one.p for one in seen.values()]))
    verdicts = [sign_verdict(one.low, one.high, HALF) for one in seen.values()]
    significant = bool((corrected <= ALPHA).all())
    verdict = UNDECIDED
    if NOT in verdicts:
        verdict = NOT
    elif verdicts == [HOLDS, HOLDS] and significant:
        verdict = HOLDS
    least = min(seen, key=lambda name: seen[name].value)
    words = "; ".join(
        f"{what} of a matching head is above another head's in {one.value:.0%} of cases "
        f"[{one.low:.0%}, {one.high:.0%}], {_p(float(p))}"
        for what, one, p in zip(
            ("the alignment", "the contrast QD-DD"), seen.values(), corrected, strict=True
        )
    )
    one = seen[least]
    return Found(
        verdict,
        f"{int(matching.sum())} of {len(heads)} heads match Q->D: {words}.",
        one.value,
        one.low,
        one.high,
        f"AUC of {'the alignment' if least == 'alignment' else 'the contrast'}, the lower of two",
        len(heads),
        "heads",
        float(corrected[list(seen).index(least)]),
        "circuits/heads, attention/matching",
    )


def gathered_last(results: Results, margin: float, seed: int) -> Found:
    """CLS can be deaf to query and document in the lower half, and not in the upper."""
    below = _points(results, "sweep-up-to", GATHERING)
    above = _points(results, "sweep-from", GATHERING)
    if not below or not above:
        return lacking(f"{GATHERING} was not cut up to and from each layer (study sweep)")
    if why := impossible([*below[1:], *above[:-1]]):
        return lacking(why)
    layers = _layers(results)
    half = math.ceil(layers / 2)
    measure = str(results["sweep-up-to"].options["measure"])
    until = [effect(below[n], margin) for n in range(1, layers + 1)]
    row, rest = below[half], above[half]
    late = effect(rest, margin)
    words = (
        f"CLS reads nothing of query and document in {_in_layers(half)}: "
        f"{_change(row, str(row['cut']), measure)}; from layer {half} on: "
        f"{_change(rest, str(rest['cut']), measure)}. The number of layers from the bottom that "
        f"can be cut without a change beyond {plain(margin)}: {runs_of_none(until)} of {layers}."
    )
    verdict = UNDECIDED
    if MATTERS in until[:half] or late == NONE:
        verdict = NOT
    elif all(one == NONE for one in until[:half]) and late == MATTERS:
        verdict = HOLDS
    return _of_row(verdict, words, row, measure, "sweep-up-to/points, sweep-from/points")
