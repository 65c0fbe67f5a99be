"""Shards run on a Ray cluster: the model loaded once a worker, failed shards run again elsewhere.

Only the driver, where the command runs, reads the pairs and writes the results folder. A cluster is
trusted: it runs the driver's code, and Ray unpickles what it is sent. Outcomes are bytes, which Ray
hands over as they are, so a sound cluster sends nothing that must be unpickled.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from matchlens._version import __version__
from matchlens.engine import Progress, Shard
from matchlens.errors import InputError, MatchlensWarning
from matchlens.runners import ray_watch
from matchlens.runners.local import POLL, start_deaf
from matchlens.runners.measures import packed, unpacked
from matchlens.runners.task import BoundTask, ModelSpec, Outcome, Task, Worker, from_bytes
from matchlens.signals import SIGNALS, Stop, Stopped

REACH = 10.0
"""Seconds in which an address must take a connection."""
JOINED = 40.0
"""Seconds in which a cluster must let a driver in."""
PATIENCE = 60.0
"""Seconds without any worker before a warning that the run waits for a node."""
TRIES = 4
"""How often a shard is begun before its workers' deaths are taken for its own doing."""


class RayWorker:
    """An actor that runs shards on a node."""

    def __init__(self, spec: str, threads: int, device: str) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._worker = Worker(spec, device)

    def ready(self) -> bytes:
        """Load the model, and send the versions that are installed."""
        return self._worker.load({"versions": packed(versions())})

    def work(self, task: Task, shard: Shard) -> bytes:
        """The outcome of a shard."""
        return self._worker.work(task, shard)


def versions() -> tuple[str, ...]:
    """The versions that must be the same on every node."""
    named = ("torch", "transformers", "tokenizers", "numpy")
    others = (f"{name} {importlib.metadata.version(name)}" for name in named)
    return f"matchlens {__version__}", *others


@dataclass
class _Worker:
    """A worker's handle, and the shard that it runs; None while it loads the model."""

    actor: Any
    shard: Shard | None = None


class RayExecutor:
    """Runs shards on a cluster.

    Args:
        spec: how a worker loads the model.
        address: of the cluster, as Ray writes it (``auto``: the one that this machine is part
            of); where None that of the variable RAY_ADDRESS, or a new one on this machine alone.
        number: of workers; where None one a GPU, or, without GPUs, one a node.
        cores: CPU cores of a worker; where None the cluster's, divided by its workers.
    """

    def __init__(
        self,
        spec: ModelSpec,
        address: str | None = None,
        number: int | None = None,
        cores: int | None = None,
    ) -> None:
        self.spec, self.number, self.cores = spec, number, cores
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._workers: dict[Any, _Worker] = {}
        self._idle: list[_Worker] = []
        self._connected = False
        self._watch: tuple[int, int] | None = None

    def outcomes(
        self, bound: BoundTask, shards: Iterable[Shard], stop: Stop, progress: Progress | None
    ) -> Iterator[tuple[Shard, Outcome]]:
        """The outcomes as they come; a shard whose worker dies is given to another."""
        waiting = iter(shards)
        first = next(waiting, None)
        if first is None:
            return
        import ray

        self._connect(stop)
        if not self._connected:
            return
        task_reference = ray.put(bound.task)
        again: list[Shard] = [first]
        tries: dict[int, int] = {}
        alone = 0.0
        while True:
            while self._idle and not stop.requested:
                shard = again.pop() if again else next(waiting, None)
                if shard is None:
                    break
                worker = self._idle.pop()
                worker.shard = shard
                tries[shard.number] = tries.get(shard.number, 0) + 1
                self._workers[worker.actor.work.remote(task_reference, shard)] = worker
            busy = [
                reference for reference, worker in self._workers.items() if worker.shard is not None
            ]
            if not busy and (stop.requested or (self._idle and not again)):
                return
            finished, _ = ray.wait(list(self._workers), timeout=POLL)
            alone = 0.0 if busy or self._idle or finished else alone + POLL
            if alone >= PATIENCE:
                alone = float("-inf")
                warnings.warn(
                    "no Ray node has room for a worker; the run waits for one",
                    MatchlensWarning,
                    stacklevel=2,
                )
            for reference in finished:
                worker = self._workers.pop(reference)
                outcome = self._outcome(reference, worker)
                shard, worker.shard = worker.shard, None
                if outcome is None:
                    if shard is not None and tries[shard.number] >= TRIES:
                        raise InputError(
                            f"shard {shard.number} took down {TRIES} Ray workers, one after the "
                            "other; expected room for the model and a batch: give fewer --workers "
                            "a node, and run the same command again to go on"
                        )
                    if shard is not None:
                        again.append(shard)
                    self._hire()
                    continue
                self._idle.append(worker)
                if shard is not None:
                    yield shard, outcome

    def _outcome(self, reference: Any, worker: _Worker) -> Outcome | None:
        """What a worker sent; None where it is dead."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            outcome = from_bytes(ray.get(reference))
        except RayTaskError as error:
            raise RuntimeError(f"a Ray worker failed: {error}") from None
        except RayError:  # the actor's, its node's or the object's death
            return None
        if worker.shard is not None:
            return outcome
        packages = outcome.get("versions")
        installed = [] if packages is None else list(map(str, unpacked(packages)))
        if installed != list(versions()):
            raise InputError(
                f"a Ray worker has {', '.join(installed)}; the driver has {', '.join(versions())}; "
                "expected the same versions on every node"
            )
        return {}

    def _connect(self, stop: Stop) -> None:
        """Join the cluster and start the workers, once, unless the run is cancelled."""
        if self._connected:
            return
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no usage statistics
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        if not ray.is_initialized():
            if self.address != "local":
                self._reach(stop)
            if stop.requested:
                return
            handlers = {number: signal.getsignal(number) for number in SIGNALS}
            try:
                if self.address == "local":
                    self._watch = _watched()
                ray.init(self.address, **_options(self.address))
            except (ConnectionError, OSError, ValueError, RuntimeError) as error:
                raise self._unreachable(_first_line(error)) from None
            except SystemExit:  # Ray's own answer to SIGTERM
                raise Stopped from None
            finally:  # Ray takes SIGTERM for itself, which here is a first Ctrl-C
                os.environ.pop(ray_watch.MARK, None)
                if threading.current_thread() is threading.main_thread():
                    for number, handler in handlers.items():
                        signal.signal(number, handler)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cards = int(sum(node.get("GPU", 0) for node in nodes))
        asked = self.spec.device or "cuda"
        self._cards = cards if asked.partition(":")[0] == "cuda" else 0
        number = self.number or self._cards or len(nodes)
        if self.cores is None:
            each = -(-number // max(1, len(nodes)))
            least = min((node.get("CPU", 1) for node in nodes), default=1)
            self.cores = max(1, int(least // each))
        self._connected = True
        for _ in range(number):
            self._hire()

    def _unreachable(self, why: str) -> InputError:
        if self.address == "local":
            return InputError(
                f"Ray cannot be started on this machine ({why}); run without --runner ray, or give "
                "the --ray-address of a cluster"
            )
        return InputError(
            f"--ray-address {self.address!r}: no Ray cluster can be reached ({why}); expected "
            "host:port as `ray start --head` prints it, or leave it out"
        )

    def _reach(self, stop: Stop) -> None:
        """Check that there is a cluster; Ray itself would try for minutes, and cannot be ended."""
        # Another process tries to join, and is ended where that takes too long: what listens there
        # may be no Ray, and may never answer.
        host, colon, port = self.address.removeprefix("ray://").rpartition(":")
        if colon:  # "auto" is a word of Ray's
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
            except (OSError, ValueError, OverflowError) as error:
                raise self._unreachable(str(error)) from None
        context = multiprocessing.get_context("spawn")
        pipe, other_end = context.Pipe(duplex=False)
        process = context.Process(target=_try, args=(self.address, other_end), daemon=True)
        start_deaf(process)
        other_end.close()
        try:
            end, why = None, f"no answer in {JOINED:.0f} seconds"
            while not stop.requested and (end is None or time.monotonic() < end):
                if pipe.poll(POLL):
                    message = pipe.recv_bytes()
                    if end is not None:
                        why = json.loads(message)
                        break
                    end = time.monotonic() + JOINED  # from the moment when it has imported Ray
        except EOFError:
            why = "the connection broke"
        finally:
            process.kill()
            process.join()
            pipe.close()
        if why and not stop.requested:
            raise self._unreachable(why)

    def _hire(self) -> None:
        """Ask for a worker; it comes when a node has room for it."""
        import ray

        share = 1 if self._cards else 0
        options: dict[str, Any] = {"num_cpus": self.cores, "num_gpus": share, "max_restarts": 0}
        actor_class: Any = ray.remote(RayWorker)
        actor = actor_class.options(scheduling_strategy="SPREAD", **options).remote(
            # Ray shows a worker its own card only, whatever number the command's own has
            self.spec.to_json(),
            self.cores,
            "cuda" if share else self.spec.device or "cpu",
        )
        self._workers[actor.ready.remote()] = _Worker(actor)

    def close(self) -> None:
        """Let the workers go, leave the cluster, and end everything that was started."""
        try:
            if self._connected:
                import ray

                for worker in [*self._idle, *self._workers.values()]:
                    ray.kill(worker.actor)
                self._workers, self._idle, self._connected = {}, [], False
                ray.shutdown()
        finally:
            if self._watch is not None:
                process, pipe = self._watch
                self._watch = None
                os.close(pipe)
                with suppress(ChildProcessError):
                    os.waitpid(process, 0)


def _options(address: str) -> dict[str, Any]:
    return {
        "include_dashboard": False if address == "local" else None,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _try(address: str, pipe: Connection) -> None:
    """Join a cluster and leave it, in a process of its own; says when it begins, and what came."""
    import ray

    pipe.send_bytes(b"")
    why = ""
    try:
        ray.init(address, **_options(address))
        ray.shutdown()
    except Exception as error:  # Ray raises anything here
        why = _first_line(error)
    pipe.send_bytes(json.dumps(why).encode())


def _watched() -> tuple[int, int]:
    """Have another process end what Ray starts from here on when this process is gone."""
    mark = secrets.token_hex(16)
    watcher_end, pipe = os.pipe()
    words = [sys.executable, "-I", "-S", str(Path(ray_watch.__file__)), mark]
    try:
        process = os.posix_spawn(
            sys.executable,
            words,
            dict(os.environ),
            file_actions=[(os.POSIX_SPAWN_DUP2, watcher_end, 0)],
            setsid=True,  # what is sent to all processes of a terminal or group does not reach it
        )
    finally:
        os.close(watcher_end)
    os.environ[ray_watch.MARK] = mark  # only now: it must not find itself
    return process, pipe
