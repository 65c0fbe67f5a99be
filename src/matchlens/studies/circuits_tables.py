"""The tables of the circuits study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from matchlens.circuits import (
    MeanLogits,
    Shares,
    alignment,
    crossed,
    gaussian_null,
    rotation_null,
    spearman,
    spearman_of_rows,
    strongest_matches,
    symmetric_share,
    triplets,
)
from matchlens.models.qk import QK
from matchlens.models.static import Vocabulary
from matchlens.studies.circuits_options import COMPANIONS, CONTRASTS, CROSS, VARIANTS, Heads

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


def grid(layers: Sequence[QK]) -> pd.DataFrame:
    """Columns layer and head, a row for each head."""
    pairs = [(number, head) for number, qk in enumerate(layers) for head in range(qk.n_heads)]
    return pd.DataFrame(pairs, columns=pd.Index(["layer", "head"]))


def weight_table(layers: Sequence[QK], seed: int) -> pd.DataFrame:
    """What the weights alone say of every head: alignment, nulls, crossed heads, symmetry.

    Args:
        layers: the weights of each layer.
        seed: of the draws of the Gaussian null.

    Raises:
        InputError: if a layer uses rotary position embeddings.
    """
    tables = []
    for qk in layers:
        found = triplets(qk)
        null, turned = gaussian_null(qk, seed=seed), rotation_null(found)
        apart = crossed(qk) if len(qk.key) > 1 else None
        trace = alignment(qk)
        mean, sd = (apart.mean, apart.sd) if apart else (np.nan, np.nan)
        table = pd.DataFrame(
            {
                "alignment": trace,
                **{
                    column: found.alignment(variant)  # type: ignore[arg-type]
                    for variant, column in VARIANTS.items()
                    if variant != "all"
                },
                "normalised": found.normalised(),
                "singular_sum": found.values.sum(1),
                "null_sd": null.alignment_sd,
                "z": _over(trace, null.alignment_sd),
                "normalised_null_sd": null.normalised_sd,
                "rotation_sd": turned.alignment_sd,
                "rotation_z": _over(trace, turned.alignment_sd),
                "rotation_positive_mean": turned.positive_mean,
                "crossed_mean": mean,
                "crossed_sd": sd,
                "crossed_z": _over(trace - mean, np.full(len(trace), sd)),
                "symmetric_share": symmetric_share(qk),
            }
        )
        tables.append(table)
    return pd.concat([grid(layers), pd.concat(tables, ignore_index=True)], axis=1)


def logit_columns(logits: MeanLogits) -> dict[str, np.ndarray]:
    """The four logits of the means and all their contrasts, a value a head."""
    columns = {name: values.ravel() for name, values in logits.logits.items()}
    return columns | {name: logits.contrast(name).ravel() for name in CONTRASTS}


def base_columns(table: pd.DataFrame, layers: Sequence[QK]) -> dict[str, np.ndarray]:
    """The same heads' alignment in a second model, and how it changed from there.

    Args:
        table: the heads' table.
        layers: the second model's weights.
    """
    before = np.concatenate([alignment(qk) for qk in layers])
    normalised = np.concatenate([triplets(qk).normalised() for qk in layers])
    null = np.concatenate([gaussian_null(qk, draws=1).alignment_sd for qk in layers])
    return {
        "base_alignment": before,
        "base_normalised": normalised,
        "base_z": _over(before, null),
        "base_change": table["alignment"].to_numpy() - before,
    }


def resamples_of(
    collections: Sequence[str], seed: int, number: int = RESAMPLES
) -> Float[np.ndarray, "resample query"]:
    """Weights of the queries in bootstrap resamples, drawn inside collections.

    Args:
        collections: the collection of each query.
        seed: of the draws.
        number: of resamples.

    >>> resamples_of(["a", "a", "b"], 0, 2).sum(1).tolist()
    [1.0, 1.0]
    """
    draw = np.random.default_rng([5, int(seed < 0), abs(seed)])
    names = np.array(collections)
    out = np.zeros((number, len(names)))
    for name in np.unique(names):
        mine = np.flatnonzero(names == name)
        out[:, mine] = draw.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), number)
    return out / len(names)


def association_table(
    heads: pd.DataFrame,
    contrast: str,
    variant: str,
    seed: int,
    drawn: Mapping[str, Float[np.ndarray, "resample head"]],
) -> tuple[pd.DataFrame, list[str]]:
    """Spearman between each two of alignment, contrast and colour; and for the companion.

    Args:
        heads: the heads' table.
        contrast: the contrast of Figure 2.
        variant: of the alignment.
        seed: of permutations and resamples.
        drawn: columns of the heads' table that depend on queries, in resamples of these.

    Returns:
        A row for each couple (contrast, first, second, rho, p, by_layer, low, high: 95% over heads,
        query_low, query_high: 95% over resampled queries, heads), and notes: couples that cannot
        be correlated are not in the table.
    """
    rows, notes = [], []
    shape = (len(np.unique(heads["layer"].to_numpy())), -1)
    for name in (contrast, COMPANIONS[contrast]):
        quantities = {
            "alignment": VARIANTS[variant],
            "contrast": name,
            "colour": colour_of(name),
        }
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
                notes.append(f"{first} and {second} ({name}) are not correlated: too few heads")
                continue
            found = spearman(x, y, seed=seed)
            fixed = {key: np.tile(one.ravel(), (RESAMPLES, 1)) for key, one in values.items()}
            moved = (drawn.get(quantities[one], fixed[one]) for one in (first, second))
            ends = _ends(spearman_of_rows(*moved))
            row = {"contrast": name, "first": first, "second": second, **vars(found)}
            rows.append({**row, "query_low": ends[0], "query_high": ends[1]})
    names = ["contrast", "first", "second", "rho", "p", "by_layer", "low", "high"]
    names += ["query_low", "query_high", "heads"]
    return pd.DataFrame(rows, columns=pd.Index(names)), notes


def _ends(found: Float[np.ndarray, " resample"]) -> tuple[float, float]:
    """The 95% percentile interval; NaN where more than 5% of the resamples have no number."""
    if np.isnan(found).mean() > 0.05:
        return float("nan"), float("nan")
    low, high = np.nanpercentile(found, [2.5, 97.5])
    return float(low), float(high)


def share_tables(found: Shares) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Shares of the logits' variance: a row for each term, and for each head and reading direction.

    Returns:
        ``shares`` (layer, head, direction, term, share), and ``logits`` (layer, head, direction,
        constant, mean, variance, token_pairs, cross, biases, matching, holds), of which cross and
        biases are sums of two shares, and holds says whether each cross term's is near 0.
    """
    layers, directions, heads, terms = found.share.shape
    layer, head, direction, term = (
        axis.ravel() for axis in np.indices((layers, heads, directions, terms))
    )
    ordered = found.share.transpose(0, 2, 1, 3)
    shares = pd.DataFrame(
        {
            "layer": layer,
            "head": head,
            "direction": np.array(found.directions, dtype=object)[direction],
            "term": np.array(found.terms, dtype=object)[term],
            "share": ordered.ravel(),
        }
    )
    layer, head, direction = (axis.ravel() for axis in np.indices((layers, heads, directions)))
    by_term = {name: ordered[..., place].ravel() for place, name in enumerate(found.terms)}
    crosses = np.stack([by_term["cross_reader"], by_term["cross_read"]])
    logits = pd.DataFrame(
        {
            "layer": layer,
            "head": head,
            "direction": np.array(found.directions, dtype=object)[direction],
            **{
                name: values.transpose(0, 2, 1).ravel()
                for name, values in (
                    ("constant", found.constant),
                    ("mean", found.mean),
                    ("variance", found.variance),
                )
            },
            "token_pairs": np.repeat(found.token_pairs[:, None], heads, axis=1).ravel(),
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

    Args:
        layers: the weights.
        heads: (layer, head) of those that are looked at.
        words: the vocabulary's static vectors; a query token reads a document token.
        matches: token pairs kept a head.
        biases: whether the biases take part.

    Returns:
        ``matches`` (layer, head, rank, reader, read, logit), and ``vocabulary`` (layer, head,
        tokens, self_rate: the share of tokens whose best match is themselves).
    """
    rows, rates = [], []
    for layer, head in heads:
        found = strongest_matches(
            layers[layer], head, words.query, words.document, top=matches, biases=biases
        )
        about = {"layer": layer, "head": head}
        rates.append({**about, "tokens": len(words.tokens), "self_rate": found.self_rate})
        for rank, (reader, read, logit) in enumerate(
            zip(found.readers.tolist(), found.read.tolist(), found.logits.tolist(), strict=True)
        ):
            texts = {"reader": words.tokens[reader], "read": words.tokens[read]}
            rows.append({**about, "rank": rank + 1, **texts, "logit": logit})
    return (
        pd.DataFrame(rows, columns=pd.Index(["layer", "head", "rank", "reader", "read", "logit"])),
        pd.DataFrame(rates, columns=pd.Index(["layer", "head", "tokens", "self_rate"])),
    )


def most_aligned(heads: pd.DataFrame, variant: str, top: int) -> Heads:
    """The heads with the largest alignment, the largest first.

    Args:
        heads: the heads' table.
        variant: of the alignment.
        top: how many.
    """
    best = heads.sort_values(VARIANTS[variant], ascending=False, kind="stable").head(top)
    couples = zip(best["layer"].tolist(), best["head"].tolist(), strict=True)
    return tuple((int(layer), int(head)) for layer, head in couples)


def _over(values: Float[np.ndarray, " head"], sd: np.ndarray) -> Float[np.ndarray, " head"]:
    return np.divide(values, sd, out=np.full(len(values), np.nan), where=sd > 0)
