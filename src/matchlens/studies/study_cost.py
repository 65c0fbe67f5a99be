"""What a whole study will cost, said before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from matchlens.corpora import EASY_GRADE, PairSet, thin
from matchlens.models.folder import ModelFolder
from matchlens.plan import Condition
from matchlens.studies.asked import asked, sweeps
from matchlens.studies.circuits_options import TOP
from matchlens.studies.cost import (
    Work,
    in_words,
    layer_operations,
    memory,
    rate,
    token_counts,
    vocabulary_operations,
)
from matchlens.studies.evidence import further
from matchlens.studies.head_set_points import RANDOM_SETS
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.sizes import REDRAWN, Size

METERS = 1.5
"""What the untouched pass with all meters costs over plain scoring (measured)."""
EDGES = 2.0
"""What a layer with random edges costs over one that cuts a direction; a round figure."""
MATCHING = 1 / 3
"""Share of the heads that is taken to match in each direction; a round figure."""
DIRECTIONS = 2
FLOAT64 = 2.0


def study_cost(
    names: Sequence[str],
    size: Size,
    preset: str,
    folder: ModelFolder,
    pairs: PairSet,
    redraws: Sequence[PairSet] = (),
) -> str:
    """Operations, time and memory of a whole study, part by part, in words.

    Args:
        names: the studies that are run.
        size: how much is run.
        preset: the preset's name.
        folder: the model, not loaded: its shape is enough.
        pairs: all pairs, easy negatives among them.
        redraws: other draws of the sample, for the claims.

    Returns:
        Lines of text. Times are rough estimates for this machine's CPU, from a matrix product
        measured now; how many heads match is not known before.
    """
    parts = list(_parts(names, size, preset, folder, pairs, redraws))
    lines = [
        f"{what}: {number} pairs, {passes:.0f} layer passes a pair, "
        f"{operations / 1e12:.1f} TFLOP, about {in_words(operations / rate())}"
        for what, number, passes, operations in parts
    ]
    total = sum(operations for *_, operations in parts)
    layers, heads = folder.shape
    meters = len(preset_of(preset).meters) if "attention" in names else 1
    disk = len(pairs.pairs) * layers * heads * 25 * 4 * meters / 2**20
    return "\n".join(
        [
            *lines,
            f"in all: {total / 1e12:.1f} TFLOP, about {in_words(total / rate())} on this CPU "
            "(a rough estimate)",
            f"memory: about {memory(folder):.1f} GiB, whatever the number of pairs; "
            f"{disk:.0f} MiB of meters on disk",
        ]
    )


def stage_work(
    names: Sequence[str],
    size: Size,
    preset: str,
    folder: ModelFolder,
    pairs: PairSet,
    redraws: Sequence[PairSet] = (),
) -> list[tuple[str, float]]:
    """The stages of a whole study as its progress names them, in order, each with its operations.

    Studies that cut the same pairs share one run, which is the first one's.

    Args:
        names: the studies that are run.
        size: how much is run.
        preset: the preset's name.
        folder: the model, not loaded.
        pairs: all pairs.
        redraws: other draws of the sample, for the claims.
    """
    kinds = [
        f"cut {kind.replace('-', ' ')} each layer" for kind, _ in sweeps(size, preset_of(preset))
    ]
    stages = {
        "Figure 1a": kinds,
        "attention and mean states": ["attention"],
        "matching heads cut": ["matching heads, cut"],
    }
    out: list[tuple[str, float]] = []
    first: dict[int, int] = {}
    for what, number, _, operations in _parts(names, size, preset, folder, pairs, redraws):
        shared = first.get(number) if what in CUT_WORDS.values() else None
        if what in CUT_WORDS.values():
            first.setdefault(number, len(out))
        if shared is not None:
            out[shared] = out[shared][0], out[shared][1] + operations
        labels = stages.get(what, [what])
        out += [(labels[0], 0.0 if shared is not None else operations)]
        out += [(label, 0.0) for label in labels[1:]]
    return out


CUT_WORDS = {
    "ablation": "Table 1",
    "evidence": "cuts for the claims",
    "sweep": "Figure 1a",
    "heads": "every head alone",
    "controls": "random edges",
}
Part = tuple[str, int, float, float]


def _parts(
    names: Sequence[str],
    size: Size,
    preset: str,
    folder: ModelFolder,
    pairs: PairSet,
    redraws: Sequence[PairSet] = (),
) -> list[Part]:
    chosen, (layers, heads) = preset_of(preset), folder.shape
    ranked = sum(pair.grade != EASY_GRADE for pair in pairs.pairs)
    every, _ = thin(pairs, ranked)
    few, _ = thin(pairs, min(size.pairs or ranked, ranked))
    out: list[Part] = []

    def cut(what: str, conditions: dict[str, Condition], some: PairSet, factor: float) -> None:
        work = Work.of(conditions, folder, some)
        out.append((what, work.pairs, float(work.passes) * factor, work.operations * factor))

    def untouched(what: str, some: PairSet, passes: float | int) -> None:
        operations = layer_operations(folder, token_counts(folder, some)) * passes
        out.append((what, len(some.pairs), float(passes), operations))

    for name, what in CUT_WORDS.items():
        if name in names:
            conditions, most = asked(name, size, chosen, layers, heads)
            some, _ = thin(pairs, min(most or ranked, ranked))
            cut(what, conditions, some, EDGES if name == "controls" else 1.0)
            if name == "evidence" and (new := further(pairs, redraws)[1]):
                cut(REDRAWN, conditions, replace(pairs, pairs=tuple(new)), 1.0)
    if {"attention", "circuits"} & set(names):
        untouched("attention and mean states", pairs, METERS * layers)
    if "attention" in names and size.causal:
        half = max(1, ranked // 2)
        some, _ = thin(every, min(size.causal_pairs or half, half))
        alone = MATCHING * layers * heads * layers / 2
        untouched(
            "matching heads cut", some, DIRECTIONS * (alone + (RANDOM_SETS + 1) * layers * 0.85)
        )
    if "circuits" in names:
        untouched("terms of the logits", few, FLOAT64 * METERS * layers)
        operations = FLOAT64 * vocabulary_operations(folder, TOP)
        out.append(("vocabulary", 0, 0.0, operations))
    if "looking" in names:
        untouched("pairs to look into", few, METERS)
    return out
