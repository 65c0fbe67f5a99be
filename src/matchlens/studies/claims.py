"""The paper's claims, one by one: each held against the tables of a study.

Every function here is pure: stored tables in, what they say out. A claim whose numbers were not
made is undecided, and says what is lacking.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from matchlens.studies.decisions import (
    Results,
    early_cls,
    gathered_last,
    hard_negatives,
    lexical_first,
    one_cut,
    plain,
    separators,
    upper_right,
)
from matchlens.studies.verdicts import MARGIN, Found


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and how it is decided.

    Args:
        id: a short name.
        claim: the sentence.
        definition: what makes it hold.
        decide: reads the tables; the second argument is the margin, the third the seed.
    """

    id: str
    claim: str
    definition: str
    decide: Callable[[Results, float, int], Found]


def claims(results: Results, *, margin: float = MARGIN) -> pd.DataFrame:
    """Decide the paper's claims for one model from the tables of its studies.

    Args:
        results: study name to result; what is lacking leaves claims undecided.
        margin: changes of the measure up to this count as none.

    Returns:
        A row a claim: id, claim, verdict (``holds``, ``does not hold``, ``undecided``), found (a
        sentence), value, low, high (95% interval), unit, n, n_of, p, source, definition.

    Source: Vast et al. 2025, its conclusions; the definitions are this project's.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.ablation(matchlens.load("demo"), pairs)
    >>> table = claims({"ablation": result})
    >>> table.set_index("id").loc["cls-last", "verdict"]
    'undecided'
    """
    seed = _seed(results)
    rows = []
    for one in CLAIMS:
        found = one.decide(results, margin, seed)
        about = {"id": one.id, "claim": one.claim}
        rows.append(
            {**about, **found.row(), "definition": one.definition.format(margin=plain(margin))}
        )
    table = pd.DataFrame(rows)
    table["n"] = table["n"].astype("Int64")
    return table


def _seed(results: Results) -> int:
    return next((int(str(one.options["seed"])) for one in results.values()), 0)


_CUT = (
    "The cut in all layers (Table 1). It matters where the measure falls, the Holm-corrected p of "
    "the paired t-test over Table 1's cells is at most .05, and the 95% interval of the change "
    "reaches beyond {margin}; it does not where that interval lies within plus or minus {margin}."
)
_FLOW = " Information flows from what is read to the reader: query to document is D->Q."

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "document-context",
        "Document contextualisation matters (D->D: the document reads itself).",
        _CUT,
        one_cut("D->D", True),
    ),
    Claim(
        "query-to-document",
        "Query-to-document transfer matters (D->Q: the document reads the query).",
        _CUT + _FLOW,
        one_cut("D->Q", True),
    ),
    Claim(
        "document-to-query",
        "Document-to-query transfer does not matter (Q->D: the query reads the document).",
        _CUT + _FLOW,
        one_cut("Q->D", False),
    ),
    Claim(
        "separators",
        "Reading and being read, SEP is a no-op.",
        "No cut of SEP1's and SEP2's rows, or of what CLS, Q and D read from them, changes the "
        "measure beyond {margin} (the 95% interval); and of the heads that give SEP half of their "
        "attention, most get less than half of what they write from there (norm mass). Where no "
        "head does, what is written must not exceed what is read.",
        separators,
    ),
    Claim(
        "early-cls",
        "In the early layers CLS is a no-op (CLS->All).",
        "Early: the lower third of the layers. CLS->All up to every one of them changes nothing "
        "beyond {margin} (the 95% interval); and there most heads that give CLS half of their "
        "attention get less than half of what they write from it (norm mass). Where no head does, "
        "what is written must not exceed what is read.",
        early_cls,
    ),
    Claim(
        "lexical-first",
        "Matching is lexical first, then semantic.",
        "Matching is the attention mass Q->D that relevant passages get beyond random ones; "
        "lexical: on the reader's own token, semantic: the rest. Per query the mean layer of each, "
        "weighted by its mass. It holds where the 95% interval of the difference lies above 0.",
        lexical_first,
    ),
    Claim(
        "hard-negatives",
        "Semantic matches are likelier in hard than in easy negatives.",
        "Semantic mass Q->D of the semantic matching heads, on the half of the queries that did "
        "not find them: per query the mean of its hard minus that of its easy negatives. It holds "
        "where the 95% interval lies above 0.",
        hard_negatives,
    ),
    Claim(
        "upper-right",
        "The matching heads stand to the upper right of Figure 2.",
        "Matching heads Q->D that hold on the other half of the queries against all other heads: "
        "both the alignment trace(A) and the contrast QD-DD are higher, each by its AUC (95% "
        "bootstrap interval over heads above .5) and the Mann-Whitney test, Holm-corrected over "
        "the two. It does not hold where one of them is lower.",
        upper_right,
    ),
    Claim(
        "cls-last",
        "Relevance is gathered in CLS last (CLS->Q and CLS->D from layer n).",
        "CLS->{{Q,D}} up to every layer of the lower half changes nothing beyond {margin} (the 95% "
        "interval), and from the middle layer on it matters.",
        gathered_last,
    ),
)
