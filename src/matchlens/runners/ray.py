"""Shards run on a Ray cluster: the model loaded once a worker, failed shards run again elsewhere.

Only the driver, where the command runs, reads the pairs and writes the results folder.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from matchlens._version import __version__
from matchlens.engine import Progress
from matchlens.errors import InputError, MatchlensWarning
from matchlens.models.load import Reranker
from matchlens.plan import Plan
from matchlens.runners.memory import Budget
from matchlens.runners.recipe import Recipe
from matchlens.runners.stopping import SIGNALS, Stop
from matchlens.runners.task import Prepared, Shard, Task

POLL = 0.5
"""Seconds between looks at whether a person wants to stop."""
REACH = 10.0
"""Seconds in which a cluster must answer."""
PATIENCE = 60.0
"""Seconds without any worker before a person is told that the run waits for a node."""
TRIES = 4
"""How often a shard is begun before its workers' deaths are taken for its own doing."""


def check_ray() -> None:
    """See that Ray is installed; it is not imported.

    Raises:
        InputError: if it is not.
    """
    if find_spec("ray") is None:
        raise InputError(
            "--runner ray needs Ray, which is not installed; install it: "
            "pip install 'matchlens[ray]'"
        )


class RayWorker:
    """An actor: holds the model, and the task that it is at.

    Args:
        recipe: how it loads the model.
        threads: of its own; torch's default where 0.
        device: where the model runs, where the recipe leaves that open.
    """

    def __init__(self, recipe: Recipe, threads: int, device: str) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._recipe, self._device, self._budget = recipe, device, Budget()
        self._model: Reranker | None = None
        self._prepared: Prepared | None = None

    def ready(self) -> tuple[str, ...]:
        """Load the model, and say what runs here."""
        if self._model is None:
            self._model = self._recipe.load(self._device)
        return versions()

    def work(self, task: Task, shard: Shard) -> dict[str, np.ndarray]:
        """The outcome of a shard."""
        assert self._model is not None  # noqa: S101
        if self._prepared is None or self._prepared.task.key != task.key:
            self._prepared = Prepared(self._model, task, self._budget)
        return self._prepared.run(shard)


def versions() -> tuple[str, ...]:
    """What must be the same on every node."""
    named = ("torch", "transformers", "tokenizers", "numpy")
    others = (f"{name} {importlib.metadata.version(name)}" for name in named)
    return f"matchlens {__version__}", *others


@dataclass
class _Hand:
    """A worker, and what it is at.

    Args:
        actor: Ray's handle.
        shard: the shard in work; None while it loads the model.
    """

    actor: Any
    shard: Shard | None = None


class OnRay:
    """Runs shards on a cluster.

    Args:
        recipe: how a worker loads the model.
        address: of the cluster, as Ray writes it; where None the cluster that this machine is
            part of, or a new one on this machine alone.
        number: of workers; where None one a GPU, or, without GPUs, one a node.
        cores: CPU cores of a worker; where None the cluster's, divided by its workers.
    """

    def __init__(
        self,
        recipe: Recipe,
        address: str | None = None,
        number: int | None = None,
        cores: int | None = None,
    ) -> None:
        check_ray()
        self.recipe, self.address, self.number, self.cores = recipe, address, number, cores
        self._hands: dict[Any, _Hand] = {}
        self._idle: list[_Hand] = []
        self._connected = False

    def outcomes(
        self,
        model: Reranker,
        task: Task,
        plan: Plan,
        shards: Iterable[Shard],
        stop: Stop,
        progress: Progress | None,
    ) -> Iterator[tuple[Shard, Mapping[str, np.ndarray]]]:
        """The outcomes as they come; a shard whose worker dies is given to another.

        Raises:
            InputError: if there is no such cluster, a worker cannot load the model or has other
                versions, a shard cannot be run, or it takes down its workers again and again.
        """
        waiting = iter(shards)
        first = next(waiting, None)
        if first is None:
            return
        import ray

        self._connect()
        held = ray.put(task)
        again: list[Shard] = [first]
        tries: dict[int, int] = {}
        alone = 0.0
        while True:
            while self._idle and not stop.asked:
                shard = again.pop() if again else next(waiting, None)
                if shard is None:
                    break
                hand = self._idle.pop()
                hand.shard = shard
                tries[shard.number] = tries.get(shard.number, 0) + 1
                self._hands[hand.actor.work.remote(held, shard)] = hand
            busy = [reference for reference, hand in self._hands.items() if hand.shard is not None]
            if not busy and (stop.asked or (self._idle and not again)):
                return
            finished, _ = ray.wait(list(self._hands), timeout=POLL)
            alone = 0.0 if busy or self._idle or finished else alone + POLL
            if alone >= PATIENCE:
                alone = float("-inf")
                warnings.warn(
                    "no Ray node has room for a worker; the run waits for one",
                    MatchlensWarning,
                    stacklevel=2,
                )
            for reference in finished:
                hand = self._hands.pop(reference)
                outcome = self._outcome(reference, hand)
                shard, hand.shard = hand.shard, None
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
                self._idle.append(hand)
                if shard is not None:
                    yield shard, outcome

    def _outcome(self, reference: Any, hand: _Hand) -> Mapping[str, np.ndarray] | None:
        """What a worker has to say; None where it is dead.

        Raises:
            InputError: if it could not do its work, or is not of the same versions.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            found: Any = ray.get(reference)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, InputError) else None
            if cause is None:
                raise
            raise InputError(str(cause)) from None
        except RayError:  # the actor's, its node's or the object's death
            return None
        if hand.shard is not None:
            return {name: np.array(array) for name, array in found.items()}
        if found != versions():
            raise InputError(
                f"a Ray worker has {', '.join(found)}; the driver has {', '.join(versions())}; "
                "expected the same versions on every node"
            )
        return {}

    def _connect(self) -> None:
        """Join the cluster and start the workers, once.

        Raises:
            InputError: if there is no such cluster.
        """
        if self._connected:
            return
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is told to anybody
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        if not ray.is_initialized():
            self._reach()
            heard = {number: signal.getsignal(number) for number in SIGNALS}
            try:
                ray.init(
                    self.address,
                    include_dashboard=None if self.address else False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (ConnectionError, OSError, ValueError, RuntimeError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise InputError(
                    f"--ray-address {self.address!r}: no Ray cluster can be reached ({reason}); "
                    "expected host:port as `ray start --head` prints it, or leave it out"
                ) from None
            finally:  # Ray takes SIGTERM for itself, which here is a first Ctrl-C
                if threading.current_thread() is threading.main_thread():
                    for number, handler in heard.items():
                        signal.signal(number, handler)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cards = int(sum(node.get("GPU", 0) for node in nodes))
        self._cards = cards if self.recipe.device in (None, "cuda") else 0
        number = self.number or self._cards or len(nodes)
        if self.cores is None:
            each = -(-number // max(1, len(nodes)))
            least = min((node.get("CPU", 1) for node in nodes), default=1)
            self.cores = max(1, int(least // each))
        self._connected = True
        for _ in range(number):
            self._hire()

    def _reach(self) -> None:
        """See that somebody listens at the address: Ray itself would try for minutes.

        Raises:
            InputError: if nobody does.
        """
        host, colon, port = (self.address or "").removeprefix("ray://").rpartition(":")
        if not colon:
            return  # "auto" and "local" are words of Ray's
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
        except (OSError, ValueError, OverflowError) as error:
            raise InputError(
                f"--ray-address {self.address!r}: no Ray cluster can be reached ({error}); "
                "expected host:port as `ray start --head` prints it, or leave it out"
            ) from None

    def _hire(self) -> None:
        """Ask for a worker; it comes when a node has room for it."""
        import ray

        share = 1 if self._cards else 0
        options: dict[str, Any] = {"num_cpus": self.cores, "num_gpus": share, "max_restarts": 0}
        actor_class: Any = ray.remote(RayWorker)
        actor = actor_class.options(scheduling_strategy="SPREAD", **options).remote(
            self.recipe, self.cores, "cuda" if share else "cpu"
        )
        self._hands[actor.ready.remote()] = _Hand(actor)

    def close(self) -> None:
        """Let the workers go, and leave the cluster."""
        if not self._connected:
            return
        import ray

        for hand in [*self._idle, *self._hands.values()]:
            ray.kill(hand.actor)
        self._hands, self._idle, self._connected = {}, [], False
        ray.shutdown()
