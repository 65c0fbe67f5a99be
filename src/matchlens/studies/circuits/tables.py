"""Tables of circuits, a row for each head: its weights, its logits, what it matches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from matchlens.corpora import Pair
from matchlens.parts import Part
from matchlens.studies.attention.contrasts import head_grid
from matchlens.studies.common import ratio

if TYPE_CHECKING:
    from matchlens.models.load import Reranker
    from matchlens.models.qk import QK
    from matchlens.models.words import Vocabulary
    from matchlens.qk import MeanLogits, Shares
    from matchlens.qk.rotary import Turns

Heads = tuple[tuple[int, int], ...]
CONTRASTS = ("QD-DD", "DQ-QQ", "QD-QQ", "DQ-DD")
"""The contrasts that :data:`matchlens.qk.CONTRASTS` describes."""
COMPANIONS: Mapping[str, str] = {
    "QD-DD": "DQ-QQ",
    "DQ-QQ": "QD-DD",
    "QD-QQ": "DQ-DD",
    "DQ-DD": "QD-QQ",
}
"""Each contrast's companion: the same with query and document exchanged."""
VARIANTS: Mapping[str, str] = {
    "all": "alignment",
    "positive": "alignment_positive",
    "above": "alignment_above",
}
"""Variants of the alignment, and the column of the heads' table that holds each."""
CROSS = 0.1
"""A head's cross terms are near 0 where the share of each is at most so far from 0."""

RESAMPLES = 1000
"""Bootstrap resamples of the queries."""
COLOURS: Mapping[str, str] = {"Q": "mass_QD", "D": "mass_DQ"}
"""The column that colours a contrast, by who reads in its first logit."""


def colour_of(contrast: str) -> str:
    """The column whose difference of attention mass colours a contrast.

    >>> colour_of("QD-DD"), colour_of("DQ-QQ")
    ('mass_QD', 'mass_DQ')
    """
    return COLOURS[contrast[0]]


def weight_table(layers: Sequence[QK], seed: int) -> pd.DataFrame:
    """What follows from every head's weights: alignment, nulls, crossed heads, symmetry."""
    from matchlens import qk as algebra

    tables = []
    for qk in layers:
        triplets = algebra.triplets(qk)
        null, turned = algebra.gaussian_null(qk, seed=seed), algebra.rotation_null(triplets)
        apart = algebra.crossed(qk) if len(qk.key) > 1 else None
        trace = algebra.alignment(qk)
        mean, sd = (apart.mean, apart.sd) if apart else (np.nan, np.nan)
        table = pd.DataFrame(
            {
                "alignment": trace,
                **{
                    column: triplets.alignment(variant)  # type: ignore[arg-type]
                    for variant, column in VARIANTS.items()
                    if variant != "all"
                },
                "normalised": triplets.normalised(),
                "singular_sum": triplets.values.sum(1),
                "null_sd": null.alignment_sd,
                "z": ratio(trace, null.alignment_sd),
                "normalised_null_sd": null.normalised_sd,
                "rotation_sd": turned.alignment_sd,
                "rotation_z": ratio(trace, turned.alignment_sd),
                "rotation_positive_mean": turned.positive_mean,
                "crossed_mean": mean,
                "crossed_sd": sd,
                "crossed_z": ratio(trace - mean, np.full(len(trace), sd)),
                "symmetric_share": algebra.symmetric_share(qk),
            }
        )
        tables.append(table)
    return pd.concat(
        [head_grid(len(layers), layers[0].n_heads), pd.concat(tables, ignore_index=True)], axis=1
    )


def logit_columns(logits: MeanLogits) -> dict[str, np.ndarray]:
    """The four logits of the means and all their contrasts, a value for each head."""
    columns = {name: values.ravel() for name, values in logits.logits.items()}
    return columns | {name: logits.contrast(name).ravel() for name in CONTRASTS}


def base_columns(table: pd.DataFrame, layers: Sequence[QK]) -> dict[str, np.ndarray]:
    """The same heads' alignment in a second model, and how it changed from there."""
    from matchlens.qk import alignment, gaussian_null, triplets

    before = np.concatenate([alignment(qk) for qk in layers])
    normalised = np.concatenate([triplets(qk).normalised() for qk in layers])
    null = np.concatenate([gaussian_null(qk, draws=1).alignment_sd for qk in layers])
    return {
        "base_alignment": before,
        "base_normalised": normalised,
        "base_z": ratio(before, null),
        "base_change": table["alignment"].to_numpy() - before,
    }


def resamples_of(
    collections: Sequence[str], seed: int, number: int = RESAMPLES, *, half: int = 0
) -> Float[np.ndarray, "resample query"]:
    """Weights of the queries in bootstrap resamples, drawn inside collections.

    Each ``half`` of the queries has random numbers of its own: by the same ones, halves of equal
    size would be drawn alike, and what rests on both would move together by chance.

    >>> resamples_of(["a", "a", "b"], 0, 2).sum(1).tolist()
    [1.0, 1.0]
    """
    draw = np.random.default_rng([5, int(seed < 0), abs(seed), half])
    names = np.array(collections)
    out = np.zeros((number, len(names)))
    for name in np.unique(names):
        inside = np.flatnonzero(names == name)
        share = np.full(len(inside), 1 / len(inside))
        out[:, inside] = draw.multinomial(len(inside), share, number)
    return out / len(names)


def association_table(
    heads: pd.DataFrame,
    contrast: str,
    variant: str,
    seed: int,
    drawn: Mapping[str, Float[np.ndarray, "resample head"]],
) -> tuple[pd.DataFrame, list[str]]:
    """Spearman between each two of alignment, contrast and colour; and for the companion.

    Returns:
        A row for each couple (contrast, first, second, rho, p, by_layer, low, high: 95% over heads,
        query_low, query_high: 95% over resampled queries, heads), and notes: couples that cannot
        be correlated are not in the table.
    """
    from matchlens.qk import spearman, spearman_of_rows

    rows, notes = [], []
    shape = (len(np.unique(heads["layer"].to_numpy())), -1)
    for name in (contrast, COMPANIONS[contrast]):
        quantities = {"alignment": VARIANTS[variant], "contrast": name, "colour": colour_of(name)}
        values = {
            key: heads[column].to_numpy(float).reshape(shape) for key, column in quantities.items()
        }
        for first, second in (
            ("alignment", "contrast"),
            ("alignment", "colour"),
            ("contrast", "colour"),
        ):
            x, y = values[first], values[second]
            if x.size < 3 or not (np.isfinite(x).all() and np.isfinite(y).all()):
                why = "too few heads" if x.size < 3 else "some layers allow no such reading"
                notes.append(f"{first} and {second} ({name}) are not correlated: {why}")
                continue
            resampled = (
                drawn[column]
                if (column := quantities[key]) in drawn
                else np.tile(values[key].ravel(), (RESAMPLES, 1))
                for key in (first, second)
            )
            low, high = _ends(spearman_of_rows(*resampled))
            row = {"contrast": name, "first": first, "second": second}
            row |= vars(spearman(x, y, seed=seed))
            rows.append({**row, "query_low": low, "query_high": high})
    names = ["contrast", "first", "second", "rho", "p", "by_layer", "low", "high"]
    names += ["query_low", "query_high", "heads"]
    return pd.DataFrame(rows, columns=pd.Index(names)), notes


def _ends(values: Float[np.ndarray, " resample"]) -> tuple[float, float]:
    """The 95% percentile interval; NaN where more than 5% of the resamples have no number."""
    if np.isnan(values).mean() > 0.05:
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def share_tables(moments: Shares) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Shares of the logits' variance: a row for each term, and for each head and reading direction.

    Returns:
        ``shares`` (layer, head, direction, term, share), and ``logits`` (layer, head, direction,
        constant, mean, variance, token_pairs, cross, biases, matching, holds), of which cross and
        biases are sums of two shares, and holds says whether each cross term's is near 0.
    """
    layers, directions, heads, terms = moments.share.shape
    ordered = moments.share.transpose(0, 2, 1, 3)

    def index(*more: int) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        layer, head, direction, *rest = (
            axis.ravel() for axis in np.indices((layers, heads, directions, *more))
        )
        names = np.array(moments.directions, dtype=object)[direction]
        return {"layer": layer, "head": head, "direction": names}, rest

    columns, (term,) = index(terms)
    term_names = np.array(moments.terms, dtype=object)[term]
    shares = pd.DataFrame({**columns, "term": term_names, "share": ordered.ravel()})
    by_term = {name: ordered[..., place].ravel() for place, name in enumerate(moments.terms)}
    crosses = np.stack([by_term["cross_reader"], by_term["cross_read"]])
    logits = pd.DataFrame(
        {
            **index()[0],
            "constant": moments.constant.transpose(0, 2, 1).ravel(),
            "mean": moments.mean.transpose(0, 2, 1).ravel(),
            "variance": moments.variance.transpose(0, 2, 1).ravel(),
            "token_pairs": np.repeat(moments.token_pairs[:, None], heads, axis=1).ravel(),
            "cross": crosses.sum(0),
            "biases": by_term["bias_key"] + by_term["bias_query"],
            "matching": by_term["matching"],
            "holds": (np.abs(crosses) <= CROSS).all(0),
        }
    )
    return shares, logits


def match_tables(
    layers: Sequence[QK], heads: Heads, words: Vocabulary, matches: int, *, biases: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What some heads match: the vocabulary's strongest token pairs, and how often a token itself.

    Returns:
        ``matches`` (layer, head, rank, reader, read, logit), and ``vocabulary`` (layer, head,
        tokens, self_rate: the share of tokens whose best match is themselves).
    """
    from matchlens.qk import strongest_matches

    rows, rates = [], []
    for layer, head in heads:
        strongest = strongest_matches(
            layers[layer], head, words.query, words.document, top=matches, biases=biases
        )
        rates.append((layer, head, len(words.tokens), strongest.self_rate))
        triples = zip(strongest.readers, strongest.read, strongest.logits.tolist(), strict=True)
        rows += [
            (layer, head, rank, words.tokens[reader], words.tokens[read], logit)
            for rank, (reader, read, logit) in enumerate(triples, start=1)
        ]
    return (
        pd.DataFrame(rows, columns=pd.Index(["layer", "head", "rank", "reader", "read", "logit"])),
        pd.DataFrame(rates, columns=pd.Index(["layer", "head", "tokens", "self_rate"])),
    )


def most_aligned(heads: pd.DataFrame, variant: str, top: int) -> Heads:
    """The heads with the largest alignment, the largest first."""
    best = heads.sort_values(VARIANTS[variant], ascending=False, kind="stable").head(top)
    couples = zip(best["layer"].tolist(), best["head"].tolist(), strict=True)
    return tuple((int(layer), int(head)) for layer, head in couples)


@dataclass(frozen=True)
class Statement:
    """The query-key weights of all layers, as the study uses them."""

    # the weights of which the alignment is computed: the model's own, of a rotary model averaged
    # over the distances at which `reading` occurs
    layers: Sequence[QK]
    # of a rotary model the same for each reading direction
    by_direction: Mapping[str, Sequence[QK]] = field(default_factory=dict)
    # by direction the layers in which no such token pair is allowed
    absent: Mapping[str, np.ndarray] = field(default_factory=dict)
    # by direction and layer the share of each distance
    weights: Mapping[str, Sequence[np.ndarray]] = field(default_factory=dict)
    turns: Sequence[Turns] = ()  # by layer the rotations
    own: Sequence[QK] = ()  # the model's own weights
    reading: str = ""  # the direction of `layers`; empty where there is no distance

    @classmethod
    def of(cls, model: Reranker, pairs: Sequence[Pair], document: Sequence[Part]) -> Statement:
        """The statement of a model."""
        from matchlens.engine import encode_all
        from matchlens.qk import DIRECTIONS, rotary

        family: Any = model.family
        own = [family.qk(layer) for layer in range(family.n_layers)]
        if not any(qk.rope for qk in own):
            return cls(own)
        parts = [labels for _, encoded in encode_all(model, pairs) for labels in encoded.parts]
        longest = max(len(labels) for labels in parts) - 1
        turns = [rotary.Turns.of(*family.turns(n, longest)) for n in range(len(own))]
        apart = np.arange(-longest, longest + 1)
        occurring = rotary.distances(parts, longest, document)
        here = (apart == 0).astype(float)  # a placeholder where nothing is: NaN in the end
        by_direction: dict[str, list[QK]] = {}
        absent: dict[str, np.ndarray] = {}
        weights: dict[str, list[np.ndarray]] = {}
        for direction in DIRECTIONS:
            allowed = []
            for layer in range(len(own)):
                mask = family.band(layer)
                forbidden = (apart < 0) & mask.causal
                if mask.window is not None:
                    forbidden |= abs(apart) > mask.window
                allowed.append(rotary.allowed(occurring[direction], forbidden))
            absent[direction] = np.array([shares is None for shares in allowed])
            weights[direction] = [here if shares is None else shares for shares in allowed]
            by_direction[direction] = [
                rotary.averaged(*each) for each in zip(own, turns, weights[direction], strict=True)
            ]
        reading = "DQ" if absent["QD"].any() else "QD"
        return cls(by_direction[reading], by_direction, absent, weights, turns, own, reading)

    def possible(self, contrast: str) -> bool:
        """Whether in each layer some token pair reads as the contrast's logits do."""
        return not any(self.absent[name].any() for name in contrast.split("-") if self.absent)

    def logits(self, compute: Callable[[Sequence[QK]], MeanLogits]) -> MeanLogits:
        """The logits of the means, each direction by its own weights."""
        if not self.by_direction:
            return compute(self.layers)
        computed = {direction: compute(layers) for direction, layers in self.by_direction.items()}
        logits = {}
        for direction, means in computed.items():
            logits[direction] = means.logits[direction].copy()
            logits[direction][..., self.absent[direction], :] = np.nan
        return replace(next(iter(computed.values())), logits=logits)

    def spreads(
        self, query: np.ndarray, document: np.ndarray, biases: bool
    ) -> dict[str, np.ndarray]:
        """Standard deviations over the distances: of the alignment, and of each logit."""
        from matchlens.qk import rotary

        if not self.by_direction:
            return {}
        each = list(zip(self.own, self.turns, strict=True))
        by_layer = zip(each, self.weights[self.reading], strict=True)
        columns = {
            "alignment_spread": np.concatenate(
                [rotary.spread(rotary.alignment_at(*pair), share) for pair, share in by_layer]
            )
        }
        means = {"Q": query, "D": document}
        for direction, weights in self.weights.items():
            reader, read = (means[side] for side in direction)
            rows = []
            for layer, (pair, share) in enumerate(zip(each, weights, strict=True)):
                values = rotary.logits_at(*pair, reader[layer], read[layer], biases=biases)
                row = rotary.spread(values, share)
                rows.append(np.full_like(row, np.nan) if self.absent[direction][layer] else row)
            columns[f"{direction}_spread"] = np.concatenate(rows)
        return columns

    @property
    def notes(self) -> list[str]:
        """The notes on distances."""
        if not self.by_direction:
            return []
        return [
            f"the alignment is that at the distances of {self.reading} (the reader first); shares "
            "of variance and the vocabulary's matches are not computed for rotary positions",
            *(
                f"{direction} does not occur in {int(lost.sum())} of {len(lost)} layers, which "
                "allow no such reading"
                for direction, lost in self.absent.items()
                if lost.any()
            ),
        ]
