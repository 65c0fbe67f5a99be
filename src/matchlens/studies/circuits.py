"""What the query-key matrices make of queries and documents (Figure 2), and the hypothesis."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from matchlens.arguments import typed
from matchlens.corpora import Pair, PairSet, thin
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.models.folder import ModelFolder
from matchlens.parts import Part
from matchlens.results import Result
from matchlens.studies.common import Execution, half, half_of, identity, pair_table, relevant_grade
from matchlens.studies.contrasts import (
    CLASSES,
    Classes,
    by_half,
    class_means,
    contrast_table,
    head_grid,
    shared,
)
from matchlens.studies.cut_study import score_table
from matchlens.studies.presets import COSTLY_PAIRS
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.watching import Reader, Watched, watch

if TYPE_CHECKING:
    from matchlens.engine import Progress, Run
    from matchlens.models.base import Base
    from matchlens.models.load import Reranker
    from matchlens.models.qk import QK
    from matchlens.models.words import Vocabulary
    from matchlens.qk import MeanLogits, Means, Shares
    from matchlens.runners import Runner


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
COLOURING = "relevant-easy"
"""The contrast of attention mass that colours Figure 2."""
RESAMPLED = "contrast_resampled"
"""The array that holds the contrast QD-DD in resamples of the queries."""
TOP = 6
"""Heads whose vocabulary is looked at, where none is named."""
MATCHES = 50
"""Token pairs kept a head."""
CROSS = 0.1
"""A head's cross terms are near 0 where the share of each is at most so far from 0."""

Heads = tuple[tuple[int, int], ...]


def checked(contrast: str, variant: str, top: int, matches: int) -> None:
    """See that the study's own options can be used."""
    if contrast not in CONTRASTS:
        raise InputError(
            f"contrast {contrast!r} is not known; expected one of {', '.join(CONTRASTS)}"
        )
    if variant not in VARIANTS:
        raise InputError(f"variant {variant!r} is not known; expected one of {', '.join(VARIANTS)}")
    if top < 0:
        raise InputError(f"top is {top}; expected 1 head or more, or 0 for none")
    if matches < 1:
        raise InputError(f"matches is {matches}; expected at least 1 token pair of each head")


def named_heads(
    given: Iterable[str | tuple[int, int]] | None, layers: int | None = None, heads: int = 0
) -> Heads | None:
    """Heads named as ``layer.head``, several with commas between them, each once.

    >>> named_heads(["8.1,4.9", (0, 3)])
    ((8, 1), (4, 9), (0, 3))
    """
    if given is None:
        return None
    found: list[tuple[int, int]] = []
    for one in given:
        whole = one if isinstance(one, str) else f"{one[0]}.{one[1]}"
        for text in whole.split(","):  # one by one, since a cut's heads are sorted
            try:
                cut = Cut.parse(f"Q->D#{text}")
            except InputError:
                raise InputError(f"head {whole!r}: expected layer.head, as in '8.1,4.9'") from None
            if layers is not None:
                cut.check(layers, heads)
            found += [(int(layer), int(head)) for layer, head in cut.heads or ()]
    if not found:
        raise InputError("no head is named; expected at least one as layer.head, as in '8.1,4.9'")
    return tuple(dict.fromkeys(found))


def document_parts(preset: str) -> tuple[Part, ...]:
    """The parts whose tokens are the document's: the ``authors`` preset counts SEP2 among them.

    Source: science 8.
    """
    return (Part.D, Part.SEP2) if preset == "authors" else (Part.D,)


def checked_halves(pairs: Sequence[Pair], rel: int, seed: int) -> tuple[Classes, Classes]:
    """The classes of both halves of the queries: half 0 gives the means, half 1 the colours."""
    classes = Classes.of(pairs, rel)
    classes.check([COLOURING])
    halves = {qid: half(qid, seed) for qid in classes.qids}
    first, second = (by_half(halves, classes, which) for which in (0, 1))
    number = len(classes.qids)
    if not (first.of_pair >= 0).any():
        raise InputError(
            f"half of the {number} queries, by the seed, give the mean states, and none of them "
            f"has a passage that is {' or '.join(CLASSES)}; give more queries, or another seed"
        )
    try:
        second.check([COLOURING])
    except InputError:
        raise InputError(
            f"half of the {number} queries, by the seed, give the colours of the plot, and none of "
            "them has both relevant and easy passages; give more queries, or another seed"
        ) from None
    return first, second


def other_half(pairs: PairSet, seed: int, most: int | None) -> PairSet:
    """The pairs of the half that colours the plot, easy negatives among them; at most so many."""
    kept = half_of(pairs, 1, seed)
    return kept if most is None else thin(kept, most, seed=seed, easy=True)[0]


def check_base(folder: ModelFolder, base: ModelFolder) -> None:
    """See that a second model has the shape of the first."""
    ours, theirs = ((*one.shape, one.config.hidden_size) for one in (folder, base))
    check_shapes(ours, theirs, base.name)


def check_shapes(ours: tuple[object, ...], theirs: tuple[object, ...], name: str) -> None:
    """See that two shapes (layers, heads, width) are equal."""
    if ours != theirs:
        one, other = (" x ".join(map(str, shape)) for shape in (ours, theirs))
        raise InputError(
            f"base model {name!r} has {other} (layers x heads x width), the model {one}; expected "
            "the model before it was fine-tuned, which has the same shape"
        )


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
    """What the weights alone say of every head: alignment, nulls, crossed heads, symmetry."""
    from matchlens import qk as algebra

    tables = []
    for qk in layers:
        found = algebra.triplets(qk)
        null, turned = algebra.gaussian_null(qk, seed=seed), algebra.rotation_null(found)
        apart = algebra.crossed(qk) if len(qk.key) > 1 else None
        trace = algebra.alignment(qk)
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
                "symmetric_share": algebra.symmetric_share(qk),
            }
        )
        tables.append(table)
    return pd.concat(
        [head_grid(len(layers), layers[0].n_heads), pd.concat(tables, ignore_index=True)], axis=1
    )


def logit_columns(logits: MeanLogits) -> dict[str, np.ndarray]:
    """The four logits of the means and all their contrasts, a value a head."""
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
        "base_z": _over(before, null),
        "base_change": table["alignment"].to_numpy() - before,
    }


def resamples_of(
    collections: Sequence[str], seed: int, number: int = RESAMPLES
) -> Float[np.ndarray, "resample query"]:
    """Weights of the queries in bootstrap resamples, drawn inside collections.

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

    Returns:
        ``matches`` (layer, head, rank, reader, read, logit), and ``vocabulary`` (layer, head,
        tokens, self_rate: the share of tokens whose best match is themselves).
    """
    from matchlens.qk import strongest_matches

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
    """The heads with the largest alignment, the largest first."""
    best = heads.sort_values(VARIANTS[variant], ascending=False, kind="stable").head(top)
    couples = zip(best["layer"].tolist(), best["head"].tolist(), strict=True)
    return tuple((int(layer), int(head)) for layer, head in couples)


def _over(values: Float[np.ndarray, " head"], sd: np.ndarray) -> Float[np.ndarray, " head"]:
    return np.divide(values, sd, out=np.full(len(values), np.nan), where=sd > 0)


NAME = "circuits"
READINGS = {"mass_QD": (Part.Q, Part.D), "mass_DQ": (Part.D, Part.Q)}
"""The two directions of Figure 1b, by the name of the column that has the difference."""


@typed
def circuits(
    model: Reranker,
    pairs: PairSet,
    *,
    base: Base | str | Path | None = None,
    contrast: str = "QD-DD",
    variant: str = "all",
    divided: bool = False,
    biases: bool = False,
    top: int = TOP,
    heads: Iterable[str | tuple[int, int]] | None = None,
    matches: int = MATCHES,
    same_token: bool = False,
    most_pairs: int | None = COSTLY_PAIRS,
    preset: str = "default",
    rel: int | None = None,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    watched: Watched | None = None,
    runner: Runner | None = None,
) -> Result:
    """Measure the query-key matrices of every head (Figure 2).

    One half of the queries gives the mean states, the other the attention that colours the plot
    and the logits whose variance is shared out. The algebra is the package :mod:`matchlens.qk`.

    Args:
        model: a loaded reranker.
        pairs: queries with passages of several grades and easy negatives
            (``matchlens.choose(collection, easy=10)``).
        base: a model before fine-tuning, of the same shape, for its heads' alignment; a name, a
            folder, or what :func:`matchlens.models.base.load_base` returned.
        contrast: of the logits of the means: ``QD-DD``, ``DQ-QQ``, ``QD-QQ`` or ``DQ-DD`` (the
            reader first); all are measured, this one is drawn, beside its companion.
        variant: of the alignment that is drawn: ``all`` (the trace), ``positive`` or ``above``
            (only singular triplets with u_k . v_k > 0, or > 0.3).
        divided: whether the logits of the means are divided by sqrt(d_h).
        biases: whether the biases take part in them, and in what a head matches.
        top: how many of the most aligned heads are looked at in the vocabulary; 0: none.
        heads: these heads instead, as ``layer.head`` or (layer, head).
        matches: token pairs kept for each of them.
        same_token: whether the heads' same-token share in context (Q->D) is measured, too; this
            makes the pass slower.
        most_pairs: at most so many pairs for the hypothesis; all of the half where None.
        preset: ``default``, ``paper``, or ``authors``, whose document has its SEP2.
        watched: the untouched pass over these pairs with the mean states of
            :func:`matchlens.studies.circuits.checked_halves`' first half, where another
            study shares it; it is made where None.

    The arguments ``rel``, ``seed``, ``batch_tokens``, ``progress`` and ``runner`` are those of
    :func:`matchlens.ablation`.

    Returns:
        Tables ``heads`` (a row for each head: alignment, its variants, nulls and controls, logits
        of the means and contrasts, differences of attention mass), ``associations`` (Spearman
        between each two of these: p by permutations inside layers, low and high over heads,
        query_low and query_high over resampled queries), ``shares`` and ``logits`` (the
        hypothesis), ``matches`` and ``vocabulary`` (where ``top`` is not 0); and the arrays
        ``query_mean`` and ``document_mean`` [layer, width] and ``contrast_resampled`` [resample,
        layer, head]: QD-DD in 1,000 resamples of the queries that the means come from.

    Raises:
        InputError: if an option cannot be used, a half of the queries lacks a class, the base
            model has another shape, or the model uses rotary position embeddings.

    Source: science 5; Vast et al. 2025, Figure 2.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=6, per_grade=1, easy=1)
    >>> result = matchlens.circuits(matchlens.load("demo"), pairs, top=0, most_pairs=9)
    >>> result.array("query_mean").shape, len(result.to_frame("heads"))
    ((12, 384), 144)
    """
    from matchlens.models.words import vocabulary
    from matchlens.qk import mean_logits
    from matchlens.qk.factors import refuse_rope

    started = time.perf_counter()
    execution = Execution(model, batch_tokens, progress, runner)
    chosen = preset_of(preset)
    checked(contrast, variant, top, matches)
    family = model.family
    named = named_heads(heads, family.n_layers, family.n_heads)
    layers = [family.qk(layer) for layer in range(family.n_layers)]
    for qk in layers:
        refuse_rope(qk)
    before = _base(base, layers)
    table_shape = (family.n_layers, family.n_heads)
    rel = relevant_grade(pairs, rel)
    first, second = checked_halves(pairs.pairs, rel, seed)
    few = other_half(pairs, seed, most_pairs)
    document = document_parts(chosen.name)

    table = weight_table(layers, seed)
    seen = _watch(execution, pairs, first, document, same_token, watched)
    held = tempfile.TemporaryDirectory(prefix="matchlens-", dir=execution.scratch)
    options = {"biases": biases, "divided": divided}
    logits = mean_logits(layers, seen.means.query, seen.means.document, **options)
    table = table.assign(**logit_columns(logits), **_colours(seen, second))
    if before is not None:
        table = table.assign(**base_columns(table, before.layers))
    drawn = _resampled(layers, seen, second, seed, options)
    associations, said = association_table(table, contrast, variant, seed, drawn)
    found = _hypothesis(execution, seen.means, few, document)
    shares, by_direction = share_tables(found)
    tables = {
        "heads": table,
        "associations": associations,
        "shares": shares,
        "logits": by_direction,
    }
    looked_at = named or most_aligned(table, variant, top)
    if looked_at:
        words = vocabulary(model)
        tables["matches"], tables["vocabulary"] = match_tables(
            layers, looked_at, words, matches, biases=biases
        )
        said.append(
            f"{words.left_out} special and unused tokens of the vocabulary were left out; static "
            "embeddings stand for the tokens in every layer"
        )
    return Result(
        study=NAME,
        identity=identity(model.identity, pairs),
        options={
            "contrast": contrast,
            "variant": variant,
            "divided": divided,
            "biases": biases,
            "base": None if before is None else dict(before.identity),
            "top": top,
            "heads_looked_at": [f"{layer}.{head}" for layer, head in looked_at],
            "matches": matches,
            "same_token": same_token,
            "preset": chosen.name,
            "digits": chosen.digits,
            "rel": rel,
            "colour": COLOURING,
            "document_parts": [str(part) for part in document],
            "cross": CROSS,
            "most_pairs": most_pairs,
            "pairs_of_hypothesis": len(few.pairs),
            "queries_of_means": seen.means.queries,
            "queries_of_colours": _queries(second),
            "seed": seed,
            "layers": family.n_layers,
            "heads": family.n_heads,
            "device": seen.out.device,
            "batches": {"batch_tokens": seen.out.batch_tokens, "number": len(seen.out.batches)},
            "check": dict(model.checks),
        },
        notes=(
            *pairs.notes,
            *model.notes,
            *_notes(seen, pairs, second, few),
            *sorted({qk.beside for qk in layers} - {""}),
            *said,
        ),
        pairs=pair_table(pairs.pairs, seen.out.tokens, seen.out.truncated, seed),
        scores=score_table(seen.out, range(len(pairs.pairs))),
        tables=tables,
        log=(
            f"{NAME}: {len(pairs.pairs)} pairs, then {len(few.pairs)}: "
            f"{time.perf_counter() - started:.1f} s",
        ),
        arrays=_saved(seen.means, drawn["QD-DD"].reshape(-1, *table_shape), Path(held.name)),
        held=held,
    )


@dataclass(frozen=True)
class _Seen:
    """What the pass over all pairs gave."""

    out: Run
    means: Means
    values: Mapping[str, Float[np.ndarray, "pair layer head"]]


def _base(base: Base | str | Path | None, layers: Sequence[QK]) -> Base | None:
    from matchlens.models.base import load_base

    found = load_base(base) if isinstance(base, str | Path) else base
    if found is not None:
        ours, theirs = ((len(one), one[0].n_heads, one[0].width) for one in (layers, found.layers))
        check_shapes(ours, theirs, found.name)
    return found


def _watch(
    execution: Execution,
    pairs: PairSet,
    first: Classes,
    document: tuple[Part, ...],
    same_token: bool,
    watched: Watched | None,
) -> _Seen:
    """The one pass of the untouched model over all pairs: attention mass and mean states."""
    names = ["mass", "same_token"] if same_token else ["mass"]
    if watched is None:
        watched = watch(
            execution.model,
            pairs,
            names,
            means_of=first,
            document=document,
            batch_tokens=execution.batch_tokens,
            progress=execution.progress,
            runner=execution.runner,
        )
    if watched.means is None:
        raise ValueError("the shared pass kept no mean states")
    reader = Reader(watched.only(names))
    values = {name: reader.of("mass", x, y) for name, (x, y) in READINGS.items()}
    if same_token:
        values["same_token"] = reader.of("same_token", Part.Q, Part.D)
    return _Seen(watched.out, watched.means, values)


def _colours(seen: _Seen, second: Classes) -> dict[str, np.ndarray]:
    """Figure 1b's differences on the second half, tested over its queries, a value a head."""
    columns: dict[str, np.ndarray] = {}
    for name in READINGS:
        found = contrast_table(seen.values[name], second, COLOURING)
        columns[name] = found["diff"].to_numpy()
        columns |= {f"{name}_{key}": found[key].to_numpy() for key in ("p", "q", "auc")}
    if "same_token" in seen.values:
        mine = second.of_pair >= 0
        mass, share = seen.values["mass_QD"][mine], seen.values["same_token"][mine]
        columns["same_token_QD"] = shared(mass, share)
    return columns


def _resampled(
    layers: Sequence[QK], seen: _Seen, second: Classes, seed: int, options: Mapping[str, bool]
) -> dict[str, np.ndarray]:
    """What depends on queries, in resamples of these: [resample, head], by its column."""
    from matchlens.qk import resampled_logits

    means = seen.means
    weights = resamples_of([str(name[0]) for name in means.names], seed)  # type: ignore[index]
    logits = resampled_logits(layers, means.apart, weights, **options)
    drawn = {name: logits.contrast(name).reshape(len(weights), -1) for name in CONTRASTS}
    for name in READINGS:
        values = seen.values[name]
        by_class = class_means(values.reshape(len(values), -1), second)
        apart = by_class[:, CLASSES.index("relevant")] - by_class[:, CLASSES.index("easy")]
        kept = np.flatnonzero(~np.isnan(apart).any(1))
        weights = resamples_of([second.collections[place] for place in kept], seed)
        drawn[name] = weights @ apart[kept]
    return drawn


def _hypothesis(
    execution: Execution, means: Means, few: PairSet, document: tuple[Part, ...]
) -> Shares:
    """The second pass: the moments of the logits' terms over pairs of the second half."""
    from matchlens.runners import MeasurementRequest
    from matchlens.runners.measures import Logits, logits_into

    measure = Logits(means.query, means.document, document)
    moments = measure.empty(execution.model)
    execution(few.pairs, asked=[MeasurementRequest(measure, logits_into(moments))])
    return moments.result()


def _saved(means: Means, contrast: np.ndarray, folder: Path) -> dict[str, Path]:
    """The mean states [layer, width] and the contrast QD-DD in resamples of the queries
    [resample, layer, head] as files, in float32."""
    paths = {}
    for name, values in (
        ("query_mean", means.query),
        ("document_mean", means.document),
        (RESAMPLED, contrast),
    ):
        paths[name] = folder / f"{name}.npy"
        np.save(paths[name], values.astype(np.float32), allow_pickle=False)
    return paths


def _queries(classes: Classes) -> int:
    return len(np.unique(classes.query[classes.of_pair >= 0]))


def _notes(seen: _Seen, pairs: PairSet, second: Classes, few: PairSet) -> list[str]:
    said = [
        f"mean states from {seen.means.queries} queries, differences of attention from "
        f"{_queries(second)} others; shares of variance from {len(few.pairs)} pairs of those"
    ]
    if cut_short := int(seen.out.truncated.sum()):
        said.append(f"{cut_short} of {len(pairs.pairs)} pairs were cut to the length limit")
    return said


_MOVED = (
    *("Association", "Crossed", "Hypothesis", "Matches", "MeanLogits", "MeanStates", "Means"),
    *("Null", "RotationNull", "Shares", "Triplets", "alignment", "crossed", "gaussian_null"),
    *("matrix", "mean_logits", "resampled_logits", "rotation_null", "spearman"),
    *("spearman_of_rows", "strongest_matches", "symmetric_share", "triplets"),
)
"""Names of :mod:`matchlens.qk` that programs written for version 0.1 find on this function."""


def _moved(name: str) -> Callable[..., object]:
    def forward(*args: object, **options: object) -> object:
        from matchlens import qk

        words = f"matchlens.circuits.{name} is now matchlens.qk.{name}"
        warnings.warn(words, DeprecationWarning, stacklevel=2)
        return getattr(qk, name)(*args, **options)

    return forward


for _name in _MOVED:
    setattr(circuits, _name, _moved(_name))
