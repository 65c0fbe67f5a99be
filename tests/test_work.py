"""The folder of an unfinished run, by the command line: lock, refusals, Ctrl-C, full disks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import matchlens
import test_cli
from matchlens.runners import runner
from matchlens.runners.store import Work
from matchlens.runners.task import BoundTask, InProcessExecutor
from test_cli import call, collection_options, refused, write_collection

CUTS = ("--cut", "Q->D", "--cut", "D->D@0:1", "--cut", "CLS->Q~mask")


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    """Shards of a few pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "LEAST_WORK", 1500)
        yield


@pytest.fixture(scope="module")
def words(tiny_folder, tmp_path_factory) -> list[object]:
    """Options of a small run of many shards."""
    folder = tmp_path_factory.mktemp("collection")
    write_collection(folder, seed=1)
    return ["--model", tiny_folder, "--device", "cpu", *collection_options(folder)]


@pytest.fixture(scope="module")
def fresh(words, small_shards, tmp_path_factory) -> tuple[str, dict[str, bytes]]:
    """What an unbroken run says and writes."""
    out = tmp_path_factory.mktemp("fresh") / "out"
    done = call("ablation", "-q", *words, *CUTS, "--out", out)
    assert (done.status, done.err) == (0, "")
    return done.out, files_of(out)


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: held for name, held in test_cli.files_of(folder).items() if name != "run.log"}


@pytest.fixture(scope="module")
def stopped_once(words, small_shards, tmp_path_factory) -> Path:
    """A folder of a run that a person stopped after three shards."""
    out = tmp_path_factory.mktemp("stopped") / "out"
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, {3: 1})
        done = call("ablation", *words, *CUTS, "--out", out)
    assert done.status == 130
    assert done.err.splitlines()[-1] == (
        f"matchlens: stopped; 3 shards are kept in {str(out)!r}: run the same command again to go "
        "on"
    )
    assert len(list(out.rglob("*.shard"))) == 3
    return out


@pytest.fixture
def stopped(stopped_once, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(stopped_once, tmp_path / "stopped"))


def signalled(monkeypatch, at: dict[int, int], number: int = signal.SIGINT) -> list[int]:
    """Send this process signals while it runs numbered shards; the shards that were begun."""
    ran: list[int] = []
    run = BoundTask.run

    def heard(self, shard, progress=None):
        ran.append(shard.number)
        for _ in range(at.get(len(ran), 0)):
            os.kill(os.getpid(), number)
        return run(self, shard, progress)

    monkeypatch.setattr(BoundTask, "run", heard)
    return ran


def test_a_stopped_command_goes_on_to_the_same_bytes(words, stopped, fresh, monkeypatch):
    ran = signalled(monkeypatch, {})
    again = call("ablation", *words, *CUTS, "--out", stopped)
    assert again.status == 0
    assert (again.out, files_of(stopped)) == fresh
    assert len(ran) > 0
    assert set(ran) == set(range(3, 3 + len(ran)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(words, tmp_path, monkeypatch, number):
    ran = signalled(monkeypatch, {2: 2}, number)
    done = call("ablation", *words, *CUTS, "--out", tmp_path / "out")
    assert done.status == 130
    assert ran == [0, 1]
    assert "1 shard is kept" in done.err
    assert len(list((tmp_path / "out").rglob("*.shard"))) == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_run_that_is_stopped_before_its_first_shard_leaves_nothing(words, tmp_path, monkeypatch):
    signalled(monkeypatch, {1: 2})
    done = call("ablation", *words, *CUTS, "--out", tmp_path / "out")
    assert done.status == 130
    assert done.err.endswith("stopped before the end; nothing half-written was left\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--seed", "1"], "identity.pairs.sampling.seed was 0, is now 1; options.seed was 0"),
        (["--measure", "P@5"], "options.measure was "),
        (["--cut", "D->Q"], "options.cut was "),
        (["--max-length", "32"], "identity.model.max_length was 64, is now 32"),
        (["--dtype", "float64"], 'identity.model.dtype was "float32", is now "float64"'),
        (["--easy", "1"], "identity.pairs.counts"),
    ],
)
def test_another_command_does_not_go_on_with_it(words, stopped, more, said):
    line = refused("ablation", *words, *CUTS, *more, "--out", stopped)
    assert line.startswith("matchlens: --out ")
    assert " holds another run, which is not finished: " in line
    assert said in line


def test_another_study_does_not_go_on_with_it(words, stopped):
    line = refused("sweep", "up-to", *words, "--direction", "Q->D", "--out", stopped)
    assert 'command was "ablation", is now "sweep"' in line


def test_how_fast_it_is_run_is_no_other_command(words, stopped):
    done = call("ablation", "-q", *words, *CUTS, "--batch-tokens", "90", "--out", stopped)
    assert (done.status, done.err) == (0, "")


@pytest.mark.slow
def test_two_runs_do_not_share_a_folder(words, stopped, tmp_path):
    script = (
        "import sys, json; from matchlens.runners.store import Work\n"
        "about = json.load(open(sys.argv[1] + '/.matchlens-work/about.json'))\n"
        "work = Work.open(sys.argv[1], about)\n"
        "print('locked', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(stopped)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    try:
        line = refused("ablation", "-q", *words, *CUTS, "--out", stopped)
        assert f"is in use by another run (process {other.pid} on " in line
    finally:
        other.kill()  # the lock dies with its process
        other.wait()
    assert call("ablation", "-q", *words, *CUTS, "--out", stopped).status == 0


def test_a_lock_file_that_its_holder_took_away_is_no_lock(tmp_path):
    first = Work.open(tmp_path / "out", {"a": 1})
    with pytest.raises(matchlens.InputError, match=f"in use by another run .process {os.getpid()}"):
        Work.open(tmp_path / "out", {"a": 1})
    first.finish()
    made = tmp_path / "out/.matchlens-work"
    second = Work.open(tmp_path / "out", {"a": 2})
    assert json.loads((made / "about.json").read_text()) == {"a": 2}
    second.leave()
    assert not (tmp_path / "out").exists()


def test_an_unfinished_folder_is_told_from_a_strange_one(words, stopped, tmp_path):
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "notes.txt").write_text("mine")
    line = refused("ablation", "-q", *words, *CUTS, "--out", strange)
    assert "holds files, and no manifest.json among them" in line
    refused("report", stopped)


def test_what_a_killed_run_left_half_written_is_cleared(words, stopped):
    work = stopped / ".matchlens-work"
    for name in ("save-0123abcd/ablation", "shards/matchlens-abcdefgh"):
        (work / name).mkdir(parents=True)
        (work / name / "half").write_text("x")
    (stopped / ".matchlens-abcdefgh").mkdir()
    (work / ".part-0123abcd").write_text("x")
    (next(stopped.rglob("*.shard")).parent / ".part-x").write_text("x")
    assert call("ablation", "-q", *words, *CUTS, "--out", stopped).status == 0
    assert not list(stopped.rglob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("call_number", [1, 2, 6, 14])
def test_a_full_disk_loses_nothing(words, fresh, tmp_path, monkeypatch, call_number):
    """Wherever a write fails: one line, what was done is kept, and the same command goes on."""
    out = tmp_path / "out"
    fsync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) >= call_number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = call("ablation", "-q", *words, *CUTS, "--out", out)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert "No space left on device" in line
    kept = len(list(out.rglob("*.shard")))
    assert kept >= min(5, (call_number - 3) // 2 - 1)
    assert not list(out.rglob(".part-*"))
    assert call("ablation", "-q", *words, *CUTS, "--out", out).status == 0
    assert files_of(out) == fresh[1]


def mounted(folder: Path, size: str) -> bool:
    """Mount a small file system; only root can."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def unmount(folder: Path) -> None:
    """Unmount it, though garbage that is not collected yet may hold a file there open."""
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_small_disk_that_gets_room_again(words, fresh, tmp_path):
    disk = tmp_path / "disk"
    if not mounted(disk, "256k"):
        pytest.skip("no file system can be mounted here: this needs root")
    try:
        (disk / "ballast").write_bytes(b"x" * 200 * 1024)
        done = call("ablation", "-q", *words, *CUTS, "--out", disk / "out")
        assert done.status == 2
        assert "No space left on device" in done.err.splitlines()[-1]
        assert len(list(disk.rglob("*.shard"))) > 0
        (disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert call("ablation", "-q", *words, *CUTS, "--out", disk / "out").status == 0
        assert files_of(disk / "out") == fresh[1]
    finally:
        unmount(disk)


def test_a_folder_that_vanishes_is_a_clear_end(words, tmp_path, monkeypatch):
    out = tmp_path / "out"
    outcomes = InProcessExecutor.outcomes

    def vanishing(self, *given):
        for number, found in enumerate(outcomes(self, *given)):
            if number == 2:
                shutil.rmtree(out)
            yield found

    monkeypatch.setattr(InProcessExecutor, "outcomes", vanishing)
    done = call("ablation", "-q", *words, *CUTS, "--out", out)
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert "cannot write to" in line
    assert "No such file or directory" in line


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--workers", "0"], "--workers is 0; expected 1 or more"),
        (["--runner", "spark"], "--runner 'spark' is not known; expected one of local, ray"),
        (["--ray-address", "x:1"], "--ray-address goes with --runner ray"),
    ],
)
def test_options_of_the_runner_are_checked_first(more, said):
    assert said in refused("ablation", "--demo", "--out", "nowhere", *more)


def test_ray_that_is_not_installed_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr("matchlens.cli.job.find_spec", lambda name: None)
    line = refused("ablation", "--demo", "--out", "nowhere", "--runner", "ray")
    assert "pip install 'matchlens[ray]'" in line
