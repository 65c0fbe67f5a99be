"""The results folder: what is written is read back, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import matchlens
import matchlens.results
from matchlens import InputError, MatchlensWarning, Result
from matchlens.reading import Snapshot
from matchlens.results import check_folder, read_manifest, records, to_json
from matchlens.saving import locked, put
from test_cli import listing

IDENTITY = {
    "model": {"name": "tiny", "sha256": "ab" * 32, "dtype": "float32"},
    "pairs": {"sha256": "cd" * 32, "number": 3, "sampling": {"seed": 0, "per_grade": 10}},
    "versions": {"matchlens": "0", "torch": "2"},
}


def made(study: str = "ablation", cuts: tuple[str, ...] = ("", "Q->D"), **changed) -> Result:
    """A small result with all that a table can hold: words, numbers, truth, nothing."""
    table = pd.DataFrame(
        {
            "cut": ["", "random", *cuts[1:]],
            "queries": np.arange(len(cuts) + 1),
            "mean": [0.5, 1 / 3, *[math.nan] * (len(cuts) - 1)],
            "score": np.arange(len(cuts) + 1, dtype=np.float32) / 3,
            "significant": [False, True, *[False] * (len(cuts) - 1)],
        }
    )
    settings = {
        "study": study,
        "identity": IDENTITY,
        "options": {"cuts": list(cuts[1:]), "seed": 0, "tie_tol": 1e-5, "measure": "nDCG@10"},
        "notes": ("1 of 3 pairs were cut", "größer als 3"),
        "pairs": pd.DataFrame({"pair": [0, 1, 2], "docid": ["a", "b", "ü"], "grade": [0, 1, 3]}),
        "scores": pd.DataFrame(
            {
                "cut": np.repeat(np.array(cuts, dtype=object), 3),
                "pair": np.tile(np.arange(3), len(cuts)),
                "score": np.arange(3 * len(cuts), dtype=np.float32) / 7,
            }
        ),
        "tables": {"table1": table, "queries": table[["cut", "mean"]]},
        "texts": {f"{study}/table1.txt": "a table\n"},
        "log": ("0.5 s",),
    }
    return Result(**{**settings, **changed})


def test_what_is_saved_is_loaded(tmp_path):
    result = made()
    assert result.save(tmp_path / "out") == tmp_path / "out"
    back = Result.load(str(tmp_path / "out"), "ablation")
    assert (back.study, back.identity, back.options) == ("ablation", IDENTITY, result.options)
    assert back.notes == result.notes
    pd.testing.assert_frame_equal(back.pairs, result.pairs)
    pd.testing.assert_frame_equal(back.scores, result.scores, check_dtype=False)
    assert back.scores["score"].dtype == np.float32
    assert set(back.tables) == {"table1", "queries"}
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(back.tables[name], table)
    assert (tmp_path / "out/ablation/table1.txt").read_text() == "a table\n"
    assert (tmp_path / "out/run.log").read_text() == "0.5 s\n"


def test_json_holds_the_same_rows_and_null_for_nothing(tmp_path):
    made().save(tmp_path / "out")
    for name in ("table1", "queries"):
        text = (tmp_path / f"out/ablation/{name}.json").read_text(encoding="utf-8")
        frame = pd.read_parquet(tmp_path / f"out/ablation/{name}.parquet")
        rows = json.loads(text, parse_constant=pytest.fail)
        assert rows == records(frame)
        assert list(rows[0]) == list(frame.columns)
    third = json.loads((tmp_path / "out/ablation/table1.json").read_text())[2]
    assert third == {
        "cut": "Q->D",
        "queries": 2,
        "mean": None,
        "score": pytest.approx(2 / 3),
        "significant": False,
    }
    assert type(third["significant"]) is bool
    with pytest.raises(ValueError, match="JSON"):
        to_json({"mean": math.nan})
    infinite = pd.DataFrame({"x": [math.inf, -math.inf, 1.0]})
    assert records(infinite) == [{"x": None}, {"x": None}, {"x": 1.0}]


def test_to_frame_is_a_copy_and_knows_its_tables():
    result = made()
    frame = result.to_frame()
    frame["mean"] = 9.0
    assert result.to_frame("table1")["mean"][0] == 0.5
    assert list(result.to_frame("queries").columns) == ["cut", "mean"]
    with pytest.raises(InputError, match="no table 'table2'; expected one of table1, queries"):
        result.to_frame("table2")


def test_loading_what_is_not_there(tmp_path):
    made().save(tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no study 'heads'; it holds: ablation"):
        Result.load(tmp_path / "out", "heads")
    with pytest.raises(InputError, match=r"is no results folder: it has no manifest\.json"):
        Result.load(tmp_path / "nowhere", "ablation")
    for name in ("pairs.parquet", "ablation/queries.parquet"):
        held = (tmp_path / "out" / name).read_bytes()
        (tmp_path / "out" / name).write_bytes(held[:-9])
        with pytest.raises(InputError, match=rf"{name}' is not what manifest\.json says"):
            Result.load(tmp_path / "out", "ablation")
        (tmp_path / "out" / name).write_bytes(held)
    (tmp_path / "out/scores.parquet").unlink()
    with pytest.raises(InputError, match=r"scores\.parquet' cannot be read"):
        Result.load(tmp_path / "out", "ablation")


def test_another_study_stands_beside_the_first(tmp_path):
    out = tmp_path / "out"
    made().save(out)
    made("heads", cuts=("", "D->Q", "Q->D~mask"), log=("7 s",)).save(out)
    first, second = Result.load(out, "ablation"), Result.load(out, "heads")
    assert list(first.options["cuts"]) == ["Q->D"]
    assert list(second.options["cuts"]) == ["D->Q", "Q->D~mask"]
    assert list(dict.fromkeys(second.scores["cut"])) == ["Q->D", "", "D->Q", "Q->D~mask"]
    assert len(second.scores) == 12
    assert (out / "run.log").read_text() == "0.5 s\n7 s\n"
    assert first.to_frame("table1")["cut"].tolist() == ["", "random", "Q->D"]


def test_runs_of_an_earlier_index_go(tmp_path):
    out = tmp_path / "out"
    runs = {f"runs/000{n}.run": f"q Q0 d 1 {n} x\n" for n in range(3)}
    index = {"runs/index.tsv": "run\tcut\n"}
    made(texts={**runs, **index}).save(out)
    made().save(out)  # without runs: those that are there, and their index, stay
    assert len(list((out / "runs").iterdir())) == 4
    made(texts={"runs/0000.run": "new\n", **index}).save(out)
    assert sorted(path.name for path in (out / "runs").iterdir()) == ["0000.run", "index.tsv"]
    assert (out / "runs/0000.run").read_text() == "new\n"


def test_what_an_earlier_run_of_the_study_drew_goes(tmp_path):
    """Or a new table would stand beside an old figure; other studies' files stay."""
    out = tmp_path / "out"
    made("heads", texts={"heads/figures/a.svg": "<svg/>"}).save(out)
    made(texts={"ablation/table1.tex": "old", "ablation/figures/a.svg": "old"}).save(out)
    assert (out / "ablation/figures/a.svg").exists()
    made(texts={"ablation/table1.txt": "new"}).save(out)
    files = {str(path.relative_to(out)) for path in out.rglob("*.*") if path.parent != out}
    tables = {
        f"{s}/{t}.{k}"
        for s in ("ablation", "heads")
        for t in ("table1", "queries")
        for k in ("parquet", "json")
    }
    assert files == tables | {"ablation/table1.txt", "heads/figures/a.svg"}


def test_file_names_that_are_no_unicode_are_kept(tmp_path):
    identity = {**IDENTITY, "pairs": {"topics": "caf\udce9.tsv"}}
    made(identity=identity).save(tmp_path / "out")
    assert Result.load(tmp_path / "out", "ablation").identity == identity
    made(identity=identity).save(tmp_path / "out")


# --- old or new, never a mixture


STEPS = ("fsync", "replace", "mkdir", "unlink")


def failing_at(monkeypatch, number: int, error: BaseException) -> list[str]:
    """Let the ``number``-th step of a save fail; the list counts them."""
    calls: list[str] = []
    for name in STEPS:
        real = getattr(os, name)

        def counting(*args, real=real, name=name, **options):
            calls.append(name)
            if len(calls) == number:
                raise error
            return real(*args, **options)

        monkeypatch.setattr(os, name, counting)
    return calls


def without_log(folder: Path) -> dict[str, bytes]:
    """A folder's content but for times, which a repeated save adds again."""
    return {name: held for name, held in listing(folder).items() if name != "run.log"}


def state(out: Path) -> object:
    """What a reader sees: the study's measure with its table, None where there are no results."""
    if not (out / "manifest.json").exists() and not (out / ".matchlens-work/commit").exists():
        return None
    held = Result.load(out, "ablation")
    return held.options["measure"], held.to_frame("table1")["mean"][0], len(held.scores)


def with_every_failure(monkeypatch, save: Callable, lay: Callable, out: Path) -> int:
    """Let each step of ``save`` fail in turn: a reader sees the old state or the new, and the same
    save goes well afterwards. Returns the number of steps."""
    lay()
    old, before = state(out), without_log(out)
    save()
    new, after = state(out), without_log(out)
    errors = (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt())
    seen = set()
    for number in range(1, 1000):
        lay()
        with monkeypatch.context() as patch:
            calls = failing_at(patch, number, errors[number % 2])
            try:
                save()
            except InputError as error:
                assert "No space left on device" in str(error)  # noqa: PT017
                assert "run the same command again" in str(error)  # noqa: PT017
            except KeyboardInterrupt:
                pass
        if len(calls) < number:  # nothing failed
            assert seen == {old, new}
            return number - 1
        found = state(out)
        assert found in (old, new)
        seen.add(found)
        if found == old:
            assert without_log(out) == before
        save()
        assert without_log(out) == after
    raise AssertionError("a save has no end")


def other(**changed) -> Result:
    """The study again with another measure: other options, another table, other scores."""
    first = made(cuts=("", "Q->D", "D->Q"), **changed)
    first.tables["table1"]["mean"] = [0.25, 0.5, 0.75, 1.0]
    return replace(first, options={**first.options, "measure": "P@1"})


@pytest.mark.slow
def test_a_new_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    out = tmp_path / "deep/er/out"

    def lay() -> None:
        shutil.rmtree(tmp_path / "deep", ignore_errors=True)

    assert with_every_failure(monkeypatch, lambda: made().save(out), lay, out) > 20
    assert not list(tmp_path.rglob(".*"))


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path, monkeypatch):
    """It may be a mount point, or the shell's own place."""
    out = tmp_path / "here"
    out.mkdir()
    node = out.stat().st_ino
    monkeypatch.chdir(out)
    made().save(".")
    assert {"manifest.json", "ablation"} < set(listing(out))
    assert out.stat().st_ino == node


@pytest.mark.slow
def test_an_old_folder_is_continued_or_stays_as_it_is(tmp_path, monkeypatch):
    """Table 1 of one measure never stands under a manifest of another."""
    out = tmp_path / "out"
    made(texts={"ablation/old.svg": "old"}).save(tmp_path / "first")
    (tmp_path / "first/ablation/notes.md").write_text("mine")

    def lay() -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(tmp_path / "first", out)

    assert with_every_failure(monkeypatch, lambda: other().save(out), lay, out) > 20
    assert state(out) == ("P@1", 0.25, 9)
    assert (out / "ablation/notes.md").read_text() == "mine"
    assert not (out / "ablation/old.svg").exists()
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("moved", range(0, 9, 2))
def test_a_reader_sees_the_new_state_of_a_save_that_died_while_it_moved(tmp_path, moved):
    """The files that have not been moved are taken from where they wait, without writing."""
    out = tmp_path / "out"
    made().save(out)
    other().save(tmp_path / "whole")
    commit = out / ".matchlens-work/commit"
    shutil.copytree(tmp_path / "whole", commit)
    for name in sorted(json.loads((commit / "manifest.json").read_text())["files"])[:moved]:
        os.replace(commit / name, out / name)
    before = listing(out)
    assert state(out) == state(tmp_path / "whole")
    assert listing(out) == before
    with locked(out):
        pass
    assert without_log(out) == without_log(tmp_path / "whole")


# --- whose files are whose


def test_a_file_that_was_changed_is_named_and_the_same_command_repairs_it(tmp_path):
    out = tmp_path / "out"
    made().save(out)
    before = without_log(out)
    for name in ("ablation/table1.parquet", "pairs.parquet", "scores.parquet"):
        pd.DataFrame({"cut": ["x"], "pair": [0], "score": [0.5]}).to_parquet(out / name)
        for read in (lambda: Result.load(out, "ablation"), lambda: matchlens.write_report(out)):
            with pytest.raises(InputError, match=rf"{name}' is not what manifest\.json says"):
                read()
        made().save(out)
        assert without_log(out) == before
    flipped = bytearray(before["ablation/table1.parquet"])
    flipped[len(flipped) // 2] ^= 1  # as large as before
    (out / "ablation/table1.parquet").write_bytes(flipped)
    with pytest.raises(InputError, match=r"its SHA-256\s+or size differs"):
        Result.load(out, "ablation")


@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest: manifest["studies"]["ablation"]["options"].update(original=0.1),
        lambda manifest: manifest["studies"]["ablation"]["notes"].append("all is well"),
        lambda manifest: manifest["studies"].update(more=manifest["studies"]["ablation"]),
        lambda manifest: manifest["identity"].update(model={"name": "another"}),
        lambda manifest: manifest.update(files={}),
        lambda manifest: manifest.update(extra=1),
    ],
)
def test_a_manifest_that_was_edited_is_warned_of_until_it_is_made_anew(edit, tmp_path):
    out = tmp_path / "out"
    made().save(out)
    whole = (out / "manifest.json").read_text()
    manifest = json.loads(whole)
    (out / "manifest.json").write_text(json.dumps(manifest))  # another layout says the same
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_manifest(out)
    edit(manifest)
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.warns(MatchlensWarning, match="was changed since matchlens wrote it"):
        read_manifest(out)
    with pytest.warns(MatchlensWarning, match="was changed"):
        put(out, {"page.html": b"<p>"})  # what is added does not make it whole
    with pytest.warns(MatchlensWarning, match="was changed"):
        read_manifest(out)
    (out / "manifest.json").write_text(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made().save(out)
        read_manifest(out)


def test_damaged_scores_of_other_studies_are_not_dropped(tmp_path):
    out = tmp_path / "out"
    made().save(out)
    made("heads", cuts=("", "D->Q")).save(out)
    (out / "scores.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match=r"scores\.parquet' is not what .* matchlens rerun DIR"):
        made().save(out)
    assert set(read_manifest(out)["studies"]) == {"ablation", "heads"}


def test_meters_are_checked_when_they_are_read(tmp_path):
    np.save(tmp_path / "mass.npy", np.arange(6, dtype=np.float32))
    made(arrays={"mass": tmp_path / "mass.npy"}).save(tmp_path / "out")
    held = Result.load(tmp_path / "out", "ablation")
    assert held.array("mass").tolist() == [0, 1, 2, 3, 4, 5]
    np.save(tmp_path / "out/meters/mass.npy", np.zeros(6, dtype=np.float32))
    with pytest.raises(InputError, match=r"mass\.npy' is not what"):
        held.array("mass")


@pytest.mark.parametrize("old_format", [False, True])
def test_arrays_of_a_later_run_are_not_shown_beside_the_tables_of_an_earlier(tmp_path, old_format):
    out, file = tmp_path / "out", tmp_path / "mass.npy"
    np.save(file, np.arange(6, dtype=np.float32))
    made(arrays={"mass": file}).save(out)
    if old_format:
        manifest = json.loads((out / "manifest.json").read_text())
        (out / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    held = Result.load(out, "ablation")
    made("heads").save(out)  # another study of the same run changes nothing
    assert held.array("mass").tolist() == [0, 1, 2, 3, 4, 5]
    held.save(tmp_path / "copy")
    np.save(file, np.ones(6, dtype=np.float32))
    made(arrays={"mass": file}).save(out)
    for use in (lambda: held.array("mass"), lambda: held.save(tmp_path / "again")):
        with pytest.raises(InputError, match=r"mass\.npy is another run's, .*: load it again"):
            use()
    assert Result.load(out, "ablation").array("mass").tolist() == [1] * 6


def test_files_of_a_person_stay(tmp_path):
    out = tmp_path / "out"
    runs = {"runs/0001.run": "old\n", "runs/0002.run": "old\n", "runs/index.tsv": "i\n"}
    made(texts={**runs, "ablation/a.svg": "old", "ablation/b.svg": "old"}).save(out)
    mine = {
        "notes.txt": "1", "ablation/notes.md": "2", "runs/bm25.run": "3", "meters/own.npy": "4",
        "ablation/more/deep.txt": "5", ".matchlens-work/mine.txt": "6", ".matchlens-old/keep": "7",
        ".matchlens-work/shards/thesis.txt": "8", ".matchlens-abcdefgh/keep": "9",
    }  # fmt: skip
    for name, text in mine.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    (out / "ablation/b.svg").write_text("drawn over by hand")
    new = {"runs/0001.run": "new\n", "runs/index.tsv": "i\n"}
    made(texts=new).save(out)
    assert {name: (out / name).read_text() for name in mine} == mine
    assert not (out / "ablation/a.svg").exists()
    assert not (out / "runs/0002.run").exists()
    assert (out / "runs/0001.run").read_text() == "new\n"
    assert (out / "ablation/b.svg").read_text() == "drawn over by hand"


@pytest.mark.parametrize("lay", ["file", "folder", "twice"])
def test_a_person_s_file_in_the_way_is_put_aside(tmp_path, lay):
    out = tmp_path / "out"
    made().save(out)
    place = out / "runs/0001.run"
    if lay == "folder":
        place.mkdir(parents=True)
        (place / "x").write_text("mine")
    else:
        place.parent.mkdir()
        place.write_text("mine")
    if lay == "twice":
        place.with_name("0001.run.kept").write_text("mine, too")
    with pytest.warns(matchlens.MatchlensWarning, match=r"was not written by matchlens; it is"):
        made(texts={"runs/0001.run": "ours\n"}).save(out)
    assert place.read_text() == "ours\n"
    kept = out / ("runs/0001.run.kept-2" if lay == "twice" else "runs/0001.run.kept")
    assert (kept / "x" if lay == "folder" else kept).read_text() == "mine"


def test_a_folder_of_format_1_is_read_and_continued(tmp_path):
    """Version 0.1.0 wrote no list of files."""
    out = tmp_path / "out"
    made().save(out)
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["files"]
    (out / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    (out / "ablation/notes.md").write_text("mine")
    assert Result.load(out, "ablation").to_frame("table1").equals(made().to_frame("table1"))
    made("heads", cuts=("", "D->Q")).save(out)
    assert (out / "ablation/notes.md").read_text() == "mine"
    assert Result.load(out, "ablation").to_frame("table1").equals(made().to_frame("table1"))
    files = json.loads((out / "manifest.json").read_text())["files"]
    assert {"ablation/table1.parquet", "heads/queries.json", "scores.parquet"} <= set(files)
    assert not {"ablation/notes.md", "run.log", "manifest.json"} & set(files)


def test_the_manifest_lists_every_file(tmp_path):
    out = tmp_path / "out"
    made(texts={"runs/0001.run": "r\n", "ablation/figures/a.svg": "<svg/>"}).save(out)
    listed = read_manifest(out)["files"]
    held = {name: raw for name, raw in listing(out).items() if (out / name).is_file()}
    assert set(listed) == set(held) - {"run.log", "manifest.json"}
    for name, stamp in listed.items():
        assert stamp == {"bytes": len(held[name]), "sha256": hashlib.sha256(held[name]).hexdigest()}


def test_a_link_leads_to_its_folder(tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("out", "other"):  # a link to a folder, and one to what is not there yet
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk/out").mkdir()
    for name in ("out", "other"):
        made().save(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "disk" / name / "manifest.json").exists()


def test_two_writers_do_not_share_a_folder(tmp_path):
    """Neither of two processes nor of two threads; one thread may take its own lock again."""
    out = tmp_path / "out"
    said: list[str] = []

    def late() -> None:
        try:
            made(notes=("late",)).save(out)
        except InputError as error:
            said.append(str(error))

    with locked(out):
        thread = threading.Thread(target=late)
        thread.start()
        thread.join()
        made().save(out)
    assert len(said) == 1
    assert f"is in use by another run (process {os.getpid()} on " in said[0]
    assert Result.load(out, "ablation").notes == made().notes
    late()  # what the message says: wait for its end
    assert len(said) == 1


def test_a_reader_starts_again_where_the_folder_changes_meanwhile(tmp_path, monkeypatch):
    out = tmp_path / "out"
    made().save(out)
    table, saved = Snapshot.table, []

    def changing(self, name):
        if name == "ablation/table1.parquet" and not saved:
            saved.append(name)
            other().save(out)
        return table(self, name)

    monkeypatch.setattr(Snapshot, "table", changing)
    assert state(out) == ("P@1", 0.25, 9)
    assert saved


# --- what may be written to


@pytest.mark.parametrize(
    ("lay", "says"),
    [
        (lambda out: out.write_text("x"), "is a file; expected a folder"),
        (lambda out: out.parent.joinpath("f").write_text(""), None),
        (lambda out: (out / "sub").mkdir(parents=True), r"holds files, and no manifest\.json"),
        (lambda out: out.mkdir() or (out / ".hidden").touch(), "so that it is no results folder"),
        (lambda out: out.mkdir() or (out / "manifest.json").write_text("{"), "as a manifest"),
        (lambda out: out.mkdir() or (out / "manifest.json").mkdir(), "as a manifest"),
        (lambda out: out.mkdir(), None),
        (lambda out: made().save(out), None),
    ],
    ids=["file", "new", "foreign", "hidden", "broken", "no file", "empty", "own"],
)
def test_check_folder(tmp_path, lay, says):
    out = tmp_path / "out"
    lay(out)
    before = listing(tmp_path)
    if says is None:
        check_folder(out)
        check_folder(str(out), IDENTITY)
    else:
        for identity in (None, IDENTITY):
            with pytest.raises(InputError, match=says):
                check_folder(out, identity)
        with pytest.raises(InputError, match=says):
            made().save(out)
    assert listing(tmp_path) == before


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_computed(
    tmp_path, monkeypatch
):
    """As root, permissions say yes to everything; so the check makes a folder and removes it."""
    (tmp_path / "file").touch()
    for out, says in (
        (tmp_path / "file/out", "Not a directory"),
        (Path("/proc/out"), "/proc/out' cannot be written"),
        (tmp_path / ("x" * 256), "File name too long"),
    ):
        with pytest.raises(InputError, match=says):
            check_folder(out)

    def full(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(matchlens.results.tempfile, "mkdtemp", full)
    with pytest.raises(InputError, match=r"'.*new' cannot be written \(Read-only file system\)"):
        check_folder(tmp_path / "new")


def test_what_differs_is_named(tmp_path):
    out = tmp_path / "out"
    made().save(out)
    check_folder(out, json.loads(to_json(IDENTITY)))
    sampling = {"seed": 1, "per_grade": 10}
    changed = {
        **IDENTITY,
        "model": {**IDENTITY["model"], "name": "x" * 99},
        "pairs": {**IDENTITY["pairs"], "sampling": sampling, "sources": None},
        "extra": True,
    }
    with pytest.raises(InputError) as caught:
        check_folder(out, changed)
    line = str(caught.value)
    assert re.search(
        r"extra was null, is now true; model\.name was \"tiny\", is now \"x+\.\.\.", line
    )
    assert "pairs.sampling.seed was 0, is now 1" in line
    assert "sha256" not in line
    assert "per_grade" not in line
    many = {**changed, "versions": {"matchlens": "1", "torch": "3", "numpy": "4"}}
    with pytest.raises(InputError, match="and 2 more differences; give another --out"):
        replace(made(), identity=many).save(out)
    assert Result.load(out, "ablation").identity == IDENTITY


def manifest_with(**changed) -> str:
    study = {"options": {}, "notes": []}
    whole = {"format": 2, "identity": {}, "studies": {"ablation": study}, "files": {}}
    return json.dumps({**whole, **changed})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 5000 + "1" + "}" * 5000,
        manifest_with(identity={"a": 1}).replace("1}", "1" + "0" * 5000 + "}"),
        manifest_with(identity={"a": 1}).replace("1}", "1e999}"),
        manifest_with(identity={"a": 1}).replace("1}", "NaN}"),
        manifest_with(studies={f"s{n}": {"options": {}, "notes": []} for n in range(201)}),
        manifest_with(commands=[{}] * 10_001),
        manifest_with(studies={"a": {"options": {"digits": 10**9}, "notes": []}}),
        manifest_with(studies={"a": {"options": {"digits": "3"}, "notes": []}}),
        manifest_with(studies={"a": {"options": {}, "notes": [{}]}}),
        manifest_with(studies={"../a": {"options": {}, "notes": []}}),
        manifest_with(files={"../x": {"bytes": 1, "sha256": "0" * 64}}),
        manifest_with(files={"/etc/x": {"bytes": 1, "sha256": "0" * 64}}),
        manifest_with(files={"x": {"bytes": "1", "sha256": "0" * 64}}),
        manifest_with(files={"x": {"bytes": 1, "sha256": "0"}}),
        manifest_with(files=[]),
        manifest_with(format=3),
        json.dumps({"format": 2, "identity": {}, "studies": {}}),
    ],
)
def test_a_manifest_beyond_its_bounds_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    for read in (lambda: Result.load(tmp_path, "ablation"), lambda: check_folder(tmp_path)):
        with pytest.raises(InputError, match="cannot be read as a manifest") as caught:
            read()
        assert len(str(caught.value)) < 400


def test_scores_of_a_set_that_means_other_cuts_now_are_dropped(tmp_path):
    def save(study: str, cuts: list[str], pairs: list[int]) -> None:
        scores = pd.DataFrame({"cut": "mine", "pair": pairs, "score": float(len(cuts))})
        made(study, options={"sets": {"mine": cuts}}, scores=scores).save(tmp_path / "out")

    save("ablation", ["Q->D"], [0, 1])
    save("other", ["Q->D"], [0])
    assert len(Result.load(tmp_path / "out", "other").scores) == 2
    save("ablation", ["Q->D", "D->Q"], [0])
    assert Result.load(tmp_path / "out", "other").scores["score"].tolist() == [2.0]


@pytest.mark.parametrize("first", ["cuts", "heads"])
def test_a_set_of_heads_that_is_called_like_a_set_of_cuts_drops_no_scores(tmp_path, first):
    scores = pd.DataFrame({"cut": "top", "pair": [0, 1], "score": 1.0})
    own = pd.DataFrame({"cut": "Q->D#8.1", "pair": [0, 1], "score": 2.0})
    studies = {
        "cuts": made("ablation", options={"sets": {"top": ["Q->D"]}}, scores=scores),
        "heads": made("head-sets", options={"sets": {"top": "8.1"}}, scores=own),
    }
    for name in (first, *({*studies} - {first})):
        studies[name].save(tmp_path / "out")
    assert {*Result.load(tmp_path / "out", "ablation").scores["cut"]} == {"top", "Q->D#8.1"}
