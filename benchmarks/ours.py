"""matchlens, through the functions that a user calls."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from benchmarks import operations
from benchmarks.job import Job, UnavailableError

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "matchlens": {},
}
"""What matchlens is loaded with, by the name under which it is listed; the first is the default."""


class Ours:
    """Makes scores or masses of a job.

    Args:
        job: the job.
        plain: whether only the untouched scores are made, of a job of kind ``masses``.

    Raises:
        UnavailableError: if this version of matchlens cannot be loaded so.
        load: given to ``matchlens.load``.
    """

    def __init__(self, job: Job, load: dict[str, Any], plain: bool = False) -> None:
        import matchlens
        from matchlens.corpora import Pair, PairSet

        torch.set_num_threads(job.threads)
        if unknown := set(load) - set(inspect.signature(matchlens.load).parameters):
            raise UnavailableError(
                f"matchlens.load of this version has no {', '.join(sorted(unknown))}"
            )
        with suppress(ImportError):  # an older version does it when it loads a model
            from matchlens.models.packed import keep_memory

            keep_memory()
        self.job, self.plain = job, plain
        self.model = matchlens.load(job.model, device="cpu", max_length=job.max_length, **load)
        pairs = [
            Pair("q", str(number), query, text, 0) for number, (query, text) in enumerate(job.pairs)
        ]
        self.pairs = PairSet(tuple(pairs), {}, {}, {}, ())
        self.work()  # once before the rounds: caches, and the memory that stays
        self.facts: dict[str, Any] = {
            "useful operations": operations.of_run(self.model, self.pairs.pairs, job.conditions),
            **{f"load: {key}": value for key, value in load.items()},
        }

    def work(self) -> Any:
        """Scores under all conditions, or the attention study's pass with masses."""
        import matchlens
        from matchlens.studies.attention.watching import watch

        if self.job.kind == "masses" and not self.plain:
            return watch(self.model, self.pairs, ["mass"])
        cuts = [text for text in self.job.conditions if text]
        return matchlens.score(self.model, self.pairs.pairs, cuts)

    def results(self, raw: Any) -> dict[str, np.ndarray]:
        """Arrays by condition, masses under ``mass``."""
        if hasattr(raw, "arrays"):
            scores = np.asarray(raw.out.scores.of(""))
            return {"": scores, "mass": np.array(raw.arrays["mass"].mapped())}
        return {text: raw[text].to_numpy() for text in self.job.conditions}


def make(job: Job, load: dict[str, Any] | None = None, plain: bool = False) -> Ours:
    """The contender."""
    return Ours(job, load or {}, plain)
