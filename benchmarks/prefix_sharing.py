"""Shared prefixes against one whole forward pass a condition: ratios measured side by side.

Both do the same work on the same model and pairs: the cuts of one direction up to each layer. The
opponent is this library's own engine with one condition a run, so that only the sharing differs.
Rounds alternate; the ratio of CPU seconds is what counts, on a noisy machine.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

import matchlens
from matchlens.directions import Cut
from matchlens.engine import run

ROUNDS = 5
PAIRS = 16


def main() -> None:
    model = matchlens.load("demo", device="cpu")
    pairs = matchlens.choose(matchlens.demo.load()).pairs[:PAIRS]
    names = [f"D->D@0:{n}" for n in range(model.family.n_layers + 1)]
    conditions = {name: [Cut.parse(name)] for name in names}
    ratios = []
    for _ in range(ROUNDS):
        start = time.process_time()
        shared = run(model, pairs, conditions)
        middle = time.process_time()
        alone = [run(model, pairs, {name: cuts}) for name, cuts in conditions.items()]
        end = time.process_time()
        for name, one in zip(names, alone, strict=True):
            np.testing.assert_allclose(shared.scores.of(name), one.scores.of(name), atol=1e-4)
        ratios.append((end - middle) / (middle - start))
    plan = shared.plan
    print(f"{len(names)} conditions, {PAIRS} pairs, {ROUNDS} rounds, CPU seconds")
    print(f"layer passes a pair: {plan.passes} shared, {plan.passes_unshared} unshared")
    print(f"unshared / shared: median {statistics.median(ratios):.2f}, all {np.round(ratios, 2)}")


if __name__ == "__main__":
    main()
