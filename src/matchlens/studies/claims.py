"""The paper's claims, one by one: each tested on the tables of a study, all decided together.

Every function here is pure: stored tables in, what they say out. A claim whose numbers were not
made is undecided, and says what is lacking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.ranking.effects import MARGIN, UNDECIDED, decide
from matchlens.studies.decisions import (
    Results,
    early_cls,
    gathered_last,
    hard_negatives,
    lexical_first,
    one_cut,
    separators,
    upper_right,
)
from matchlens.studies.verdicts import Found, known


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and how it is decided.

    Args:
        id: a short name.
        claim: the sentence.
        definition: what makes it hold.
        decide: reads the tables; the second argument is the margin, the third the seed.
        redrawn: whether it rests on the cuts of the study ``evidence``, which are made on every
            draw of the sample.
    """

    id: str
    claim: str
    definition: str
    decide: Callable[[Results, float, int], Found]
    redrawn: bool = False


COLUMNS = (
    *("id", "claim", "verdict", "found", "value", "low", "high", "unit", "n", "n_of"),
    *("p", "p_holm", "needed", "draws", "agreement", "source", "definition"),
)


@typed
def claims(results: Results, *, margin: float = MARGIN) -> pd.DataFrame:
    """Decide the paper's claims for one model from the tables of its studies.

    Each claim has one primary test. Holm's correction goes over the claims, in two families: the
    tests that would show a claim, and those that would show its contrary.

    Args:
        results: study name to result; what is lacking leaves claims undecided.
        margin: share of (original - random), query by query, that counts as no change.

    Returns:
        One row for each claim: id, claim, verdict (``holds``, ``does not hold``, ``undecided``),
        found (a sentence), value, low, high (95% bootstrap-t interval), unit, n, n_of, p (of the
        deciding test, uncorrected), p_holm (corrected over the claims), needed (about how many
        queries would decide it, before the correction), draws (the verdict on each draw of the
        sample, that of the row first), agreement (what they say together), source, definition.

    Source: science 3, "A statement about a model"; Vast et al. 2025, its conclusions.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.ablation(matchlens.load("demo"), pairs)
    >>> table = claims({"ablation": result})
    >>> table.set_index("id").loc["cls-last", "verdict"]
    'undecided'
    """
    seed = _seed(results)
    found = [one.decide(results, margin, seed) for one in CLAIMS]
    rows = []
    verdicts = decide([one.evidence for one in found])
    others = _on_redraws(results, found, margin, seed)
    rests = results["evidence"].options if "evidence" in results else None
    for place, (claim, one, verdict) in enumerate(zip(CLAIMS, found, verdicts, strict=True)):
        draws = [verdict.verdict]
        draws += [said[place] for said in others] if claim.redrawn else []
        words = one.found
        if verdict.verdict == UNDECIDED:
            words = f"{_undecided(one, verdict.p_corrected)} {words}".strip()
        about = {field.name: getattr(one, field.name) for field in fields(one)}
        rows.append(
            {
                **about,
                "id": claim.id,
                "claim": claim.claim,
                "verdict": verdict.verdict,
                "found": words,
                "p": known(verdict.p),
                "p_holm": known(verdict.p_corrected),
                "needed": _needed(one) if verdict.verdict == UNDECIDED else None,
                "draws": ", ".join(draws),
                "agreement": _agreement(draws, rests if claim.redrawn else None),
                "definition": claim.definition.format(margin=f"{margin:.0%}"),
            }
        )
    table = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    for name in ("n", "needed"):
        table[name] = table[name].astype("Int64")
    return table


def _on_redraws(
    results: Results, found: Sequence[Found], margin: float, seed: int
) -> list[list[str]]:
    """The verdicts on each further draw of the sample.

    What was run on the first draw only keeps its evidence: Holm's correction goes over the same
    claims on every draw.

    Args:
        results: the studies.
        found: what was found on the first draw, one for each claim.
        margin: share that counts as no change.
        seed: of the intervals.
    """
    first = results.get("evidence")
    if first is None or "redraws" not in first.tables:
        return []
    table, out = first.tables["redraws"], []
    for number in sorted(set(table["draw"])):
        own = pd.DataFrame(table[table["draw"] == number])
        drawn = replace(first, tables={**first.tables, "queries": own})
        held = {**results, "evidence": drawn}
        again = [
            claim.decide(held, margin, seed) if claim.redrawn else one
            for claim, one in zip(CLAIMS, found, strict=True)
        ]
        out.append([one.verdict for one in decide([one.evidence for one in again])])
    return out


def _agreement(verdicts: Sequence[str], options: Mapping[str, object] | None) -> str:
    """What the verdicts on several draws of the sample say together.

    Args:
        verdicts: one for each draw.
        options: of the study that made the draws; None where none did.

    >>> _agreement(["holds", "holds"], {}), _agreement(["holds", "undecided"], {})
    ('2 of 2 draws agree', 'draws disagree: holds, undecided')
    """
    if options is None:
        return "one draw: what it rests on was not run on others"
    if len(verdicts) == 1:
        if options.get("draws_asked", 1) == 1:
            return "one draw"
        same = options.get("draws_that_differ") == 1
        return f"one draw: {'all draws are the same' if same else 'no other moves the measure'}"
    if len(set(verdicts)) == 1:
        return f"{len(verdicts)} of {len(verdicts)} draws agree"
    return f"draws disagree: {', '.join(verdicts)}"


def _undecided(found: Found, corrected: float) -> str:
    """What is lacking for a decision."""
    if found.evidence.lacking:
        why = found.evidence.lacking
        return (
            "Not decided."
            if found.found.rstrip(".").lower() == why.lower()
            else (f"Not decided: {why}.")
        )
    needed = _needed(found)
    more = f" About {needed:,} queries would probably decide it." if needed else ""
    said = "" if np.isnan(corrected) else f" (the nearest has a corrected p of {corrected:.3f})"
    return f"Not decided: neither test is passed{said}.{more}"


def _needed(found: Found) -> int | None:
    """How many queries would probably decide it, where they are more than there are.

    The estimate is of the cut that a claim's number comes from; where that one needs no more
    queries, another of its cuts is what is lacking, and nothing is known of how many would do.
    """
    there = found.n if found.n_of == "queries" and found.n else 0
    return found.needed if found.needed and found.needed > there else None


def _seed(results: Results) -> int:
    return next((int(str(one.options["seed"])) for one in results.values()), 0)


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
_BACKUP = (
    " Where cutting CLS, SEP1 and SEP2 together does more damage than each alone (a backup path), "
    "the joint cut is used."
)
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
        "SEP is a no-op for query and document, which read it for nothing.",
        "Neither {{Q,D}}->SEP1 nor {{Q,D}}->SEP2, in all layers, changes the measure by {margin} "
        "of (original - random) or more; what is written from SEP (norm mass) is printed beside it."
        + _BACKUP
        + _TESTED,
        separators,
        redrawn=True,
    ),
    Claim(
        "early-cls",
        "In the early layers CLS is a no-op for query and document.",
        "Early: the lower third of the layers. {{Q,D}}->CLS in all of them changes the measure by "
        "less than {margin} of (original - random); what is written from CLS (norm mass) is "
        "printed beside it." + _BACKUP + _TESTED,
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
        "(original - random), and from the middle layer on it lowers the measure."
        + _BACKUP
        + _TESTED,
        gathered_last,
        redrawn=True,
    ),
)
