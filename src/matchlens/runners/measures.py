"""Measurements beside the scores, as data, so that any worker can make the meter."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from matchlens.corpora.pair import Pair
from matchlens.errors import InputError
from matchlens.meters.arrays import Keeps, Rows
from matchlens.meters.attention import AttentionMeter, Reading
from matchlens.meters.meter import Meter
from matchlens.meters.names import PARTS, shape_of
from matchlens.meters.received import READERS, ReceivedMeter
from matchlens.meters.states import MeanStatesMeter, StatesMeter
from matchlens.models.load import Reranker
from matchlens.models.words import Static, words_of
from matchlens.parts import Part
from matchlens.qk import Hypothesis, MeanStates

Arrays = Mapping[str, np.ndarray]
Recording = tuple[Meter, Callable[[], dict[str, np.ndarray]]]
"""A meter for one shard, and a function that returns its arrays when the shard is finished."""
Numbers = Int[np.ndarray, " pair"]


@runtime_checkable
class Measure(Protocol):
    """What is measured, as data; a worker makes its meter."""

    def record(self) -> object:
        """All that it depends on, as JSON: equal records measure the same."""
        ...

    def ready(self, model: Reranker) -> Callable[[Numbers, Sequence[Pair]], Recording]:
        """Makes the recording of a shard, from its pairs and their places in the run."""
        ...


@dataclass(frozen=True)
class MeasurementRequest:
    """A measure, and what takes its outcomes.

    Args:
        measure: what is measured.
        take: called shard by shard, in the shards' order, with the pairs' places in the run and
            the arrays.
    """

    measure: Measure
    take: Callable[[Numbers, Arrays], None] = lambda numbers, arrays: None


@dataclass(frozen=True)
class Attention:
    """The attention meters' rows."""

    names: tuple[str, ...]
    own: tuple[str, ...] = ()

    def record(self) -> object:
        """Their names."""
        return ["attention", *self.names, *([[*self.own]] if self.own else [])]

    def ready(self, model: Reranker) -> Callable[[Numbers, Sequence[Pair]], Recording]:
        """Rows of each."""
        shape = (model.family.n_layers, model.family.n_heads)
        static = Static.of(model) if "same_stem" in self.names else None

        def of(numbers: Numbers, pairs: Sequence[Pair]) -> Recording:
            parts = len(PARTS) + len(self.own)
            rows = {name: Rows(numbers, shape_of(name, *shape, parts)) for name in self.names}
            reading = None
            if static is not None:
                by_number = dict(zip(numbers.tolist(), pairs, strict=True))
                reading = Reading(static, lambda number: words_of(model, by_number[number]))
            meter = AttentionMeter(self.names, rows, reading, self.own)
            return meter, lambda: {name: kept.values for name, kept in rows.items()}

        return of


@dataclass(frozen=True)
class Received:
    """What every place of a pair receives."""

    places: int

    def record(self) -> object:
        """The number of places."""
        return ["received", self.places]

    def ready(self, model: Reranker) -> Callable[[Numbers, Sequence[Pair]], Recording]:
        """Rows [pair, layer, head, reader, place]."""
        shape = (model.family.n_layers, model.family.n_heads, len(READERS), self.places)

        def of(numbers: Numbers, pairs: Sequence[Pair]) -> Recording:
            rows = Rows(numbers, shape)
            return ReceivedMeter(rows), lambda: {"received": rows.values}

        return of


@dataclass(frozen=True)
class States:
    """Sums of the layer inputs, for the mean states.

    Args:
        queries: for each pair of the run its query's collection and id.
        classes: for each pair its class, None where it is passed over.
        document: the parts of which a document's mean state is made.
    """

    queries: tuple[tuple[str, str], ...]
    classes: tuple[str | None, ...]
    document: tuple[Part, ...]

    def record(self) -> object:
        """The parts, and a digest of the queries and classes."""
        named = json.dumps([self.queries, self.classes]).encode()
        parts = [str(part) for part in self.document]
        return ["states", parts, hashlib.sha256(named).hexdigest()]

    def empty(self, model: Reranker) -> MeanStates:
        """Nothing observed."""
        family = model.family
        return MeanStates(
            n_layers=family.n_layers, width=family.qk(0).width, document_parts=self.document
        )

    def ready(self, model: Reranker) -> Callable[[Numbers, Sequence[Pair]], Recording]:
        """Sums and counts, and whose they are."""

        def of(numbers: Numbers, pairs: Sequence[Pair]) -> Recording:
            states = self.empty(model)

            def outcome() -> dict[str, np.ndarray]:
                keys, sums, counts = states.sums
                return {"keys": packed(keys), "sums": sums, "counts": counts}

            return MeanStatesMeter(states, self.queries, self.classes), outcome

        return of


@dataclass(frozen=True, eq=False)
class Logits:
    """Moments of the terms of the logits, for the hypothesis.

    Args:
        query: [layer, d], mean input over query tokens.
        document: [layer, d], mean input over document tokens.
        parts: the parts of a document.
    """

    query: Float[np.ndarray, "layer d"]
    document: Float[np.ndarray, "layer d"]
    parts: tuple[Part, ...]

    def record(self) -> object:
        """The parts, and a digest of the means."""
        both = self.query.tobytes() + self.document.tobytes()
        return ["logits", [str(part) for part in self.parts], hashlib.sha256(both).hexdigest()]

    def empty(self, model: Reranker) -> Hypothesis:
        """Nothing observed."""
        layers = [model.family.qk(layer) for layer in range(model.family.n_layers)]
        return Hypothesis(layers, self.query, self.document, document_parts=self.parts)

    def ready(self, model: Reranker) -> Callable[[Numbers, Sequence[Pair]], Recording]:
        """The counts and moments."""
        empty = self.empty(model)  # once: it factors the weights

        def of(numbers: Numbers, pairs: Sequence[Pair]) -> Recording:
            moments = empty.fresh()

            def outcome() -> dict[str, np.ndarray]:
                return {"counts": moments.counts, "first": moments.first, "second": moments.second}

            return StatesMeter(moments), outcome

        return of


@dataclass(frozen=True, eq=False)
class InProcess:
    """A meter that keeps its own numbers: for runs in this process alone."""

    meter: Meter

    def record(self) -> object:
        """Nothing that another process could know it by: what it measured is in its meter."""
        return ["in this process", os.getpid(), id(self)]

    def ready(self, model: Reranker) -> Callable[[Numbers, Sequence[Pair]], Recording]:
        """The meter itself."""
        return lambda numbers, pairs: (self.meter, dict)


def rows_into(arrays: Mapping[str, Keeps]) -> Callable[[Numbers, Arrays], None]:
    """Write rows of :class:`Attention` or :class:`Received` into arrays."""

    def take(numbers: Numbers, outcome: Arrays) -> None:
        for name, array in arrays.items():
            rows = outcome.get(name)
            if rows is None or rows.shape != (len(numbers), *array.shape[1:]):
                raise InputError(
                    f"a shard's {name!r} is {'missing' if rows is None else rows.shape}; expected "
                    f"{(len(numbers), *array.shape[1:])}: run the same command with a new --out"
                )
            array.write(numbers, rows)

    return take


def states_into(states: MeanStates) -> Callable[[Numbers, Arrays], None]:
    """Add sums of :class:`States` to mean states."""

    def take(numbers: Numbers, outcome: Arrays) -> None:
        keys = [
            ((str(collection), str(qid)), str(kind))
            for (collection, qid), kind in unpacked(outcome["keys"])
        ]
        states.add(keys, outcome["sums"], outcome["counts"])

    return take


def logits_into(moments: Hypothesis) -> Callable[[Numbers, Arrays], None]:
    """Add moments of :class:`Logits` to a hypothesis."""

    def take(numbers: Numbers, outcome: Arrays) -> None:
        moments.add(outcome["counts"], outcome["first"], outcome["second"])

    return take


def packed(content: object) -> np.ndarray:
    """JSON as bytes in an array."""
    return np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)


def unpacked(array: np.ndarray) -> Any:
    """What :func:`packed` packed."""
    return json.loads(array.tobytes())
