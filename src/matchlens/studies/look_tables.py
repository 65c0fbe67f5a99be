"""The tables of pairs to look into: texts, tokens, scores and ranks under cuts, heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from matchlens.corpora import Pair
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.models.load import Reranker
from matchlens.parts import Part
from matchlens.ranking import Candidates
from matchlens.ranking.ties import rank
from matchlens.results import records
from matchlens.studies.look_pairs import Example, Query

BEYOND = 20_000
"""Characters of a text that are kept beyond its last token."""
MOST_TEXT = 60_000
"""Characters of a text that are kept at most."""
MOST_SPAN = 1_000
"""Characters of a token's own text that are kept at most."""


@dataclass(frozen=True)
class Scored:
    """Scores by cut and pair.

    Args:
        cuts: the cuts, the untouched model (``""``) first.
        values: [cut, pair] logits; NaN where there is none.
        table: what they were read from, columns cut, pair, score.
    """

    cuts: tuple[str, ...]
    values: Float[np.ndarray, "cut pair"]
    table: pd.DataFrame

    @classmethod
    def of(
        cls,
        table: pd.DataFrame | None,
        number: int,
        wanted: Sequence[str] | None,
        needed: Sequence[int],
    ) -> Scored | None:
        """What a table of scores offers; None where it does not do.

        Args:
            table: columns cut, pair, score.
            number: of pairs in all.
            wanted: cuts that must be there; where None, whole cuts and cuts up to a layer are
                taken, at least one of which must be there.
            needed: pairs that must be there.

        Raises:
            InputError: if it is no such table, or of other pairs.
        """
        if table is None:
            return None
        missing = {"cut", "pair", "score"} - set(table.columns)
        if missing:
            raise InputError(
                f"the scores have no column {', '.join(sorted(missing))}; expected the columns "
                "cut, pair, score"
            )
        rows, scores = table["pair"].to_numpy(), table["score"].to_numpy(dtype=np.float64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < number):
            raise InputError(
                f"the scores name pairs {rows.min()} to {rows.max()}; expected 0 to {number - 1}: "
                "leave these scores out, since they are of other pairs"
            )
        if not np.isfinite(scores).all():
            raise InputError(
                "the scores hold NaN or infinity; expected finite logits: leave these scores out"
            )
        names = table["cut"].astype(str).to_numpy(dtype=object)
        kept = dict.fromkeys(name for name in dict.fromkeys(names) if name and _is_whole(name))
        cuts = ("", *(kept if wanted is None else wanted))
        place = {name: at for at, name in enumerate(cuts)}
        values = np.full((len(cuts), number), np.nan)
        at = np.array([place.get(name, -1) for name in names], dtype=np.int64)
        values[at[at >= 0], rows[at >= 0].astype(np.int64)] = scores[at >= 0]
        known = np.isfinite(values[:, list(needed)] if needed else values)
        if wanted is None:  # every needed pair has a score under no cut and under some
            enough = known[0].all() and known[1:].any(0).all() if needed else known.any(1).all()
        else:
            enough = known.all() if needed else known.any(1).all()
        return cls(cuts, values, table) if len(cuts) > 1 and enough else None

    @property
    def rows(self) -> list[int]:
        """The pairs that have a score under no cut."""
        return np.flatnonzero(np.isfinite(self.values[0])).tolist()

    @property
    def best(self) -> list[int]:
        """The pairs of them that have scores under the most cuts."""
        counts = np.isfinite(self.values).sum(0) * np.isfinite(self.values[0])
        return np.flatnonzero(counts == counts.max()).tolist()

    def known(self, cut: str) -> Bool[np.ndarray, " pair"]:
        """The pairs that have a score under a cut and under none."""
        return np.isfinite(self.values[self.cuts.index(cut)]) & np.isfinite(self.values[0])

    def ranks(self, cut: str, queries: Iterable[Sequence[int]], tol: float) -> dict[int, float]:
        """The rank of each candidate in its query, from 1; ties share their mean rank.

        Args:
            cut: the cut.
            queries: the places of each query's candidates, all of which have a score.
            tol: scores closer than this (logits) are tied.
        """
        found: dict[int, float] = {}
        none = np.zeros(0, dtype=np.int64)
        for rows in queries:
            grades = np.zeros(len(rows), dtype=np.int64)
            one = Candidates("", "", np.array(rows, dtype=np.int64), grades, none)
            ranked = rank([one], self.values[self.cuts.index(cut)], tol)
            places = ranked.unranked(ranked.spread(ranked.unranked(ranked.place + 1.0)))
            found |= dict(zip(rows, places.tolist(), strict=True))
        return found


def _is_whole(name: str) -> bool:
    """Whether a condition is a cut of whole directions in all layers, or in those up to one."""
    try:
        cut = Cut.parse(name)
    except InputError:  # a control
        return False
    layers = cut.layers
    return cut.heads is None and (layers is None or layers == tuple(range(len(layers))))


def tables(
    model: Reranker,
    pairs: Sequence[Pair],
    found: Sequence[Example],
    queries: Mapping[Query, Sequence[int]],
    seen: Scored,
    ranks: Mapping[int, float],
    tol: float,
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The tables ``looks``, ``tokens`` and ``cuts``, and what is to be said of them.

    Args:
        model: a loaded reranker.
        pairs: all pairs.
        found: the pairs to look into.
        queries: the queries, with the places of their candidates.
        seen: the scores.
        ranks: each candidate's rank under no cut.
        tol: scores closer than this (logits) are tied.
    """
    looks, tokens, said = [], [], []
    for number, look in enumerate(found):
        pair = pairs[look.row]
        rows, texts, short = _tokens(model, pair)
        tokens += [{"look": number, **row} for row in rows]
        said += [f"look {number}: {words}" for words in short]
        looks.append(
            {
                "look": number,
                "pair": look.row,
                "collection": pair.collection,
                "qid": pair.qid,
                "docid": pair.docid,
                "grade": pair.grade,
                "why": look.why,
                "query": texts[0],
                "passage": texts[1],
                "score": float(seen.values[0, look.row]),
                "rank": ranks[look.row],
                "candidates": len(queries[pair.collection, pair.qid]),
            }
        )
    cuts = _cuts(pairs, found, queries, seen, tol)
    sizes = pd.DataFrame(looks).set_index("look")["candidates"]
    fewer = sorted({str(row["cut"]) for row in cuts if row["candidates"] != sizes[row["look"]]})
    if fewer:
        said.append(
            f"under {len(fewer)} cuts not all candidates were scored: their ranks, and the "
            "original ranks beside them, are among those that were"
        )
    columns = ["look", "cut", "score", "rank", "score_original", "rank_original", "candidates"]
    frames = {
        "looks": pd.DataFrame(looks),
        "tokens": pd.DataFrame(tokens),
        "cuts": pd.DataFrame(cuts, columns=columns),
    }
    return frames, said


def _tokens(model: Reranker, pair: Pair) -> tuple[list[dict[str, object]], list[str], list[str]]:
    """The tokens' rows, the texts as they are kept, and what was left out of them."""
    made = model.spans(pair)
    text_of = {Part.Q: pair.query, Part.D: pair.text}
    rows, clipped = [], 0
    for place, token in enumerate(made.tokens):
        part, start, end = (
            Part(int(made.parts[place])),
            int(made.starts[place]),
            int(made.ends[place]),
        )
        text = text_of[part][start:end] if start >= 0 else ""
        clipped += len(text) > MOST_SPAN or len(token) > MOST_SPAN
        rows.append(
            {
                "place": place,
                "token": token[:MOST_SPAN],
                "text": text[:MOST_SPAN],
                "part": str(part),
                "start": start,
                "end": end,
            }
        )
    said = [f"{clipped} tokens are kept up to {MOST_SPAN:,} characters"] if clipped else []
    texts = []
    for part, words in ((Part.Q, "query"), (Part.D, "passage")):
        text = text_of[part]
        last = int(made.ends[made.parts == part].max())
        kept = text[: min(last + BEYOND, MOST_TEXT)]
        if len(kept) < len(text):
            said.append(
                f"the {words} has {len(text):,} characters; the first {len(kept):,} are kept"
            )
        texts.append(kept)
    return rows, texts, said


def _cuts(
    pairs: Sequence[Pair],
    found: Sequence[Example],
    queries: Mapping[Query, Sequence[int]],
    seen: Scored,
    tol: float,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    keys = {(pairs[look.row].collection, pairs[look.row].qid) for look in found}
    for cut in seen.cuts[1:]:
        known, at = seen.known(cut), seen.cuts.index(cut)
        groups = [[row for row in queries[key] if known[row]] for key in sorted(keys)]
        sizes = {row: len(group) for group in groups for row in group}
        groups = [group for group in groups if group]
        ranks, before = (seen.ranks(name, groups, tol) for name in (cut, ""))
        for number, look in enumerate(found):
            if known[look.row]:
                rows.append(
                    {
                        "look": number,
                        "cut": cut,
                        "score": float(seen.values[at, look.row]),
                        "rank": ranks[look.row],
                        "score_original": float(seen.values[0, look.row]),
                        "rank_original": before[look.row],
                        "candidates": sizes[look.row],
                    }
                )
    return sorted(rows, key=lambda row: int(str(row["look"])))


def head_table(layers: int, heads: int, matching: pd.DataFrame | None) -> pd.DataFrame:
    """Every head, the matching ones first, by the AUC with which they were found.

    Args:
        layers: of the model.
        heads: a layer.
        matching: the attention study's table of that name.
    """
    found: dict[tuple[int, int], dict[str, object]] = {}
    if matching is not None and len(matching):
        mine = [row for row in records(matching) if row["matching"]]
        mine.sort(key=lambda row: -float(str(row["auc_found"])))
        for row in mine:
            key = (int(str(row["layer"])), int(str(row["head"])))
            one = found.setdefault(key, {"directions": [], "kind": []})
            kinds = [("kind", kind) for kind in str(row["kind"] or "").split(", ") if kind]
            for name, value in (("directions", row["direction"]), *kinds):
                if value not in one[name]:  # type: ignore[operator]
                    one[name].append(value)  # type: ignore[union-attr]
    rest = [(layer, head) for layer in range(layers) for head in range(heads)]
    rows = []
    for layer, head in (*found, *(key for key in rest if key not in found)):
        one = found.get((layer, head), {"directions": [], "kind": []})
        texts = {name: ", ".join(map(str, one[name])) for name in ("directions", "kind")}  # type: ignore[arg-type]
        rows.append({"layer": layer, "head": head, **texts})
    return pd.DataFrame(rows)
