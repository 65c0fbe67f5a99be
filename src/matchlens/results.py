"""Results: tidy tables with their provenance, and the folder that holds them on disk.

A results folder is the same for every study::

    manifest.json            what was asked and of what: model, pairs, versions, options, the check
    pairs.parquet            one row a pair
    scores.parquet           cut, pair, score (logits)
    meters/<name>.npy        [pair, layer, head, row part, column part], for numpy's mmap_mode
    <study>/<table>.parquet  and .json with the same rows
    <study>/<name>.tex .txt  the tables for a paper and a terminal
    runs/0001.run, index.tsv TREC runs on request; the index says which cut is which
    run.log                  times; they are nowhere else, so that equal runs give equal tables
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from matchlens.arguments import typed
from matchlens.errors import InputError
from matchlens.reading import (
    FORMAT,
    MANIFEST,
    inner,
    read_array,
    read_manifest,
    read_parquet,
)
from matchlens.showing import Shows

METERS = "meters"
PAIRS, SCORES = "pairs.parquet", "scores.parquet"
SCORE_COLUMNS = {"cut", "pair", "score"}
KINDS = ("parquet", "json")
WORK = ".matchlens-"  # how the names of folders begin in which files are prepared
UNFINISHED = f"{WORK}work"  # the folder of a run that is not finished


@dataclass
class Result(Shows):
    """What a study found, with all that is needed to say where it came from.

    Args:
        study: the study's name, such as ``ablation``.
        identity: model, pairs and versions; folders with another identity are not mixed.
        options: every option of the study, defaults spelled out.
        notes: what a person should know before believing the numbers.
        pairs: one row a pair.
        scores: columns cut, pair, score (logits).
        tables: the study's tables by name.
        texts: file name to content, such as the LaTeX table or a figure.
        log: lines for run.log, the only place for times.
        arrays: the meters' files, [pair, layer, head, row part, column part], by name.
        held: the temporary folder that holds them until they are saved.
        command: the command that found it, as the manifest keeps it; none from Python.

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
    command: Mapping[str, object] = field(default_factory=dict)

    @typed
    def array(self, name: str) -> np.ndarray:
        """A meter's numbers, memory-mapped and read only: [pair, layer, head, part, part].

        Raises:
            InputError: if there is no such meter.
        """
        if name not in self.arrays:
            held = ", ".join(self.arrays) or "none"
            raise InputError(f"no meter {name!r} was kept; expected one of: {held}")
        return read_array(self.arrays[name])

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
    def save(self, folder: str | Path) -> Path:
        """Write the results folder: a new one appears whole, an agreeing one is continued.

        Raises:
            InputError: if the folder cannot be written, or belongs to something else.
        """
        check_folder(folder, self.identity)
        target = Path(os.path.realpath(folder))
        made = [path for path in (target, *target.parents) if not path.exists()]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            where = target if target.exists() else target.parent
            work = Path(tempfile.mkdtemp(prefix=WORK, dir=where))
            try:
                self._write(work, target if (target / MANIFEST).exists() else None)
                if where == target:  # it may be a mount point, or where the user's shell stands
                    _move_into(target, work)
                    self._drop_stale(target)
                else:
                    work.chmod(0o755)
                    work.rename(target)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        except BaseException as error:
            for path in made:
                with suppress(OSError):
                    path.rmdir()
            if not isinstance(error, OSError):
                raise
            raise InputError(
                f"cannot write the results to {str(folder)!r}: {error.strerror or error}; "
                "give another --out"
            ) from None
        return Path(folder)

    def _drop_stale(self, folder: Path) -> None:
        """What an earlier run of the study wrote, and runs that the new index does not name."""
        tables = (f"{self.study}/{name}.{kind}" for name in self.tables for kind in KINDS)
        written = {*tables, *self.texts}
        of_study = [path for path in (folder / self.study).rglob("*") if path.is_file()]
        runs = (folder / "runs").glob("*.run") if "runs/index.tsv" in self.texts else ()
        for path in (*of_study, *runs):
            if path.relative_to(folder).as_posix() not in written:
                path.unlink()

    def _write(self, folder: Path, old: Path | None) -> None:
        scores, studies, commands = self.scores, {}, []
        if old is not None:
            before = read_parquet(old / SCORES)
            new = set(zip(scores["cut"], scores["pair"], strict=True))
            held = zip(before["cut"], before["pair"], strict=True)
            kept = before[[one not in new for one in held]]
            scores = pd.DataFrame(pd.concat([kept, scores], ignore_index=True))
            manifest = read_manifest(old)
            studies, commands = dict(manifest["studies"]), list(manifest.get("commands", []))
        _write_parquet(folder / PAIRS, self.pairs)
        _write_parquet(folder / SCORES, scores)
        for name, table in self.tables.items():
            _write_parquet(folder / inner(f"{self.study}/{name}.parquet"), table)
            write_text(folder / self.study / f"{name}.json", to_json(records(table)))
        for name, array in self.arrays.items():
            copied = folder / inner(f"{METERS}/{name}.npy")
            copied.parent.mkdir(exist_ok=True)
            shutil.copyfile(array, copied)
        for name, text in self.texts.items():
            if isinstance(text, bytes):
                write_bytes(folder / inner(name), text)
            else:
                write_text(folder / inner(name), text)
        if self.log:
            before_log = (old / "run.log").read_text("utf-8") if old and _has_log(old) else ""
            write_text(folder / "run.log", before_log + "".join(f"{line}\n" for line in self.log))
        studies[self.study] = {"options": self.options, "notes": list(self.notes)}
        manifest = {"format": FORMAT, "identity": self.identity, "studies": studies}
        manifest["commands"] = _with_command(commands, self.command)
        write_text(folder / MANIFEST, to_json(manifest))

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
        folder = Path(folder)
        manifest = read_manifest(folder)
        if study not in manifest["studies"]:
            held = ", ".join(manifest["studies"]) or "none"
            raise InputError(f"{str(folder)!r} holds no study {study!r}; it holds: {held}")
        about = manifest["studies"][study]
        pairs, scores = read_parquet(folder / PAIRS), read_parquet(folder / SCORES)
        for file, table, wanted in ((PAIRS, pairs, {"pair"}), (SCORES, scores, SCORE_COLUMNS)):
            if missing := wanted - set(table.columns):
                raise InputError(
                    f"{str(folder / file)!r} has no column {', '.join(sorted(missing))}; give "
                    "another folder, or make it anew"
                )
        tables = {
            path.stem: read_parquet(path) for path in sorted((folder / study).glob("*.parquet"))
        }
        return cls(
            study,
            manifest["identity"],
            about["options"],
            tuple(about["notes"]),
            pairs,
            scores,
            tables,
            arrays={path.stem: path for path in sorted((folder / METERS).glob("*.npy"))},
        )


def check_folder(folder: str | Path, identity: Mapping[str, object] | None = None) -> None:
    """Check that results can go to a folder, before anything is computed.

    Args:
        folder: where the results shall go; it need not exist.
        identity: what they are of; not compared where None.

    Raises:
        InputError: if it is no folder, cannot be written, was not made by matchlens, or holds
            results of another model, other pairs or other versions; it says what differs.
    """
    shown = repr(str(folder))
    folder = Path(os.path.realpath(folder))
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out {shown} is a file; expected a folder; give another --out")
        held = folder.exists() and any(path.name != UNFINISHED for path in folder.iterdir())
        finished = (folder / MANIFEST).exists()
        if held and not finished and not (folder / UNFINISHED).is_dir():
            raise InputError(
                f"--out {shown} holds files that matchlens did not write (no {MANIFEST}); "
                "give a new or empty folder"
            )
        nearest = folder
        while not nearest.exists():
            nearest = nearest.parent
        os.rmdir(tempfile.mkdtemp(prefix=WORK, dir=nearest))  # permissions alone do not tell
    except OSError as error:
        raise InputError(
            f"--out {shown} cannot be written ({error.strerror or error}); give another --out"
        ) from None
    if not finished:
        return
    manifest = read_manifest(folder)
    read_parquet(folder / SCORES, columns=["cut"])
    if identity is not None and (listed := differences(manifest["identity"], identity)):
        raise InputError(f"--out {shown} holds other results: {listed}; give another --out")


def _move_into(folder: Path, work: Path) -> None:
    """Move all files of ``work`` into ``folder``, the manifest last; all of them or none."""
    files = [path.relative_to(work) for path in work.rglob("*") if path.is_file()]
    files.sort(key=lambda file: (file.name == MANIFEST, file))
    before = Path(tempfile.mkdtemp(prefix=WORK, dir=folder))
    try:
        for file in files:
            if (folder / file).exists():
                (before / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(folder / file, before / file)
        try:
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(work / file, folder / file)
        except BaseException:
            for file in files:
                if (before / file).exists():
                    os.replace(before / file, folder / file)
                    continue
                (folder / file).unlink(missing_ok=True)
                with suppress(OSError):  # a folder that was made for it
                    (folder / file.parent).rmdir()
            raise
    finally:
        shutil.rmtree(before, ignore_errors=True)


def _with_command(held: list, command: Mapping[str, object]) -> list:
    """The commands in the order in which they were run; one that goes on stands once."""
    if not command:
        return held
    mine = json.loads(to_json(command))
    goes_on = bool(held) and all(held[-1].get(key) == mine[key] for key in ("command", "asked"))
    return [*(held[:-1] if goes_on else held), mine]


def _has_log(folder: Path) -> bool:
    return (folder / "run.log").exists()


def differences(old: object, new: object) -> str:
    """What differs between two contents of JSON files, four things at most; "" where nothing does.

    >>> differences({"seed": 0, "rel": 2}, {"seed": 1, "rel": 2})
    'seed was 0, is now 1'
    """
    found = _differences(old, json.loads(to_json(new)))
    more = [f"and {len(found) - 4} more differences"] if len(found) > 4 else []
    return "; ".join([*found[:4], *more])


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


def to_json(content: object) -> str:
    """JSON with stable layout; refuses NaN, which is no JSON."""
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # file names may be no Unicode


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    import io

    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_bytes(path, buffer.getvalue())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, work = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(work, 0o644)
        os.replace(work, path)
    except BaseException:
        Path(work).unlink(missing_ok=True)
        raise
