"""How time a pair and peak memory grow with the pairs: scores and masses, a fresh process each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Remote
from benchmarks.job import Contender, Job
from benchmarks.subjects import drawn_pairs, random_model

CUTS = ["Q->D", "D->D@0:2"]


class Growth:
    """Scores pairs untouched and under two cuts, then takes all heads' part masses.

    Args:
        job: names the model; ``sizes`` holds the number of pairs.
    """

    def __init__(self, job: Job) -> None:
        import matchlens
        from matchlens.corpora import Pair, PairSet

        torch.set_num_threads(job.threads)
        self.model = matchlens.load(job.model, device="cpu", max_length=job.max_length)
        made = [
            Pair(f"q{number // 20}", str(number), query, text, number % 4)
            for number, (query, text) in enumerate(drawn_pairs(job.sizes[0]))
        ]
        self.pairs = PairSet(tuple(made), {}, {}, {}, ())
        matchlens.score(self.model, made[:8], CUTS)
        self.facts: dict[str, Any] = {}

    def work(self) -> Any:
        """Scores, then masses."""
        import matchlens
        from matchlens.studies.attention.watching import watch

        started = time.process_time()
        scores = matchlens.score(self.model, self.pairs.pairs, CUTS)
        middle = time.process_time()
        watched = watch(self.model, self.pairs, ["mass"])
        return scores, watched, (middle - started, time.process_time() - middle)

    def results(self, raw: Any) -> dict[str, np.ndarray]:
        """Scores, a mean of the masses, and what each of the two took."""
        scores, watched, took = raw
        total = sum(block.sum(dtype=np.float64) for _, block in watched.arrays["mass"].blocks())
        return {"scores": scores.to_numpy(), "masses": np.array([total]), "took": np.array(took)}


def make(job: Job) -> Growth:
    """The contender."""
    return Growth(job)


def grow(
    numbers: Sequence[int], rounds: int, threads: int, folder: Path, say: Any = print
) -> list[dict[str, Any]]:
    """Measure every number of pairs, in turns.

    Args:
        numbers: numbers of pairs.
        rounds: how often each, in a fresh process.
        threads: threads of each.
        folder: where the small model is made.
        say: told what happens.

    Returns:
        A record a number of pairs: every round's CPU and wall seconds and peak memory.

    Raises:
        RuntimeError: if the first pairs' scores are not the same at every number.
    """
    model = random_model("small", folder)
    out: list[dict[str, Any]] = [{"pairs": number, "rounds": []} for number in numbers]
    first: np.ndarray | None = None
    for _ in range(rounds):
        for record in out:
            job = Job("growth", model, 128, threads=threads, sizes=[record["pairs"]])
            with tempfile.TemporaryDirectory(prefix="matchlens-bench-") as held:
                handle = Remote(Contender("growth", "growth"), job, Path(held))
                took, results = handle.round()
                handle.end()
            few = results["scores"][: min(numbers)]
            first = few if first is None else first
            if not np.allclose(few, first, atol=1e-4):
                raise RuntimeError("the first pairs' scores change with the number of pairs")
            record["rounds"].append(took)
            say(f"  {record['pairs']} pairs: {took['cpu']:.2f} CPU s, {took['memory_mib']:.0f} MiB")
    return out
