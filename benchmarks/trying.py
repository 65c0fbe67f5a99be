"""How contenders find their best setting: by trying it on some of the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from benchmarks.job import Job

TRIES = 2
Setting = TypeVar("Setting")


def few(job: Job, number: int) -> Job:
    """The job with at most so many of its pairs, evenly taken, and at most three conditions."""
    step = max(1, len(job.pairs) // number)
    last = len(job.conditions) - 1
    places = sorted({0, last // 2 + last % 2, last})
    return replace(
        job,
        pairs=job.pairs[::step][:number],
        conditions=[job.conditions[place] for place in places],
    )


def sizes(job: Job, candidates: Iterable[int]) -> list[int]:
    """The batch sizes that differ on this job: the smallest that holds all pairs, and below.

    Args:
        job: the job.
        candidates: batch sizes, rising.
    """
    return [size for size in candidates if size < 2 * len(job.pairs)]


def best(settings: Iterable[Setting], work: Callable[[Setting], object]) -> Setting:
    """The setting under which the work takes least CPU seconds.

    Args:
        settings: those that are tried, each some times: the first time warms up.
        work: does the work under a setting.
    """
    spent = {}
    for setting in settings:
        spent[setting] = min(seconds(work, setting) for _ in range(TRIES))
    return min(spent, key=lambda setting: spent[setting])


def seconds(work: Callable[[Setting], object], setting: Setting) -> float:
    """CPU seconds of the work under a setting."""
    start = time.process_time()
    work(setting)
    return time.process_time() - start
