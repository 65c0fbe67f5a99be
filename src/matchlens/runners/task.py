"""A run as data, and its shards: run, packed for the way between processes, checked."""

from __future__ import annotations

import hashlib
import json
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save

from matchlens._version import __version__
from matchlens.corpora.pair import Pair, digest
from matchlens.engine import (
    Progress,
    Run,
    Shard,
    free_memory,
    out_of_memory,
    plan_of,
    run_shard,
    term_means,
)
from matchlens.errors import InputError, MatchlensWarning, surroundings
from matchlens.models.load import Reranker
from matchlens.models.packed import keep_memory
from matchlens.models.random_edges import TAKEN
from matchlens.models.replacements import ReplacementMeans
from matchlens.parts import PADDING
from matchlens.plan import Condition, Control, Plan
from matchlens.prompts import Prompt
from matchlens.runners.measures import Measure, Recording, packed, unpacked
from matchlens.signals import Stop

FORMAT = 3
"""Of an outcome: 3 has the counts of token rows."""
SCORES, MEANS = "scores", "means"
REFUSAL, FAULT = "refusal", "fault"
"""The one array of an answer where a worker could not do its work: why, or an error's traceback."""
Outcome = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Task:
    """All that a worker must know of a run but the pairs.

    Args:
        key: a digest of all that a shard's outcome depends on.
        kind: ``scores``, or ``means``: the pass before it, of what ``mean`` puts in.
        conditions: name to cuts or a control.
        seed: of the run.
        batch_tokens: most places of one layer call; it moves no boundary and is not in the key.
        measures: what is measured beside the scores.
        means: what ``mean`` puts in.
    """

    key: str
    kind: str
    conditions: Mapping[str, Condition]
    seed: int
    batch_tokens: int
    measures: tuple[Measure, ...] = ()
    means: ReplacementMeans | None = None


def key_of(
    model: Reranker,
    pairs: Sequence[Pair],
    conditions: Mapping[str, Condition],
    seed: int,
    measures: Sequence[Measure],
    kind: str,
) -> str:
    """A digest of all that a shard's outcome depends on, but for the batches' sizes."""
    content = {
        "format": [FORMAT, __version__, str(torch.__version__)],
        "kind": kind,
        "model": dict(model.identity),
        "device": model.device.type,
        "pairs": digest(pairs),
        "conditions": [[name, *map(_text, cuts)] for name, cuts in conditions.items()],
        "seed": seed,
        "measures": [measure.record() for measure in measures],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _text(cut: object) -> str:
    return f"{cut.kind} {cut.draw} {cut.cut}" if isinstance(cut, Control) else str(cut)


class BoundTask:
    """A task made ready on a model; its shards run one by one."""

    def __init__(self, model: Reranker, task: Task, plan: Plan | None = None) -> None:
        self.model, self.task = model, task
        self.plan = plan or plan_of(model, task.conditions)
        # Memory that was short for one shard is short for the next. It is kept no longer than the
        # task: another run of the process begins with the batches that were asked of it.
        self.budget = task.batch_tokens

    @cached_property
    def recordings(self) -> list[Callable[..., Recording]]:
        """What makes the meters of a shard."""
        return [measure.ready(self.model) for measure in self.task.measures]

    def run(self, shard: Shard, progress: Progress | None = None) -> dict[str, np.ndarray]:
        """The outcome of a shard; where memory runs out, by smaller batches."""
        while True:
            try:
                return self._run(shard, progress)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            free_memory()
            if self.budget <= shard.longest:
                raise InputError(
                    f"out of memory with one pair of {shard.longest} tokens in a layer call; give "
                    "a smaller --max-length, a smaller --dtype, fewer --workers or another --device"
                )
            self.budget = max(self.budget // 2, shard.longest)

    def _run(self, shard: Shard, progress: Progress | None) -> dict[str, np.ndarray]:
        task, budget = self.task, self.budget
        if task.kind == MEANS:
            means = term_means(self.model, self.plan, shard, budget)
            return {**_packed_means(means), "budget": np.array([budget])}
        recordings = [make(shard.numbers, shard.pairs) for make in self.recordings]
        out = run_shard(
            self.model,
            self.plan,
            shard,
            seed=task.seed,
            budget=budget,
            means=task.means,
            progress=progress,
            meters=[meter for meter, _ in recordings],
        )
        measured = {
            f"{place}.{name}": array
            for place, (_, outcome) in enumerate(recordings)
            for name, array in outcome().items()
        }
        return {**_packed(out), **measured}


class InProcessExecutor:
    """Runs shards in this process, one by one."""

    def outcomes(
        self, bound: BoundTask, shards: Iterable[Shard], stop: Stop, progress: Progress | None
    ) -> Iterator[tuple[Shard, Outcome]]:
        """The outcomes in the shards' order."""
        for shard in shards:
            if stop.requested:
                return
            yield shard, bound.run(shard, progress)

    def close(self) -> None:
        """Hold nothing that must be released."""


@dataclass(frozen=True)
class ModelSpec:
    """What a worker needs to load a model."""

    name: str
    sha256: str
    revision: str | None = None
    prompt: Prompt | None = None
    dtype: str = "float32"
    max_length: int | None = None
    device: str | None = None
    negate: bool = False
    label: int | None = None

    def to_json(self) -> str:
        """The spec as a text: what a worker is sent."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> ModelSpec:
        """The spec that :meth:`to_json` wrote."""
        spec = cls(**json.loads(text))
        prompt: Any = spec.prompt
        return spec if prompt is None else replace(spec, prompt=Prompt(**prompt))

    def load(self, device: str | None = None) -> Reranker:
        """Load the model, on the spec's own device where none is given."""
        from matchlens.models.folder import find
        from matchlens.models.load import load

        folder = find(self.name, self.revision)
        if folder.sha256 != self.sha256:
            raise InputError(
                f"model {self.name!r}: a worker's files have the SHA-256 {folder.sha256[:12]}..., "
                f"the driver's {self.sha256[:12]}...; expected the same files on every node"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MatchlensWarning)  # the driver says it
            return load(
                folder.with_prompt(self.prompt),
                device=device or self.device,
                dtype=self.dtype,
                max_length=self.max_length,
                negate=self.negate,
                label=self.label,
            )


class Worker:
    """A worker's model, and the task that it is at.

    Args:
        spec: how the model is loaded, as JSON.
        device: where it runs; where the spec says where None.
    """

    def __init__(self, spec: str, device: str | None) -> None:
        keep_memory()
        self._spec, self._device = spec, device
        self.model: Reranker | None = None
        self._bound: BoundTask | None = None

    def load(self, answer: Outcome = MappingProxyType({})) -> bytes:
        """Load the model, once; the answer as :func:`answered` sends it."""

        def run() -> bytes:
            if self.model is None:
                self.model = ModelSpec.of(self._spec).load(self._device)
            return to_bytes(answer)

        return answered(run)

    def work(self, task: Task, shard: Shard) -> bytes:
        """The outcome of a shard, as :func:`answered` sends it."""

        def run() -> bytes:
            assert self.model is not None  # noqa: S101
            if self._bound is None or self._bound.task.key != task.key:
                self._bound = BoundTask(self.model, task)
            return to_bytes(self._bound.run(shard))

        return answered(run)


def _packed(out: Run) -> dict[str, np.ndarray]:
    return {
        "scores": out.scores.values,
        "tokens": out.tokens,
        "truncated": out.truncated,
        "taken": out.taken,
        "reach": out.reach,
        "causal": np.array([out.causal]),
        "batches": np.array(out.batches, dtype=np.int64),
        "budget": np.array([out.batch_tokens]),
        "device": packed(out.device),
        "counts": np.array([out.counts.rows, out.counts.projected]),
    }


def _packed_means(means: ReplacementMeans) -> dict[str, np.ndarray]:
    return {
        f"{name}.{layer}": tensor.cpu().numpy()
        for name, by_layer in (("sums", means.sums), ("pairs", means.pairs))
        for layer, tensor in by_layer.items()
    }


def unpacked_means(arrays: Mapping[str, np.ndarray]) -> ReplacementMeans:
    """The means of a shard."""
    means = ReplacementMeans()
    for name, array in sorted(arrays.items()):
        what, _, layer = name.partition(".")
        if layer:
            getattr(means, what)[int(layer)] = torch.from_numpy(array.copy())
    return means


def checked(outcome: Outcome, bound: BoundTask, pairs: int) -> Outcome:
    """An outcome whose arrays have the names, types and shapes of the task.

    Raises:
        ValueError: if an array is missing, is not expected, or has another type or shape.
    """
    model, task, plan = bound.model, bound.task, bound.plan
    layers = model.family.n_layers
    wanted: dict[str, tuple[str, tuple[int, ...] | None]] = {"budget": ("i8", (1,))}
    if task.kind == SCORES:
        score = np.dtype(model.score_dtype).str[1:]
        wanted |= {
            "scores": (score, (len(plan.conditions), pairs)),
            "tokens": ("i8", (pairs,)),
            "truncated": ("b1", (pairs,)),
            "taken": ("f8", (len(plan.controls), pairs, len(TAKEN))),
            "reach": ("b1", (layers, PADDING, PADDING)),
            "causal": ("b1", (1,)),
            "batches": ("i8", None),
            "device": ("u1", None),
            "counts": ("i8", (2,)),
        }
    for name, (kind, shape) in wanted.items():
        array = outcome.get(name)
        if array is None:
            raise ValueError(f"array {name!r} is missing")
        if array.dtype.str[1:] != kind or (shape is not None and array.shape != shape):
            raise ValueError(f"array {name!r} is {array.dtype} of shape {array.shape}")
    if task.kind == SCORES:
        more = tuple(f"{place}." for place in range(len(task.measures)))
        if int(outcome["batches"].sum()) != pairs or (outcome["batches"] < 1).any():
            raise ValueError("the sizes of its batches are not those of its pairs")
        if not isinstance(unpacked(outcome["device"]), str):
            raise ValueError("its device is not a text")
    else:
        more = ("sums.", "pairs.")
        for name in outcome.keys() - wanted.keys():
            if not name.partition(".")[2].isdecimal() or int(name.partition(".")[2]) >= layers:
                raise ValueError(f"array {name!r} is of no layer")
    if odd := [name for name in outcome if name not in wanted and not name.startswith(more)]:
        raise ValueError(f"array {odd[0]!r} is not expected")
    return outcome


def to_bytes(outcome: Outcome) -> bytes:
    """An outcome as a worker sends it: safetensors, in which there is nothing but arrays."""
    return save({name: np.ascontiguousarray(array) for name, array in outcome.items()})


def answered(work: Callable[[], bytes]) -> bytes:
    """Bytes to send: the outcome of some work, or as a text why there is none.

    An exception itself would have to be pickled.
    """
    try:
        return work()
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, InputError):
            error = surroundings(error)
        elif out_of_memory(error):
            error = InputError(
                "a worker ran out of memory; give fewer --workers, a smaller --dtype or another "
                "--device, and run the same command again to go on"
            )
        if isinstance(error, InputError):
            return to_bytes({REFUSAL: packed(str(error))})
        return to_bytes({FAULT: packed(traceback.format_exc())})


def from_bytes(content: object) -> dict[str, np.ndarray]:
    """A worker's outcome; bytes as :func:`answered` sends them, anything else is refused.

    Raises:
        RuntimeError: with a worker's traceback, where the program itself is at fault.
    """
    try:
        if not isinstance(content, bytes):
            raise ValueError(f"{type(content).__name__} instead of bytes")
        arrays = load(content)
        why, fault = (
            str(unpacked(arrays[name])) if name in arrays else None for name in (REFUSAL, FAULT)
        )
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"a worker's answer cannot be used ({error}); expected arrays as safetensors: see that "
            "every node has this version of matchlens, and run the same command again to go on"
        ) from None
    if why is not None:
        raise InputError(why)
    if fault is not None:
        raise RuntimeError(f"a worker failed:\n{fault}")
    return arrays
