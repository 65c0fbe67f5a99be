"""The evidence for each of the paper's claims: stored tables in, tests with a number and words out.

A decision takes the results by study, the margin and the seed. Where its numbers are missing it
says so. Which claims hold is decided afterwards, for all claims together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from matchlens.errors import printed
from matchlens.ranking import bootstrap_t
from matchlens.ranking.effects import (
    ALPHA,
    Effect,
    Evidence,
    both,
    effect,
    of_effect,
    of_none,
    one_sided,
    queries_needed,
    unready,
)
from matchlens.results import Result, records
from matchlens.studies.attention.contrasts import EARLIER, is_earlier
from matchlens.studies.attention.matching import above_layer, outstanding, too_few
from matchlens.studies.circuits.circuits import RESAMPLED
from matchlens.studies.claims import evidence as cuts

UNTESTED = Evidence(float("nan"), float("nan"), "nothing was tested")


@dataclass(frozen=True)
class Finding:
    """The numbers on one claim, before the correction over the claims."""

    found: str  # plain sentences made of the numbers
    evidence: Evidence = field(default=UNTESTED)  # its tests
    value: float | None = None  # the claim's number
    low: float | None = None  # lower end of its 95% interval
    high: float | None = None  # upper end
    unit: str | None = None  # what it is measured in
    n: int | None = None  # how many things the tests are over
    n_of: str | None = None  # what they are: queries or heads
    # from the factor of the correction over the claims to about how many queries would decide it
    # with 80% power, judged by this sample; None where unknown
    needed: Callable[[float], int | None] = lambda _: None
    source: str | None = None  # the tables that it was read from


def lacking(what: str) -> Finding:
    """A claim that cannot be decided, since something was not run or measured."""
    return Finding(f"{what[0].upper()}{what[1:]}.", Evidence(float("nan"), float("nan"), what))


Row = Mapping[str, object]
"""A row of a table, as :func:`matchlens.results.records` gives it."""


def number(row: Row, key: str) -> float:
    """A cell as a number; NaN where nothing is known.

    >>> number({"diff": None}, "diff"), number({"diff": 0.5}, "diff")
    (nan, 0.5)
    """
    value = row[key]
    return float(value) if isinstance(value, int | float) else float("nan")


def average(rows: Sequence[Row], key: str) -> float:
    """The mean of a column.

    >>> average([{"x": 1.0}, {"x": 2.0}], "x")
    1.5
    """
    return float(np.mean([number(row, key) for row in rows]))


def known(value: float) -> float | None:
    """A number, None in place of NaN."""
    return None if np.isnan(value) else value


@dataclass(frozen=True)
class Mean:
    """A mean over queries with its 95% bootstrap-t interval, and both one-sided t-tests."""

    value: float
    low: float
    high: float
    above: float
    below: float
    n: int

    @property
    def evidence(self) -> Evidence:
        """For the claim that the mean is above 0: two-sided tests, in either direction."""
        return Evidence(min(1.0, 2 * self.above), min(1.0, 2 * self.below))


def mean_of(values: Sequence[float], collections: Sequence[str], seed: int) -> Mean:
    """The mean of one number for each query, tested against 0."""
    sample = np.array(values, dtype=np.float64)
    (low,), (high,) = bootstrap_t(sample[None], list(collections), seed=seed)
    tails = one_sided(sample, 1), one_sided(sample, -1)
    return Mean(float(sample.mean()), float(low), float(high), *tails, len(sample))


Results = Mapping[str, Result]
SINK = 0.5
"""A part that gets at least this share of a head's attention is a sink of that head."""


def between(low: float, high: float, digits: int = 3) -> str:
    """An interval in a sentence, or that there is none.

    >>> between(-0.2, 0.1), between(float("nan"), float("nan"))
    ('[-.200, .100]', '(no 95% interval: too few queries differ)')
    """
    if not low <= high:
        return "(no 95% interval: too few queries differ)"
    return f"[{printed(low, digits)}, {printed(high, digits)}]"


def chance(p: float) -> str:
    """A p in a sentence.

    >>> chance(0.0004), chance(0.03)
    ('< .001', '= .030')
    """
    if np.isnan(p):
        return "unknown"
    return "< .001" if p < 0.001 else f"= {printed(p)}"


@dataclass(frozen=True)
class Changes:
    """The changes of the measure under the cuts, query by query."""

    of: Mapping[str, np.ndarray]  # cut to the change for each query
    better: np.ndarray  # original minus random for each query
    collections: list[str]  # the collection of each query
    impossible: Mapping[str, str]  # cut to why it removes nothing in this model
    measure: str  # the measure's name
    margin: float  # share of `better` that counts as no change
    seed: int  # of the intervals

    def effect(self, cut: str) -> Effect:
        """The tests of one cut."""
        sample = self.of[cut], self.better, self.collections
        return effect(*sample, margin=self.margin, seed=self.seed)

    def why_not(self, names: Sequence[str]) -> str:
        """Why nothing can be decided from these cuts; empty where something can."""
        for name in names:
            if name in self.impossible:
                return f"{name} is no cut here ({self.impossible[name]})"
        return unready(self.better, self.measure)

    def backup(self, path: cuts.Path) -> tuple[str, str]:
        """The cut that a claim uses for a path, and a sentence on the choice.

        The backup path is shown where the joint cut does more damage than each single one.
        """
        joint = self.of[path.joint]
        p = max(one_sided(joint - self.of[cut], -1) for cut in (path.main, *path.others))
        if not p <= ALPHA:  # also where one query tells nothing
            return path.main, ""
        return path.joint, (
            f"A backup path is shown: {path.joint} does more damage than each single cut "
            f"(uncorrected p {chance(p)}), so it is used in place of {path.main}."
        )

    def sentence(self, cut: str) -> str:
        """A cut and its effect in words, without the full stop."""
        tested = self.effect(cut)
        lose = float(self.better.mean())
        part = round(tested.mean / lose, 2) + 0.0 if lose > 0 else 0.0  # no minus before a zero
        share = f", {part:.0%} of (original - random)" if lose > 0 else ""
        return (
            f"{cut} changes {self.measure} by {printed(tested.mean)} "
            f"{between(tested.low, tested.high)}{share} (margin "
            f"{printed(tested.margin)}; uncorrected p: change {chance(tested.p_change)}, no change "
            f"beyond the margin {chance(tested.p_none)})"
        )

    def needed(self, cut: str, times: float) -> int | None:
        """About how many queries would show what the cut does: an effect, or none."""
        change = np.sign(self.of[cut].mean()) * self.of[cut]
        counts = [
            queries_needed(change, alpha=ALPHA / 2 / times),
            queries_needed(self.margin * self.better - change, alpha=ALPHA / times),
        ]
        return min((count for count in counts if count is not None), default=None)

    def finding(
        self, proof: Evidence, words: str, cut: str, source: str = "evidence/queries"
    ) -> Finding:
        """The finding whose number is the change of the measure under one cut."""
        tested = self.effect(cut)
        return Finding(
            words,
            proof,
            tested.mean,
            known(tested.low),
            known(tested.high),
            f"change of {self.measure}",
            tested.n,
            "queries",
            lambda times: self.needed(cut, times),
            source,
        )


def changes(results: Results, margin: float, seed: int) -> Changes | None:
    """The changes under the cuts of the study ``evidence``; None where it was not run."""
    if "evidence" not in results:
        return None
    result = results["evidence"]
    table, keys = result.tables["queries"], ["collection", "qid"]
    queries = pd.MultiIndex.from_frame(pd.DataFrame(table[keys]).drop_duplicates())
    wide = table.pivot(index=keys, columns="cut", values="diff").reindex(queries)
    values = {str(cut): wide[cut].to_numpy(dtype=np.float64) for cut in wide.columns}
    reasons = {
        str(row["cut"]): str(row["impossible"])
        for row in records(result.tables["cuts"])
        if row.get("impossible")
    }
    return Changes(
        values,
        -values["random"],
        [str(name) for name in wide.index.get_level_values("collection")],
        reasons,
        str(result.options["measure"]),
        margin,
        seed,
    )


Decision = Callable[[Results, float, int], Finding]
_NOT_CUT = "the cuts that the claims rest on were not made (study evidence)"


def _of_cuts(
    names: Callable[[Results], Sequence[str]],
) -> Callable[[Callable[[Results, Changes], Finding]], Decision]:
    """Make a decision of a function of the changes under some cuts, which must have been made."""

    def decorate(decide: Callable[[Results, Changes], Finding]) -> Decision:
        def decision(results: Results, margin: float, seed: int) -> Finding:
            measured = changes(results, margin, seed)
            if measured is None:
                return lacking(_NOT_CUT)
            wanted = names(results)
            if any(name in measured.impossible for name in wanted):
                return lacking(measured.why_not(wanted))
            return decide(results, measured)

        return decision

    return decorate


def one_cut(cut: str, matters: bool) -> Decision:
    """A claim that one cut lowers the measure, or that it does not change it."""

    @_of_cuts(lambda results: [cut])
    def decide(results: Results, measured: Changes) -> Finding:
        tested = measured.effect(cut)
        proof = of_effect([tested]) if matters else of_none([tested])
        words = f"Cutting {measured.sentence(cut)}.{_beyond(results, cut)}"
        return measured.finding(replace(proof, lacking=measured.why_not([cut])), words, cut)

    return decide


def _cuts_of(paths: Sequence[cuts.Path]) -> list[str]:
    return [cut for path in paths for cut in path.cuts]


def _beyond(results: Results, cut: str) -> str:
    """A sentence on the cut from the study of controls; the claim does not rest on it."""
    table = results["controls"].tables["controls"] if "controls" in results else None
    rows = [] if table is None or "verdict" not in table else records(table)
    for row in rows:
        if row["cut"] == cut and (p := number(row, "verdict_p_holm")) == p:
            return (
                f" Against the same loss of attention by the same rows elsewhere: {row['verdict']} "
                f"({printed(number(row, 'rows_beyond'))} beyond it; p {chance(p)}, by Holm over "
                f"the cuts; {number(row, 'rows_overlap_mass'):.0%} of that loss lies in the "
                "direction itself)."
            )
    return ""


@_of_cuts(lambda results: _cuts_of(cuts.read_sep(_layers(results))))
def separators(results: Results, measured: Changes) -> Finding:
    """Query and document read SEP without effect."""
    return _no_op(results, measured, cuts.read_sep(_layers(results)), ("SEP1", "SEP2"), None)


@_of_cuts(lambda results: _cuts_of([cuts.read_cls(_layers(results))]))
def early_cls(results: Results, measured: Changes) -> Finding:
    """Query and document read CLS without effect in the early layers."""
    layers = _layers(results)
    return _no_op(results, measured, [cuts.read_cls(layers)], ("CLS",), cuts.early(layers))


def _no_op(
    results: Results,
    measured: Changes,
    paths: Sequence[cuts.Path],
    parts: tuple[str, ...],
    below: int | None,
) -> Finding:
    """Reading some parts has no effect: no cut of it changes the measure."""
    used, sentences = zip(*(measured.backup(path) for path in paths), strict=True)
    used = tuple(dict.fromkeys(used))
    effects = {cut: measured.effect(cut) for cut in used}
    largest = max(used, key=lambda cut: abs(effects[cut].mean))
    written = _sinks(results, parts, below)
    why = measured.why_not(_cuts_of(paths))
    if not why and written is None:
        why = "what is written from there (norm mass) was not measured (study attention)"
    words = [f"{measured.sentence(cut)}." for cut in used]
    words += [*dict.fromkeys(filter(None, sentences)), *([written] if written else [])]
    proof = replace(of_none(list(effects.values())), lacking=why)
    return measured.finding(proof, " ".join(words), largest, "evidence/queries, attention/noop")


def _sinks(results: Results, parts: tuple[str, ...], below: int | None = None) -> str | None:
    """What some parts receive by attention and by norm, in a sentence; None if not measured."""
    if "attention" not in results or "norm_CLS" not in results["attention"].tables["noop"]:
        return None
    rows = records(results["attention"].tables["noop"])
    heads = [row for row in rows if below is None or number(row, "layer") < below]
    mass, norm = (
        np.array([sum(number(row, f"{kind}_{part}") for part in parts) for row in heads])
        for kind in ("mass", "norm")
    )
    names = " and ".join(parts)
    sinks = mass >= SINK
    if not sinks.any():
        return (
            f"No head gives {names} half of its attention; on average "
            f"{'it gets' if len(parts) == 1 else 'they get'} "
            f"{printed(mass.mean())} of it and {printed(norm.mean())} of what is written."
        )
    quiet = int((norm[sinks] < SINK).sum())
    return (
        f"Half of the attention or more goes to {names} in {int(sinks.sum())} of {sinks.size} "
        f"heads; in {quiet} of these less than half of what is written comes from there."
    )


def _layers(results: Results) -> int:
    options = (result.options for result in results.values())
    return next(int(str(known["layers"])) for known in options if "layers" in known)


@_of_cuts(lambda results: _cuts_of(cuts.gathering(_layers(results))))
def gathered_last(results: Results, measured: Changes) -> Finding:
    """CLS can be blind to query and document in the lower half, and not in the upper."""
    paths = cuts.gathering(_layers(results))
    (low, first), (high, second) = (measured.backup(path) for path in paths)
    proof = both(of_none([measured.effect(low)]), of_effect([measured.effect(high)]))
    words = [f"{measured.sentence(low)}.", f"{measured.sentence(high)}.", first, second]
    proof = replace(proof, lacking=measured.why_not(_cuts_of(paths)))
    return measured.finding(proof, " ".join(filter(None, words)), low)


def _per_query(results: Results, table: str, direction: str) -> list[Row]:
    """The rows of a direction in one of the attention study's tables."""
    if "attention" not in results or table not in results["attention"].tables:
        return []
    rows = records(results["attention"].tables[table])
    return [row for row in rows if row["direction"] == direction]


def _ready(results: Results, queries: int) -> str:
    """Why a claim over so many queries cannot be decided; empty where it can."""
    measured = changes(results, 0.0, 0)
    if measured is None:
        return f"whether the model is better than random is not known: {_NOT_CUT}"
    return unready(np.linspace(1, 2, queries)) or unready(measured.better, measured.measure)


def hard_negatives(results: Results, margin: float, seed: int) -> Finding:
    """Hard negatives get more semantic mass than easy ones, over all heads."""
    every = _per_query(results, "negatives", "Q->D")
    rows = [row for row in every if not row["selected"]]
    if len(rows) < 2:
        return lacking("semantic mass in hard and easy negatives was not measured on two queries")
    values = np.array([number(row, "more") for row in rows])
    mean = mean_of(values.tolist(), [str(row["collection"]) for row in rows], seed)
    chosen = [row for row in every if row["selected"]]
    more = (
        f" In {chosen[0]['heads']} semantic matching heads, selected on the other half of the "
        f"queries the difference is {printed(average(chosen, 'more'), 4)} (described, not tested)."
        if chosen
        else ""
    )
    queries = len({(row["collection"], row["qid"]) for row in rows})
    return Finding(
        f"Semantic mass Q->D, all heads: {printed(average(rows, 'hard'), 4)} in hard and "
        f"{printed(average(rows, 'easy'), 4)} in easy negatives, a difference of "
        f"{printed(mean.value, 4)} {between(mean.low, mean.high, 4)}.{more}",
        replace(mean.evidence, lacking=_ready(results, queries)),
        mean.value,
        known(mean.low),
        known(mean.high),
        "attention mass",
        mean.n,
        "queries",
        lambda times: queries_needed(np.sign(values.mean()) * values, alpha=ALPHA / 2 / times),
        "attention/negatives",
    )


def lexical_first(results: Results, margin: float, seed: int) -> Finding:
    """Lexical matching lies in lower layers than other matching, beyond what shuffling gives."""
    if "attention" not in results or "stages" not in results["attention"].tables:
        return lacking("the same-stem share was not measured (study attention)")
    rows = _per_query(results, "stages", "Q->D")
    if not rows:
        return lacking("no query has both relevant and easy passages (study attention)")
    (row,) = rows
    observed, null = number(row, "later"), number(row, "null")
    if np.isnan([observed, null]).any():
        return lacking("no head reads relevant passages more, on its own stem and on others")
    why = _ready(results, int(number(row, "queries")))
    if not why and number(row, "negative") > 0.2:
        why = (
            f"{number(row, 'negative'):.0%} of the weight is negative (heads that read random "
            "passages more); at most 20% are allowed"
        )
    words = (
        "Of what the query reads more in relevant passages than in random ones, half is reached "
        f"at layer {printed(number(row, 'lexical'))} on words of the reader's own stem and at "
        f"layer {printed(number(row, 'semantic'))} on others, a difference of {printed(observed)} "
        "layers. "
        f"With relevance shuffled within queries it is {printed(null)}; the excess is "
        f"{printed(observed - null)} (uncorrected permutation p {chance(number(row, 'p_later'))})."
    )
    return Finding(
        words,
        Evidence(number(row, "p_later"), number(row, "p_earlier"), why),
        known(observed - null),
        None,
        None,
        "layers beyond the null",
        int(number(row, "queries")),
        "queries",
        source="attention/stages",
    )


def upper_right(results: Results, margin: float, seed: int) -> Finding:
    """Matching heads have the higher alignment and the higher contrast, inside their layers.

    The contrast also depends on the queries that give the mean states: it must be higher in
    resamples of these, too. The alignment depends on weights alone.
    """
    if "circuits" not in results or "attention" not in results:
        return lacking("Figure 2 needs the studies circuits and attention")
    heads = records(results["circuits"].tables["heads"])
    matched = records(results["attention"].tables["matching"])
    if not matched:
        return lacking("no matching heads were looked for")
    if is_earlier(results["attention"].tables):
        return lacking(f"matching heads cannot be used: {EARLIER}")
    kept = {
        (row["layer"], row["head"]) for row in matched if row["direction"] == "Q->D" and row["held"]
    }
    marked = np.array([(row["layer"], row["head"]) in kept for row in heads])
    if few := too_few(marked):
        return lacking(few)
    resampled = resampled_contrast(results["circuits"])
    tests, proof = outstanding(heads, marked, resampled, seed=seed)
    low = high = None
    more = "The contrast was not measured in resamples of the queries."
    if resampled is not None:
        layers = np.array([int(number(row, "layer")) for row in heads])
        moved = above_layer(resampled, layers)[:, marked].mean(axis=1)
        low, high = (float(end) for end in np.percentile(moved, [2.5, 97.5]))
        more = (
            "In resamples of the queries the contrast is "
            f"{printed(float(moved.mean()))} above the mean of their layer [{printed(low)}, "
            f"{printed(high)}], and above it in {(moved > 0).mean():.1%} of them."
        )
    queries = results["attention"].pairs[["collection", "qid"]].drop_duplicates()
    why = _ready(results, len(queries))
    words = "; ".join(
        f"their {what} is {printed(value)} above the mean of their layer (permuted inside layers, "
        f"uncorrected p {chance(above)})"
        for what, (value, above, _) in tests.items()
    )
    weaker = max(tests, key=lambda what: tests[what][1])
    return Finding(
        f"{int(marked.sum())} of {len(heads)} heads match Q->D: {words}. {more}",
        replace(proof, lacking=why),
        tests[weaker][0],
        low if weaker != "alignment" else None,
        high if weaker != "alignment" else None,
        f"{weaker}, above the layer's mean",
        len(heads),
        "heads",
        source="circuits/heads, attention/matching",
    )


def resampled_contrast(circuits: Result) -> np.ndarray | None:
    """`[resample, head]`, the contrast QD-DD in resamples of the queries; None where not known."""
    if RESAMPLED not in circuits.arrays:
        return None
    values = np.asarray(circuits.array(RESAMPLED), dtype=np.float64)
    values = values.reshape(len(values), -1)
    known_all = len(values) and values.shape[1] == len(circuits.tables["heads"])
    return values if known_all and np.isfinite(values).all() else None
