"""The results folder: what is written is read back, whole or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import matchlens.results
from matchlens import InputError, Result
from matchlens.results import check_folder, records, to_json

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


def content(folder: Path) -> dict[str, bytes]:
    """Every path below a folder, hidden ones too, with what it holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"a folder"
        for path in folder.rglob("*")
    }


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
        with pytest.raises(InputError, match=rf"{name}' cannot be read"):
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


# --- whole or not at all


def writers_failing_at(monkeypatch, number: int, error: BaseException) -> list[str]:
    """Let the ``number``-th file that is written or moved fail; the list counts them."""
    calls: list[str] = []
    for module, name in ((os, "fsync"), (os, "replace")):
        real = getattr(module, name)

        def counting(*args, real=real, name=name, **options):
            calls.append(name)
            if len(calls) == number:
                raise error
            return real(*args, **options)

        monkeypatch.setattr(module, name, counting)
    return calls


def with_every_failure(monkeypatch, save: Callable, left: Callable) -> int:
    """Let ``save`` fail at every file in turn, then go well; ``left`` must not change meanwhile.

    Returns the number of failures.
    """
    before = left()
    errors = (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt())
    number = 0
    while True:
        number += 1
        with monkeypatch.context() as patch:
            calls = writers_failing_at(patch, number, errors[number % 2])
            try:
                save()
            except InputError as error:
                assert "No space left on device" in str(error)  # noqa: PT017
            except KeyboardInterrupt:
                pass
            if len(calls) < number:  # nothing failed
                return number - 1
        assert left() == before


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    assert content(tmp_path) == {}
    tries = with_every_failure(
        monkeypatch, lambda: made().save(tmp_path / "deep/er/out"), lambda: content(tmp_path)
    )
    assert tries == 18
    assert (tmp_path / "deep/er/out/manifest.json").exists()
    assert not list(tmp_path.rglob(".*"))


def test_an_empty_folder_is_filled_or_stays_empty(tmp_path, monkeypatch):
    """It stays the same folder: it may be a mount point, or the shell's own place."""
    out = tmp_path / "out"
    out.mkdir()
    node = out.stat().st_ino
    tries = with_every_failure(monkeypatch, lambda: made().save(out), lambda: content(tmp_path))
    assert tries == 27
    assert {"manifest.json", "ablation"} < set(content(out))
    assert out.stat().st_ino == node
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    made().save(".")
    assert content(tmp_path / "here") == content(out)


def test_an_old_folder_is_continued_or_stays_as_it_is(tmp_path, monkeypatch):
    out = tmp_path / "out"
    made().save(out)
    before = content(tmp_path)
    after = made("heads", cuts=("", "D->Q"), texts={"ablation/table1.txt": "another\n"})
    tries = with_every_failure(monkeypatch, lambda: after.save(out), lambda: content(tmp_path))
    assert tries == 27
    assert content(tmp_path) != before
    assert set(Result.load(out, "heads").scores["cut"]) == {"", "Q->D", "D->Q"}
    assert (out / "ablation/table1.txt").read_text() == "another\n"
    assert not list(tmp_path.rglob(".*"))


def test_a_link_leads_to_its_folder(tmp_path):
    (tmp_path / "disk").mkdir()
    for name in ("out", "other"):  # a link to a folder, and one to what is not there yet
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk/out").mkdir()
    for name in ("out", "other"):
        made().save(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "disk" / name / "manifest.json").exists()


def test_a_folder_that_came_to_be_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    """Two runs to one new folder: the second says so and leaves the first's results."""
    out = tmp_path / "out"
    real = Result._write

    def slow(self, folder, old):
        real(self, folder, old)
        if not out.exists():
            monkeypatch.setattr(Result, "_write", real)
            made().save(out)

    monkeypatch.setattr(Result, "_write", slow)
    late = made(notes=("late",))
    with pytest.raises(InputError, match=r"cannot write the results to .*not empty"):
        late.save(out)
    assert Result.load(out, "ablation").notes == made().notes
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# --- what may be written to


@pytest.mark.parametrize(
    ("lay", "says"),
    [
        (lambda out: out.write_text("x"), "is a file; expected a folder"),
        (lambda out: out.parent.joinpath("f").write_text(""), None),
        (lambda out: (out / "sub").mkdir(parents=True), r"did not write \(no manifest\.json\)"),
        (lambda out: out.mkdir() or (out / ".hidden").touch(), "did not write"),
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
    before = content(tmp_path)
    if says is None:
        check_folder(out)
        check_folder(str(out), IDENTITY)
    else:
        for identity in (None, IDENTITY):
            with pytest.raises(InputError, match=says):
                check_folder(out, identity)
        with pytest.raises(InputError, match=says):
            made().save(out)
    assert content(tmp_path) == before


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


def test_a_manifest_nested_beyond_reason_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="cannot be read as a manifest"):
        Result.load(tmp_path, "ablation")
