"""A run in shards: what is kept already is read, the rest is run, all is merged in order."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from matchlens.corpora.pairs import Pair
from matchlens.directions import How
from matchlens.engine import Progress, Run, checked_budget, lengths, other_pairs, planned
from matchlens.errors import InputError, MatchlensWarning
from matchlens.meters.scores import Scores
from matchlens.models.load import Reranker
from matchlens.models.random_edges import TAKEN
from matchlens.models.replacements import ReplacementMeans
from matchlens.plan import Condition, Plan
from matchlens.runners.local import InProcessExecutor
from matchlens.runners.measures import MeasurementRequest, unpacked
from matchlens.runners.shards import divide
from matchlens.runners.stopping import Stop, Stopped
from matchlens.runners.store import Store
from matchlens.runners.task import (
    MEANS,
    SCORES,
    Outcome,
    Shard,
    Task,
    checked,
    key_of,
    unpacked_means,
)


@runtime_checkable
class Runner(Protocol):
    """Runs conditions on pairs; every study takes one."""

    @property
    def scratch(self) -> Path | None:
        """A folder for what is only needed until results are saved; the system's where None."""
        ...

    def __call__(
        self,
        model: Reranker,
        pairs: Sequence[Pair],
        conditions: Mapping[str, Condition],
        *,
        seed: int = 0,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
        asked: Sequence[MeasurementRequest] = (),
    ) -> Run:
        """Score the pairs under every condition, and measure what is asked of the untouched model.

        Args:
            model: a loaded reranker.
            pairs: queries with passages; results keep their order.
            conditions: name to the cuts that hold together under it, or to one control.
            seed: of what is drawn.
            batch_tokens: most places of one layer call.
            progress: called with pairs done and pairs in all.
            asked: measures and what takes them.

        Raises:
            InputError: if a cut does not fit the model, a pair cannot be run, or a score is not
                finite.
        """
        ...


@runtime_checkable
class Executor(Protocol):
    """Who runs the shards."""

    def outcomes(
        self,
        model: Reranker,
        task: Task,
        plan: Plan,
        shards: Iterable[Shard],
        stop: Stop,
        progress: Progress | None,
    ) -> Iterator[tuple[Shard, Outcome]]:
        """The outcomes of shards as they come, in any order; it starts none after a stop.

        Args:
            model: the model, as it is loaded here.
            task: what is run.
            plan: its plan.
            shards: its shards.
            stop: says whether a person wants to stop.
            progress: called with the pairs done of the shard that is run, where it is run here.
        """
        ...

    def close(self) -> None:
        """Let go of all that it holds."""
        ...


class ShardedRunner:
    """Runs conditions on pairs shard by shard.

    Args:
        folder: where shards are kept, so that a run that is stopped goes on; where None they are
            not kept.
        executor: who runs them; this process where None.
        stop: says whether a person wants to stop.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=1, per_grade=1).pairs
    >>> ShardedRunner()(matchlens.load("demo"), pairs, {"": []}).scores.values.shape
    (1, 4)
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        executor: Executor | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.executor = executor or InProcessExecutor()
        self.stop = stop or Stop()
        self._said: int | None = None

    @property
    def scratch(self) -> Path | None:
        """Beside the shards, where they are kept."""
        return self.folder

    def __call__(
        self,
        model: Reranker,
        pairs: Sequence[Pair],
        conditions: Mapping[str, Condition],
        *,
        seed: int = 0,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
        asked: Sequence[MeasurementRequest] = (),
    ) -> Run:
        """Score the pairs under every condition, and measure what is asked of the untouched model.

        What ``mean`` puts in is found in a pass of its own, over all pairs; what ``resample`` puts
        in goes with each shard.

        Raises:
            InputError: if a cut does not fit the model, a pair cannot be run, a score is not
                finite, or a shard cannot be kept.
            Stopped: if a person stopped it; what was done is kept.
            ValueError: if something is asked of the untouched model and it is not run.
        """
        budget = checked_budget(model, batch_tokens)
        plan = planned(model, pairs, conditions)
        if asked and plan.untouched is None:
            raise ValueError("meters watch the untouched model; expected a condition without cuts")
        measures = tuple(one.measure for one in asked)
        key = key_of(model, pairs, conditions, seed, measures, SCORES)
        task = Task(key, SCORES, dict(conditions), seed, budget, measures)
        tokens, _ = lengths(model, pairs)
        full = 0 if model.device.type == "cpu" else model.batch_tokens
        others = other_pairs(pairs, seed).tolist() if plan.uses(How.RESAMPLE) else None

        def shards(passes: int) -> list[Callable[[], Shard]]:
            return [
                lambda number=number, rows=rows: Shard(
                    number,
                    rows,
                    [pairs[row] for row in rows.tolist()],
                    int(tokens[rows].max()),
                    None if others is None else [pairs[others[row]] for row in rows.tolist()],
                )
                for number, rows in enumerate(divide(tokens, passes, full))
            ]

        if plan.uses(How.MEAN):
            means = ReplacementMeans()
            before = replace(
                task, kind=MEANS, measures=(), key=key_of(model, pairs, conditions, seed, (), MEANS)
            )
            layers = model.family.n_layers
            first = layers / (layers + plan.passes)
            for _, outcome in self._merged(
                model, before, plan, shards(layers), _part_of(progress, 0.0, first)
            ):
                means = means.merge(unpacked_means(outcome))
            task, progress = replace(task, means=means), _part_of(progress, first, 1.0)
        out = _Gathered(model, plan, len(pairs), budget)
        for shard, outcome in self._merged(model, task, plan, shards(plan.passes), progress):
            out.take(shard, outcome)
            for place, one in enumerate(asked):
                start = f"{place}."
                one.take(
                    shard.numbers,
                    {
                        name.removeprefix(start): array
                        for name, array in outcome.items()
                        if name.startswith(start)
                    },
                )
        return out.run()

    def _merged(
        self,
        model: Reranker,
        task: Task,
        plan: Plan,
        shards: Sequence[Callable[[], Shard]],
        progress: Progress | None,
    ) -> Iterator[tuple[Shard, Outcome]]:
        """Every shard's outcome in the shards' order, whatever the order in which they came."""

        def fitting(number: int, outcome: Outcome) -> Outcome:
            return checked(outcome, model, task, shards[number](), plan)

        def kept(number: int) -> Outcome:
            """Read a finished shard; compute it again if it is missing or damaged."""
            found = _read(store, number, fitting)
            if found is None:
                one = [shards[number]()]
                ((_, found),) = InProcessExecutor().outcomes(model, task, plan, one, Stop(), None)
                store.write(number, found)
            return found

        with ExitStack() as held:
            store: Store | _Held = _Held()
            if self.folder is not None:
                store = Store(self.folder / task.key[:32], task.key)
            elif not self.executor_is_here:
                made = held.enter_context(tempfile.TemporaryDirectory(prefix="matchlens-"))
                store = Store(Path(made) / "shards", task.key)
            sizes = [len(make().numbers) for make in shards]
            there = {number for number in range(len(shards)) if _read(store, number, fitting)}
            done = _Done(sizes, there, progress)
            missing = (shards[number]() for number in range(len(shards)) if number not in there)
            merged = 0
            with self.stop.shielded():
                outcomes = self.executor.outcomes(
                    model, task, plan, missing, self.stop, done.within
                )
                for shard, outcome in outcomes:
                    try:
                        fitting(shard.number, outcome)
                    except ValueError as error:
                        raise InputError(
                            f"a worker's answer for shard {shard.number} cannot be used ({error}); "
                            "expected the same version of matchlens on every node: run the same "
                            "command again to go on"
                        ) from None
                    store.write(shard.number, outcome)
                    self._say(outcome, task)
                    there.add(shard.number)
                    done.whole(shard.number)
                    if self.stop.asked:
                        continue  # what is still in work comes, and is kept
                    while merged in there:
                        yield shards[merged](), kept(merged)
                        merged += 1
            if self.stop.asked:
                raise Stopped
            for number in range(merged, len(shards)):
                yield shards[number](), kept(number)

    @property
    def executor_is_here(self) -> bool:
        """Whether shards are run in this process, in their order."""
        return isinstance(self.executor, InProcessExecutor)

    def _say(self, outcome: Outcome, task: Task) -> None:
        """Say once, and again where it is lowered again, that batches are smaller than asked."""
        used = int(outcome["budget"][0])
        if used < task.batch_tokens and (self._said is None or used < self._said):
            self._said = used
            warnings.warn(
                f"out of memory with batches of {task.batch_tokens} tokens; they are of at most "
                f"{used} now (--batch-tokens {used} starts so)",
                MatchlensWarning,
                stacklevel=2,
            )


def _read(
    store: Store | _Held, number: int, fitting: Callable[[int, Outcome], Outcome]
) -> Outcome | None:
    """A finished shard; None where it is not there, or damaged, which is said."""
    try:
        found = store.read(number)
        return None if found is None else fitting(number, found)
    except ValueError as error:  # a DamagedError, or arrays that are not the task's
        warnings.warn(
            f"shard {number} of an earlier run is damaged ({error}); it is run again",
            MatchlensWarning,
            stacklevel=3,
        )
        return None


def _part_of(progress: Progress | None, start: float, end: float) -> Progress | None:
    """Progress of a pass that is the part from ``start`` to ``end`` of a run's work.

    >>> _part_of(lambda done, total: print(done, total), 0.5, 1.0)(4, 8)
    6 8
    """
    if progress is None:
        return None

    def part(done: int, total: int) -> None:
        share = start + (end - start) * done / max(1, total)
        progress(total if share >= 1 else int(share * total), total)

    return part


class _Held:
    """Outcomes on their way to being merged, where none is kept: one at a time."""

    def __init__(self) -> None:
        self._held: dict[int, Outcome] = {}

    def read(self, number: int) -> Outcome | None:
        return self._held.pop(number, None)

    def write(self, number: int, arrays: Outcome) -> None:
        self._held[number] = arrays


class _Done:
    """Says how many pairs are done: at once what is kept, then batch by batch or shard by shard."""

    def __init__(self, sizes: Sequence[int], there: set[int], progress: Progress | None) -> None:
        self._sizes, self._progress = sizes, progress
        self._done = sum(sizes[number] for number in there)
        self._total = sum(sizes)
        if there:
            self.within(0, 0)

    def within(self, done: int, of: int) -> None:
        """Some pairs of the shard in work are done."""
        if self._progress is not None and (done < of or not of):
            self._progress(self._done + done, self._total)

    def whole(self, number: int) -> None:
        """A shard is done, and kept."""
        self._done += self._sizes[number]
        if self._progress is not None:
            self._progress(self._done, self._total)


class _Gathered:
    """A run, put together shard by shard."""

    def __init__(self, model: Reranker, plan: Plan, pairs: int, budget: int) -> None:
        self._plan = plan
        self._scores = Scores.empty(plan.conditions, pairs, model.score_dtype)
        self._tokens = np.zeros(pairs, dtype=np.int64)
        self._truncated = np.zeros(pairs, dtype=bool)
        self._taken = np.zeros((len(plan.controls), pairs, len(TAKEN)))
        bands = [model.family.band(layer) for layer in range(model.family.n_layers)]
        self._reach: np.ndarray | None = None
        self._causal = any(band.causal for band in bands)
        self._batches: list[int] = []
        self._budget = budget
        self._devices: set[str] = set()

    def take(self, shard: Shard, outcome: Outcome) -> None:
        self._scores.values[:, shard.numbers] = outcome["scores"]
        self._tokens[shard.numbers] = outcome["tokens"]
        self._truncated[shard.numbers] = outcome["truncated"]
        self._taken[:, shard.numbers] = outcome["taken"]
        reach = outcome["reach"]
        self._reach = reach if self._reach is None else self._reach | reach
        self._batches += outcome["batches"].tolist()
        self._budget = min(self._budget, int(outcome["budget"][0]))
        self._devices.add(unpacked(outcome["device"]))

    def run(self) -> Run:
        assert self._reach is not None  # noqa: S101
        return Run(
            self._scores,
            self._tokens,
            self._truncated,
            self._plan,
            tuple(self._batches),
            self._budget,
            self._reach,
            self._causal,
            "+".join(sorted(self._devices)),
            self._taken,
        )


run = ShardedRunner()
"""The runner of every study where none is given: in this process, nothing kept."""
