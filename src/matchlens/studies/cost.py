"""What a study will cost, estimated before anything runs."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from matchlens.corpora import EASY_GRADE, PairSet, thin
from matchlens.corpora.own import own_parts
from matchlens.errors import InputError, counted
from matchlens.models.folder import ModelFolder, smallest
from matchlens.plan import Condition, Plan, bound, single_cuts
from matchlens.studies.circuits.circuits import TOP
from matchlens.studies.claims.evidence import further
from matchlens.studies.cuts.head_sets import RANDOM_SETS
from matchlens.studies.presets import CHECK_PAIRS, LARGEST, table1
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.sizes import CHECKED, REDRAWN, SCREENED, Size
from matchlens.studies.study import study_conditions, sweeps

TOKENS_A_WORD = 1.35
UNSPACED = re.compile("[\u0e00-\u109f\u2e80-\U0010ffff]")
"""Letters of scripts that put no spaces between words: Thai to Burmese, Chinese, Japanese."""
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
    """Layer passes with and without sharing, operations, time and memory, in words."""
    work = Work.of(conditions, folder, pairs)
    return (
        f"{work.conditions} conditions (the untouched model among them), "
        f"{counted(work.pairs, 'pair')}, about {work.tokens:.0f} tokens a pair\n"
        f"layer passes a pair: {work.passes} ({work.unshared} without sharing: "
        f"{work.passes / work.unshared:.0%} of the work is left)\n"
        f"operations: about {work.operations / 1e12:.1f} TFLOP\n"
        f"time: about {in_words(work.operations / rate())} on this CPU (a rough estimate)\n"
        f"memory: about {memory(folder):.1f} GiB, and the pairs' texts and scores"
    )


@dataclass(frozen=True)
class Work:
    """What running conditions on pairs amounts to.

    Layer passes are for each pair, ``unshared`` with a forward pass for each condition; operations
    are floating-point ones in all; tokens are the mean, estimated from words.
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
        plan = Plan.build(bound(conditions, own_parts(pairs.pairs)), *folder.shape)
        tokens = token_counts(folder, pairs)
        operations = layer_operations(folder, tokens) * plan.passes
        sizes = len(plan.conditions), len(pairs.pairs), plan.passes, plan.passes_unshared
        return cls(*sizes, float(tokens.mean()), operations)


def token_counts(folder: ModelFolder, pairs: PairSet) -> np.ndarray:
    """Tokens of each pair, estimated from its words, within the limits that are known by now."""
    stated = folder.stated[0] if folder.stated else (None, "")  # not before the tokenizer is read
    most, _ = smallest(folder.limits(stated, folder.asked))
    texts = [(pair.query, pair.text) for pair in pairs.pairs]
    return np.minimum([sum(map(_tokens, both)) + 3 for both in texts], most)


def _tokens(text: str) -> float:
    """A rough number of tokens; in scripts without spaces one for each character."""
    unspaced = 0 if text.isascii() else len(UNSPACED.findall(text))
    return len(text.split()) * TOKENS_A_WORD + unspaced


def layer_operations(folder: ModelFolder, tokens: np.ndarray) -> float:
    """Floating-point operations of one layer over pairs of these lengths."""
    wide, inner = _width(folder), _inner(folder)
    each = 2 * tokens * (4 * wide**2 + 2 * wide * inner) + 4 * tokens**2 * wide
    return float(each.sum())


def memory(folder: ModelFolder) -> float:
    """GiB of memory that a run takes beside its pairs' texts and scores; a rough estimate."""
    layers, _ = folder.shape
    wide, inner = _width(folder), _inner(folder)
    states = layers * BATCH_TOKENS * wide * 4
    # twice: the library's weights, and packed ones beside them
    weights = 2 * layers * (4 * wide**2 + 2 * wide * inner) * 4
    words = _size(folder, "vocab_size") * wide * 4
    return (weights + words + 6 * states) / 2**30 + 0.5


def screen_cost(
    folder: ModelFolder, pairs: PairSet, others: int, most: int | None, seed: int
) -> str:
    """What a screen costs: its pass over the pairs, and the exact cuts that check it."""
    from matchlens.studies.cuts.cut_study import Settings, pairs_run

    used, _ = pairs_run(pairs, Settings(seed=seed, most_pairs=most))
    few, _ = pairs_run(used, Settings(seed=seed, most_pairs=CHECK_PAIRS))
    layers, heads = folder.shape
    directions = [cut for cut in table1() if not cut.endswith("All")]
    gates = (
        f"{directions[at // (layers * heads) % len(directions)]}#{at % layers}"
        f".{at // layers % heads}"
        for at in range(LARGEST + others)
    )
    exact = cost(single_cuts(dict.fromkeys(gates)), folder, few)
    return f"{slopes_cost(folder, used)}\nthe exact cuts that check it:\n{exact}"


def slopes_cost(folder: ModelFolder, used: PairSet) -> str:
    """What the derivatives of the scores cost."""
    layers, _ = folder.shape
    number = counted(len(used.pairs), "pair")
    return f"the screen: {number}, about {3 * layers} layer passes a pair"


def meters_cost(
    names: Sequence[str],
    folder: ModelFolder,
    pairs: PairSet,
    random: int | None = None,
    most: int | None = None,
) -> str:
    """What an attention study costs: the untouched pass, and what its meters add.

    Args:
        names: the meters.
        folder: the model's folder.
        pairs: the chosen pairs.
        random: random sets of heads that are cut beside the matching heads; None where no cuts are.
        most: pairs that are cut, at most; None for all of one half of the queries.
    """
    untouched = _untouched_cost(names, folder, pairs, "on disk")
    if random is None:
        return untouched
    cut_on = "all pairs" if most is None else f"at most {counted(most, 'pair')}"
    return (
        f"{untouched}\nthen each matching head and {random} random sets of heads are cut on "
        f"{cut_on} of half of the queries (see sweep heads)"
    )


def circuits_cost(
    folder: ModelFolder, pairs: PairSet, few: PairSet, same_token: bool, heads: int
) -> str:
    """What a circuits study costs: the untouched pass, the hypothesis' pass, the vocabulary."""
    names = ("mass", "same_token") if same_token else ("mass",)
    tokens = _size(folder, "vocab_size")
    operations = vocabulary_operations(folder, heads) / 1e12
    return (
        f"{_untouched_cost(names, folder, pairs, 'on disk while it runs')}\n"
        "mean states: a mean over each pair's tokens and layer in the same pass\n"
        f"hypothesis: a second pass over {len(few.pairs)} pairs of the other half\n"
        f"vocabulary: {tokens} x {tokens} logits for {heads} heads, {operations:.1f} TFLOP in "
        "float64"
    )


def _untouched_cost(names: Sequence[str], folder: ModelFolder, pairs: PairSet, where: str) -> str:
    size = _meter_mebibytes(folder, pairs)
    lines = [f"{name}: {METER_COSTS[name]}; {size:.1f} MiB {where}" for name in names]
    return "\n".join([cost({"": []}, folder, pairs), *lines])


def _meter_mebibytes(folder: ModelFolder, pairs: PairSet) -> float:
    return len(pairs.pairs) * math.prod(folder.shape) * 25 * 4 / 2**20


def vocabulary_operations(folder: ModelFolder, heads: int) -> float:
    """Operations of a search of the whole vocabulary through some heads."""
    _, number = folder.shape
    return 2.0 * _size(folder, "vocab_size") ** 2 * (_width(folder) // number) * heads


def looks_cost(
    folder: ModelFolder, pairs: PairSet, rows: Sequence[int], conditions: Mapping[str, Condition]
) -> str:
    """What a look into pairs costs; without conditions where their scores are stored."""
    if not conditions:
        look = cost({"": []}, folder, replace(pairs, pairs=tuple(pairs.pairs[at] for at in rows)))
        return f"the scores under cuts are stored, and no cut is made\n{look}"
    chosen = replace(pairs, pairs=tuple(pairs.pairs[row] for row in rows))
    last = "then the untouched model once more on the pairs to look into, weights looked at"
    return f"{cost(conditions, folder, chosen)}\n{last}"


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
    """A time in words.

    >>> in_words(30.2), in_words(600), in_words(20000)
    ('30 s', '10 minutes', '5.6 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


METERS = 1.5
"""What the untouched pass with all meters costs over plain scoring (measured)."""
SCREEN, SCREEN_CUTS, SCREEN_PAIRS = 3.0, 45, 100
"""What the screen costs over plain scoring at most, and the single heads that are cut to check it,
on so many pairs."""
EDGES = 2.0
"""What a layer with random edges costs over one that cuts a direction; a round figure."""
MATCHING = 1 / 3
"""Share of the heads that is taken to match in each direction; a round figure."""
DIRECTIONS = 2
FLOAT64 = 2.0


CUT_WORDS = {
    "ablation": "Table 1",
    "evidence": "cuts for the claims",
    "sweep": "Figure 1a",
    "heads": "every head alone",
    "controls": "random edges",
}


class Stage(NamedTuple):
    """A part of a whole study: layer passes for each pair, floating-point operations in all."""

    name: str
    pairs: int
    passes: float
    operations: float


@dataclass(frozen=True)
class WholeWork:
    """The work of a whole study: of its parts, by name, in a size and preset."""

    names: Sequence[str]
    size: Size
    preset: str
    folder: ModelFolder
    pairs: PairSet
    redraws: Sequence[PairSet] = ()

    def in_words(self) -> str:
        """Operations, time and memory, stage by stage; how many heads match is a guess."""
        stages = list(self.stages())
        lines = [
            f"{stage.name}: {stage.pairs} pairs, {stage.passes:.0f} layer passes a pair, "
            f"{stage.operations / 1e12:.1f} TFLOP, about {in_words(stage.operations / rate())}"
            for stage in stages
        ]
        total = sum(stage.operations for stage in stages)
        meters = len(preset_of(self.preset).meters) if "attention" in self.names else 1
        disk = _meter_mebibytes(self.folder, self.pairs) * meters
        lines += [
            f"in all: {total / 1e12:.1f} TFLOP, about {in_words(total / rate())} on this CPU "
            "(a rough estimate)",
            f"memory: about {memory(self.folder):.1f} GiB, and the pairs' texts and scores; "
            f"{disk:.0f} MiB of meters on disk",
        ]
        return "\n".join(lines)

    def progress_parts(self) -> list[tuple[str, float]]:
        """The parts as the study's progress names them, in order, each with its operations.

        Studies that cut the same pairs share one run, which is the first one's.
        """
        kinds = [kind.replace("-", " ") for kind, _ in sweeps(self.size, preset_of(self.preset))]
        labels = {
            "Figure 1a": [f"cut {kind} each layer" for kind in kinds],
            "attention and mean states": ["attention"],
            "matching heads cut": ["matching heads, cut"],
            CHECKED: [SCREENED],
        }
        parts: list[tuple[str, float]] = []
        first: dict[int, int] = {}
        """By number of pairs, the place of the part that runs all cuts on these."""
        for stage in self.stages():
            operations = stage.operations
            cuts = stage.name in CUT_WORDS.values()
            if cuts and (place := first.setdefault(stage.pairs, len(parts))) < len(parts):
                parts[place] = parts[place][0], parts[place][1] + operations
                operations = 0.0
            name, *others = labels.get(stage.name, [stage.name])
            parts += [(name, operations), *((other, 0.0) for other in others)]
        return parts

    def stages(self) -> Iterator[Stage]:
        """The passes over the pairs, in order."""
        folder, pairs, size = self.folder, self.pairs, self.size
        chosen, (layers, heads) = preset_of(self.preset, folder.decodes), folder.shape
        ranked = sum(pair.grade != EASY_GRADE for pair in pairs.pairs)
        few, _ = thin(pairs, min(size.pairs or ranked, ranked))

        def cut(
            name: str, conditions: dict[str, Condition], used: PairSet, factor: float = 1.0
        ) -> Stage:
            work = Work.of(conditions, folder, used)
            return Stage(name, work.pairs, work.passes * factor, work.operations * factor)

        def untouched(name: str, used: PairSet, passes: float) -> Stage:
            operations = layer_operations(folder, token_counts(folder, used)) * passes
            return Stage(name, len(used.pairs), passes, operations)

        for name, words in CUT_WORDS.items():
            if name in self.names:
                conditions, most = study_conditions(name, size, chosen, layers, heads)
                used, _ = thin(pairs, min(most or ranked, ranked))
                yield cut(words, conditions, used, EDGES if name == "controls" else 1.0)
                if name == "evidence" and (new := further(pairs, self.redraws)[1]):
                    yield cut(REDRAWN, conditions, replace(pairs, pairs=tuple(new)))
        if "screen" in self.names:
            checks = SCREEN_CUTS * min(1.0, SCREEN_PAIRS / max(1, len(few.pairs))) * layers / 2
            yield untouched(SCREENED, few, SCREEN * layers)
            yield untouched(CHECKED, few, checks)
        if {"attention", "circuits"} & set(self.names):
            yield untouched("attention and mean states", pairs, METERS * layers)
        if "attention" in self.names and size.causal:
            half, used = max(1, ranked // 2), thin(pairs, ranked)[0]
            with suppress(InputError):  # half of one query's pairs: the study splits by queries
                used, _ = thin(used, min(size.causal_pairs or half, half))
            alone = MATCHING * layers * heads * layers / 2
            passes = DIRECTIONS * (alone + (RANDOM_SETS + 1) * layers * 0.85)
            yield untouched("matching heads cut", used, passes)
        if "circuits" in self.names:
            yield untouched("terms of the logits", few, FLOAT64 * METERS * layers)
            yield Stage("vocabulary", 0, 0.0, FLOAT64 * vocabulary_operations(folder, TOP))
        if "looking" in self.names:
            yield untouched("pairs to look into", few, METERS)
