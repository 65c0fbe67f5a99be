"""Shards run on this machine: in this process, or in processes beside it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any

import numpy as np
import torch

from matchlens.engine import Progress
from matchlens.errors import InputError
from matchlens.models.load import Reranker
from matchlens.plan import Plan
from matchlens.runners.memory import Budget
from matchlens.runners.recipe import Recipe
from matchlens.runners.stopping import Stop
from matchlens.runners.task import Prepared, Shard, Task

POLL = 0.5
"""Seconds between looks at whether a person wants to stop."""


class Here:
    """Runs shards in this process, one by one."""

    def __init__(self) -> None:
        self._budget = Budget()

    def outcomes(
        self,
        model: Reranker,
        task: Task,
        plan: Plan,
        shards: Iterable[Shard],
        stop: Stop,
        progress: Progress | None,
    ) -> Iterator[tuple[Shard, Mapping[str, np.ndarray]]]:
        """The outcomes in the shards' order."""
        prepared: Prepared | None = None
        for shard in shards:
            if stop.asked:
                return
            prepared = prepared or Prepared(model, task, self._budget, plan)
            yield shard, prepared.run(shard, progress)

    def close(self) -> None:
        """Nothing is held."""


class Workers:
    """Runs shards in processes beside this one, each with the model and its share of the threads.

    Args:
        recipe: how a worker loads the model.
        number: of workers.
        threads: of this machine that they share; those that torch uses here where None.
    """

    def __init__(self, recipe: Recipe, number: int, threads: int | None = None) -> None:
        self.recipe, self.number = recipe, number
        self.threads = threads or torch.get_num_threads()
        self._pool: ProcessPoolExecutor | None = None

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
            self._pool = ProcessPoolExecutor(
                self.number,
                mp_context=context,
                initializer=_start,
                initargs=(
                    self.recipe,
                    max(1, self.threads // self.number),
                    context.Value("i", 0),
                ),
            )
        return self._pool

    def outcomes(
        self,
        model: Reranker,
        task: Task,
        plan: Plan,
        shards: Iterable[Shard],
        stop: Stop,
        progress: Progress | None,
    ) -> Iterator[tuple[Shard, Mapping[str, np.ndarray]]]:
        """The outcomes as they come.

        Raises:
            InputError: if a worker cannot load the model or run a shard, or was killed.
        """
        waiting = iter(shards)
        running: dict[Future[Any], Shard] = {}
        try:
            while True:
                while len(running) < self.number and not stop.asked:
                    if (shard := next(waiting, None)) is None:
                        break
                    running[self._started().submit(_work, task, shard)] = shard
                if not running:
                    return
                finished, _ = wait(running, POLL, FIRST_COMPLETED)
                for future in finished:
                    shard = running.pop(future)
                    yield shard, future.result()
        except BrokenProcessPool:
            self.close()
            raise InputError(
                "a worker process was killed, as the system does where memory runs out; expected "
                "room for the model in each worker: give fewer --workers, and run the same "
                "command again to go on"
            ) from None

    def close(self) -> None:
        """End the workers, whatever they are at."""
        if self._pool is None:
            return
        processes = list((getattr(self._pool, "_processes", None) or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        self._pool = None


class _Worker:
    """What a worker process holds: the model once, and the task that it is at."""

    recipe: Recipe
    device: str | None = None
    model: Reranker | None = None
    prepared: Prepared | None = None
    budget = Budget()


def _start(recipe: Recipe, threads: int, counter: Any) -> None:
    """Begin a worker process: Ctrl-C is the driver's to hear, and it dies with the driver."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)
    with counter.get_lock():
        place = counter.value
        counter.value += 1
    cards = torch.cuda.device_count()
    _Worker.recipe = recipe
    _Worker.device = f"cuda:{place % cards}" if cards > 1 else None


def _follow() -> None:
    """End with the driver, however it ends: its queue alone would not say so."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        connection.wait([driver.sentinel])
        os._exit(1)


def _work(task: Task, shard: Shard) -> dict[str, np.ndarray]:
    if _Worker.model is None:
        _Worker.model = _Worker.recipe.load(_Worker.device)
    if _Worker.prepared is None or _Worker.prepared.task.key != task.key:
        _Worker.prepared = Prepared(_Worker.model, task, _Worker.budget)
    return _Worker.prepared.run(shard)
