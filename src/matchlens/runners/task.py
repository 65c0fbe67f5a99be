"""A run as data, and the running of one of its shards by whoever holds the model."""

from __future__ import annotations

import gc
import hashlib
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.numpy import load, save

from matchlens._version import __version__
from matchlens.corpora.pairs import Pair, digest
from matchlens.engine import Progress, Run, run_part, term_means
from matchlens.errors import InputError, surroundings
from matchlens.models.load import Reranker
from matchlens.models.random_edges import TAKEN
from matchlens.models.replacements import ReplacementMeans
from matchlens.parts import PADDING
from matchlens.plan import Condition, Control, Plan
from matchlens.runners.measures import Measure, packed, unpacked
from matchlens.runners.memory import Budget, out_of_memory

FORMAT = 2
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


@dataclass(frozen=True, eq=False)
class Shard:
    """The pairs of one shard.

    Args:
        number: of the shard.
        numbers: the pairs' places in the run.
        pairs: the pairs.
        longest: tokens of the longest.
        others: for each pair the other one that ``resample`` takes.
    """

    number: int
    numbers: Int[np.ndarray, " pair"]
    pairs: Sequence[Pair]
    longest: int
    others: Sequence[Pair] | None = None


def key_of(
    model: Reranker,
    pairs: Sequence[Pair],
    conditions: Mapping[str, Condition],
    seed: int,
    measures: Sequence[Measure],
    kind: str,
) -> str:
    """A digest of all that a shard's outcome depends on, but for the batches' sizes.

    Args:
        model: what is run.
        pairs: all pairs, in order.
        conditions: name to cuts or a control.
        seed: of the run.
        measures: what is measured.
        kind: of the task.
    """
    asked = {
        "format": [FORMAT, __version__, str(torch.__version__)],
        "kind": kind,
        "model": dict(model.identity),
        "device": model.device.type,
        "pairs": digest(pairs),
        "conditions": [[name, *map(_text, cuts)] for name, cuts in conditions.items()],
        "seed": seed,
        "measures": [measure.record() for measure in measures],
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


def _text(cut: object) -> str:
    return f"{cut.kind} {cut.draw} {cut.cut}" if isinstance(cut, Control) else str(cut)


class BoundTask:
    """A task made ready on a model; its shards run one by one.

    Args:
        model: a loaded reranker.
        task: the task.
        budget: most places of one layer call; lowered where memory runs out.
        plan: the conditions' plan, where it is there already.
    """

    def __init__(
        self, model: Reranker, task: Task, budget: Budget, plan: Plan | None = None
    ) -> None:
        family = model.family
        self.model, self.task, self.budget = model, task, budget
        self.plan = plan or Plan.build(
            task.conditions, family.n_layers, family.n_heads, family.score_parts
        )
        self.recordings = [measure.ready(model) for measure in task.measures]

    def run(self, shard: Shard, progress: Progress | None = None) -> dict[str, np.ndarray]:
        """The outcome of a shard; where memory runs out, by smaller batches.

        Args:
            shard: the shard.
            progress: called as its pairs are done.

        Raises:
            InputError: if a pair cannot be run, or not even one pair fits into memory.
        """
        while True:
            used = self.budget.of(self.task.batch_tokens)
            try:
                return self._run(shard, used, progress)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if used <= shard.longest:
                raise InputError(
                    f"out of memory with one pair of {shard.longest} tokens in a layer call; give "
                    "a smaller --max-length, a smaller --dtype, fewer --workers or another --device"
                )
            self.budget.lower(max(used // 2, shard.longest))

    def _run(self, shard: Shard, budget: int, progress: Progress | None) -> dict[str, np.ndarray]:
        if self.task.kind == MEANS:
            means = term_means(self.model, shard.pairs, self.plan, budget)
            return {**_packed_means(means), "budget": np.array([budget])}
        recordings = [make(shard.numbers, shard.pairs) for make in self.recordings]
        out = run_part(
            self.model,
            shard.pairs,
            self.plan,
            seed=self.task.seed,
            budget=budget,
            numbers=shard.numbers,
            means=self.task.means,
            others=shard.others,
            progress=progress,
            meters=[meter for meter, _ in recordings],
        )
        measured = {
            f"{place}.{name}": array
            for place, (_, outcome) in enumerate(recordings)
            for name, array in outcome().items()
        }
        return {**_packed(out), **measured}


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
    }


def _packed_means(means: ReplacementMeans) -> dict[str, np.ndarray]:
    sums = {f"sums.{layer}": one.cpu().numpy() for layer, one in means.sums.items()}
    pairs = {f"pairs.{layer}": one.cpu().numpy() for layer, one in means.pairs.items()}
    return {**sums, **pairs}


def unpacked_means(arrays: Mapping[str, np.ndarray]) -> ReplacementMeans:
    """The means of a shard.

    Args:
        arrays: the outcome of a shard of kind ``means``.
    """
    means = ReplacementMeans()
    for name, array in sorted(arrays.items()):
        what, _, layer = name.partition(".")
        if layer:
            getattr(means, what)[int(layer)] = torch.from_numpy(array.copy())
    return means


def checked(outcome: Outcome, model: Reranker, task: Task, shard: Shard, plan: Plan) -> Outcome:
    """An outcome whose arrays have the names, types and shapes of the task.

    Args:
        outcome: what a worker sent, or what lay in a shard's file.
        model: the model, as it is loaded here.
        task: what was run.
        shard: the shard that was run.
        plan: the task's plan.

    Raises:
        ValueError: if an array is missing, is not expected, or has another type or shape.
    """
    pairs, layers = len(shard.numbers), model.family.n_layers
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
    """An outcome as a worker sends it: safetensors, in which there is nothing but arrays.

    >>> from_bytes(to_bytes({"tokens": np.array([3, 4])}))["tokens"].tolist()
    [3, 4]
    """
    return save({name: np.ascontiguousarray(array) for name, array in outcome.items()})


def answered(work: Callable[[], bytes]) -> bytes:
    """What a worker sends: the outcome of its work, or as a text why there is none.

    An exception itself would have to be pickled.

    Args:
        work: does the work.
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
    """What a worker sent.

    Args:
        content: bytes, as :func:`answered` made them; anything else is refused.

    Raises:
        InputError: if it is no outcome, or the worker says that it could not do its work.
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
