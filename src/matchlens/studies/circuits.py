"""What the query-key matrices make of queries and documents (Figure 2), and the hypothesis."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from matchlens.arguments import typed
from matchlens.circuits import CONTRASTS, Means, Shares, mean_logits, resampled_logits
from matchlens.circuits.factors import refuse_rope
from matchlens.corpora import PairSet
from matchlens.engine import Progress, Run
from matchlens.models.base import Base, load_base
from matchlens.models.load import Reranker
from matchlens.models.qk import QK
from matchlens.models.static import vocabulary
from matchlens.parts import Part
from matchlens.results import Result
from matchlens.runners import MeasurementRequest, Runner, run
from matchlens.runners.measures import Logits, logits_into
from matchlens.studies import circuits_tables as tables_of
from matchlens.studies.circuits_options import (
    COLOURING,
    CROSS,
    MATCHES,
    RESAMPLED,
    TOP,
    check_shapes,
    checked,
    checked_halves,
    document_parts,
    named_heads,
    other_half,
)
from matchlens.studies.common import identity, pair_table, relevant_grade
from matchlens.studies.contrasts import CLASSES, Classes, class_means, contrast_table, shared
from matchlens.studies.measuring import score_table
from matchlens.studies.presets import COSTLY_PAIRS
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.watching import Reader, Watched, watch

NAME = "circuits"
READINGS = {"mass_QD": (Part.Q, Part.D), "mass_DQ": (Part.D, Part.Q)}
"""The two directions of Figure 1b, by the name of the column that has the difference."""


@typed
def query_key(
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
    runner: Runner = run,
) -> Result:
    """Measure the query-key matrices of every head: the study "circuits" (Figure 2).

    It is named so because ``matchlens.circuits`` is the package that holds the algebra. One half of
    the queries gives the mean states, the other the attention that colours the plot and the logits
    whose variance is shared out.

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
        rel: lowest relevant grade; where None: 2 where the
            judgements reach 2, else 1.
        seed: of the halves, the thinning, the null's draws, permutations and resamples.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.
        watched: the untouched pass over these pairs with the mean states of
            :func:`matchlens.studies.circuits_options.checked_halves`' first half, where another
            study shares it; it is made where None.
        runner: runs the pairs; see :mod:`matchlens.runners`.

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
    >>> result = matchlens.query_key(matchlens.load("demo"), pairs, top=0, most_pairs=9)
    >>> result.array("query_mean").shape, len(result.to_frame("heads"))
    ((12, 384), 144)
    """
    started = time.perf_counter()
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

    table = tables_of.weight_table(layers, seed)
    seen = _watch(
        model, pairs, first, document, same_token, batch_tokens, progress, watched, runner
    )
    held = tempfile.TemporaryDirectory(prefix="matchlens-", dir=runner.scratch)
    options = {"biases": biases, "divided": divided}
    logits = mean_logits(layers, seen.means.query, seen.means.document, **options)
    table = table.assign(**tables_of.logit_columns(logits), **_colours(seen, second))
    if before is not None:
        table = table.assign(**tables_of.base_columns(table, before.layers))
    drawn = _resampled(layers, seen, second, seed, options)
    associations, said = tables_of.association_table(table, contrast, variant, seed, drawn)
    found = _hypothesis(model, seen.means, few, document, batch_tokens, progress, runner)
    shares, by_direction = tables_of.share_tables(found)
    tables = {
        "heads": table,
        "associations": associations,
        "shares": shares,
        "logits": by_direction,
    }
    looked_at = named or tables_of.most_aligned(table, variant, top)
    if looked_at:
        words = vocabulary(model)
        tables["matches"], tables["vocabulary"] = tables_of.match_tables(
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
    """What the pass over all pairs gave.

    Args:
        out: the run.
        means: the mean states, from the first half of the queries.
        values: quantity -> [pair, layer, head]: mass Q->D and D->Q, and the same-token share.
    """

    out: Run
    means: Means
    values: Mapping[str, Float[np.ndarray, "pair layer head"]]


def _base(base: Base | str | Path | None, layers: Sequence[QK]) -> Base | None:
    found = load_base(base) if isinstance(base, str | Path) else base
    if found is not None:
        ours, theirs = ((len(one), one[0].n_heads, one[0].width) for one in (layers, found.layers))
        check_shapes(ours, theirs, found.name)
    return found


def _watch(
    model: Reranker,
    pairs: PairSet,
    first: Classes,
    document: tuple[Part, ...],
    same_token: bool,
    batch_tokens: int | None,
    progress: Progress | None,
    watched: Watched | None,
    runner: Runner,
) -> _Seen:
    """The one pass of the untouched model over all pairs: attention mass and mean states."""
    names = ["mass", "same_token"] if same_token else ["mass"]
    if watched is None:
        watched = watch(
            model,
            pairs,
            names,
            means_of=first,
            document=document,
            batch_tokens=batch_tokens,
            progress=progress,
            runner=runner,
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
    """What depends on queries, in resamples of these: [resample, head], by its column.

    Each half of the queries is drawn by itself, as it is used by itself.
    """
    means = seen.means
    weights = tables_of.resamples_of([str(name[0]) for name in means.names], seed)  # type: ignore[index]
    logits = resampled_logits(layers, means.apart, weights, **options)
    drawn = {name: logits.contrast(name).reshape(len(weights), -1) for name in CONTRASTS}
    for name in READINGS:
        values = seen.values[name]
        by_class = class_means(values.reshape(len(values), -1), second)
        apart = by_class[:, CLASSES.index("relevant")] - by_class[:, CLASSES.index("easy")]
        kept = np.flatnonzero(~np.isnan(apart).any(1))
        weights = tables_of.resamples_of([second.collections[place] for place in kept], seed)
        drawn[name] = weights @ apart[kept]
    return drawn


def _hypothesis(
    model: Reranker,
    means: Means,
    few: PairSet,
    document: tuple[Part, ...],
    batch_tokens: int | None,
    progress: Progress | None,
    runner: Runner,
) -> Shares:
    """The second pass: the moments of the logits' terms over pairs of the second half."""
    measure = Logits(means.query, means.document, document)
    moments = measure.empty(model)
    runner(
        model,
        few.pairs,
        {"": []},
        batch_tokens=batch_tokens,
        progress=progress,
        asked=[MeasurementRequest(measure, logits_into(moments))],
    )
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
