"""Numbers of every pair on disk: a .npy file, written as pairs come and mapped afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

BLOCK = 1 << 24
"""Bytes read at once."""


@runtime_checkable
class Keeps(Protocol):
    """Where a meter writes the numbers of pairs."""

    shape: tuple[int, ...]

    def write(self, pairs: Int[np.ndarray, " n"], values: Float[np.ndarray, "n ..."]) -> None:
        """Write the numbers of some pairs, known by their places in the run."""
        ...


class Rows:
    """The numbers of some of a run's pairs, in memory, NaN where nothing has been written.

    Args:
        numbers: the pairs' places in the run.
        shape: of one pair's numbers.

    >>> rows = Rows(np.array([7, 2]), (1,))
    >>> rows.write(np.array([2]), np.array([[0.5]], dtype=np.float32))
    >>> rows.values.tolist()
    [[nan], [0.5]]
    """

    def __init__(self, numbers: Int[np.ndarray, " pair"], shape: tuple[int, ...]) -> None:
        self._order = np.argsort(numbers)
        self._sorted = numbers[self._order]
        self.shape = (len(numbers), *shape)
        self.values = np.full(self.shape, np.nan, dtype=np.float32)

    def write(self, pairs: Int[np.ndarray, " n"], values: Float[np.ndarray, "n ..."]) -> None:
        """Take the numbers of some of the pairs."""
        self.values[self._order[np.searchsorted(self._sorted, pairs)]] = values


class PairArray:
    """A float32 array [pair, ...] in a .npy file, NaN where nothing has been written.

    Only what is being written or read is in memory, whatever the number of pairs. The file is an
    ordinary one: ``numpy.load(path, mmap_mode="r")``.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape = Path(path), tuple(shape)
        self._row = int(np.prod(shape[1:])) * 4
        header = np.lib.format.header_data_from_array_1_0(np.empty(0, np.float32))
        header["shape"] = self.shape
        with open(self.path, "xb") as stream:  # never through a link that lies there
            np.lib.format.write_array_header_1_0(stream, header)
            self._start = stream.tell()
            nothing = np.full(min(self._row, BLOCK) // 4 or 1, np.nan, dtype=np.float32).tobytes()
            left = self._row * shape[0]
            while left > 0:
                left -= stream.write(nothing[:left])

    def write(self, pairs: Int[np.ndarray, " n"], values: Float[np.ndarray, "n ..."]) -> None:
        """Write the numbers of some pairs."""
        rows = np.ascontiguousarray(values, dtype="<f4").reshape(len(pairs), -1)
        with open(self.path, "r+b", buffering=0) as stream:
            for pair, row in zip(pairs.tolist(), rows, strict=True):
                _write_all(stream.fileno(), row.tobytes(), self._start + pair * self._row)

    def blocks(self) -> Iterator[tuple[slice, Float[np.ndarray, "n ..."]]]:
        """The array in blocks of pairs, each read from the file and forgotten."""
        step = max(1, BLOCK // max(1, self._row))
        with open(self.path, "rb", buffering=0) as stream:
            for start in range(0, self.shape[0], step):
                stop = min(start + step, self.shape[0])
                stream.seek(self._start + start * self._row)
                raw, size = stream.read((stop - start) * self._row), (stop - start) * self._row
                if len(raw) != size:
                    raise OSError(f"the array's file ends early: {len(raw)} of {size} bytes")
                block = np.frombuffer(raw, dtype="<f4").reshape(stop - start, *self.shape[1:])
                yield slice(start, stop), block

    def of(self, index: tuple[int | slice, ...]) -> Float[np.ndarray, "pair ..."]:
        """One slice behind the pair axis, for all pairs."""
        return np.concatenate([block[(slice(None), *index)].copy() for _, block in self.blocks()])

    def mapped(self) -> Float[np.ndarray, "pair ..."]:
        """The whole array, memory-mapped, read only."""
        return np.load(self.path, mmap_mode="r", allow_pickle=False)


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done
