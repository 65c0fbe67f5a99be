"""The evidence for each of the paper's claims: stored tables in, tests with a number and words out.

A decision takes the results by study, the margin and the seed. Where its numbers are missing it
says so. Which claims hold is decided afterwards, for all claims together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

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
class Found:
    """What the numbers say of one claim, before the correction over the claims.

    Args:
        found: one plain sentence made of the numbers.
        evidence: its tests.
        value: the claim's number.
        low: lower end of its 95% interval.
        high: upper end.
        unit: what it is measured in.
        n: how many things the tests are over.
        n_of: what they are: queries or heads.
        needed: takes by how much the correction over the claims multiplies p, and gives about how
            many queries would decide it with 80% power, judged by this sample; None where unknown.
        source: the tables that it was read from.
    """

    found: str
    evidence: Evidence = field(default=UNTESTED)
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str | None = None
    n: int | None = None
    n_of: str | None = None
    needed: Callable[[float], int | None] = lambda _: None
    source: str | None = None


def lacking(what: str) -> Found:
    """Nothing can be said, since something was not run or measured."""
    return Found(f"{what[0].upper()}{what[1:]}.", Evidence(float("nan"), float("nan"), what))


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
    one = np.array(values, dtype=np.float64)
    low, high = bootstrap_t(one[None], list(collections), seed=seed)
    return Mean(
        float(one.mean()),
        float(low[0]),
        float(high[0]),
        one_sided(one, 1),
        one_sided(one, -1),
        len(one),
    )


Results = Mapping[str, Result]
SINK = 0.5
"""A head gives a part half of its attention, or more: the part is a sink of that head."""


def plain(value: float) -> str:
    """A number in a sentence.

    >>> plain(0.0512), plain(-0.2), plain(-0.0001)
    ('.051', '-.200', '.000')
    """
    text = f"{round(value, 3) + 0.0:.3f}"  # no minus before a zero
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def between(low: float, high: float, write: Callable[[float], str]) -> str:
    """An interval in a sentence, or that there is none.

    >>> between(-0.2, 0.1, plain), between(float("nan"), float("nan"), plain)
    ('[-.200, .100]', '(no 95% interval: too few queries differ)')
    """
    if not low <= high:
        return "(no 95% interval: too few queries differ)"
    return f"[{write(low)}, {write(high)}]"


def chance(p: float) -> str:
    """A p in a sentence.

    >>> chance(0.0004), chance(0.03)
    ('< .001', '= .030')
    """
    return "< .001" if p < 0.001 else f"= {plain(p)}"


@dataclass(frozen=True)
class Changes:
    """What the cuts did to the measure, query by query.

    Args:
        of: cut to the change for each query.
        better: original minus random for each query.
        collections: the collection of each query.
        impossible: cut to why it removes nothing in this model.
        measure: the measure's name.
        margin: share of ``better`` that counts as no change.
        seed: of the intervals.
    """

    of: Mapping[str, np.ndarray]
    better: np.ndarray
    collections: list[str]
    impossible: Mapping[str, str]
    measure: str
    margin: float
    seed: int

    def effect(self, cut: str) -> Effect:
        """The tests of one cut."""
        return effect(
            self.of[cut], self.better, self.collections, margin=self.margin, seed=self.seed
        )

    def why_not(self, names: Sequence[str]) -> str:
        """Why nothing can be decided from these cuts; empty where something can."""
        for name in names:
            if name in self.impossible:
                return f"{name} is no cut here ({self.impossible[name]})"
        return unready(self.better, self.measure)

    def backup(self, path: cuts.Path) -> tuple[str, str]:
        """The cut that a claim uses for a path, and what to say of the choice.

        The backup path is shown where the joint cut does more damage than each single one.
        """
        joint = self.of[path.joint]
        p = max(one_sided(joint - self.of[cut], -1) for cut in (path.main, *path.others))
        if p <= ALPHA:
            return path.joint, (
                f"A backup path is shown: {path.joint} does more damage than each single cut "
                f"(uncorrected p {chance(p)}), so it is used in place of {path.main}."
            )
        return path.main, ""

    def said(self, cut: str, one: Effect) -> str:
        """A cut and its effect in words."""
        lose = float(self.better.mean())
        part = round(one.mean / lose, 2) + 0.0 if lose > 0 else 0.0  # no minus before a zero
        share = f", {part:.0%} of (original - random)" if lose > 0 else ""
        return (
            f"{cut} changes {self.measure} by {plain(one.mean)} "
            f"{between(one.low, one.high, plain)}{share} (margin "
            f"{plain(one.margin)}; uncorrected p: change {chance(one.p_change)}, no change beyond "
            f"the margin {chance(one.p_none)})"
        )

    def needed(self, cut: str, times: float) -> int | None:
        """About how many queries would show what the cut does: an effect, or none.

        Args:
            cut: the cut.
            times: by how much the correction over the claims multiplies p.
        """
        change, inside = self.of[cut], self.margin * self.better
        none = inside - np.sign(change.mean()) * change
        counts = [
            queries_needed(np.sign(change.mean()) * change, alpha=ALPHA / 2 / times),
            queries_needed(none, alpha=ALPHA / times),
        ]
        return min((count for count in counts if count is not None), default=None)

    def found(
        self, proof: Evidence, words: str, cut: str, source: str = "evidence/queries"
    ) -> Found:
        """A claim whose number is the change of the measure under one cut."""
        one = self.effect(cut)
        return Found(
            words,
            proof,
            one.mean,
            known(one.low),
            known(one.high),
            f"change of {self.measure}",
            one.n,
            "queries",
            lambda times: self.needed(cut, times),
            source,
        )


def changes(results: Results, margin: float, seed: int) -> Changes | None:
    """What the cuts of the study ``evidence`` did; None where it was not run."""
    if "evidence" not in results:
        return None
    result = results["evidence"]
    table = result.tables["queries"]
    wide = table.pivot_table(
        index=["collection", "qid"], columns="cut", values="diff", sort=False, dropna=False
    )
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


Decision = Callable[[Results, float, int], Found]
_NOT_CUT = "the cuts that the claims rest on were not made (study evidence)"


def one_cut(cut: str, matters: bool) -> Decision:
    """A claim that one cut lowers the measure, or that it does not change it."""

    def decide(results: Results, margin: float, seed: int) -> Found:
        held = changes(results, margin, seed)
        if held is None:
            return lacking(_NOT_CUT)
        if cut in held.impossible:
            return lacking(held.why_not([cut]))
        one = held.effect(cut)
        proof = of_effect([one]) if matters else of_none([one])
        proof = replace(proof, lacking=held.why_not([cut]))
        words = f"Cutting {held.said(cut, one)}.{_beyond(results, cut)}"
        return held.found(proof, words, cut)

    return decide


def _beyond(results: Results, cut: str) -> str:
    """What the study of controls says of a cut; described, the claim does not rest on it."""
    table = results["controls"].tables["controls"] if "controls" in results else None
    rows = [] if table is None or "verdict" not in table else records(table)
    for row in rows:
        if row["cut"] == cut and (p := number(row, "verdict_p_holm")) == p:
            return (
                f" Against the same loss of attention by the same rows elsewhere: {row['verdict']} "
                f"({plain(number(row, 'rows_beyond'))} beyond it; p {chance(p)}, by Holm over "
                f"the cuts; {number(row, 'rows_overlap_mass'):.0%} of that loss lies in the "
                "direction itself)."
            )
    return ""


def separators(results: Results, margin: float, seed: int) -> Found:
    """Query and document read SEP for nothing."""
    held = changes(results, margin, seed)
    if held is None:
        return lacking(_NOT_CUT)
    paths = cuts.read_sep(_layers(results))
    return _no_op(results, held, paths, ("SEP1", "SEP2"), None)


def early_cls(results: Results, margin: float, seed: int) -> Found:
    """Query and document read CLS for nothing in the early layers."""
    held = changes(results, margin, seed)
    if held is None:
        return lacking(_NOT_CUT)
    layers = _layers(results)
    return _no_op(results, held, [cuts.read_cls(layers)], ("CLS",), cuts.early(layers))


def _no_op(
    results: Results,
    held: Changes,
    paths: Sequence[cuts.Path],
    parts: tuple[str, ...],
    below: int | None,
) -> Found:
    """Being read does nothing: no cut of it changes the measure, whatever is written from there."""
    names = [cut for path in paths for cut in path.cuts]
    if any(name in held.impossible for name in names):
        return lacking(held.why_not(names))
    used, said = zip(*(held.backup(path) for path in paths), strict=True)
    used = tuple(dict.fromkeys(used))
    effects = {cut: held.effect(cut) for cut in used}
    worst = max(used, key=lambda cut: abs(effects[cut].mean))
    written = _sinks(results, parts, below)
    why = held.why_not(names)
    if not why and written is None:
        why = "what is written from there (norm mass) was not measured (study attention)"
    words = [f"{held.said(cut, one)}." for cut, one in effects.items()]
    words += [*dict.fromkeys(one for one in said if one), *([written] if written else [])]
    proof = replace(of_none(list(effects.values())), lacking=why)
    return held.found(proof, " ".join(words), worst, "evidence/queries, attention/noop")


def _sinks(results: Results, parts: tuple[str, ...], below: int | None = None) -> str | None:
    """How much is read and how much is written from some parts; None where it was not measured."""
    if "attention" not in results or "norm_CLS" not in results["attention"].tables["noop"]:
        return None
    rows = records(results["attention"].tables["noop"])
    mine = [row for row in rows if below is None or number(row, "layer") < below]
    mass, norm = (
        np.array([sum(number(row, f"{kind}_{part}") for part in parts) for row in mine])
        for kind in ("mass", "norm")
    )
    names = " and ".join(parts)
    sinks = mass >= SINK
    if not sinks.any():
        return (
            f"No head gives {names} half of its attention; on average they get "
            f"{plain(float(mass.mean()))} of it and {plain(float(norm.mean()))} of what is written."
        )
    quiet = int((norm[sinks] < SINK).sum())
    return (
        f"Half of the attention or more goes to {names} in {int(sinks.sum())} of {sinks.size} "
        f"heads; in {quiet} of these less than half of what is written comes from there."
    )


def _layers(results: Results) -> int:
    return next(
        int(str(one.options["layers"])) for one in results.values() if "layers" in one.options
    )


def gathered_last(results: Results, margin: float, seed: int) -> Found:
    """CLS can be blind to query and document in the lower half, and not in the upper."""
    held = changes(results, margin, seed)
    if held is None:
        return lacking(_NOT_CUT)
    paths = cuts.gathering(_layers(results))
    names = [cut for path in paths for cut in path.cuts]
    if any(name in held.impossible for name in names):
        return lacking(held.why_not(names))
    (low, first), (high, second) = (held.backup(path) for path in paths)
    below, above = held.effect(low), held.effect(high)
    proof = replace(both(of_none([below]), of_effect([above])), lacking=held.why_not(names))
    words = [f"{held.said(low, below)}.", f"{held.said(high, above)}.", first, second]
    return held.found(proof, " ".join(one for one in words if one), low)


def _per_query(results: Results, table: str, direction: str) -> list[Row]:
    """The rows of a direction in one of the attention study's tables of queries."""
    if "attention" not in results or table not in results["attention"].tables:
        return []
    rows = records(results["attention"].tables[table])
    return [row for row in rows if row["direction"] == direction]


def _ready(results: Results, rows: Sequence[Row], measure_needed: bool = True) -> str:
    """Why a claim over these queries cannot be decided; empty where it can."""
    held = changes(results, 0.0, 0)
    if held is None and measure_needed:
        return f"whether the model is better than random is not known: {_NOT_CUT}"
    queries = len({(row["collection"], row["qid"]) for row in rows})
    if short := unready(np.linspace(1, 2, queries)):
        return short
    return "" if held is None else unready(held.better, held.measure)


def hard_negatives(results: Results, margin: float, seed: int) -> Found:
    """Hard negatives get more semantic mass than easy ones, over all heads."""
    rows = [row for row in _per_query(results, "negatives", "Q->D") if not row["selected"]]
    if len(rows) < 2:
        return lacking("semantic mass in hard and easy negatives was not measured on two queries")
    one: Mean = mean_of(
        [number(row, "more") for row in rows], [str(row["collection"]) for row in rows], seed
    )
    values = np.array([number(row, "more") for row in rows])
    chosen = [row for row in _per_query(results, "negatives", "Q->D") if row["selected"]]
    more = (
        f" In {chosen[0]['heads']} semantic matching heads, selected on the other half of the "
        f"queries: {average(chosen, 'more'):.4f} more (described, not tested)."
        if chosen
        else ""
    )
    return Found(
        f"Semantic mass Q->D, all heads: {average(rows, 'hard'):.4f} in hard and "
        f"{average(rows, 'easy'):.4f} in easy negatives, {one.value:.4f} more "
        f"{between(one.low, one.high, '{:.4f}'.format)}.{more}",
        replace(one.evidence, lacking=_ready(results, rows)),
        one.value,
        known(one.low),
        known(one.high),
        "attention mass",
        one.n,
        "queries",
        lambda times: queries_needed(np.sign(values.mean()) * values, alpha=ALPHA / 2 / times),
        "attention/negatives",
    )


def lexical_first(results: Results, margin: float, seed: int) -> Found:
    """Lexical matching lies in lower layers than other matching, beyond what shuffling gives."""
    if "attention" not in results or "stages" not in results["attention"].tables:
        return lacking("the same-stem share was not measured (study attention)")
    rows = [
        row for row in records(results["attention"].tables["stages"]) if row["direction"] == "Q->D"
    ]
    if not rows:
        return lacking("no query has both relevant and easy passages (study attention)")
    (row,) = rows
    observed, null = number(row, "later"), number(row, "null")
    if np.isnan([observed, null]).any():
        return lacking("no head reads relevant passages more, on its own stem and on others")
    why = _ready(
        results, [{"collection": "", "qid": n} for n in range(int(number(row, "queries")))]
    )
    if not why and number(row, "negative") > 0.2:
        why = (
            f"{number(row, 'negative'):.0%} of the weight is negative (heads that read random "
            "passages more); at most 20% are allowed"
        )
    words = (
        f"Half of what the query reads more in relevant passages than in random ones is reached, "
        f"on words of the reader's stem, in layer {plain(number(row, 'lexical'))} and, on "
        f"others, in layer {plain(number(row, 'semantic'))}: {plain(observed)} layers later. "
        f"Relevance shuffled within queries gives {plain(null)}; the excess is "
        f"{plain(observed - null)} (uncorrected permutation p {chance(number(row, 'p_later'))})."
    )
    return Found(
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


def upper_right(results: Results, margin: float, seed: int) -> Found:
    """Matching heads have the higher alignment and the higher contrast, inside their layers.

    The contrast also hangs on the queries whose mean states it was made of: it must be higher in
    resamples of these, too. The alignment is made of weights alone.
    """
    if "circuits" not in results or "attention" not in results:
        return lacking("Figure 2 needs the studies circuits and attention")
    heads = records(results["circuits"].tables["heads"])
    matched = records(results["attention"].tables["matching"])
    if not matched:
        return lacking("no matching heads were looked for")
    if is_earlier(results["attention"].tables):
        return lacking(f"matching heads cannot be used: {EARLIER}")
    mine = {
        (row["layer"], row["head"]) for row in matched if row["direction"] == "Q->D" and row["held"]
    }
    marked = np.array([(row["layer"], row["head"]) in mine for row in heads])
    if few := too_few(marked):
        return lacking(few)
    resampled = resampled_contrast(results["circuits"])
    seen, proof = outstanding(heads, marked, resampled, seed=seed)
    low = high = None
    more = "The contrast was not measured in resamples of the queries."
    if resampled is not None:
        layers = np.array([int(number(row, "layer")) for row in heads])
        moved = above_layer(resampled, layers)[:, marked].mean(axis=1)
        low, high = (float(end) for end in np.percentile(moved, [2.5, 97.5]))
        more = (
            "In resamples of the queries the contrast is "
            f"{plain(float(moved.mean()))} above the mean of their layer [{plain(low)}, "
            f"{plain(high)}], and above it in {(moved > 0).mean():.1%} of them."
        )
    queries = results["attention"].pairs[["collection", "qid"]].drop_duplicates()
    why = _ready(results, [{"collection": "", "qid": n} for n in range(len(queries))])
    words = "; ".join(
        f"their {what} is {plain(value)} above the mean of their layer (permuted inside layers, "
        f"uncorrected p {chance(above)})"
        for what, (value, above, _) in seen.items()
    )
    least = max(seen, key=lambda what: seen[what][1])
    return Found(
        f"{int(marked.sum())} of {len(heads)} heads match Q->D: {words}. {more}",
        replace(proof, lacking=why),
        seen[least][0],
        low if least != "alignment" else None,
        high if least != "alignment" else None,
        f"{least}, above the layer's mean",
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
