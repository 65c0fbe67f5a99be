"""Real commands that are interrupted at any moment, or lose their disk and folders."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import matchlens
import matchlens.cli
from chromium import LONG, wait
from matchlens.errors import InputError, surroundings
from matchlens.runners.local import ProcessExecutor
from matchlens.runners.task import ModelSpec
from matchlens.signals import Stop
from test_cli import call, collection_options, write_collection
from test_work import files_of, mounted, unmount

CUTS = ("--cut", "Q->D", "--cut", "D->D@0:1~mean")


@pytest.fixture(scope="module")
def words(tiny_folder, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("collection")
    write_collection(folder, seed=1)
    options = ["--model", tiny_folder, "--device", "cpu", *collection_options(folder)]
    return [str(word) for word in ("ablation", *CUTS, *options)]


def marked(word: str) -> list[int]:
    """The processes whose environment holds a word."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if word.encode() in Path(f"/proc/{name}/environ").read_bytes():
                found.append(int(name))
    return found


def gone(word: str) -> None:
    wait(lambda: not marked(word))


def begun(words: list[str], out: Path, **options) -> subprocess.Popen:
    """The command as a person starts it, in a group of its own."""
    command = [sys.executable, "-m", "matchlens", *words, "--workers", "2", "--out", str(out)]
    env = {**os.environ, "TEST_WORD": str(out)}
    return subprocess.Popen(
        command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def listens(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM, which Python sets only when asked to."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_interruption_while_workers_start_is_an_interruption(words, tmp_path, number, workers):
    """The signal goes to the whole group, as a terminal sends it, while workers import torch."""
    out = tmp_path / "out"
    driver = begun(words, out)
    try:
        wait(lambda: started(out) >= workers or driver.poll() is not None)
        wait(lambda: listens(driver.pid) or driver.poll() is not None)
        assert driver.poll() is None, driver.communicate()[1]
        time.sleep(0.3)  # at any moment from here on
        os.killpg(driver.pid, number)
        _, err = driver.communicate(timeout=LONG)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
    # Python ends itself by SIGINT, which a shell calls 130, where the exception left an exec()
    assert driver.returncode in (130, -signal.SIGINT), err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("matchlens: stopped")
    gone(f"TEST_WORD={out}")
    assert not out.exists() or list(out.rglob("*.shard"))


def started(out: Path) -> int:
    """How many workers a command has started."""
    commands = []
    for process in marked(f"TEST_WORD={out}"):
        with suppress(OSError):
            commands.append(Path(f"/proc/{process}/cmdline").read_bytes())
    return sum(b"spawn_main" in command for command in commands)


@pytest.mark.slow
def test_workers_end_with_a_killed_driver(words, tmp_path):
    driver = begun(words, tmp_path / "out", stdout=subprocess.DEVNULL)
    wait(lambda: started(tmp_path / "out") == 2 or driver.poll() is not None)
    assert driver.poll() is None
    driver.kill()
    driver.communicate()
    gone(f"TEST_WORD={tmp_path / 'out'}")


@pytest.mark.slow
def test_a_killed_worker_is_told_from_a_stopped_one(
    tiny32, tiny_folder, tiny_pairs, tmp_path, monkeypatch
):
    from matchlens.runners import ShardedRunner, runner

    monkeypatch.setattr(runner, "LEAST_WORK", 500)
    recipe = ModelSpec(str(tiny_folder), str(tiny32.identity["sha256"]), device="cpu")
    for asked, ends in ((False, InputError), (True, KeyboardInterrupt)):
        workers, stop = ProcessExecutor(recipe, 1), Stop()
        outcomes = workers.outcomes

        def killed(*given, workers=workers, stop=stop, outcomes=outcomes, asked=asked):
            for found in outcomes(*given):
                yield found
                stop.requested = asked
                os.kill(workers._workers[0].process.pid, signal.SIGKILL)

        monkeypatch.setattr(workers, "outcomes", killed)
        try:
            with pytest.raises(ends) as caught:
                ShardedRunner(None, workers, stop)(tiny32, tiny_pairs, {"": []})
        finally:
            workers.close()
        if not asked:
            assert "was killed, as the system does where memory runs out" in str(caught.value)


@pytest.mark.parametrize("place", ["wire", "names", "shapes", "text"])
def test_what_a_worker_sends_is_held_against_the_task(
    tiny32, tiny_folder, tiny_pairs, monkeypatch, place
):
    """No pickle is read, and no array of another shape gets into the results."""
    from matchlens.runners import ShardedRunner
    from matchlens.runners.task import InProcessExecutor, from_bytes

    if place == "wire":
        import pickle

        class Evil:
            def __reduce__(self):
                return pytest.fail, ("unpickled",)

        for content in (pickle.dumps(Evil()), b"", b"\0" * 100, None, Evil()):
            with pytest.raises(InputError, match="a worker's answer cannot be used"):
                from_bytes(content)
        return
    outcomes = InProcessExecutor.outcomes

    def bent(self, *given):
        for shard, outcome in outcomes(self, *given):
            if place == "names":
                outcome["elsewhere"] = outcome["tokens"]
            elif place == "shapes":
                outcome["scores"] = outcome["scores"][:, :-1]
            else:
                del outcome["device"]
            yield shard, outcome

    monkeypatch.setattr(InProcessExecutor, "outcomes", bent)
    with pytest.raises(InputError, match="answer for shard 0 cannot be used"):
        ShardedRunner()(tiny32, tiny_pairs, {"": []})


def command(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "matchlens", *words],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_folder_that_is_gone_is_one_line(words, tmp_path):
    """The folder where the person stands."""
    script = f"""
import os, sys
os.chdir({str(tmp_path)!r}); os.mkdir("here"); os.chdir("here"); os.rmdir("../here")
import matchlens.__main__
sys.argv[1:] = {[*words, "-q", "--out", str(tmp_path / "out")]!r}
matchlens.__main__.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "No such file or directory" in line
    assert "and run the same command again to go on" in line


@pytest.mark.slow
def test_no_room_for_temporary_files_harms_no_command(words, tmp_path):
    """They lie in the results folder."""
    disk = tmp_path / "disk"
    if not mounted(disk, "64k"):
        pytest.skip("no file system can be mounted here: this needs root")
    try:
        (disk / "ballast").write_bytes(b"x" * 60 * 1024)
        options = words[words.index("--model") :]
        done = command(
            "look", *options, "-q", "--out", str(tmp_path / "out"), cwd=tmp_path, TMPDIR=str(disk)
        )
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        unmount(disk)


@pytest.mark.slow
@pytest.mark.parametrize(
    "where",
    ["matchlens.files.Folder.create", "matchlens.files.Folder.write"],
)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_after_a_full_disk_the_same_command_goes_on(words, tmp_path, monkeypatch, where, code):
    own = ["look", *words[words.index("--model") :], "-q"]
    calls = []

    def full(*_, **__) -> None:
        calls.append(1)
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        done = call(*own, "--out", tmp_path / "out")
    assert calls
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert os.strerror(code) in line
    assert "make room" in line
    assert "run the same command again" in line
    assert call(*own, "--out", tmp_path / "out").status == 0
    assert call(*own, "--out", tmp_path / "fresh").status == 0
    assert files_of(tmp_path / "out") == files_of(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "'/x': Permission denied; expe"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "name another"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; see that"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory"), "(TMPDIR)"),
        (OSError("odd\x1b[31m"), "odd\ufffd[31m"),
    ],
)
def test_what_the_machine_refuses_is_one_line(error, says, words, tmp_path, monkeypatch):
    def refused(*_, **__) -> None:
        raise error

    monkeypatch.setattr("matchlens.runners.task.run_shard", refused)
    done = call(*words, "-q", "--out", tmp_path / "out")
    assert done.status == 2
    (line,) = done.err.splitlines()
    assert says in line
    assert len(line) < 400
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("end", ["pass", "raise RuntimeError('Error calling __set_name__')"])
def test_an_interruption_of_an_import_ends_the_command(number, end):
    """Python swallows the exception in callbacks, and turns it into another in class bodies."""
    script = f"""
import os, sys, time
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "matchlens.cli":
            try:
                os.kill(os.getpid(), {int(number)})
                time.sleep(1)
            except BaseException:
                {end}
sys.meta_path.insert(0, Interrupts())
sys.argv[1:] = ["--version"]
from matchlens.__main__ import run
run()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "matchlens: stopped before the end; nothing half-written was left\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_ignored_signal_stops_no_run(words, tmp_path, monkeypatch, number):
    """As in the background of a script, where Ctrl-C is meant for the script alone."""
    shard = matchlens.runners.task.run_shard

    def interrupted(*given, **options):
        os.kill(os.getpid(), number)
        return shard(*given, **options)

    monkeypatch.setattr("matchlens.runners.task.run_shard", interrupted)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        done = call(*words, "-q", "--out", tmp_path / "out")
    finally:
        signal.signal(number, before)
    assert (done.status, done.err) == (0, "")


def test_an_exception_that_a_library_makes_of_ctrl_c_is_an_interruption(
    words, tmp_path, monkeypatch
):
    def turned(*_, **__) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except KeyboardInterrupt:
            raise ImportError("numpy.core.multiarray failed to import") from None

    monkeypatch.setattr("matchlens.models.load.load", turned)
    done = call(*words, "-q", "--out", tmp_path / "out")
    assert done.status == 130
    assert done.err == "matchlens: stopped before the end; nothing half-written was left\n"
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_seen_in_errors_of_libraries():
    assert matchlens.errors.is_full(
        RuntimeError("I/O error: No space left on device (os error 28)")
    )
    assert not matchlens.errors.is_full(RuntimeError("no space"))
    assert "run the same command again" in str(surroundings(OSError(errno.ENOSPC, "full")))
