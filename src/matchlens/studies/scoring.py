"""Scores of pairs under cuts: the plainest use of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import Pair
from matchlens.directions import Cut
from matchlens.engine import Progress
from matchlens.errors import InputError
from matchlens.models.load import Reranker
from matchlens.runners import Runner, run


@typed
def score(
    model: Reranker,
    pairs: Iterable[Pair | tuple[str, str]],
    cuts: Sequence[str | Cut] = (),
    *,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner = run,
) -> pd.DataFrame:
    """Score pairs without a cut and under each cut.

    Args:
        model: a loaded reranker.
        pairs: pairs, or (query, passage) couples of texts; couples with one query text are of one
            query (for ``resample``). ``mean`` takes its means over all of them.
        cuts: cuts, as texts or values; columns are keyed by the text as given.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.
        runner: runs the pairs; see :mod:`matchlens.runners`.

    Returns:
        Relevance logits, a row for each pair in the order given, a column for each cut; the column
        ``""`` (no cut) is always there and stands first.

    Raises:
        InputError: if a cut does not fit the model or a pair cannot be encoded.

    >>> import matchlens
    >>> table = matchlens.score(matchlens.load("demo"), [("who sat", "The cat sat.")], ["Q->D"])
    >>> list(table.columns), len(table)
    (['', 'Q->D'], 1)
    """
    listed = [
        pair if isinstance(pair, Pair) else Pair(pair[0], str(number), *pair, grade=0)
        for number, pair in enumerate(pairs)
    ]
    if not listed:
        raise InputError("no pair to score; expected at least one query with a passage")
    conditions = {"": [], **{str(cut): [Cut.of(cut)] for cut in cuts}}
    out = runner(model, listed, conditions, batch_tokens=batch_tokens, progress=progress)
    return pd.DataFrame(dict(zip(conditions, out.scores.values, strict=True)))
