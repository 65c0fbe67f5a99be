"""Scores and rankings of pairs, untouched and under cuts; no grades are needed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import Pair, PairSet
from matchlens.corpora.frame import pairs_of
from matchlens.directions import Cut
from matchlens.errors import InputError, MatchlensWarning
from matchlens.plan import Condition
from matchlens.sets import cut_sets
from matchlens.studies.common import Execution

if TYPE_CHECKING:
    from matchlens.engine import Progress
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner


@typed
def score(
    model: Reranker,
    pairs: PairSet | pd.DataFrame | Iterable[Pair | tuple[str, str]],
    cuts: Sequence[str | Cut] = (),
    *,
    sets: str | Path | Mapping[str, Sequence[str | Cut]] | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> pd.DataFrame:
    """Score pairs without a cut and under each cut.

    Args:
        model: a loaded reranker.
        pairs: pairs, (query, passage) couples of texts, or a DataFrame with the columns query and
            text, whose rows are scored in order; those with one query text are of one query (for
            ``resample``). ``mean`` takes its means over all of them.
        cuts: cuts, as texts or values; columns are keyed by the text as it was passed.
        sets: cuts that hold together, by the name of their set, or a file that
            :func:`matchlens.sets.cut_sets` reads; columns are keyed by the name.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.
        runner: runs the pairs (:mod:`matchlens.runners`); this process where None.

    Returns:
        Relevance logits, a row for each pair, in order, a column for each cut; the column
        ``""`` (no cut) is always there and stands first. The index is that of the DataFrame.

    Raises:
        InputError: if a cut does not fit the model or a pair cannot be encoded.

    Warns:
        MatchlensWarning: if a part of your own that a cut names has no token in some pairs.

    >>> import matchlens
    >>> table = matchlens.score(matchlens.load("demo"), [("who sat", "The cat sat.")], ["Q->D"])
    >>> list(table.columns), len(table)
    (['', 'Q->D'], 1)
    """
    listed = pairs_of(pairs)
    if not listed:
        raise InputError("no pair to score; expected at least one query with a passage")
    conditions: dict[str, Condition] = {"": [], **{str(cut): [Cut.of(cut)] for cut in cuts}}
    conditions |= {name: list(some) for name, some in cut_sets(sets).items()}
    out = Execution(model, batch_tokens, progress, runner)(listed, conditions)
    every = [cut for some in conditions.values() for cut in some if isinstance(cut, Cut)]
    named = {part.name for cut in every for part in cut.own_parts}
    for name, there in out.own.items():
        if name in named and there < len(listed):
            warnings.warn(
                f"part {name} has no token in {len(listed) - there} of {len(listed)} pairs, where "
                "a cut that names it cuts nothing",
                MatchlensWarning,
                stacklevel=2,
            )
    index = pairs.index if isinstance(pairs, pd.DataFrame) else None
    return pd.DataFrame(dict(zip(conditions, out.scores.values, strict=True)), index=index)


@typed
def rank(
    model: Reranker,
    query: str,
    passages: Sequence[str],
    *,
    cut: str | Cut = "",
    top: int | None = None,
    batch_tokens: int | None = None,
) -> list[dict[str, object]]:
    """Rank passages for a query, as ``CrossEncoder.rank`` of sentence-transformers does.

    Args:
        model: a loaded reranker, or a CrossEncoder.
        query: the query's text.
        passages: their texts.
        cut: a cut; none where empty.
        top: at most so many; all where None.
        batch_tokens: most places of one layer call.

    Returns:
        By falling score a dict for each passage: ``corpus_id`` (its place in ``passages``),
        ``score`` (relevance logit) and ``text``.

    Raises:
        InputError: if there is no passage, one cannot be encoded, or the cut does not fit.

    >>> import matchlens
    >>> texts = ["The dog ran far.", "Tea is best served warm."]
    >>> [row["corpus_id"] for row in matchlens.rank("demo", "warm tea", texts)]
    [1, 0]
    """
    if top is not None and top < 1:
        raise InputError(f"top is {top}; expected 1 or more passages, or None for all")
    if not passages:
        raise InputError("no passage to rank; expected one or more texts: give a list of them")
    cuts = [cut] if Cut.of(cut).directions else []
    pairs = [(query, text) for text in passages]
    scores = score(model, pairs, cuts, batch_tokens=batch_tokens).iloc[:, -1].to_list()
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return [
        {"corpus_id": place, "score": float(scores[place]), "text": passages[place]}
        for place in order[:top]
    ]
