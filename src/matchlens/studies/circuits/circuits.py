"""The query-key matrices of queries and documents (Figure 2), and the hypothesis."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from matchlens.arguments import typed
from matchlens.corpora import Pair, PairSet, thin
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.models.folder import ModelFolder, check_positions
from matchlens.parts import Part
from matchlens.results import Result
from matchlens.studies.attention.contrasts import (
    CLASSES,
    Classes,
    class_means,
    contrast_table,
    shared,
)
from matchlens.studies.attention.watching import Reader, Watched, watch
from matchlens.studies.circuits.tables import (
    COMPANIONS,
    CONTRASTS,
    CROSS,
    VARIANTS,
    Heads,
    Statement,
    association_table,
    base_columns,
    logit_columns,
    match_tables,
    most_aligned,
    resamples_of,
    share_tables,
    weight_table,
)
from matchlens.studies.common import (
    Execution,
    half_of,
    identity,
    pair_table,
    relevant_grade,
    run_options,
    truncation_note,
)
from matchlens.studies.cuts.measuring import score_table
from matchlens.studies.presets import COSTLY_PAIRS
from matchlens.studies.presets import preset as preset_of

if TYPE_CHECKING:
    from matchlens.engine import Progress, Run
    from matchlens.models.base import Base
    from matchlens.models.load import Reranker
    from matchlens.models.qk import QK
    from matchlens.qk import Means, Shares
    from matchlens.runners import Runner


COLOURING = "relevant-easy"
"""The contrast of attention mass that colours Figure 2."""
RESAMPLED = "contrast_resampled"
"""The array that holds the contrast QD-DD in resamples of the queries."""
TOP = 6
"""Heads whose vocabulary is searched, where none is named."""
MATCHES = 50
"""Token pairs kept for each head."""


def checked(contrast: str, variant: str, top: int, matches: int) -> None:
    """Check the study's own options."""
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
    names: Iterable[str | tuple[int, int]] | None, layers: int | None = None, heads: int = 0
) -> Heads | None:
    """Heads named as ``layer.head``, several with commas between them, each once.

    >>> named_heads(["8.1,4.9", (0, 3)])
    ((8, 1), (4, 9), (0, 3))
    """
    if names is None:
        return None
    parsed: list[tuple[int, int]] = []
    for name in names:
        listed = name if isinstance(name, str) else f"{name[0]}.{name[1]}"
        for text in listed.split(","):  # one by one, since a cut's heads are sorted
            try:
                cut = Cut.parse(f"Q->D#{text}")
            except InputError:
                raise InputError(f"head {listed!r}: expected layer.head, as in '8.1,4.9'") from None
            if layers is not None:
                cut.check(layers, heads)
            parsed += [(int(layer), int(head)) for layer, head in cut.heads or ()]
    if not parsed:
        raise InputError("no head is named; expected at least one as layer.head, as in '8.1,4.9'")
    return tuple(dict.fromkeys(parsed))


def document_parts(preset: str) -> tuple[Part, ...]:
    """The parts whose tokens are the document's: the ``authors`` preset counts SEP2 among them.

    Source: science 8.
    """
    return (Part.D, Part.SEP2) if preset == "authors" else (Part.D,)


def checked_halves(pairs: Sequence[Pair], rel: int, seed: int) -> tuple[Classes, Classes]:
    """The classes of both halves of the queries: half 0 gives the means, half 1 the colours."""
    classes = Classes.of(pairs, rel)
    classes.check([COLOURING])
    first, second = (classes.half(which, seed) for which in (0, 1))
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
    """Check that a second model has the shape of the first, and no rotary positions."""
    check_positions(base)
    shapes = [(*each.shape, each.config.hidden_size) for each in (folder, base)]
    check_shapes(shapes[0], shapes[1], base.name)


def check_shapes(shape: tuple[object, ...], base_shape: tuple[object, ...], name: str) -> None:
    """Check that two shapes (layers, heads, width) are equal."""
    if shape != base_shape:
        wanted, came = (" x ".join(map(str, each)) for each in (shape, base_shape))
        raise InputError(
            f"base model {name!r} has {came} (layers x heads x width), the model {wanted}; "
            "expected the model before it was fine-tuned, which has the same shape"
        )


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
        top: how many of the most aligned heads are searched for in the vocabulary; 0: none.
        heads: these heads instead, as ``layer.head`` or (layer, head).
        matches: token pairs kept for each of them.
        same_token: whether the heads' same-token share in context (Q->D) is measured, too; this
            makes the pass slower.
        most_pairs: at most so many pairs for the hypothesis; all of the half where None.
        preset: ``default``, ``paper``, or ``authors``, whose document has its SEP2.
        watched: the untouched pass over these pairs with the mean states of
            :func:`matchlens.studies.circuits.circuits.checked_halves`' first half, where another
            study shares it; it is run where None.

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
            model has another shape, or the model normalises queries and keys behind their
            weights.

    With rotary positions the weights are turned by distance: each number is the mean over the
    distances that occur, and ``heads`` has its standard deviation over these (``alignment_spread``,
    ``QD_spread`` and so on); the hypothesis and the vocabulary are left out.

    Source: science 5; Vast et al. 2025, Figure 2.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=6, per_grade=1, easy=1)
    >>> result = matchlens.circuits(matchlens.load("demo"), pairs, top=0, most_pairs=9)
    >>> result.array("query_mean").shape, len(result.to_frame("heads"))
    ((12, 384), 144)
    """
    from matchlens.models.words import vocabulary
    from matchlens.qk import mean_logits

    started = time.perf_counter()
    execution = Execution(model, batch_tokens, progress, runner)
    chosen = preset_of(preset)
    checked(contrast, variant, top, matches)
    family = model.family
    named = named_heads(heads, family.n_layers, family.n_heads)
    family.qk(0)  # raises where a model has no such matrices, before anything runs
    table_shape = (family.n_layers, family.n_heads)
    rel = relevant_grade(pairs, rel)
    first, second = checked_halves(pairs.pairs, rel, seed)
    few = other_half(pairs, seed, most_pairs)
    document = document_parts(chosen.name)
    statement = Statement.of(
        model, [pairs.pairs[row] for row in np.flatnonzero(first.of_pair >= 0)], document
    )
    layers = statement.layers
    before = _base(base, layers)
    notes = statement.notes
    if not statement.possible(contrast) and statement.possible(COMPANIONS[contrast]):
        notes.append(f"contrast {COMPANIONS[contrast]} in the place of {contrast}, which is absent")
        contrast = COMPANIONS[contrast]

    table = weight_table(layers, seed)
    passed = _watch(execution, pairs, first, document, same_token, watched)
    folder = execution.temporary_folder()
    options = {"biases": biases, "divided": divided}
    query, mean_document = passed.means.query, passed.means.document
    logits = statement.logits(lambda each: mean_logits(each, query, mean_document, **options))
    table = table.assign(**logit_columns(logits), **_colours(passed, second))
    table = table.assign(**statement.spreads(query, mean_document, biases))
    if before is not None:
        table = table.assign(**base_columns(table, before.layers))
    drawn = _resampled(statement, passed, second, seed, options)
    associations, uncorrelated = association_table(table, contrast, variant, seed, drawn)
    notes += uncorrelated
    tables = {"heads": table, "associations": associations}
    looked_at = named or most_aligned(table, variant, top)
    if not statement.reading:
        shares = _hypothesis(execution, passed.means, few, document)
        tables["shares"], tables["logits"] = share_tables(shares)
    if looked_at and not statement.reading:
        words = vocabulary(model)
        tables["matches"], tables["vocabulary"] = match_tables(
            layers, looked_at, words, matches, biases=biases
        )
        notes.append(
            f"{words.left_out} tokens of the vocabulary that are special, unused or without an "
            "embedding were left out; static embeddings stand for the tokens in every layer"
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
            **({"distances_of": statement.reading} if statement.reading else {}),
            "pairs_of_hypothesis": 0 if statement.reading else len(few.pairs),
            "queries_of_means": passed.means.queries,
            "queries_of_colours": _queries(second),
            "seed": seed,
            **run_options(model, passed.out),
        },
        notes=(
            *pairs.notes,
            *model.notes,
            *_notes(passed, second, None if statement.reading else few),
            *sorted({qk.beside for qk in layers} - {""}),
            *notes,
        ),
        pairs=pair_table(pairs.pairs, passed.out.tokens, passed.out.truncated, seed),
        scores=score_table(passed.out, range(len(pairs.pairs))),
        tables=tables,
        log=(
            f"{NAME}: {len(pairs.pairs)} pairs, then {len(few.pairs)}: "
            f"{time.perf_counter() - started:.1f} s",
        ),
        arrays=_saved(passed.means, drawn["QD-DD"].reshape(-1, *table_shape), Path(folder.name)),
        held=folder,
    )


@dataclass(frozen=True)
class _Pass:
    """The numbers of the pass over all pairs."""

    out: Run
    means: Means
    values: Mapping[str, Float[np.ndarray, "pair layer head"]]


def _base(base: Base | str | Path | None, layers: Sequence[QK]) -> Base | None:
    from matchlens.models.base import load_base

    loaded = load_base(base) if isinstance(base, str | Path) else base
    if loaded is not None:
        shapes = [(len(qk), qk[0].n_heads, qk[0].width) for qk in (layers, loaded.layers)]
        check_shapes(shapes[0], shapes[1], loaded.name)
    return loaded


def _watch(
    execution: Execution,
    pairs: PairSet,
    first: Classes,
    document: tuple[Part, ...],
    same_token: bool,
    watched: Watched | None,
) -> _Pass:
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
    return _Pass(watched.out, watched.means, values)


def _colours(passed: _Pass, second: Classes) -> dict[str, np.ndarray]:
    """Figure 1b's differences on the second half of the queries, a value for each head."""
    columns: dict[str, np.ndarray] = {}
    for name in READINGS:
        table = contrast_table(passed.values[name], second, COLOURING)
        columns[name] = table["diff"].to_numpy()
        columns |= {f"{name}_{key}": table[key].to_numpy() for key in ("p", "q", "auc")}
    if "same_token" in passed.values:
        inside = second.of_pair >= 0
        mass, share = passed.values["mass_QD"][inside], passed.values["same_token"][inside]
        columns["same_token_QD"] = shared(mass, share)
    return columns


def _resampled(
    statement: Statement, passed: _Pass, second: Classes, seed: int, options: Mapping[str, bool]
) -> dict[str, np.ndarray]:
    """The columns that depend on queries, in resamples of these: [resample, head]."""
    from matchlens.qk import resampled_logits

    # Each half of the queries is drawn by itself, as it is used by itself.
    means = passed.means
    weights = resamples_of([str(name[0]) for name in means.names], seed)  # type: ignore[index]
    logits = statement.logits(lambda each: resampled_logits(each, means.apart, weights, **options))
    drawn = {name: logits.contrast(name).reshape(len(weights), -1) for name in CONTRASTS}
    for name in READINGS:
        values = passed.values[name]
        by_class = class_means(values.reshape(len(values), -1), second)
        apart = by_class[:, CLASSES.index("relevant")] - by_class[:, CLASSES.index("easy")]
        kept = np.flatnonzero(~np.isnan(apart).any(1))
        weights = resamples_of([second.collections[place] for place in kept], seed, half=1)
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


def _notes(passed: _Pass, second: Classes, few: PairSet | None) -> list[str]:
    shares = "" if few is None else f"; shares of variance from {len(few.pairs)} pairs of those"
    sources = (
        f"mean states from {passed.means.queries} queries, differences of attention from "
        f"{_queries(second)} others{shares}"
    )
    return [sources, *truncation_note(passed.out)]


_MOVED = (
    *("Association", "Crossed", "Hypothesis", "Matches", "MeanLogits", "MeanStates", "Means"),
    *("Null", "RotationNull", "Shares", "Triplets", "alignment", "crossed", "gaussian_null"),
    *("mean_logits", "resampled_logits", "rotation_null", "spearman"),
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
