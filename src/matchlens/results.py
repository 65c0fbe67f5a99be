"""Results: tidy tables with their provenance, and the folder that holds them on disk.

A results folder is the same for every study::

    manifest.json            provenance: model, pairs, versions, options, the check of the model
    pairs.parquet            one row for each pair
    scores.parquet           cut, pair, score (logits)
    meters/<name>.npy        [pair, layer, head, row part, column part], for numpy's mmap_mode
    <study>/<table>.parquet  and .json with the same rows
    <study>/<name>.tex .txt  the tables for a paper and a terminal
    runs/0001.run, index.tsv TREC runs on request; the index says which cut is which
    run.log                  times; they are nowhere else, so that equal runs give equal tables
"""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.columns import MOST_TABLE
from matchlens.errors import InputError, brief, counted
from matchlens.files import Folder
from matchlens.reading import (
    COMMIT,
    LOG,
    MANIFEST,
    METERS,
    OWN_DIGEST,
    PAIRS,
    SCORES,
    UNFINISHED,
    Snapshot,
    check_inside,
    inner,
    read_array,
    read_manifest,
    steadily,
    to_json,
)
from matchlens.saving import PROBE, Save, locked, writing
from matchlens.showing import Shows, drawing

__all__ = ["Result", "check_folder", "differences", "read_manifest", "records", "to_json"]

FIVE = ("CLS", "Q", "SEP1", "D", "SEP2")
"""The parts of an array of a meter, where its study does not name them."""
SCORE_COLUMNS = {"cut", "pair", "score"}


@dataclass(repr=False)
class Result(Shows):
    """The results of a study, with their provenance.

    Args:
        study: the study's name, such as ``ablation``.
        identity: model, pairs and versions; folders with another identity are not mixed.
        options: every option of the study, defaults spelled out.
        notes: what a person should know before believing the numbers.
        pairs: one row for each pair.
        scores: columns cut, pair, score (logits).
        tables: the study's tables by name.
        texts: file name to content, such as the LaTeX table or a figure.
        log: lines for run.log, the only place for times.
        arrays: the meters' files, [pair, layer, head, row part, column part], by name.
        held: the temporary folder that contains them until they are saved.
        source: the results folder that the result was loaded from; none where it is new.
        command: the command that computed it, as the manifest records it; none from Python.
        stamps: size and SHA-256 of each array's file when the result was loaded.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.ablation(matchlens.load("demo"), pairs, cuts=["Q->D"])
    >>> result.study, list(result.tables), result.options["measure"]
    ('ablation', ['table1', 'queries'], 'nDCG@10')
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = Result.load(result.save(f"{folder}/out"), "ablation")
    >>> again.to_frame("table1").equals(result.to_frame("table1"))
    True
    """

    study: str
    identity: Mapping[str, object]
    options: Mapping[str, object]
    notes: tuple[str, ...]
    pairs: pd.DataFrame
    scores: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    texts: dict[str, str | bytes] = field(default_factory=dict)
    log: tuple[str, ...] = ()
    arrays: Mapping[str, Path] = field(default_factory=dict)
    held: object = None
    source: Path | None = None
    command: Mapping[str, object] = field(default_factory=dict)
    stamps: Mapping[str, object] = field(default_factory=dict)

    def __repr__(self) -> str:
        rows = ", ".join(f"{name} ({len(table):,})" for name, table in self.tables.items())
        pairs = counted(len(self.pairs), "pair")
        return f"<Result {brief(self.study)}: {pairs}, tables {brief(rows, 90)}>"

    @typed
    def array(self, name: str, direction: str | None = None) -> np.ndarray:
        """A meter's numbers, memory-mapped and read only: [pair, layer, head, part, part].

        Args:
            name: the meter.
            direction: such as ``Q->D``: only these rows and columns, [pair, layer, head].

        Raises:
            InputError: if there is no such meter or direction, or the folder that the result was
                loaded from now holds another run's array.
        """
        if direction is not None:
            axes = self.axes(name)
            parts = direction.split("->")
            known = [axes.get("row", []), axes.get("column", [])]
            if len(parts) != 2 or parts[0] not in known[0] or parts[1] not in known[1]:
                raise InputError(
                    f"meter {name!r} has no direction {direction!r}; expected two of its parts, "
                    f"such as 'Q->D': {', '.join(map(str, axes.get('row', []))) or 'none'}"
                )
            row, column = (axis.index(part) for part, axis in zip(parts, known, strict=True))
            return self.array(name)[..., row, column]
        if name not in self.arrays:
            listed = ", ".join(self.arrays) or "none"
            raise InputError(f"no meter {name!r} was kept; expected one of: {listed}")
        if self.source is None:
            return read_array(self.arrays[name])
        return steadily(self.source, partial(self._read_array, name))

    def _read_array(self, name: str, snapshot: Snapshot) -> np.ndarray:
        self._check_stamp(name, snapshot)
        return snapshot.array(f"{METERS}/{name}.npy")

    def _check_stamp(self, name: str, snapshot: Snapshot) -> None:
        """Refuse an array that another run has put in the place of this result's."""
        if name in self.stamps and _stamp(snapshot, name) != self.stamps[name]:
            raise InputError(
                f"{str(self.source)!r} has changed since this result was loaded from it: its "
                f"{METERS}/{name}.npy is another run's, the tables here are not; expected both of "
                "one run: load it again (Result.load)"
            )

    @typed
    def axes(self, name: str) -> dict[str, list]:
        """The names and labels of an array's axes, in order.

        With xarray: ``xarray.DataArray(result.array(name), coords=[*result.axes(name).items()])``.

        Args:
            name: the meter.

        Raises:
            InputError: if there is no such meter, or its axes have no names.
        """
        shape = self.array(name).shape
        named = self.options.get("parts")
        parts = [*map(str, named)] if isinstance(named, list | tuple) else [*FIVE]
        ends = {
            "surface": ("quantity",),
            "kinds": ("layer", "head", "direction", "quantity"),
            "received": ("layer", "head", "reader", "place"),
        }.get(name, ("layer", "head", "row", "column"))
        if len(shape) != 1 + len(ends):
            raise InputError(
                f"the axes of meter {name!r}, an array of {len(shape)} dimensions, have no names; "
                "expected one of pairs, as the attention study keeps it: read it by result.array"
            )
        sizes = dict(zip(("pair", *ends), shape, strict=True))
        labels = {axis: [*range(size)] for axis, size in sizes.items()}
        labels |= {axis: parts for axis in ("row", "column") if sizes.get(axis) == len(parts)}
        if "direction" in labels:
            labels["direction"] = ["Q->D", "D->Q"]
        return labels

    @typed
    def to_frame(self, table: str | None = None) -> pd.DataFrame:
        """A copy of one table, the first where ``table`` is None.

        Raises:
            InputError: if there is no such table.
        """
        name = next(iter(self.tables)) if table is None else table
        if name not in self.tables:
            raise InputError(f"no table {name!r}; expected one of {', '.join(self.tables)}")
        return self.tables[name].copy()

    @typed
    def save(self, folder: str | Path, *, drawings: bool = False) -> Path:
        """Write the results folder, new or continued; all of it becomes visible at once.

        Files of the study that the folder's manifest lists and this result does not have are
        deleted where they are unchanged; files that matchlens did not write are never touched.

        Args:
            folder: where the results go.
            drawings: write the printed table, LaTeX and figures as well, as the command does.

        Raises:
            InputError: if the folder is in use, cannot be written, or belongs to something else.
        """
        if drawings:
            self.texts.update(drawing().files_of(self))
        for name in (*self.texts, *(f"{self.study}/{table}" for table in self.tables)):
            inner(name)
        check_folder(folder, self.identity)
        with locked(folder) as lock, writing(folder), lock.saving() as save:
            old = Snapshot.of(lock.out) if lock.out.kind(MANIFEST) else None
            if old is not None:
                _check_identity(old.manifest["identity"], self.identity, folder)
            self._write(save, old)
        return Path(folder)

    def _write(self, save: Save, old: Snapshot | None) -> None:
        scores, studies, commands, kept = self.scores, {}, [], {}
        if old is not None:
            studies, kept = dict(old.manifest["studies"]), dict(old.adopted())
            commands = list(old.manifest.get("commands", []))
            scores = _merged(scores, old, self.study, self.options.get("sets"))
        save.add(PAIRS, _parquet(self.pairs, PAIRS))
        save.add(SCORES, _parquet(scores, SCORES))
        for name, table in self.tables.items():
            save.add(f"{self.study}/{name}.parquet", _parquet(table, name))
            save.add(f"{self.study}/{name}.json", _utf8(to_json(records(table))))
        for name, array in self.arrays.items():
            with self._array_file(name, array) as stream:
                save.add(f"{METERS}/{name}.npy", stream)
        for name, text in self.texts.items():
            save.add(name, text if isinstance(text, bytes) else _utf8(text))
        if self.log:
            before = old.out.read(LOG) if old is not None and old.out.kind(LOG) else b""
            save.add(LOG, before + _utf8("".join(f"{line}\n" for line in self.log)))
        studies[self.study] = {"options": self.options, "notes": list(self.notes)}
        manifest = {"identity": self.identity, "studies": studies}
        manifest["commands"] = _with_command(commands, self.command)
        if old is not None and OWN_DIGEST in old.manifest and len(studies) > 1:
            manifest[OWN_DIGEST] = old.manifest[OWN_DIGEST]
        save.commit(manifest, {name: kept[name] for name in kept if not self._stale(name)})

    def _array_file(self, name: str, path: Path) -> BinaryIO:
        if self.source is not None:
            with Snapshot.open(self.source) as snapshot:
                self._check_stamp(name, snapshot)
                return snapshot.stream(f"{METERS}/{name}.npy")
        with Folder.open(path.parent) as folder:
            return folder.stream(path.name)

    def _stale(self, name: str) -> bool:
        """Whether an earlier run wrote a file that this one would have written anew."""
        # Else an old figure could contradict a new table. Runs go where a new index is written.
        run = name.startswith("runs/") and "runs/index.tsv" in self.texts
        return run or name.startswith(f"{self.study}/")

    @classmethod
    @typed
    def load(cls, folder: str | Path, study: str) -> Result:
        """Read a study back from a results folder.

        Args:
            folder: what :meth:`save` or ``--out`` wrote.
            study: the study's name, such as ``ablation``.

        Raises:
            InputError: if the folder or the study is not there, or a file cannot be read.
        """
        return steadily(folder, lambda snapshot: cls._of(snapshot, Path(folder), study))

    @classmethod
    @typed
    def load_all(cls, folder: str | Path, without: Sequence[str] = ()) -> dict[str, Result]:
        """Read all studies of a results folder, as they are at one moment.

        Args:
            folder: what :meth:`save` or ``--out`` wrote.
            without: names of studies that are left out.

        Returns:
            Study to result, in the manifest's order.

        Raises:
            InputError: if it is no results folder, or a file cannot be read.
        """

        def read(snapshot: Snapshot) -> dict[str, Result]:
            names = [name for name in snapshot.manifest["studies"] if name not in without]
            return {name: cls._of(snapshot, Path(folder), name) for name in names}

        return steadily(folder, read)

    @classmethod
    def _of(cls, snapshot: Snapshot, folder: Path, study: str) -> Result:
        studies = snapshot.manifest["studies"]
        if study not in studies:
            named = ", ".join(studies) or "none"
            raise InputError(f"{str(folder)!r} holds no study {study!r}; it holds: {named}")
        about = studies[study]
        pairs, scores = snapshot.table(PAIRS), snapshot.table(SCORES)
        for file, table, wanted in ((PAIRS, pairs, {"pair"}), (SCORES, scores, SCORE_COLUMNS)):
            if missing := wanted - set(table.columns):
                raise InputError(
                    f"{str(folder / file)!r} has no column {', '.join(sorted(missing))}; give "
                    "another folder, or make it anew"
                )
        return cls(
            study,
            snapshot.manifest["identity"],
            about["options"],
            tuple(about["notes"]),
            pairs,
            scores,
            {name: snapshot.table(f"{study}/{name}.parquet") for name in snapshot.tables(study)},
            arrays={name: folder / METERS / f"{name}.npy" for name in snapshot.meters()},
            source=folder,
            stamps={name: _stamp(snapshot, name) for name in snapshot.meters()},
        )


def _stamp(snapshot: Snapshot, name: str) -> Mapping[str, object]:
    file = f"{METERS}/{name}.npy"
    return snapshot.files.get(file) or snapshot.out.stamp(file)  # format 1 kept none


def check_folder(folder: str | Path, identity: Mapping[str, object] | None = None) -> None:
    """Check that results can go to a folder, before anything is computed.

    What is there must have the same ``identity``, unless that is None.
    """
    shown = repr(str(folder))
    finished = False
    with writing(folder):
        folder = Path(os.path.realpath(folder))
        if UNFINISHED in folder.parts:
            raise InputError(
                f"--out {shown} lies in {UNFINISHED}, where a run keeps what is unfinished; "
                "expected a folder outside: give another --out"
            )
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out {shown} is a file; expected a folder; give another --out")
        if folder.exists():
            with Folder.open(folder) as out:
                finished = _is_ours(out, shown)
        nearest = folder
        while not nearest.exists():
            nearest = nearest.parent
        os.rmdir(tempfile.mkdtemp(prefix=PROBE, dir=nearest))  # permissions alone do not tell
    if finished and identity is not None:
        _check_identity(read_manifest(folder)["identity"], identity, shown)


def _is_ours(out: Folder, shown: str) -> bool:
    """Whether a folder holds results; False where it is empty or a run there has not finished."""
    if out.kind(UNFINISHED) == "other":
        raise InputError(f"{str(out.path / UNFINISHED)!r} is no folder; take it out")
    finished = bool(out.kind(MANIFEST) or out.kind(f"{UNFINISHED}/{COMMIT}/{MANIFEST}"))
    others = [entry.name for entry in out.entries() if entry.name != UNFINISHED]
    if others and not finished and not out.kind(UNFINISHED):
        raise InputError(
            f"--out {shown} holds files, and no {MANIFEST} among them, so that it is no results "
            "folder; give a new or empty folder"
        )
    check_inside(out)
    if finished:
        snapshot = Snapshot.of(out)
        if len(snapshot.manifest["studies"]) > 1:  # one study alone writes all scores anew
            snapshot.table(SCORES)
    return finished


def _check_identity(
    old: Mapping[str, object], new: Mapping[str, object], folder: str | Path
) -> None:
    if listed := differences(old, new):
        raise InputError(f"--out {folder} holds other results: {listed}; give another --out")


def _merged(scores: pd.DataFrame, old: Snapshot, study: str, sets: object) -> pd.DataFrame:
    """The folder's scores and the new ones; where a cut was run again, the new ones.

    Scores under a name that now stands for another set of cuts are dropped.
    """
    try:
        before = old.table(SCORES)
    except InputError:
        if set(old.manifest["studies"]) - {study}:
            raise
        return scores  # all that were there are made anew
    stored = [about["options"].get("sets") for about in old.manifest["studies"].values()]
    for name, cuts in sets.items() if isinstance(sets, Mapping) else ():
        others = [own.get(name) for own in stored if isinstance(own, Mapping)]
        # A set of heads is a text, and no cut is called after it.
        if isinstance(cuts, list) and any(isinstance(o, list) and o != cuts for o in others):
            before = pd.DataFrame(before[before["cut"] != name])
    new = set(zip(scores["cut"], scores["pair"], strict=True))
    keys = zip(before["cut"], before["pair"], strict=True)
    kept = before[[key not in new for key in keys]]
    return pd.DataFrame(pd.concat([kept, scores], ignore_index=True))


def _with_command(commands: list, command: Mapping[str, object]) -> list:
    """The commands in the order in which they were run; a resumed command is listed once."""
    if not command:
        return commands
    new = json.loads(to_json(command))
    goes_on = bool(commands) and all(
        commands[-1].get(key) == new[key] for key in ("command", "asked")
    )
    return [*(commands[:-1] if goes_on else commands), new]


def differences(old: object, new: object) -> str:
    """What differs between two contents of JSON files, four things at most; "" where nothing does.

    >>> differences({"seed": 0, "rel": 2}, {"seed": 1, "rel": 2})
    'seed was 0, is now 1'
    """
    changes = _differences(old, json.loads(to_json(new)))
    more = [f"and {len(changes) - 4} more differences"] if len(changes) > 4 else []
    return "; ".join([*changes[:4], *more])


def _differences(old: object, new: object, path: str = "") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        out = []
        for key in sorted(set(old) | set(new)):
            where = f"{path}.{key}" if path else str(key)
            out += _differences(old.get(key), new.get(key), where)
        return out
    return [] if old == new else [f"{path} was {_short(old)}, is now {_short(new)}"]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def records(table: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of a table as plain values; NaN becomes None."""
    return [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def _plain(value: object) -> object:
    if hasattr(value, "item"):
        value = value.item()  # type: ignore[union-attr]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # file names may be no Unicode


def _parquet(table: pd.DataFrame, name: str) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    if (size := int(table.memory_usage(index=False).sum())) > MOST_TABLE:
        raise InputError(
            f"table {name} takes {size:,} bytes, more than the {MOST_TABLE:,} that are read again; "
            "give fewer pairs or cuts"
        )
    return buffer.getvalue()
