"""A run killed at any moment, and gone on with, ends in the bytes of an unbroken one.

The study is forked from this process, which has the model, so that a kill costs little; 20 kills by
default, as many as MATCHLENS_KILLS says (``make kill-test``: 200).
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

import matchlens
from matchlens import InputError
from matchlens.corpora import PairSet
from matchlens.reading import read_manifest
from matchlens.runners import ShardedRunner, runner
from matchlens.runners.store import Work
from test_cli import call
from test_results import made, other, state
from test_work import files_of

KILLS = int(os.environ.get("MATCHLENS_KILLS", "20"))
ABOUT = {"command": "test", "options": {"seed": 0}}
POINTS = ("fsync", "replace", "rename", "unlink")


def chosen(pairs) -> PairSet:
    """Pairs as a choice from one collection."""
    ideals = {}
    for pair in pairs:
        ideals.setdefault((pair.collection, pair.qid), []).append(pair.grade)
    source = {"collection": "tiny"}
    return PairSet(tuple(pairs), {k: tuple(v) for k, v in ideals.items()}, {}, {}, (source,))


@pytest.fixture
def study(tiny32, tiny_pairs, monkeypatch) -> Callable[[Path], None]:
    """A small study that goes on with what it finds in its folder."""
    monkeypatch.setattr(runner, "LEAST_WORK", 600)
    pairs = chosen(tiny_pairs)

    def run(out: Path) -> None:
        work = Work.open(out, ABOUT)
        runner = ShardedRunner(work.shards)
        cuts = ["Q->D", "D->D~mean", "CLS->Q~resample"]
        matchlens.ablation(tiny32, pairs, cuts=cuts, runner=runner).save(out)
        work.finish()

    return run


def forked(run: Callable[[], object]) -> int:
    """Run something in a copy of this process; returns its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        run()
        status = 0
    finally:
        os._exit(status)


def ended(child: int) -> int:
    """Its exit status, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def stepping(step: Callable[[str], object]) -> None:
    """Have this process call a function before each lasting step, with the name of its file."""

    def observed(own):
        def call(*args, **options):
            step(str(args[-1]))
            return own(*args, **options)

        return call

    for name in POINTS:
        setattr(os, name, observed(getattr(os, name)))


def signalled_at(*points: int, number: int = signal.SIGKILL) -> None:
    """Have this process signal itself when it is about to make lasting steps of these numbers."""
    steps = itertools.count(1)
    stepping(lambda _: next(steps) in points and os.kill(os.getpid(), number))


def ended_after(shards: int, seconds: float) -> None:
    """Have the system end this process a time after it has kept so many shards.

    The process sets the clock itself: however busy the machine is, its work goes on after that.
    """
    kept = itertools.count()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def step(name: str) -> None:
        if name.endswith(".shard") and next(kept) == shards:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    stepping(step)


def lasting(run: Callable[[], None]) -> tuple[int, int]:
    """How many lasting steps a whole run makes, and how many shards it keeps."""
    read, write = os.pipe()

    def counted() -> None:
        names: list[str] = []
        stepping(names.append)
        run()
        shards = sum(name.endswith(".shard") for name in names)
        os.write(write, f"{len(names)} {shards}".encode())

    assert ended(forked(counted)) == 0
    steps, kept = map(int, os.read(read, 40).split())
    os.close(read)
    os.close(write)
    return steps, kept


def committed(out: Path) -> int:
    return sum(1 for _ in out.glob(".matchlens-work/shards/*/*.shard"))


@pytest.mark.slow
def test_a_run_killed_anywhere_goes_on_to_the_same_bytes(study, tmp_path):
    whole = tmp_path / "whole"
    began = time.monotonic()
    child = forked(lambda: study(whole))
    assert ended(child) == 0, "the unbroken run failed"
    seconds = time.monotonic() - began
    wanted = files_of(whole)
    assert {"manifest.json", "scores.parquet", "ablation/table1.parquet"} <= set(wanted)
    assert not (whole / ".matchlens-work").exists()
    steps, kept = lasting(lambda: study(tmp_path / "counted"))
    assert files_of(tmp_path / "counted") == wanted
    draw = random.Random(5)
    between = 0
    for number in range(KILLS):
        out = tmp_path / str(number)
        if number % 4 == 0:
            dying = partial(signalled_at, draw.randrange(1, steps + 1))
        else:
            shards = draw.randrange(1, max(2, (kept + 1) // 2))
            dying = partial(ended_after, shards, draw.uniform(1e-6, 0.5 * seconds / kept))
        status = ended(forked(lambda out=out, dying=dying: (dying(), study(out))))
        assert status in (0, -signal.SIGKILL, -signal.SIGALRM)
        between += status != 0 and committed(out) > 0
        assert ended(forked(lambda out=out: study(out))) == 0, f"kill {number} cannot be gone on"
        assert files_of(out) == wanted, f"kill {number} ends in other bytes"
        assert not list(out.glob(".*")), "something is left of the work"
    assert between >= 0.75 * KILLS, f"{between} of {KILLS} kills fell into the work"
    print(f"{KILLS} kills, {between} in the work, {time.monotonic() - began:.0f} s")  # noqa: T201


def test_shards_of_a_killed_run_are_used(study, tmp_path):
    """Not only the bytes: what was done is not done again."""
    out = tmp_path / "out"

    def dying() -> None:
        signalled_at(24)
        study(out)

    assert ended(forked(dying)) == -signal.SIGKILL
    before = {path.name: path.stat().st_ino for path in out.rglob("*.shard")}
    assert len(before) >= 3

    def stopping() -> None:
        signalled_at(18)
        study(out)

    assert ended(forked(stopping)) == -signal.SIGKILL
    after = {path.name: path.stat().st_ino for path in out.rglob("*.shard")}
    assert len(after) > len(before)
    assert {name: after[name] for name in before} == before


@pytest.mark.slow
def test_a_whole_study_killed_while_it_saves_goes_on_to_the_same_bytes(
    tiny_folder, tmp_path, monkeypatch
):
    """By the command line; figures are drawn only where many kills are asked for."""
    from matchlens.cli import main
    from test_cli import write_collection

    monkeypatch.setattr(runner, "LEAST_WORK", 20_000)
    if KILLS <= 20:
        monkeypatch.setattr("matchlens.report.views.files_of", lambda result: {})
    folder = tmp_path / "collection"
    folder.mkdir()
    words = ["study", "--quick", "--quiet", "--model", tiny_folder, "--device", "cpu"]
    words = [*map(str, words), *map(str, write_collection(folder, seed=1)), "--out"]

    def run(out: Path) -> None:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        if status := main([*words, str(out)]):
            os._exit(status)

    def dying(out: Path) -> None:
        replace, saved = os.replace, []

        def replacing(source, target, **folders):
            saved.append(str(target) == "manifest.json")
            if sum(saved) == 5:  # the third study's tables are in place, its manifest is not
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(source, target, **folders)

        monkeypatch.setattr(os, "replace", replacing)
        run(out)

    whole, out = tmp_path / "whole", tmp_path / "out"
    assert ended(forked(lambda: run(whole))) == 0
    assert ended(forked(lambda: dying(out))) == -signal.SIGKILL
    assert committed(out) >= 3
    assert not (out / "report.html").exists()
    assert ended(forked(lambda: run(out))) == 0
    wanted = files_of(whole)
    assert {"report.html", "results.json", "circuits/heads.parquet"} <= set(wanted)
    assert files_of(out) == wanted
    assert not list(out.glob(".*"))


# --- every writer: what is saved is there whole or not at all, and nobody drops another's study


MINE = {"notes.txt": "mine", "ablation/notes.md": "mine, too", "runs/bm25.run": "and mine"}


def saved(out: Path, **changed) -> None:
    """A small study by hand, with a person's own files beside it."""
    made(**changed).save(out)
    for name, text in MINE.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)


@pytest.mark.slow
def test_a_second_run_killed_between_any_two_renames_is_read_as_old_or_new(tmp_path):
    first, out = tmp_path / "first", tmp_path / "out"
    saved(first)
    shutil.copytree(first, tmp_path / "new")
    other().save(tmp_path / "new")
    states = [state(first), state(tmp_path / "new")]
    wanted, seen, point = files_of(tmp_path / "new"), set(), 0
    while True:
        point += 1
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(first, out)

        def dying(point=point) -> None:
            signalled_at(point)
            other().save(out)

        status = ended(forked(dying))
        found = states.index(state(out))
        seen.add(found)
        if found == 0:
            assert {n: raw for n, raw in files_of(out).items() if n[0] != "."} == files_of(first)
        assert {name: (out / name).read_text() for name in MINE} == MINE
        other().save(out)
        assert files_of(out) == wanted
        assert not list(out.glob(".*"))
        if status == 0:
            break
    assert seen == {0, 1}
    assert point > 20


@pytest.fixture
def reported(tiny32, tiny_pairs, tmp_path) -> Path:
    """A results folder of one study that a page was made of."""
    out = tmp_path / "reported"
    matchlens.ablation(tiny32, chosen(tiny_pairs), cuts=["Q->D"]).save(out)
    matchlens.write_report(out)
    return out


def written(words: list[str]) -> None:
    """Run a command; a status other than 0 ends this process with it."""
    from matchlens.cli import main

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    if status := main([*words, "--quiet"]):
        os._exit(status)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "compare"])
def test_report_and_compare_killed_anywhere_are_made_again_to_the_same_bytes(
    reported, tmp_path, command
):
    second = tmp_path / "second"
    shutil.copytree(reported, second)

    def words(out: Path) -> list[str]:
        if command == "report":
            return ["report", str(out), "--margin", "0.3"]
        return ["compare", str(reported), str(second), "--out", str(out)]

    def lay(out: Path) -> None:
        if command == "report":
            shutil.copytree(reported, out)

    whole = tmp_path / "whole"
    lay(whole)
    steps, _ = lasting(lambda: written(words(whole)))
    wanted, draw = files_of(whole), random.Random(7)
    for number in range(max(3, KILLS // 10)):
        out = tmp_path / str(number)
        lay(out)
        point = draw.randrange(1, steps + 1)

        def dying(out=out, point=point) -> None:
            signalled_at(point)
            written(words(out))

        assert ended(forked(dying)) == -signal.SIGKILL
        if command == "report":
            assert matchlens.Result.load(out, "ablation").study == "ablation"
        assert ended(forked(lambda out=out: written(words(out)))) == 0
        assert files_of(out) == wanted
        assert not list(out.glob(".*"))


@pytest.mark.slow
def test_a_report_beside_a_running_study_that_is_stopped_in_between(study, reported, tmp_path):
    """It says in one line who is at work there; afterwards every study is in the manifest."""
    out = tmp_path / "out"
    shutil.copytree(reported, out)

    def stopping() -> None:
        signalled_at(*range(3, 1000, 13), number=signal.SIGSTOP)
        study(out)

    child = forked(stopping)
    refused = 0
    while os.WIFSTOPPED(status := os.waitpid(child, os.WUNTRACED)[1]):
        done = call("report", out)
        assert done.status == 2, done.err
        (line,) = done.err.splitlines()
        assert f"is in use by another run (process {child} on " in line
        refused += 1
        os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(status) == 0
    assert refused > 3
    assert call("report", out).status == 0
    assert list(read_manifest(out)["studies"]) == ["ablation", "study"]


@pytest.mark.slow
def test_a_study_beside_a_stopped_report_drops_nothing(reported, tmp_path):
    """The report is stopped between two of its renames; a second writer waits for no half state."""
    steps, _ = lasting(lambda: written(["report", str(reported)]))
    draw = random.Random(11)
    for number in range(3):
        out = tmp_path / str(number)
        shutil.copytree(reported, out)
        point = draw.randrange(1, steps + 1)

        def stopping(out=out, point=point) -> None:
            signalled_at(point, number=signal.SIGSTOP)
            written(["report", str(out)])

        child = forked(stopping)
        os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED)
        held = matchlens.Result.load(out, "ablation")
        late = replace(held, study="late", texts={}, arrays={})
        with pytest.raises(InputError, match=f"in use by another run .process {child} on"):
            late.save(out)
        os.kill(child, signal.SIGCONT)
        assert ended(child) == 0
        late.save(out)
        assert set(read_manifest(out)["studies"]) == {"ablation", "study", "late"}
