"""A run in shards: what is kept already is read, the rest is run, all is merged in order."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from matchlens.batching import Encoded
from matchlens.corpora.own import own_parts
from matchlens.corpora.pair import Pair
from matchlens.directions import How
from matchlens.engine import (
    Progress,
    Run,
    Shard,
    checked_budget,
    encode_all,
    other_pairs,
    planned,
)
from matchlens.errors import InputError, MatchlensWarning
from matchlens.meters.scores import Scores
from matchlens.models.load import Reranker
from matchlens.models.random_edges import TAKEN
from matchlens.models.replacements import ReplacementMeans
from matchlens.parts import PADDING
from matchlens.plan import Condition, Plan, bound
from matchlens.runners.measures import MeasurementRequest, unpacked
from matchlens.runners.store import Store
from matchlens.runners.task import (
    MEANS,
    SCORES,
    BoundTask,
    InProcessExecutor,
    Outcome,
    Task,
    checked,
    key_of,
    unpacked_means,
)
from matchlens.signals import Stop, Stopped

KEPT_PAIRS = 50_000
"""Most pairs whose tokens are kept from the count of their tokens until they are run, about 1 kB a
pair; those of a larger run are encoded again, shard by shard."""
LEAST_WORK = 250_000
"""Tokens times layer passes of a shard: some seconds of a small model's work on a CPU."""
MOST_SHARDS = 512
"""Shards of a run, about: a longer run has larger ones, so that files stay few."""
MOST_PAIRS = 1024
"""Most pairs of a shard, so that its meters' rows fit into memory."""


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
        """Score the pairs under every condition, and measure what is requested.

        Args:
            pairs: queries with passages; results keep their order.
            conditions: name to the cuts that hold together under it, or to one control.
            asked: measures and what takes them.

        Raises:
            InputError: if a cut does not fit the model, a pair cannot be run, or a score is not
                finite.
            ValueError: if a measurement is requested and the untouched model is not run.
        """
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs the shards of a task."""

    def outcomes(
        self, bound: BoundTask, shards: Iterable[Shard], stop: Stop, progress: Progress | None
    ) -> Iterator[tuple[Shard, Outcome]]:
        """The outcomes of shards as they come, in any order; none is started after a stop.

        ``progress`` is called with the pairs done of a shard that is run in this process.
        """
        ...

    def close(self) -> None:
        """Release everything that it holds."""
        ...


class ShardedRunner:
    """Runs conditions on pairs shard by shard; it remembers nothing from one run to the next.

    Args:
        folder: where shards are kept, so that a stopped run can resume; where None they are not
            kept.
        executor: who runs them; this process where None.
        stop: whether cancellation was requested.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        executor: Executor | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.executor = executor or InProcessExecutor()
        self.stop = stop

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
        """See :class:`Runner`; raises Stopped if a person stopped it, and keeps finished shards."""
        model.check_unchanged()
        # What mean puts in is computed in a pass of its own, over all pairs; what resample puts in
        # goes with each shard.
        budget = checked_budget(model, batch_tokens)
        conditions = bound(conditions, own_parts(pairs))
        plan = planned(model, pairs, conditions)
        if asked and plan.untouched is None:
            raise ValueError("meters watch the untouched model; expected a condition without cuts")
        measures = tuple(request.measure for request in asked)
        key = key_of(model, pairs, conditions, seed, measures, SCORES)
        task = Task(key, SCORES, dict(conditions), seed, budget, measures)
        others = other_pairs(pairs, seed) if plan.uses(How.RESAMPLE) else None
        tokenized = _Tokenized.of(model, pairs, others)
        tokenized.check(plan)
        gathered = _Gathered(model, plan, len(pairs), budget)
        if plan.uses(How.MEAN):
            key = key_of(model, pairs, conditions, seed, (), MEANS)
            layers = model.family.n_layers
            share = layers / (layers + plan.passes)
            before = _part_of(progress, 0.0, share)
            means_task = replace(task, kind=MEANS, measures=(), key=key)
            means = ReplacementMeans()
            bound_means = BoundTask(model, means_task, plan)
            for _, outcome in self._outcomes(bound_means, tokenized, before, gathered):
                means = means.merge(unpacked_means(outcome))
            # Where memory ran out already, the scores begin with the batches that fitted.
            task = replace(task, means=means, batch_tokens=gathered.budget)
            progress = _part_of(progress, share, 1.0)
        bound_task = BoundTask(model, task, plan)
        for numbers, outcome in self._outcomes(bound_task, tokenized, progress, gathered):
            gathered.take(numbers, outcome)
            for place, request in enumerate(asked):
                start = f"{place}."
                request.take(
                    numbers,
                    {
                        name.removeprefix(start): array
                        for name, array in outcome.items()
                        if name.startswith(start)
                    },
                )
        return replace(gathered.run(), own=tokenized.own)

    def _outcomes(
        self,
        bound: BoundTask,
        tokenized: _Tokenized,
        progress: Progress | None,
        gathered: _Gathered,
    ) -> Iterator[tuple[Int[np.ndarray, " pair"], Outcome]]:
        """Every shard's pairs and outcome in the shards' order, in whatever order they came."""
        stop, key = self.stop or Stop(), bound.task.key
        passes = bound.plan.passes
        if bound.task.kind == MEANS:
            passes = bound.model.family.n_layers
        shards = divide(tokenized.tokens, passes, tokenized.full)

        def fitting(number: int, outcome: Outcome) -> Outcome:
            return checked(outcome, bound, len(shards[number]))

        def kept(number: int) -> Outcome:
            """Read a finished shard; compute it again if it is missing or damaged."""
            outcome = _read(store, number, fitting)
            if outcome is None:
                outcome = bound.run(tokenized.shard(number, shards[number]))
                store.write(number, outcome)
            return outcome

        with ExitStack() as resources:
            store: Store | _MemoryStore = _MemoryStore()
            if self.folder is not None:
                store = Store(self.folder / key[:32], key)
            elif not isinstance(self.executor, InProcessExecutor):
                # Workers finish out of order: what waits for its turn must not fill the memory.
                folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="matchlens-"))
                store = Store(Path(folder) / "shards", key)
            numbers = range(len(shards))
            finished = {number for number in numbers if _read(store, number, fitting)}
            done = _Done([len(rows) for rows in shards], finished, progress)
            missing = (
                tokenized.shard(number, shards[number])
                for number in numbers
                if number not in finished
            )
            merged = 0
            with stop.shielded():
                for shard, outcome in self.executor.outcomes(bound, missing, stop, done.within):
                    try:
                        fitting(shard.number, outcome)
                    except ValueError as error:
                        raise InputError(
                            f"a worker's answer for shard {shard.number} cannot be used ({error}); "
                            "expected the same version of matchlens on every node: run the same "
                            "command again to go on"
                        ) from None
                    store.write(shard.number, outcome)
                    gathered.lower(int(outcome["budget"][0]))
                    finished.add(shard.number)
                    done.whole(shard.number)
                    if stop.requested:
                        continue  # shards already running are finished and kept
                    while merged in finished:
                        yield shards[merged], kept(merged)
                        merged += 1
            if stop.requested:
                raise Stopped
            for number in range(merged, len(shards)):
                yield shards[number], kept(number)


def divide(
    tokens: Int[np.ndarray, " pair"], passes: int, full: int = 0
) -> list[Int[np.ndarray, " _"]]:
    """The pairs of each shard, longest first, as batches have them, so that little is padded.

    Neither speed nor workers nor the size of a batch move a boundary; the kind of device does.

    Args:
        full: places of a layer call that keeps the device busy; 0 for a CPU. A shard fills one such
            call, or more: a GPU idles with the few pairs of a CPU's shard.
    """
    target = max(LEAST_WORK, full * passes, int(tokens.sum()) * passes // MOST_SHARDS)
    shards: list[list[int]] = []
    weight = 0
    for pair in np.argsort(-tokens, kind="stable").tolist():
        # padding counts where a call must hold the shard: the first pair is the longest
        longest = pair if not full or not shards else shards[-1][0]
        over = weight + int(tokens[longest]) * passes > target if full else weight >= target
        if not shards or over or len(shards[-1]) >= MOST_PAIRS:
            shards.append([])
            weight, longest = 0, pair
        shards[-1].append(pair)
        weight += int(tokens[longest]) * passes
    return [np.array(shard, dtype=np.int64) for shard in shards]


@dataclass(frozen=True)
class _Tokenized:
    """The pairs of a run with their numbers of tokens, and their tokens if those are few."""

    pairs: Sequence[Pair]
    tokens: Int[np.ndarray, " pair"]
    others: Int[np.ndarray, " pair"] | None
    encoded: Encoded | None
    full: int
    own: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, model: Reranker, pairs: Sequence[Pair], others: Int[np.ndarray, " pair"] | None
    ) -> _Tokenized:
        tokens = np.zeros(len(pairs), dtype=np.int64)
        chunks: list[Encoded] = []
        own = dict.fromkeys(own_parts(pairs), 0)
        for chunk, encoded in encode_all(model, pairs):
            tokens[chunk] = encoded.lengths
            for name in (name for places in encoded.own for name in places):
                own[name] += 1
            if len(pairs) <= KEPT_PAIRS:
                chunks.append(encoded)
        full = 0 if model.device.type == "cpu" else model.batch_tokens
        joined = Encoded.joined(chunks) if chunks else None
        return cls(pairs, tokens, others, joined, full, own)

    def check(self, plan: Plan) -> None:
        """Check that some pair has a token of every user-defined part that is cut."""
        if empty := [part.name for part in plan.own if not self.own[part.name]]:
            raise InputError(
                f"no token of any of the {len(self.pairs)} pairs belongs to part {empty[0]}: its "
                "characters are beyond the length limit, or hold no token; expected one at least: "
                "raise the limit (--max-length), or correct its spans"
            )

    def shard(self, number: int, rows: Int[np.ndarray, " pair"]) -> Shard:
        others = None if self.others is None else self.others[rows]
        return Shard(
            number,
            rows,
            [self.pairs[row] for row in rows.tolist()],
            int(self.tokens[rows].max()),
            None if others is None else [self.pairs[other] for other in others.tolist()],
            None if self.encoded is None else self.encoded.of(rows),
            None if self.encoded is None or others is None else self.encoded.of(others),
        )


def _read(
    store: Store | _MemoryStore, number: int, fitting: Callable[[int, Outcome], Outcome]
) -> Outcome | None:
    """A finished shard; None where it is missing, or damaged, of which it warns."""
    try:
        outcome = store.read(number)
        return None if outcome is None else fitting(number, outcome)
    except ValueError as error:  # a DamagedError, or arrays that are not the task's
        warnings.warn(
            f"shard {number} of an earlier run is damaged ({error}); it is run again",
            MatchlensWarning,
            stacklevel=3,
        )
        return None


def _part_of(progress: Progress | None, start: float, end: float) -> Progress | None:
    """Progress of a pass that is the part from ``start`` to ``end`` of a run's work."""
    if progress is None:
        return None

    def part(done: int, total: int) -> None:
        share = start + (end - start) * done / max(1, total)
        progress(total if share >= 1 else int(share * total), total)

    return part


class _MemoryStore:
    """Outcomes on their way to being merged, where none is kept: one at a time."""

    def __init__(self) -> None:
        self._outcomes: dict[int, Outcome] = {}

    def read(self, number: int) -> Outcome | None:
        return self._outcomes.pop(number, None)

    def write(self, number: int, outcome: Outcome) -> None:
        self._outcomes[number] = outcome


class _Done:
    """Reports the pairs that are done: at once those of kept shards, then batch by batch."""

    def __init__(self, sizes: Sequence[int], kept: set[int], progress: Progress | None) -> None:
        self._sizes, self._progress = sizes, progress
        self._done = sum(sizes[number] for number in kept)
        self._total = sum(sizes)
        self.within(0, 0)  # so that the total is shown, and time is counted, from the start

    def within(self, done: int, of: int) -> None:
        if self._progress is not None and (done < of or not of):
            self._progress(self._done + done, self._total)

    def whole(self, number: int) -> None:
        self._done += self._sizes[number]
        if self._progress is not None:
            self._progress(self._done, self._total)


class _Gathered:
    """A run, put together shard by shard."""

    def __init__(self, model: Reranker, plan: Plan, pairs: int, budget: int) -> None:
        self._asked = self.budget = budget
        masks = [model.family.band(layer) for layer in range(model.family.n_layers)]
        self._run = Run(
            Scores.empty(plan.conditions, pairs, model.score_dtype),
            np.zeros(pairs, dtype=np.int64),
            np.zeros(pairs, dtype=bool),
            plan,
            (),
            budget,
            np.zeros((len(masks), PADDING, PADDING), dtype=bool),
            any(mask.causal for mask in masks),
            "",
            np.zeros((len(plan.controls), pairs, len(TAKEN))),
        )
        self._batches: list[int] = []
        self._devices: set[str] = set()

    def lower(self, used: int) -> None:
        """Take the budget of a shard, and warn where it is smaller than before."""
        if used < self.budget:
            self.budget = used
            warnings.warn(
                f"out of memory with batches of {self._asked} tokens; they are of at most "
                f"{used} now (--batch-tokens {used} starts so)",
                MatchlensWarning,
                stacklevel=2,
            )

    def take(self, numbers: Int[np.ndarray, " pair"], outcome: Outcome) -> None:
        run = self._run
        run.scores.values[:, numbers] = outcome["scores"]
        run.tokens[numbers] = outcome["tokens"]
        run.truncated[numbers] = outcome["truncated"]
        run.taken[:, numbers] = outcome["taken"]
        np.logical_or(run.reach, outcome["reach"], out=run.reach)
        self._batches += outcome["batches"].tolist()
        self.budget = min(self.budget, int(outcome["budget"][0]))  # a shard may have been kept
        self._devices.add(unpacked(outcome["device"]))
        rows, projected = outcome["counts"].tolist()
        run.counts.rows += rows
        run.counts.projected += projected

    def run(self) -> Run:
        return replace(
            self._run,
            batches=tuple(self._batches),
            batch_tokens=self.budget,
            device="+".join(sorted(self._devices)),
        )


run = ShardedRunner()
"""The runner of every study where none is given: in this process, nothing kept."""
