"""Attention meters against plain scoring of the same pairs: ratios measured side by side.

Plain scoring is this library's own, which computes the last layer for the CLS row only; the meters
measure all rows of all layers beside it. Rounds alternate; the ratio of CPU seconds is what counts,
on a noisy machine. With MATCHLENS_TREC_DL set, the pairs are real ones of TREC DL 2019, else those
of the built-in collection. The number of pairs and of rounds may be given: 600 5.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

import torch

import matchlens
from matchlens.corpora import PairSet, thin
from matchlens.engine import run
from matchlens.meters.names import NAMES
from matchlens.studies.watching import watch

PAIRS, ROUNDS = 96, 3


def chosen(number: int) -> PairSet:
    folder = os.environ.get("MATCHLENS_TREC_DL")
    if folder:
        files = [f"{folder}/dl19.{end}" for end in ("topics.tsv", "qrels", "passages.jsonl.gz")]
        collection = matchlens.trec.load(files[0], files[1], [files[2]], None)
    else:
        collection = matchlens.demo.load()
    pairs = matchlens.choose(collection)
    return thin(pairs, number)[0] if len(pairs.pairs) > number else pairs


def seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    given = [int(word) for word in sys.argv[1:]]
    number, rounds = (*given, *(PAIRS, ROUNDS)[len(given) :])
    model = matchlens.load("demo", device="cpu")
    pairs = chosen(number)
    sets = {"mass": ["mass"], "mass and norm mass": ["mass", "norm_mass"], "all five": list(NAMES)}
    ratios: dict[str, list[float]] = {name: [] for name in sets}
    run(model, pairs.pairs[:32], {"": []})
    for _ in range(rounds):
        plain = seconds(lambda: run(model, pairs.pairs, {"": []}))
        for name, meters in sets.items():
            ratios[name].append(seconds(lambda m=meters: watch(model, pairs, m)) / plain)
    print(f"{len(pairs.pairs)} pairs, {rounds} rounds, one thread, CPU seconds")
    for name, found in ratios.items():
        spread = f"{min(found):.2f} to {max(found):.2f}"
        print(f"{name} / plain scoring: median {statistics.median(found):.2f} ({spread})")


if __name__ == "__main__":
    main()
