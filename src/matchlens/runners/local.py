"""Shards run on this machine, in processes beside this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from matchlens.engine import Progress, Shard
from matchlens.errors import InputError
from matchlens.runners.task import BoundTask, ModelSpec, Outcome, Task, Worker, from_bytes
from matchlens.signals import SIGNALS, Stop

POLL = 0.5
"""Seconds between checks for a request to stop."""


class ProcessExecutor:
    """Runs shards in processes beside this one, each with the model and its share of the threads.

    A worker sends arrays (safetensors) through a pipe of its own; nothing that it sends is
    unpickled.

    Args:
        spec: how a worker loads the model.
        number: of workers.
    """

    def __init__(self, spec: ModelSpec, number: int) -> None:
        self.spec, self.number = spec, number
        self._workers: list[_Worker] = []

    def outcomes(
        self, bound: BoundTask, shards: Iterable[Shard], stop: Stop, progress: Progress | None
    ) -> Iterator[tuple[Shard, Outcome]]:
        """The outcomes as they come."""
        waiting = iter(shards)
        following = next(waiting, None)
        while True:
            for worker in self._workers:
                idle = worker.ready and worker.shard is None
                if following is not None and idle and not stop.requested:
                    worker.give(bound.task, following)
                    following = next(waiting, None)
            working = any(worker.shard is not None for worker in self._workers)
            if not working and (stop.requested or following is None):
                return
            if following is not None and not stop.requested and len(self._workers) < self.number:
                self._start()
            answers = connection.wait([worker.pipe for worker in self._workers], POLL)
            for worker in [worker for worker in self._workers if worker.pipe in answers]:
                try:
                    content = worker.pipe.recv_bytes()
                except (EOFError, OSError):
                    self._workers.remove(worker)
                    worker.end()
                    if stop.requested:
                        continue  # everything ends: the next run computes its shard
                    raise worker.died() from None
                outcome = from_bytes(content)
                shard, worker.shard, worker.ready = worker.shard, None, True
                if shard is not None:
                    yield shard, outcome

    def _start(self) -> None:
        os.getcwd()  # a worker starts there; fail here, in one line, where it is gone
        context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
        pipe, worker_end = context.Pipe()
        threads = max(1, torch.get_num_threads() // self.number)
        process = context.Process(
            target=_serve,
            args=(worker_end, self.spec.to_json(), threads, len(self._workers)),
            daemon=True,
        )
        self._workers.append(_Worker(process, pipe))
        start_deaf(process)
        worker_end.close()

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        workers, self._workers = self._workers, []
        for worker in workers:
            if worker.process.pid is not None:
                worker.process.kill()
        for worker in workers:
            worker.end()


def start_deaf(process: BaseProcess) -> None:
    """Start a process that ignores Ctrl-C until it says otherwise itself.

    A Ctrl-C in the terminal goes to every process there, and would end this one while it still
    imports torch and cannot ignore signals yet. It inherits the blocked signals.
    """
    resource_tracker.ensure_running()  # when it starts, it unblocks the signals in this thread
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(eq=False)
class _Worker:
    """A worker process, seen from the driver."""

    process: BaseProcess
    pipe: Connection
    ready: bool = False
    shard: Shard | None = None

    def give(self, task: Task, shard: Shard) -> None:
        """Send a shard. A worker that has died meanwhile is noticed when its answer is read."""
        self.shard = shard
        with suppress(OSError):
            self.pipe.send((task, shard))

    def end(self) -> None:
        if self.process.pid is not None:
            self.process.join(POLL)
            self.process.kill()
            self.process.join()
        self.pipe.close()

    def died(self) -> InputError:
        """The error of a worker that ended by itself."""
        code = self.process.exitcode or 0
        at = "while it ran a shard" if self.ready else "while it started"
        if code == -signal.SIGKILL:
            why = "was killed, as the system does where memory runs out"
            remedy = "expected room for the model in each worker: give fewer --workers, and run"
        elif code < 0:
            why, remedy = f"was ended by {signal.Signals(-code).name} {at}", "run"
        else:
            why = f"ended {at} (exit status {code}); its output is above"
            remedy = "leave out --workers to see the cause in this process, or run"
        return InputError(f"a worker process {why}; {remedy} the same command again to go on")


def _serve(pipe: Connection, spec: str, threads: int, place: int) -> None:
    """Run in a worker process: load the model, then run the shards that come."""
    # The driver alone hears Ctrl-C, and the worker ends with the driver.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)
    asked = ModelSpec.of(spec).device
    worker = Worker(spec, card(asked, place, torch.cuda.device_count()))
    with suppress(OSError, EOFError):  # the driver is gone
        pipe.send_bytes(worker.load())
        while worker.model is not None:
            task, shard = pipe.recv()  # from the driver, which started this process
            pipe.send_bytes(worker.work(task, shard))


def card(device: str | None, place: int, cards: int) -> str | None:
    """The device of a worker: cards in turn, unless the device asked for is one of its own.

    >>> card("cuda", 5, 4), card(None, 5, 4), card("cuda:0", 5, 4), card("cpu", 5, 4)
    ('cuda:1', 'cuda:1', 'cuda:0', 'cpu')
    """
    return f"cuda:{place % cards}" if device in (None, "cuda") and cards > 1 else device


def _follow() -> None:
    """End with the driver, however it ends: a worker in the middle of a shard reads no pipe."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        connection.wait([driver.sentinel])
        os._exit(1)
