"""Two results folders that should be the same: where their tables agree, and how closely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matchlens.columns import parquet
from matchlens.errors import InputError, counted
from matchlens.files import stamp_of
from matchlens.reading import METERS, PAIRS, SCORES, Snapshot, array, reading

BYTES, DIGITS, DIFFERS, MISSING, MORE = (
    "the same bytes",
    "the same printed digits",
    "differs",
    "not made again",
    "only there now",
)
CLOSE = 1e-5
"""Numbers this close, as a share of the larger where that is above 1, count as one in print."""
BLOCK = 1 << 22
"""Numbers of an array compared at once."""


@dataclass(frozen=True)
class FileDiff:
    """How one file of numbers differs from the one from before."""

    file: str  # its name in the folder
    verdict: str  # the same bytes, the same printed digits, differs, not made again, only there now
    # the first place where a number or text differs beyond print; empty where none does
    where: str = ""
    largest: float = 0.0  # the largest difference between two numbers

    @property
    def same(self) -> bool:
        """Whether print shows no difference."""
        return self.verdict in (BYTES, DIGITS)


def file_diffs(old: Path, new: Path) -> list[FileDiff]:
    """Compare the tables and arrays of two results folders, file by file."""
    with Snapshot.open(old) as before, Snapshot.open(new) as after:
        names = [set(_numbers(snapshot)) for snapshot in (before, after)]
        diffs = [FileDiff(file, MISSING) for file in names[0] - names[1]]
        diffs += [FileDiff(file, MORE) for file in names[1] - names[0]]
        diffs += [_diff(file, before, after) for file in names[0] & names[1]]
        return sorted(diffs, key=lambda diff: diff.file)


def _numbers(snapshot: Snapshot) -> Iterator[str]:
    """The files of numbers: every table once, every array."""
    names = [PAIRS, SCORES, *(f"{METERS}/{name}.npy" for name in snapshot.meters())]
    for study in snapshot.manifest["studies"]:
        names += [f"{study}/{table}.parquet" for table in snapshot.tables(study)]
    for name in names:
        with suppress(OSError):  # a file that is missing is named by the comparison
            snapshot.stream(name).close()
            yield name


def _diff(file: str, old: Snapshot, new: Snapshot) -> FileDiff:
    """The difference of a file that both folders have, whatever their manifests list."""
    with old.stream(file) as before, new.stream(file) as after:
        if stamp_of(before) == stamp_of(after):
            return FileDiff(file, BYTES)
        values = []
        for stream, snapshot in ((before, old), (after, new)):
            stream.seek(0)
            with reading(snapshot.out.path / file):
                values.append((array if file.endswith(".npy") else parquet)(stream))
    if file.endswith(".npy"):
        where, largest = _arrays(values[0], values[1])
    else:
        about = old.manifest["studies"].get(file.partition("/")[0], {"options": {}})
        where, largest = tables(values[0], values[1], about["options"].get("digits", 3))
    return FileDiff(file, DIFFERS if where else DIGITS, where, largest)


def tables(old: pd.DataFrame, new: pd.DataFrame, digits: int) -> tuple[str, float]:
    """The first place where two tables differ in print, and the largest difference of numbers.

    >>> a, b = pd.DataFrame({"x": [1.0, 0.1234]}), pd.DataFrame({"x": [1.0, 0.2]})
    >>> tables(a, b, 3)[0]
    'row 2, x: 0.1234, now 0.2'
    """
    if list(old.columns) != list(new.columns):
        changed = sorted(set(old.columns) ^ set(new.columns)) or ["their order"]
        return f"columns: {', '.join(map(str, changed))}", 0.0
    if len(old) != len(new):
        return f"{counted(len(old), 'row')}, now {len(new)}", 0.0
    first, largest = (len(old), ""), 0.0
    for name in old.columns:
        a, b = old[name], new[name]
        if pd.api.types.is_float_dtype(a) and pd.api.types.is_float_dtype(b):
            wrong, away = _numbers_differ(a.to_numpy(float), b.to_numpy(float), digits)
            largest = max(largest, away)
        else:
            texts = [a.map(repr).to_numpy(), b.map(repr).to_numpy()]
            wrong = texts[0] != texts[1]
        if wrong.any() and (row := int(wrong.argmax())) < first[0]:
            first = row, f"row {row + 1}, {name}: {a.iloc[row]}, now {b.iloc[row]}"
    return first[1], largest


def _numbers_differ(a: np.ndarray, b: np.ndarray, digits: int) -> tuple[np.ndarray, float]:
    """Which numbers differ in print, and the largest difference."""
    with np.errstate(all="ignore"):
        away = np.where(a == b, 0.0, np.abs(a - b))
        nothing = np.isnan(a) & np.isnan(b)
        close = away <= CLOSE * np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))
        close &= np.isfinite(away)
        same = nothing | close | (np.round(a, digits) == np.round(b, digits))
    away = away[~np.isnan(away)]
    return ~same, float(away.max()) if away.size else 0.0


def _arrays(old: np.ndarray, new: np.ndarray) -> tuple[str, float]:
    if old.shape != new.shape or old.dtype != new.dtype:
        return f"{old.dtype} {list(old.shape)}, now {new.dtype} {list(new.shape)}", 0.0
    where, largest, step = "", 0.0, max(1, BLOCK // max(1, old[:1].size))
    for start in range(0, len(old), step):
        a, b = (np.asarray(array[start : start + step], dtype=float) for array in (old, new))
        wrong, away = _numbers_differ(a, b, 3)
        largest = max(largest, away)
        if wrong.any() and not where:
            place = [int(index) for index in np.argwhere(wrong)[0]]
            was, now = a[tuple(place)], b[tuple(place)]
            where = f"{[start + place[0], *place[1:]]}: {was:.6g}, now {now:.6g}"
    return where, largest


def lines(diffs: list[FileDiff]) -> Iterator[str]:
    """A line for each file that is not the same to the byte, and one on all of them.

    >>> list(lines([FileDiff("scores.parquet", BYTES)]))
    ['1 file of numbers: 1 the same bytes']
    """
    for diff in diffs:
        if diff.verdict != BYTES:
            # where texts, columns or rows differ, no two numbers need have been compared
            known = diff.verdict == DIGITS or (diff.verdict == DIFFERS and diff.largest > 0)
            more = f" (largest difference {diff.largest:.2g})" if known else ""
            first = f", first in {diff.where}" if diff.where else ""
            yield f"{diff.file}: {diff.verdict}{first}{more}"
    counts = Counter(diff.verdict for diff in diffs)
    verdicts = (BYTES, DIGITS, DIFFERS, MISSING, MORE)
    listed = ", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts if counts[verdict])
    yield f"{counted(len(diffs), 'file')} of numbers: {listed}"


def check_new(old: Path, new: Path) -> None:
    """Check that the second folder is another one."""
    inner, outer = new.resolve(), old.resolve()
    if inner == outer or outer in inner.parents:
        raise InputError(
            f"--out {str(new)!r} lies in the folder that is run again, or is that folder; give "
            "another --out"
        )
