"""A reranker for PyTerrier's pipelines: the model as it is, or with a cut."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from matchlens.arguments import typed
from matchlens.corpora import Pair
from matchlens.corpora.frame import pairs_of
from matchlens.corpora.lines import blank
from matchlens.directions import Cut
from matchlens.errors import InputError, MatchlensWarning, brief
from matchlens.models import load
from matchlens.plan import PUT_IN
from matchlens.results import Result
from matchlens.runners import run
from matchlens.studies.explaining import explain

if TYPE_CHECKING:
    import pandas as pd

pt: Any
try:
    import pyterrier as pt  # pyright: ignore[reportMissingImports]
except ImportError:  # the module can be read without it
    pt = None

Transformer: Any = object if pt is None else pt.Transformer


@typed
class Reranker(Transformer):
    """A PyTerrier transformer that scores candidates by a cross-encoder, with a cut or without.

    Use it in pipelines and experiments: ``bm25 >> pt.text.get_text(data) >> Reranker(model)``.
    A frame needs the columns qid, query, docno and text; it gets score and rank anew. Candidates
    without a text are left out, with a warning. PyTerrier orders equal scores by their place,
    whereas matchlens takes the mean over their orders: measures differ where scores are tied.

    Args:
        model: a loaded model; or a folder, an id or a CrossEncoder, which is loaded.
        cut: a cut such as ``Q->D@0:4``; none where empty. ``mean`` and ``resample`` are refused,
            since they take values from other pairs, and PyTerrier passes these in batches.
        text_field: the column of the passages' texts.
        batch_tokens: most places of one layer call.

    Raises:
        InputError: PyTerrier is not installed, or the model or the cut cannot be used.

    >>> print(Reranker("demo", "Q->D") if pt else "Reranker('demo', cut='Q->D')")
    Reranker('demo', cut='Q->D')
    """

    def __init__(
        self,
        model: load.Reranker,
        cut: str | Cut = "",
        *,
        text_field: str = "text",
        batch_tokens: int | None = None,
    ) -> None:
        if pt is None:
            raise InputError(
                "matchlens.pyterrier needs PyTerrier, which is not installed; install it: "
                "pip install 'matchlens[pyterrier]'"
            )
        super().__init__()
        self.model, self.cut = model, Cut.of(cut)
        self.text_field, self.batch_tokens = text_field, batch_tokens
        self.cut.check(model.family.n_layers, model.family.n_heads, f"model {model.name!r}")
        if self.cut.how in PUT_IN:
            raise InputError(
                f"cut {str(self.cut)!r}: ~{self.cut.how} takes values from other pairs, which "
                "come in batches here; expected one of zero, mask, sink"
            )

    @typed
    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The frame with the model's scores, and ranks by them.

        Args:
            inp: a row for each query and candidate; an empty frame is accepted.

        Raises:
            InputError: a pair cannot be encoded.
        """
        pt.validate.columns(inp, includes=["qid", "query", "docno", self.text_field], context=self)
        kept = self._with_texts(inp)
        out = kept.drop(columns=["score", "rank"], errors="ignore")
        out["score"] = self._scores(kept)
        return pt.model.add_ranks(out)

    @typed
    def explain(
        self, inp: pd.DataFrame, qid: str, docnos: Sequence[str] | None = None, **options: Any
    ) -> Result:
        """Why one candidate of a query ranks above another: :func:`matchlens.explain` of a frame.

        The model is explained without the cut. Candidates without a text are left out, with a
        warning, as by :meth:`transform`.

        Args:
            inp: a frame with the columns qid, query, docno and text, perhaps score or rank.
            qid: the query.
            docnos: the passages A and B; the first two by rank or score, else in frame order.
                Candidates without a rank or score come last.
            options: of :func:`matchlens.explain`, such as ``points`` and ``swap``.

        Raises:
            InputError: a column, the query or a passage is not in the frame, or a passage has no
                text.

        >>> if pt:
        ...     rows = [("q1", "warm tea", "a", "Tea is hot."), ("q1", "warm tea", "b", "A dog.")]
        ...     frame = pt.model.pd.DataFrame(rows, columns=["qid", "query", "docno", "text"])
        ...     result = Reranker("demo").explain(frame, "q1", points=8, swap=False)
        ...     assert result.to_frame("passages")["docid"].tolist() == ["a", "b"]
        """
        needed = ["qid", "query", "docno", self.text_field]
        if lacking := [name for name in needed if name not in getattr(inp, "columns", ())]:
            raise InputError(
                f"the frame has no column {', '.join(lacking)}; expected {', '.join(needed)}: give "
                "candidates with their texts"
            )
        own: Any = inp[inp["qid"].astype(str) == str(qid)]
        rows: Any = self._with_texts(own)
        if "rank" in rows or "score" in rows:
            by, rising = ("rank", True) if "rank" in rows else ("score", False)
            rows = rows.sort_values(by, ascending=rising, kind="stable")
        known = rows["docno"].astype(str).to_list()
        wanted = known[:2] if docnos is None else [*map(str, docnos)]
        if len(wanted) != 2 or any(docno not in known for docno in wanted):
            raise InputError(
                f"query {str(qid)[:60]!r} has {len(known)} candidates with a text, and "
                f"{', '.join(wanted)[:120] or 'none'} came for A and B; expected two of them: name "
                "a query and two of its docnos"
            )
        pairs = self._pairs(rows.iloc[[known.index(docno) for docno in wanted]])
        return explain(self.model, pairs[0].query, pairs, **options)

    def _with_texts(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The candidates that have a query and a text."""
        usable = inp["query"].notna() & inp[self.text_field].notna()
        for column in ("query", self.text_field):
            empty = [isinstance(text, str) and blank(text) for text in inp[column]]
            usable &= ~np.array(empty, dtype=bool)
        kept = inp.loc[usable]
        if len(kept) < len(inp):
            warnings.warn(
                f"{len(inp) - len(kept)} of {len(inp)} candidates have no text and were left out, "
                f"such as {inp.loc[~usable, 'docno'].iloc[0]!r}: fetch their texts before, for "
                "instance with pt.text.get_text",
                MatchlensWarning,
                stacklevel=3,
            )
        return kept

    def _pairs(self, frame: pd.DataFrame) -> list[Pair]:
        columns = ["qid", "docno", "query", self.text_field]
        return pairs_of(frame.loc[:, columns].rename(columns={self.text_field: "text"}))

    def _scores(self, frame: pd.DataFrame) -> Any:
        if not len(frame):
            return frame["qid"].astype("float64")
        pairs = self._pairs(frame)
        condition = [self.cut] if self.cut.directions else []
        conditions = {str(self.cut): condition}
        done = run(self.model, pairs, conditions, batch_tokens=self.batch_tokens)
        return done.scores.values[0].astype("float64")

    def __repr__(self) -> str:
        cut = f", cut={brief(str(self.cut), 80)}" if self.cut.directions else ""
        return f"Reranker({brief(self.model.name, 80)}{cut})"
