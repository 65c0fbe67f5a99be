"""What a set of conditions will cost, said before anything runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from matchlens.corpora import PairSet
from matchlens.directions import Cut
from matchlens.models.folder import ModelFolder
from matchlens.plan import Condition, Plan
from matchlens.studies.presets import preset as preset_of

TOKENS_A_WORD = 1.35
METER_COSTS = {
    "mass": "5 value columns a head in the same attention call",
    "norm_mass": "5 value columns a head more, and the values' lengths",
    "same_token": "looks at one layer's weights at a time",
    "peak": "looks at one layer's weights at a time",
    "entropy": "looks at one layer's weights at a time",
}
"""What each meter adds to the untouched pass."""
SHARE_OF_PEAK = 0.6
"""Share of the machine's matrix product rate that a layer reaches; a round figure."""


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
    layers, heads = folder.shape
    plan = Plan.build(conditions, layers, heads)
    limit = folder.limit(None)
    words = np.array([len(pair.query.split()) + len(pair.text.split()) for pair in pairs.pairs])
    tokens = np.minimum(words * TOKENS_A_WORD + 3, limit)
    wide, inner = _size(folder, "hidden_size"), _size(folder, "intermediate_size")
    per_layer = 2 * tokens * (4 * wide**2 + 2 * wide * inner) + 4 * tokens**2 * wide
    operations = float(per_layer.sum()) * plan.passes
    rate = _rate() * SHARE_OF_PEAK
    states = layers * 2048 * wide * 4
    weights = layers * (4 * wide**2 + 2 * wide * inner) * 4 + _size(folder, "vocab_size") * wide * 4
    shared = plan.passes / plan.passes_unshared
    return "\n".join(
        [
            f"{len(plan.conditions)} conditions (the untouched model among them), "
            f"{len(pairs.pairs)} pairs, about {tokens.mean():.0f} tokens a pair",
            f"layer passes a pair: {plan.passes} ({plan.passes_unshared} without sharing: "
            f"{shared:.0%} of the work is left)",
            f"operations: about {operations / 1e12:.1f} TFLOP",
            f"time: about {_time(operations / rate)} on this CPU (a rough estimate)",
            f"memory: about {(weights + 2 * states) / 2**30 + 0.5:.1f} GiB, whatever the number "
            "of pairs",
        ]
    )


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
    wide = _size(folder, "hidden_size") or _size(folder, "dim")
    operations = 2.0 * tokens**2 * (wide // number) * heads
    lines.append(
        f"vocabulary: {tokens} x {tokens} logits for {heads} heads, {operations / 1e12:.1f} TFLOP "
        "in float64"
    )
    return "\n".join(lines)


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
    value = folder.config.get(key)
    return value if isinstance(value, int) else 0


def _rate() -> float:
    """Operations a second of a float32 matrix product, measured for a moment."""
    a, b = np.ones((1024, 512), np.float32), np.ones((512, 1024), np.float32)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        _ = a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * 1024 * 512 * 1024 / min(seconds)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
