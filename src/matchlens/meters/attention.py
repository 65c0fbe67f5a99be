"""Where attention goes: mass, norm mass, same words, peak and entropy between parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matchlens.batching import EncodedBatch
from matchlens.errors import InputError
from matchlens.meters.arrays import Keeps
from matchlens.meters.meter import Meter
from matchlens.meters.names import ACROSS, COLUMNS, COMPANIONS, NAMES, PARTS
from matchlens.models.attention_probe import AttentionProbe
from matchlens.models.family import Family
from matchlens.models.words import Static, Words
from matchlens.parts import Part

TOKENS = (Part.Q, Part.D)
"""Parts between which a token can meet itself."""
CELLS = tuple((x, y) for x in TOKENS for y in TOKENS)


@dataclass(frozen=True, eq=False)
class Reading:
    """The word embeddings, and by a pair's place in the run its words."""

    static: Static
    words: Callable[[int], Words]


class AttentionMeter(Meter):
    """Measures every layer and head of the untouched model, pair by pair.

    For layer l, head h and attention a of a pair, ``X`` a row part and ``Y`` a column part:

    - ``mass``: mean over rows i in X of the sum over j in Y of a_ij (probability);
    - ``norm_mass``: the same with a_ij |W_O v_j| for a_ij (length of a state's change);
    - ``same_token``, X and Y in {Q, D}: share of the X->Y mass on columns with the row's own
      token id, the row itself excluded where X = Y (NaN where there is no mass);
    - ``same_stem``: the same with the stem of the row's whole word for the token id, and the
      word itself excluded;
    - ``peak``: the largest a_ij (probability);
    - ``entropy``: of a row's attention renormalised over Y (nats), mass-weighted mean over rows.

    Beside ``same_stem``, for Q->D and D->Q, ``kinds`` [pair, layer, head, direction, quantity]: six
    masses, each observed and as a head that does not care would have it (:data:`KINDS`):

    - ``stem``: on columns of the row's own stem; expected from the product of the row's and the
      column's sums;
    - ``query_words``: on columns that hold a content word of the query, whoever reads; expected
      from their share of the columns;
    - ``near``: between a content word of the query that the passage lacks and a word of the passage
      that shares no stem with the query and whose static embedding is near (two tokens with one
      id, such as two endings, are left out); expected from the share of such columns, row by row.

    And ``surface`` [pair, quantity], which needs no attention: the share of the query's content
    tokens whose stem the passage has, and their mean largest static cosine in the passage.

    Mass and norm mass are value columns of the one attention call, so that no weights are formed
    for them. The others read one layer's weights, which are dropped with the layer; what is summed
    over chosen token pairs is one product of the weights with the pairs' masks.

    A part that a pair does not have is NaN.

    Args:
        names: which of :data:`NAMES` and :data:`COMPANIONS`.
        arrays: where each is kept, by name; :func:`shape_of` gives a pair's shape.
        reading: the words, where ``same_stem``, ``kinds`` or ``surface`` is measured.
        own: names of own parts, which stand behind the five others on both axes.

    Source: science 4; Kobayashi et al. 2020 (norms).
    """

    def __init__(
        self,
        names: Sequence[str],
        arrays: Mapping[str, Keeps],
        reading: Reading | None = None,
        own: Sequence[str] = (),
    ) -> None:
        every = (*NAMES, *COMPANIONS)
        wrong = [name for name in names if name not in every]
        if wrong:
            raise InputError(
                f"meter {wrong[0]!r} is not known; expected some of {', '.join(NAMES)}"
            )
        self.names = tuple(name for name in every if name in names)
        self.arrays, self.reading, self.own = arrays, reading, own
        self._by_words = bool({"same_stem", *COMPANIONS} & set(names))
        if self._by_words and reading is None:
            raise ValueError("same_stem, kinds and surface need the words; expected a Reading")
        if "kinds" in names and "same_stem" not in names:
            raise ValueError("kinds is measured beside same_stem; expected both")
        self._kept: dict[str, list[Tensor]] = {}
        self._tiles = any(name not in (*COLUMNS, "surface") for name in self.names)

    def begin(self, family: Family, batch: EncodedBatch, numbers: Int[np.ndarray, " pair"]) -> None:
        """Take a batch."""
        self._family, self._numbers, self._ids = family, numbers, batch.input_ids
        none = torch.zeros_like(batch.parts, dtype=torch.bool)
        own = [batch.own.get(name, none) for name in self.own]
        self._is = torch.stack([*(batch.parts == part for part in PARTS), *own], -1)
        self._kept = {name: [] for name in self.names if name != "surface"}
        masks = []
        if "same_token" in self.names:
            masks += _blocks(same_tokens(self._ids, self._is), self._is)
        if self._by_words:
            assert self.reading is not None  # noqa: S101
            words = [self.reading.words(number) for number in numbers.tolist()]
            self._pairs = Likeness.of(words, self.reading.static, batch, self._is)
            if "surface" in self.names:
                self.arrays["surface"].write(numbers, self._pairs.surface())
            if "same_stem" in self.names:
                masks += _blocks(self._pairs.stem, self._is)
            if "kinds" in self.names:
                masks += [self._pairs.near, self._pairs.near.mT]
        self._masks = torch.stack(masks, -1).flatten(1, 2).float() if masks else None

    def probe(self, layer: int) -> AttentionProbe:
        """The value columns of a layer, and what looks at its weights."""
        norms = "norm_mass" in self.names

        def columns(value: Tensor) -> Tensor:
            one_hot = self._is.to(value.dtype)[:, None].expand(-1, value.shape[1], -1, -1)
            if not norms:
                return one_hot
            length = written(value, self._family.output_weight(layer))
            return torch.cat([one_hot, one_hot * length[..., None]], -1)

        def take(sums: Tensor) -> None:
            parts = self._is.shape[-1]
            wide = torch.promote_types(sums.dtype, torch.float32)
            rows = self._rows(wide)
            mass = torch.einsum("nix,nhij->nhxj", rows, sums.to(wide))
            self._keep("mass", mass[..., :parts])
            if norms:
                self._keep("norm_mass", mass[..., parts:])

        return AttentionProbe(columns, take, self._look if self._tiles else None)

    def end(self) -> None:
        """Write the batch's pairs."""
        there = self._is.any(1)
        both = (there[:, :, None] & there[:, None, :])[:, None, None]
        for name, layers in self._kept.items():
            values = torch.stack(layers, 1)
            if name != "kinds":
                values = values.masked_fill(~both, torch.nan)
            self.arrays[name].write(self._numbers, values.float().cpu().numpy())

    def _keep(self, name: str, values: Tensor) -> None:
        if name in self._kept:
            self._kept[name].append(values)

    def _rows(self, dtype: torch.dtype) -> Float[Tensor, "pair row part"]:
        """One-hot row parts, divided by the number of rows: a product with them is a mean."""
        rows = self._is.to(dtype)
        return rows / rows.sum(1, keepdim=True).clamp(min=1)

    def _look(self, weights: Float[Tensor, "pair head row column"]) -> None:
        one_hot = self._is.to(weights.dtype)
        if "peak" in self.names:
            self._keep("peak", peaks(weights, self._is))
        if not {"same_token", "same_stem", "kinds", "entropy"} & set(self.names):
            return
        mass = torch.einsum("nhij,njy->nhiy", weights, one_hot)
        total = torch.einsum("nix,nhiy->nhxy", one_hot, mass)
        if self._masks is not None:
            masked = torch.matmul(weights.flatten(2), self._masks.to(weights.dtype))
            stem = masked[..., :0]
            for name in ("same_token", "same_stem"):
                if name in self.names:
                    stem = masked[..., : len(CELLS)]
                    self._keep(name, self._share(stem, total))
                    masked = masked[..., len(CELLS) :]
            if "kinds" in self.names:
                self._keep("kinds", self._pairs.kinds(weights, mass, stem, masked))
        if "entropy" in self.names:
            surprise = torch.einsum("nhij,njy->nhiy", torch.xlogy(weights, weights), one_hot)
            row = torch.xlogy(mass, mass) - surprise  # m_i times the entropy of row i
            nats = torch.einsum("nix,nhiy->nhxy", one_hot, row) / total
            self._keep("entropy", nats.clamp(min=0).masked_fill(total <= 0, torch.nan))

    def _share(
        self, sums: Float[Tensor, "pair head cell"], total: Float[Tensor, "pair head part part"]
    ) -> Float[Tensor, "pair head part part"]:
        """Sums over the token pairs of each of :data:`CELLS` as shares of the mass."""
        out = torch.full_like(total, torch.nan)
        for place, (x, y) in enumerate(CELLS):
            share = sums[..., place] / total[..., x, y]
            out[..., x, y] = share.masked_fill(total[..., x, y] <= 0, torch.nan)
        return out


@dataclass(frozen=True, eq=False)
class Likeness:
    """Which tokens of a batch hold like words.

    Args:
        stem: whether row and column, in Q or D, are of different words with one stem.
        in_query: whether a token's word has the stem of a content word of the query.
        lacking: whether it is of a content word of the query whose stem the passage has not.
        near: whether the row is ``lacking``, and the column another token of a word of the
            passage that shares no stem with the query and is near.
        cosine: of the static embeddings; -1 where one is of no word.
    """

    query: Bool[Tensor, "pair token"]
    document: Bool[Tensor, "pair token"]
    stem: Bool[Tensor, "pair row column"]
    in_query: Bool[Tensor, "pair token"]
    lacking: Bool[Tensor, "pair token"]
    near: Bool[Tensor, "pair row column"]
    cosine: Float[Tensor, "pair row column"]
    content: Bool[Tensor, "pair token"]

    @classmethod
    def of(
        cls,
        words: Sequence[Words],
        static: Static,
        batch: EncodedBatch,
        parts: Bool[Tensor, "pair token part"],
    ) -> Likeness:
        """That of a batch."""
        pairs, places = batch.input_ids.shape
        word = np.full((pairs, places), -1, dtype=np.int64)
        stems = np.zeros((pairs, places), dtype=np.int64)
        content = np.zeros((pairs, places), dtype=bool)
        for row, (each, first) in enumerate(zip(words, batch.firsts.tolist(), strict=True)):
            at = slice(first, first + len(each.word))
            word[row, at], stems[row, at], content[row, at] = each.word, each.stem, each.content
        device = batch.input_ids.device
        number, stem, carries = (torch.from_numpy(a).to(device) for a in (word, stems, content))
        query, document = parts[..., PARTS.index(Part.Q)], parts[..., PARTS.index(Part.D)]
        # Stem 0 stands for "no stem": two such tokens are not of one stem.
        one_stem = (stem[:, :, None] == stem[:, None, :]) & (stem > 0)[:, :, None]
        among = query | document
        apart = number[:, :, None] != number[:, None, :]
        content_of_query = query & carries
        has_query = (one_stem & query[:, None]).any(-1)
        lacking = content_of_query & ~(one_stem & document[:, None]).any(-1)
        vectors = static.of_words(batch.input_ids, number)
        cosine = torch.matmul(vectors, vectors.mT)
        known = number >= 0
        cosine = cosine.masked_fill(~(known[:, :, None] & known[:, None]), -1)
        other = document & known & ~has_query
        unlike = batch.input_ids[:, :, None] != batch.input_ids[:, None, :]
        return cls(
            query,
            document,
            one_stem & apart & among[:, :, None] & among[:, None],
            (one_stem & content_of_query[:, None]).any(-1),
            lacking,
            lacking[:, :, None] & other[:, None] & (cosine >= static.near) & unlike,
            cosine,
            carries,
        )

    def surface(self) -> Float[np.ndarray, "pair quantity"]:
        """The share of the query's content tokens whose stem the passage has, and the mean of their
        largest static cosine in the passage; NaN without content."""
        wanted = self.query & self.content
        count = wanted.sum(1)
        best = self.cosine.masked_fill(~self.document[:, None], -1).amax(-1)
        overlap = (wanted & ~self.lacking).sum(1) / count  # nothing by nothing is NaN
        similarity = (best * wanted).sum(1) / count
        return torch.stack([overlap, similarity], -1).float().cpu().numpy()

    def kinds(
        self,
        weights: Float[Tensor, "pair head row column"],
        mass: Float[Tensor, "pair head row part"],
        stem: Float[Tensor, "pair head cell"],
        near: Float[Tensor, "pair head direction"],
    ) -> Float[Tensor, "pair head direction quantity"]:
        """The masses of :data:`KINDS`, observed and expected, as means over the rows."""
        out, alike = [], self.stem.to(weights.dtype)
        places = {Part.Q: self.query, Part.D: self.document}
        for place, (x, y) in enumerate(ACROSS):
            reader, read = (places[part].to(weights.dtype) for part in (x, y))
            # What a head that does not care for words would have: it reads each column as often as
            # it does on the whole, whatever the row. For words of one stem that is the outer
            # product of the row and column sums, for the others the share of such columns.
            row = mass[..., PARTS.index(y)] * reader[:, None]
            column = torch.einsum("ni,nhij->nhj", reader, weights) * read[:, None]
            total, width = row.sum(-1), read.sum(-1)[:, None]
            product = (torch.matmul(row, alike) * column).sum(-1)
            expected = torch.where(total > 0, product / total.clamp(min=1e-30), 0)
            words = self.in_query.to(weights.dtype) * read
            # near is stored with the query's token as the row
            close = (self.near if x is Part.Q else self.near.mT).to(weights.dtype).sum(-1)
            sums = [
                stem[..., CELLS.index((x, y))],
                expected,
                (column * words[:, None]).sum(-1),
                total * words.sum(-1)[:, None] / width,
                near[..., place],
                (row * close[:, None]).sum(-1) / width,
            ]
            out.append(torch.stack(sums, -1) / reader.sum(-1)[:, None, None])
        return torch.stack(out, -2)


def _blocks(
    pairs: Bool[Tensor, "pair row column"], parts: Bool[Tensor, "pair token part"]
) -> list[Bool[Tensor, "pair row column"]]:
    """The token pairs of each of :data:`CELLS`."""
    return [pairs & parts[:, :, None, x] & parts[:, None, :, y] for x, y in CELLS]


def written(
    value: Float[Tensor, "pair head token width"], output: Float[Tensor, "head width model"]
) -> Float[Tensor, "pair head token"]:
    """|W_O v_j|, the length of what a token's value would write: sqrt(v' G v) with G = W_O' W_O."""
    exact = torch.promote_types(value.dtype, torch.float32)
    weight = output.to(exact)
    gram = torch.matmul(weight, weight.transpose(-1, -2))
    wide = value.to(exact)
    squared = (torch.matmul(wide, gram) * wide).sum(-1)
    return squared.clamp(min=0).sqrt().to(value.dtype)


def same_tokens(
    ids: Int[Tensor, "pair token"], parts: Bool[Tensor, "pair token part"]
) -> Bool[Tensor, "pair row column"]:
    """Whether row and column are different places in Q or D with the same token id."""
    among = parts[..., [PARTS.index(part) for part in TOKENS]].any(-1)
    same = (ids[:, :, None] == ids[:, None, :]) & among[:, :, None] & among[:, None, :]
    return same & ~torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)


def peaks(
    weights: Float[Tensor, "pair head row column"], parts: Bool[Tensor, "pair token part"]
) -> Float[Tensor, "pair head part part"]:
    """The largest weight between each two parts; 0 where one is absent."""
    columns = []
    for place in range(parts.shape[-1]):
        here = parts[..., place]
        if int(here.sum(1).max()) == 1:  # one token: its column, and 0 where there is none
            at = here.int().argmax(1)[:, None, None, None].expand(*weights.shape[:3], 1)
            largest = weights.gather(-1, at)[..., 0] * here.any(1)[:, None, None]
        else:
            largest = (weights * here[:, None, None, :]).amax(-1)
        columns.append(largest)
    by_column = torch.stack(columns, -1)
    rows = [
        (by_column * parts[:, None, :, place, None]).amax(2) for place in range(parts.shape[-1])
    ]
    return torch.stack(rows, 2)
