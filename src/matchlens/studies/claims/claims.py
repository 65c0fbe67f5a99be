"""The paper's claims, decided together, and the headline numbers of a study.

Every function here is pure: stored tables in, decisions and sentences out. A claim whose numbers
are missing is undecided, and says what is lacking.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.errors import InputError, counted, printed
from matchlens.ranking.effects import (
    HOLDS,
    MARGIN,
    NOT,
    UNDECIDED,
    Verdict,
    check_margin,
    decide,
)
from matchlens.results import Result, differences, records, to_json
from matchlens.studies.attention.contrasts import is_earlier
from matchlens.studies.claims.decisions import (
    Decision,
    Finding,
    Results,
    early_cls,
    gathered_last,
    hard_negatives,
    known,
    lexical_first,
    number,
    one_cut,
    separators,
    upper_right,
)
from matchlens.studies.cuts.cut_modes import random_by_construction

HEADLINE_COLUMNS = ("id", "value", "unit", "n", "definition", "study", "table", "row", "column")


def headline(results: Results) -> pd.DataFrame:
    """Every headline number, with the cell that it is.

    Returns:
        A row for each number: id, value, unit, n (queries or heads; null where it has none),
        definition, study, table, row (the cell's row as JSON of its key columns), column.
    """
    table = pd.DataFrame(list(_numbers(results)), columns=pd.Index(HEADLINE_COLUMNS))
    table["n"] = table["n"].astype("Int64")
    return table


@dataclass(frozen=True)
class _Reader:
    """Reads cells of stored tables; each table becomes rows once."""

    results: Results
    rows: dict[tuple[str, str], list[dict[str, object]]] = field(default_factory=dict)

    def of(self, study: str, table: str) -> list[dict[str, object]]:
        """The rows of a table; none where there is no such table."""
        if study not in self.results or table not in self.results[study].tables:
            return []
        if (study, table) not in self.rows:
            self.rows[study, table] = records(self.results[study].tables[table])
        return self.rows[study, table]

    def numbers(
        self, place: str, keys: Sequence[str], column: str, about: _About
    ) -> Iterator[dict[str, object]]:
        """A column of a table as headline numbers, without those that are not known."""
        study, _, table = place.partition("/")
        for row in self.of(study, table):
            if row[column] is None:
                continue
            name, unit, n, words = about(row)
            key = json.dumps({key: row[key] for key in keys}, ensure_ascii=False)
            cell = (name, row[column], unit, n, words, study, table, key, column)
            yield dict(zip(HEADLINE_COLUMNS, cell, strict=True))


_About = Callable[[Mapping[str, object]], tuple[str, str, object, str]]
"""From a row to the number's id, unit, n and definition."""

TABLE_1_WORDS = {
    "": ("original", "mean over queries, no cut"),
    "random": ("random ranking", "mean over queries of the expectation over all orders"),
}
SET_WORDS = {
    "size": ("heads", "number of matching heads in the direction"),
    "diff": ("change of the measure", "all of them cut in the direction"),
    "p_random": ("uncorrected p", "share of sets, random ones and this, that lower it as much"),
    "p_tau": ("uncorrected p", "share of sets, random ones and this, that disturb it as much"),
}


def _numbers(results: Results) -> Iterator[dict[str, object]]:
    reader = _Reader(results)

    def table_1(row: Mapping[str, object]) -> tuple[str, str, object, str]:
        cut = str(row["cut"])
        name, words = TABLE_1_WORDS.get(cut, (cut, f"mean over queries with {cut} cut"))
        return f"table1/{name}", _measure(results["ablation"]), row["queries"], words

    def figure_1a(row: Mapping[str, object]) -> tuple[str, str, object, str]:
        words = f"mean over queries with {row['direction']} cut in the first {row['n']} layers"
        return f"figure1a/{row['cut']}", _measure(results["sweep-up-to"]), row["queries"], words

    def matching(column: str) -> _About:
        unit, words = SET_WORDS[column]
        return lambda row: (f"matching/{row['set']}/{column}", unit, None, words)

    def screened(row: Mapping[str, object]) -> tuple[str, str, object, str]:
        words = f"of screened and exact changes of the score, over {row['scope']}"
        return f"screen/{row['scope']}", "Pearson's r", row["gates"], words

    def figure_2(row: Mapping[str, object]) -> tuple[str, str, object, str]:
        first, second, contrast = row["first"], row["second"], row["contrast"]
        words = f"over heads, {first} with {second}, contrast {contrast}"
        return f"figure2/{contrast}/{first}~{second}", "Spearman's rho", row["heads"], words

    def claim(row: Mapping[str, object]) -> tuple[str, str, object, str]:
        return f"claims/{row['id']}", str(row["unit"]), row["n"], str(row["definition"])

    yield from reader.numbers("ablation/table1", ["cut"], "mean", table_1)
    yield from reader.numbers("sweep-up-to/points", ["cut"], "mean", figure_1a)
    for column in SET_WORDS:
        yield from reader.numbers("attention/sets", ["set"], column, matching(column))
    yield from reader.numbers("screen/agreement", ["scope"], "pearson", screened)
    couple = ["contrast", "first", "second"]
    yield from reader.numbers("circuits/associations", couple, "rho", figure_2)
    yield from reader.numbers("study/claims", ["id"], "value", claim)


def _measure(result: Result) -> str:
    return str(result.options["measure"])


def summary(results: Results, claims: pd.DataFrame) -> pd.DataFrame:
    """The question and the findings, in plain sentences made of the numbers.

    Returns:
        Columns kind (``asked`` or ``found``) and sentence, in reading order.
    """
    sentences = [("asked", sentence) for sentence in _question(results)]
    sentences += [("found", sentence) for sentence in _findings(results, claims)]
    return pd.DataFrame(sentences, columns=pd.Index(["kind", "sentence"]))


def _question(results: Results) -> Iterator[str]:
    first = next(iter(results.values()))
    model, pairs = first.identity["model"], first.identity["pairs"]
    assert isinstance(model, Mapping)  # noqa: S101
    assert isinstance(pairs, Mapping)  # noqa: S101
    names = ", ".join(str(source["collection"]) for source in pairs["sources"])
    rows = records(first.pairs)
    judged = [row for row in rows if number(row, "grade") >= 0]
    queries = len({(row["collection"], row["qid"]) for row in judged})
    easy = len(rows) - len(judged)
    studies = ", ".join(name for name, one in results.items() if one.options.get("rank_easy"))
    ranked = f"ranked in {studies}" if studies else "not ranked"
    more = f" and {easy} random ones (easy negatives, {ranked})" if easy else ""
    name = "the demo model" if model["name"] == "demo" else model["name"]
    yield (
        f"How does {name} match a query with a document? It was run on {counted(queries, 'query')} "
        f"of {names}, with {len(judged)} candidate passages{more}."
    )
    short = sum(bool(row["truncated"]) for row in rows)
    limit = model["max_length"]
    yield (
        f"No pair is longer than the limit of {limit} tokens."
        if not short
        else f"{short} of {len(rows)} pairs were cut to the limit of {limit} tokens."
    )


def _findings(results: Results, claims: pd.DataFrame) -> Iterator[str]:
    if "ablation" in results:
        yield from _table_1(results["ablation"])
    if "attention" in results and not is_earlier(results["attention"].tables):
        rows = records(results["attention"].tables["matching"])
        parts, overlap = [], False
        for direction in dict.fromkeys(row["direction"] for row in rows):
            heads = [row for row in rows if row["direction"] == direction and row["matching"]]
            kinds = Counter(kind for row in heads for kind in str(row["kind"]).split(", "))
            listed = ", ".join(
                counted(number, kind) if kind.endswith("reader") else f"{number} {kind}"
                for kind, number in sorted(kinds.items())
                if kind
            )
            overlap |= kinds.total() > len(heads)
            confirmed = sum(bool(row["held"]) for row in heads)
            hold = f", of which {confirmed or 'none'} {'holds' if confirmed < 2 else 'hold'}"
            parts.append(
                f"{len(heads)} {'matches' if len(heads) == 1 else 'match'} in {direction}"
                f"{f' ({listed})' if listed else ''}{hold} on the other half of the queries"
                if heads
                else f"none matches in {direction}"
            )
        if parts:
            several = " A head may be of several kinds." if overlap else ""
            yield f"Of {len(rows) // len(parts)} heads, {', and '.join(parts)}.{several}"
    verdicts = [str(row["verdict"]) for row in records(claims)]
    holds, fails, left = (verdicts.count(verdict) for verdict in (HOLDS, NOT, UNDECIDED))
    yield (
        f"Of the paper's {len(claims)} claims, {holds} {'is' if holds == 1 else 'are'} shown to "
        f"hold for this model, {fails} {'is' if fails == 1 else 'are'} shown not to hold, and "
        f"{left} {'is' if left == 1 else 'are'} undecided."
    )
    for verdict, words in ((HOLDS, "Shown"), (NOT, "Shown not to hold")):
        shown = [str(row["claim"]) for row in records(claims) if row["verdict"] == verdict]
        if shown:
            yield f"{words}: {' '.join(shown)}"
    yield from _draws(claims)


def _draws(claims: pd.DataFrame) -> Iterator[str]:
    """Whether the verdicts that were reached on several draws of the sample agree."""
    several = {str(row["claim"]): str(row["draws"]).split(", ") for row in records(claims)}
    several = {name: verdicts for name, verdicts in several.items() if len(verdicts) > 1}
    if several:
        split = [name for name, verdicts in several.items() if len(set(verdicts)) > 1]
        others = f"; they disagree on: {' '.join(split)}".removesuffix(".") if split else ""
        yield (
            f"{len(next(iter(several.values())))} draws of the sample give the same verdict on "
            f"{len(several) - len(split)} of the {len(several)} claims that rest on few "
            f"cuts{others}."
        )


def _table_1(result: Result) -> Iterator[str]:
    measure = str(result.options["measure"])
    original, random = (float(str(result.options[key])) for key in ("original", "random"))
    yield (
        f"Untouched, it reaches {measure} {printed(original)}; a random ranking of the same "
        f"candidates has {printed(random)}."
    )
    rows = records(result.tables["table1"])
    every = [row for row in rows if row["cut"] not in ("", "random")]
    cells = [row for row in every if not row.get("impossible")]
    blind = [row["cut"] for row in cells if random_by_construction(row, result.options)]
    cells = [row for row in cells if row["cut"] not in blind]
    fallen = [row for row in cells if row["significant"] and number(row, "diff") < 0]
    if blind:
        is_left = "is left out of what follows: its ranking is"
        if len(blind) > 1:
            is_left = "are left out of what follows: their rankings are"
        yield (
            f"{', '.join(map(str, blind))} {is_left} random by construction, since the score has "
            "nothing left to read."
        )
    if len(cells) + len(blind) < len(every):
        yield (
            f"{len(every) - len(cells) - len(blind)} of {len(every)} cuts are none in this model: "
            "there is nothing of that kind to read."
        )
    fallen.sort(key=lambda row: number(row, "diff"))
    if not fallen:
        yield f"Of {len(cells)} cuts, none lowers it significantly (Holm-corrected, paired)."
        return
    named = ", ".join(f"{row['cut']} ({printed(number(row, 'mean'))})" for row in fallen[:5])
    rest = f" and {len(fallen) - 5} more" if len(fallen) > 5 else ""
    lower = "lowers" if len(fallen) == 1 else "lower"
    yield (
        f"Of {len(cells)} cuts, {len(fallen)} {lower} it significantly (Holm-corrected, paired): "
        f"{named}{rest}."
    )


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and how it is decided."""

    id: str  # a short name
    claim: str  # the sentence
    definition: str  # what makes it hold
    decide: Decision  # reads the tables; the second argument is the margin, the third the seed
    # whether it rests on the cuts of the study `evidence`, which are made on every draw of the
    # sample
    redrawn: bool = False


COLUMNS = (
    *("id", "claim", "verdict", "found", "value", "low", "high", "unit", "n", "n_of"),
    *("p", "p_holm", "needed", "draws", "agreement", "source", "definition"),
)


@typed
def claims(results: Mapping[str, Result], *, margin: float = MARGIN) -> pd.DataFrame:
    """Decide the paper's claims for one model from the tables of its studies.

    Each claim has one primary test. Holm's correction goes over the claims, in two families: the
    tests that would show a claim, and those that would show its contrary.

    Args:
        results: study name to result, all of one model and the same pairs; what is lacking leaves
            claims undecided.
        margin: share of (original - random), query by query, that counts as no change.

    Returns:
        One row for each claim: id, claim, verdict (``holds``, ``does not hold``, ``undecided``),
        found (a sentence), value, low, high (95% bootstrap-t interval), unit, n, n_of, p (of the
        deciding test, uncorrected), p_holm (corrected over the claims), needed (about how many
        queries would decide it, corrected as here), draws (the verdict on each draw of the
        sample, that of the row first), agreement (what they say together), source, definition.

    Raises:
        InputError: if the margin is no share between 0 and 1, a result stands under another name
            than its study's, or two are of different models or pairs.

    Source: science 3, "A statement about a model"; Vast et al. 2025, its conclusions.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.ablation(matchlens.load("demo"), pairs)
    >>> table = claims({"ablation": result})
    >>> table.set_index("id").loc["cls-last", "verdict"]
    'undecided'
    """
    check_margin(margin)
    _check_alike(results)
    seed = next((int(str(result.options["seed"])) for result in results.values()), 0)
    findings = [claim.decide(results, margin, seed) for claim in CLAIMS]
    verdicts = decide([finding.evidence for finding in findings])
    others = _on_redraws(results, findings, margin, seed)
    sample = results["evidence"].options if "evidence" in results else None
    rows = []
    for place, (claim, finding, verdict) in enumerate(zip(CLAIMS, findings, verdicts, strict=True)):
        draws = [verdict.verdict]
        draws += [other[place] for other in others] if claim.redrawn else []
        undecided = verdict.verdict == UNDECIDED
        words = f"{_undecided(finding, verdict)} {finding.found}" if undecided else finding.found
        rows.append(
            {
                **vars(finding),
                "id": claim.id,
                "claim": claim.claim,
                "verdict": verdict.verdict,
                "found": words.strip(),
                "p": known(verdict.p),
                "p_holm": known(verdict.p_corrected),
                "needed": _needed(finding, verdict) if undecided else None,
                "draws": ", ".join(draws),
                "agreement": _agreement(draws, sample if claim.redrawn else None),
                "definition": claim.definition.format(margin=f"{margin:.0%}"),
            }
        )
    table = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    for name in ("n", "needed"):
        table[name] = table[name].astype("Int64")
    return table


def _check_alike(results: Results) -> None:
    """Refuse results that claims cannot be decided on together, or do not know by their names."""
    first: Result | None = None
    for name, result in results.items():
        if name != result.study:
            raise InputError(
                f"results has {name!r:.60} for a result of the study {result.study!r}; expected "
                "each result under the name of its study: give {result.study: result}"
            )
        first = first or result
        old, new = (
            {key: one.identity.get(key) for key in ("model", "pairs")} for one in (first, result)
        )
        if listed := differences(json.loads(to_json(old)), new):
            raise InputError(
                f"{name!r} is of another model or other pairs than {first.study!r} ({listed:.200}),"
                " and claims are decided for one model on one sample; expected results of the same "
                "model and pairs: decide on each apart"
            )


def _on_redraws(
    results: Results, findings: Sequence[Finding], margin: float, seed: int
) -> list[list[str]]:
    """The verdicts on each further draw of the sample."""
    first = results.get("evidence")
    if first is None or "redraws" not in first.tables:
        return []
    table, verdicts = first.tables["redraws"], []
    for draw in sorted(set(table["draw"])):
        queries = pd.DataFrame(table[table["draw"] == draw])
        drawn = {**results, "evidence": replace(first, tables={**first.tables, "queries": queries})}
        # what ran on the first draw only keeps its evidence: Holm corrects over the same claims
        again = [
            claim.decide(drawn, margin, seed) if claim.redrawn else finding
            for claim, finding in zip(CLAIMS, findings, strict=True)
        ]
        decided = decide([finding.evidence for finding in again])
        verdicts.append([verdict.verdict for verdict in decided])
    return verdicts


def _agreement(verdicts: Sequence[str], options: Mapping[str, object] | None) -> str:
    """Whether the verdicts on several draws of the sample agree."""
    if options is None:
        return "one draw: the further draws run cuts only"
    if len(verdicts) == 1:
        if options.get("draws_asked", 1) == 1:
            return "one draw"
        same = options.get("draws_that_differ") == 1
        return f"one draw: {'all draws are the same' if same else 'no other moves the measure'}"
    if len(set(verdicts)) == 1:
        return f"{len(verdicts)} of {len(verdicts)} draws agree"
    return f"draws disagree: {', '.join(verdicts)}"


def _undecided(finding: Finding, verdict: Verdict) -> str:
    """What is lacking for a decision."""
    if why := finding.evidence.lacking:
        known_already = finding.found.rstrip(".").lower() == why.lower()
        return "Not decided." if known_already else f"Not decided: {why}."
    needed, corrected = _needed(finding, verdict), verdict.p_corrected
    nearest = (
        "" if np.isnan(corrected) else f" (the nearest has a corrected p of {printed(corrected)})"
    )
    if needed:
        more = f"About {needed:,} queries would probably decide it."
    elif finding.n_of == "heads":
        more = "The test is over the heads that the model has, whatever the number of queries."
    else:
        more = "How many queries would decide it cannot be told from these."
    return f"Not decided: neither test is passed{nearest}. {more}"


def _needed(finding: Finding, verdict: Verdict) -> int | None:
    """About how many queries would decide it, corrected as here; None where unknown."""
    # The estimate is of the cut that the number comes from; where that cut needs no more queries,
    # another one is what is lacking, and nothing is known of how many it needs.
    number = finding.n if finding.n_of == "queries" and finding.n else 0
    times = verdict.p_corrected / verdict.p if verdict.p > 0 else float("nan")
    if not verdict.p_corrected < 1:  # it is cut off there: as many tests as there are claims
        times = float("nan")
    needed = finding.needed(times if np.isfinite(times) else float(len(CLAIMS)))
    return needed if needed and needed > number else None


_TESTED = (
    " Tested by paired t-tests over at least 10 queries, once the model is shown to be better than "
    "random; p corrected by Holm over the claims."
)
_EFFECT = (
    "The cut in all layers lowers the measure: a two-sided test against no change. It does not "
    "hold where the change is shown to lie within {margin} of (original - random), or to be a rise."
    + _TESTED
)
_NO_EFFECT = (
    "The cut in all layers changes the measure by less than {margin} of (original - random), "
    "query by query: two one-sided tests. It does not hold where the change is shown to be larger."
    + _TESTED
)
_BACKUP = " does more damage than the same cut of each part alone (a backup path), it is used."
_FLOW = " Information flows from what is read to the reader: query to document is D->Q."

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "document-context",
        "Document contextualisation matters (D->D: the document reads itself).",
        _EFFECT,
        one_cut("D->D", True),
        redrawn=True,
    ),
    Claim(
        "query-to-document",
        "Query-to-document transfer matters (D->Q: the document reads the query).",
        _EFFECT + _FLOW,
        one_cut("D->Q", True),
        redrawn=True,
    ),
    Claim(
        "document-to-query",
        "Document-to-query transfer does not matter (Q->D: the query reads the document).",
        _NO_EFFECT + _FLOW,
        one_cut("Q->D", False),
        redrawn=True,
    ),
    Claim(
        "separators",
        "SEP is a no-op for query and document.",
        "Neither {{Q,D}}->SEP1 nor {{Q,D}}->SEP2, in all layers, changes the measure by {margin} "
        "of (original - random) or more; what is written from SEP (norm mass) is printed beside it."
        " Where the joint cut {{Q,D}}->{{SEP1,SEP2}}" + _BACKUP + _TESTED,
        separators,
        redrawn=True,
    ),
    Claim(
        "early-cls",
        "In the early layers CLS is a no-op for query and document.",
        "Early: the lower third of the layers. {{Q,D}}->CLS in all of them changes the measure by "
        "less than {margin} of (original - random); what is written from CLS (norm mass) is "
        "printed beside it. Where the joint cut {{Q,D}}->{{CLS,SEP1,SEP2}}" + _BACKUP + _TESTED,
        early_cls,
        redrawn=True,
    ),
    Claim(
        "lexical-first",
        "Matching is lexical first, then semantic.",
        "Per head the mass Q->D of relevant minus that of random passages, split into mass on "
        "words of the reader's own stem (lexical) and on others. Positive differences are summed "
        "by layer; the depth is where half of the sum is reached. It holds where the other "
        "matching lies deeper by more than with relevance shuffled within queries (1,000 "
        "permutations, p corrected by Holm over the claims). Undecided where more than 20% of the "
        "weight is negative.",
        lexical_first,
    ),
    Claim(
        "hard-negatives",
        "Semantic matches are likelier in hard than in easy negatives.",
        "Semantic mass Q->D (on words of other stems than the reader's), mean over all heads: per "
        "query the mean of its hard minus that of its easy negatives, by a two-sided paired "
        "t-test. It holds where the mean is shown to be above 0, and does not where it is shown "
        "to be below.",
        hard_negatives,
    ),
    Claim(
        "upper-right",
        "The matching heads stand to the upper right of Figure 2.",
        "Matching heads Q->D that hold on the other half of the queries, against the other heads "
        "of their own layers: both the alignment trace(A) and the contrast QD-DD are higher, by "
        "permutation inside layers; the contrast also in resamples of the queries whose mean "
        "states it is made of (the larger p counts). It does not hold where one of them is shown "
        "to be lower.",
        upper_right,
    ),
    Claim(
        "cls-last",
        "Relevance is gathered in CLS last (CLS->Q and CLS->D from layer n).",
        "CLS->{{Q,D}} in the lower half of the layers changes the measure by less than {margin} of "
        "(original - random), and from the middle layer on it lowers the measure. Where the joint "
        "cut {{CLS,SEP1,SEP2}}->{{Q,D}}" + _BACKUP + _TESTED,
        gathered_last,
        redrawn=True,
    ),
)
