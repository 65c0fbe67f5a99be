"""A run killed at any moment, and gone on with, ends in the bytes of an unbroken one.

The study is forked from this process, which has the model, so that a kill costs little; 20 kills by
default, as many as MATCHLENS_KILLS says (``make kill-test``: 200).
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import matchlens
from matchlens.corpora import PairSet
from matchlens.runners import ShardedRunner, shards
from matchlens.runners.work import Work

KILLS = int(os.environ.get("MATCHLENS_KILLS", "20"))
ABOUT = {"command": "test", "options": {"seed": 0}}
POINTS = ("fsync", "replace", "rename", "unlink")


@pytest.fixture
def study(tiny32, tiny_pairs, monkeypatch) -> Callable[[Path], None]:
    """A small study that goes on with what it finds in its folder."""
    monkeypatch.setattr(shards, "LEAST", 600)
    ideals = {}
    for pair in tiny_pairs:
        ideals.setdefault((pair.collection, pair.qid), []).append(pair.grade)
    source = {"collection": "tiny"}
    pairs = PairSet(tuple(tiny_pairs), {k: tuple(v) for k, v in ideals.items()}, {}, {}, (source,))

    def run(out: Path) -> None:
        work = Work.open(out, ABOUT)
        runner = ShardedRunner(work.shards)
        cuts = ["Q->D", "D->D~mean", "CLS->Q~resample"]
        matchlens.ablation(tiny32, pairs, cuts=cuts, runner=runner).save(out)
        work.finish()

    return run


def forked(run: Callable[[], None]) -> int:
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


def dying_at(point: int) -> None:
    """Have this process kill itself when it is about to make its ``point``-th lasting step."""
    calls = 0

    def counted(own):
        def call(*args, **options):
            nonlocal calls
            calls += 1
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return own(*args, **options)

        return call

    for name in POINTS:
        setattr(os, name, counted(getattr(os, name)))


def lasting(run: Callable[[], None]) -> tuple[int, int]:
    """How many lasting steps a whole run makes, and how many shards it keeps."""
    read, write = os.pipe()

    def told() -> None:
        calls = [0, 0]
        for name in POINTS:
            own = getattr(os, name)

            def call(*args, own=own, **options):
                calls[0] += 1
                calls[1] += str(args[-1]).endswith(".shard")
                return own(*args, **options)

            setattr(os, name, call)
        run()
        os.write(write, " ".join(map(str, calls)).encode())

    assert ended(forked(told)) == 0
    steps, kept = map(int, os.read(read, 40).split())
    os.close(read)
    os.close(write)
    return steps, kept


def files_of(folder: Path) -> dict[str, bytes]:
    """All files, by name; times are in run.log only."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if path.is_file() and name != "run.log"
    }


def committed(out: Path) -> int:
    return sum(1 for _ in out.glob(".matchlens-work/shards/*/*.shard"))


def test_a_run_killed_anywhere_goes_on_to_the_same_bytes(study, tmp_path):
    whole = tmp_path / "whole"
    started = time.monotonic()
    child = forked(lambda: study(whole))
    assert ended(child) == 0, "the unbroken run failed"
    seconds = time.monotonic() - started
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
            point = draw.randrange(1, steps + 1)

            def dying(out=out, point=point) -> None:
                dying_at(point)
                study(out)

            status = ended(forked(dying))
        else:
            child = forked(lambda out=out: study(out))
            least = draw.randrange(1, max(2, (kept + 1) // 2))
            while committed(out) < least and not (out / "manifest.json").exists():
                time.sleep(0.0005)
            time.sleep(draw.uniform(0, 0.5 * seconds / kept))
            os.kill(child, signal.SIGKILL)
            status = ended(child)
        assert status in (0, -signal.SIGKILL)
        between += status == -signal.SIGKILL and committed(out) > 0
        assert ended(forked(lambda out=out: study(out))) == 0, f"kill {number} cannot be gone on"
        assert files_of(out) == wanted, f"kill {number} ends in other bytes"
        assert not list(out.glob(".*")), "something is left of the work"
    assert between >= 0.75 * KILLS, f"{between} of {KILLS} kills fell into the work"
    print(f"{KILLS} kills, {between} in the work, {time.monotonic() - started:.0f} s")  # noqa: T201


def test_shards_of_a_killed_run_are_used(study, tmp_path):
    """Not only the bytes: what was done is not done again."""
    out = tmp_path / "out"

    def dying() -> None:
        dying_at(24)
        study(out)

    assert ended(forked(dying)) == -signal.SIGKILL
    before = {path.name: path.stat().st_ino for path in out.rglob("*.shard")}
    assert len(before) >= 3

    def stopping() -> None:
        dying_at(18)
        study(out)

    assert ended(forked(stopping)) == -signal.SIGKILL
    after = {path.name: path.stat().st_ino for path in out.rglob("*.shard")}
    assert len(after) > len(before)
    assert {name: after[name] for name in before} == before


def test_a_whole_study_killed_while_it_saves_goes_on_to_the_same_bytes(
    tiny_folder, tmp_path, monkeypatch
):
    """By the command line; figures are drawn only where many kills are asked for."""
    from matchlens.cli import main
    from test_cli import write_collection

    monkeypatch.setattr(shards, "LEAST", 20_000)
    if KILLS <= 20:
        monkeypatch.setattr("matchlens.cli.study._files", lambda result: {})
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

        def replacing(source, target):
            saved.append(str(target).endswith("manifest.json"))
            if sum(saved) == 10:  # the third study's tables are in place, its manifest is not
                os.kill(os.getpid(), signal.SIGKILL)
            return replace(source, target)

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
