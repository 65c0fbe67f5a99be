"""What a set of conditions will cost, said before anything runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from matchlens.corpora import PairSet
from matchlens.directions import Cut
from matchlens.models.folder import ModelFolder
from matchlens.plan import Condition, Plan
from matchlens.studies.presets import preset as preset_of

TOKENS_A_WORD = 1.35
BATCH_TOKENS = 1024
METER_COSTS = {
    "mass": "5 value columns a head in the same attention call",
    "norm_mass": "5 value columns a head more, and the values' lengths",
    "same_token": "looks at one layer's weights at a time",
    "same_stem": "looks at one layer's weights at a time, and tokenizes every pair once more; "
    "with it the masses that tell kinds of heads",
    "peak": "looks at one layer's weights at a time",
    "entropy": "looks at one layer's weights at a time",
}
"""What each meter adds to the untouched pass."""
SHARE_OF_PEAK = 0.9
"""What a layer reaches of the rate of numpy's matrix product, which is known before torch is
loaded: .75 where that product uses the whole vector unit, 1.4 where it knows half of it. A round
figure between the two."""


def cost(conditions: Mapping[str, Condition], folder: ModelFolder, pairs: PairSet) -> str:
    """Layer passes with and without sharing, operations, time and memory, in words.

    Args:
        conditions: those of the study, the untouched model among them.
        folder: the model, not loaded: its shape is enough.
        pairs: the pairs; tokens are estimated from words.

    Returns:
        Lines of text. Time is a rough estimate for this machine's CPU, from a matrix product
        measured now.
    """
    work = Work.of(conditions, folder, pairs)
    shared = work.passes / work.unshared
    return "\n".join(
        [
            f"{work.conditions} conditions (the untouched model among them), "
            f"{work.pairs} pairs, about {work.tokens:.0f} tokens a pair",
            f"layer passes a pair: {work.passes} ({work.unshared} without sharing: "
            f"{shared:.0%} of the work is left)",
            f"operations: about {work.operations / 1e12:.1f} TFLOP",
            f"time: about {in_words(work.operations / rate())} on this CPU (a rough estimate)",
            f"memory: about {memory(folder):.1f} GiB, whatever the number of pairs",
        ]
    )


@dataclass(frozen=True)
class Work:
    """What running conditions on pairs amounts to.

    Args:
        conditions: their number.
        pairs: number of pairs.
        passes: layer passes a pair, what conditions share counted once.
        unshared: layer passes a pair with one forward pass a condition.
        tokens: mean tokens a pair, estimated from words.
        operations: floating-point operations in all.
    """

    conditions: int
    pairs: int
    passes: int
    unshared: int
    tokens: float
    operations: float

    @classmethod
    def of(cls, conditions: Mapping[str, Condition], folder: ModelFolder, pairs: PairSet) -> Work:
        """The work of conditions, from the model's shape alone."""
        plan = Plan.build(conditions, *folder.shape)
        tokens = token_counts(folder, pairs)
        operations = layer_operations(folder, tokens) * plan.passes
        number = len(plan.conditions)
        return cls(
            number,
            len(pairs.pairs),
            plan.passes,
            plan.passes_unshared,
            float(tokens.mean()),
            operations,
        )


def token_counts(folder: ModelFolder, pairs: PairSet) -> np.ndarray:
    """Tokens of each pair, estimated from its words; the tokenizer's own limit is not known yet."""
    words = np.array([len(pair.query.split()) + len(pair.text.split()) for pair in pairs.pairs])
    return np.minimum(words * TOKENS_A_WORD + 3, folder.places)


def layer_operations(folder: ModelFolder, tokens: np.ndarray) -> float:
    """Floating-point operations of one layer over pairs of these lengths."""
    wide, inner = _width(folder), _inner(folder)
    each = 2 * tokens * (4 * wide**2 + 2 * wide * inner) + 4 * tokens**2 * wide
    return float(each.sum())


def memory(folder: ModelFolder) -> float:
    """GiB of memory that a run takes, whatever the number of pairs; a rough estimate."""
    layers, _ = folder.shape
    wide, inner = _width(folder), _inner(folder)
    states = layers * BATCH_TOKENS * wide * 4
    # twice: the library's weights, and packed ones beside them
    weights = 2 * layers * (4 * wide**2 + 2 * wide * inner) * 4
    words = _size(folder, "vocab_size") * wide * 4
    return (weights + words + 6 * states) / 2**30 + 0.5


def meters_cost(names: Sequence[str], folder: ModelFolder, pairs: PairSet) -> str:
    """What an attention study costs: the untouched pass, and what its meters add.

    Args:
        names: the meters.
        folder: the model, not loaded.
        pairs: the pairs.
    """
    layers, heads = folder.shape
    number = len(pairs.pairs)
    lines = [cost({"": []}, folder, pairs)]
    for name in names:
        size = number * layers * heads * 25 * 4 / 2**20
        lines.append(f"{name}: {METER_COSTS[name]}; {size:.1f} MiB on disk")
    lines.append("then each matching head and 100 random sets of heads are cut (see sweep heads)")
    return "\n".join(lines)


def circuits_cost(
    folder: ModelFolder, pairs: PairSet, few: PairSet, *, same_token: bool, heads: int
) -> str:
    """What a circuits study costs: the untouched pass, the hypothesis' pass, the vocabulary.

    Args:
        folder: the model, not loaded.
        pairs: the pairs.
        few: those of the hypothesis.
        same_token: whether the same-token share in context is measured, too.
        heads: how many heads are looked at in the vocabulary.
    """
    layers, number = folder.shape
    names = ("mass", "same_token") if same_token else ("mass",)
    lines = [cost({"": []}, folder, pairs)]
    for name in names:
        size = len(pairs.pairs) * layers * number * 25 * 4 / 2**20
        lines.append(f"{name}: {METER_COSTS[name]}; {size:.1f} MiB on disk while it runs")
    lines.append("mean states: a mean over each pair's tokens and layer in the same pass")
    lines.append(f"hypothesis: a second pass over {len(few.pairs)} pairs of the other half")
    tokens = _size(folder, "vocab_size")
    lines.append(
        f"vocabulary: {tokens} x {tokens} logits for {heads} heads, "
        f"{vocabulary_operations(folder, heads) / 1e12:.1f} TFLOP in float64"
    )
    return "\n".join(lines)


def vocabulary_operations(folder: ModelFolder, heads: int) -> float:
    """Operations of looking at the whole vocabulary through some heads."""
    _, number = folder.shape
    return 2.0 * _size(folder, "vocab_size") ** 2 * (_width(folder) // number) * heads


def looks_cost(
    folder: ModelFolder,
    pairs: PairSet,
    rows: Sequence[int],
    cuts: Sequence[str] | None,
    preset: str,
) -> str:
    """What looking into pairs costs where no stored scores are at hand.

    Args:
        folder: the model, not loaded.
        pairs: all pairs.
        rows: the candidates that are scored under the cuts.
        cuts: the cuts; the preset's where None.
        preset: its name.
    """
    mine = replace(pairs, pairs=tuple(pairs.pairs[row] for row in rows))
    names = cuts or preset_of(preset).cuts
    conditions = {"": [], **{name: [Cut.parse(name)] for name in names}}
    said = "then the untouched model once more on the pairs to look into, weights looked at"
    return f"{cost(conditions, folder, mine)}\n{said}"


def _size(folder: ModelFolder, key: str) -> int:
    value = getattr(folder.config, key, None)
    return value if isinstance(value, int) else 0


def _width(folder: ModelFolder) -> int:
    return _size(folder, "hidden_size") or _size(folder, "dim")


def _inner(folder: ModelFolder) -> int:
    return _size(folder, "intermediate_size") or _size(folder, "hidden_dim")


@cache
def rate() -> float:
    """Operations a second that a layer reaches here, from a matrix product measured now."""
    a, b = np.ones((1024, 512), np.float32), np.ones((512, 1024), np.float32)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        _ = a @ b
        seconds.append(time.perf_counter() - start)
    return SHARE_OF_PEAK * 2 * 1024 * 512 * 1024 / min(seconds)


def in_words(seconds: float) -> str:
    """A time as a person says it.

    >>> in_words(30.2), in_words(600), in_words(20000)
    ('30 s', '10 minutes', '5.6 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
