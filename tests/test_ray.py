"""A Ray cluster of two nodes on this machine, one of which dies in the middle."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import matchlens
from matchlens.directions import Cut
from matchlens.runners import ShardedRunner, runner
from matchlens.runners.task import ModelSpec

if "MATCHLENS_RAY" not in os.environ:
    pytest.skip("a cluster takes a minute: make ray-test", allow_module_level=True)
pytest.importorskip("ray", reason="ray is not installed: pip install 'matchlens[ray]'")

CONDITIONS = {
    "": [],
    "Q->D": [Cut.parse("Q->D")],
    "D->D@0:2~mean": [Cut.parse("D->D@0:2~mean")],
    "D->Q~resample": [Cut.parse("D->Q~resample")],
}


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False},
    )
    nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made, nodes
    made.shutdown()


def test_a_node_dies_and_the_bytes_are_those_of_this_process(
    cluster, tiny32, tiny_folder, tiny_pairs, tmp_path, monkeypatch
):
    from matchlens.runners.ray import RayExecutor

    monkeypatch.setattr(runner, "LEAST_WORK", 400)
    made, nodes = cluster
    recipe = ModelSpec(str(tiny_folder), str(tiny32.identity["sha256"]), device="cpu")
    on_ray = RayExecutor(recipe, made.address, number=2, cores=1)
    outcomes, ran = on_ray.outcomes, []

    def losing(*given):
        for shard, outcome in outcomes(*given):
            ran.append(shard.number)
            if len(ran) == 4:
                made.remove_node(nodes[1], allow_graceful=False)
            yield shard, outcome

    monkeypatch.setattr(on_ray, "outcomes", losing)
    before = signal.getsignal(signal.SIGTERM)
    here = ShardedRunner()(tiny32, tiny_pairs, CONDITIONS)
    try:
        there = ShardedRunner(tmp_path, on_ray)(tiny32, tiny_pairs, CONDITIONS)
    finally:
        on_ray.close()
    assert len(ran) > 8
    assert signal.getsignal(signal.SIGTERM) is before
    assert there.scores.values.tobytes() == here.scores.values.tobytes()
    assert there.tokens.tobytes() == here.tokens.tobytes()
    assert (there.batches, there.device) == (here.batches, "cpu")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379", "x:port"])
def test_a_cluster_that_is_not_there_is_named(address, tiny32, tiny_folder, tiny_pairs):
    from matchlens.runners.ray import RayExecutor

    recipe = ModelSpec(str(tiny_folder), str(tiny32.identity["sha256"]), device="cpu")
    runner = ShardedRunner(executor=RayExecutor(recipe, address))
    with pytest.raises(matchlens.InputError, match="no Ray cluster can be reached"):
        runner(tiny32, tiny_pairs, {"": []})


def speaks(kind: str, connection: socket.socket) -> None:
    """Something that listens and is no Ray."""
    with suppress(OSError):
        connection.recv(1000)
        if kind == "http":
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            connection.close()
        if kind == "grpc":  # the first frame of HTTP/2, and then nothing
            connection.sendall(b"\0\0\0\x04\0\0\0\0\0")


@pytest.mark.parametrize("kind", ["silent", "http", "grpc"])
def test_what_listens_and_is_no_ray_is_named_in_bounded_time(
    kind, tiny32, tiny_folder, tiny_pairs, monkeypatch
):
    from matchlens.runners.ray import RayExecutor

    monkeypatch.setattr("matchlens.runners.ray.JOINED", 8.0)
    held = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    held.append(listening.accept()[0])
                    if kind != "silent":
                        threading.Thread(target=speaks, args=(kind, held[-1]), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        recipe = ModelSpec(str(tiny_folder), str(tiny32.identity["sha256"]), device="cpu")
        runner = ShardedRunner(
            executor=RayExecutor(recipe, f"127.0.0.1:{listening.getsockname()[1]}")
        )
        started = time.monotonic()
        with pytest.raises(matchlens.InputError, match="no Ray cluster can be reached"):
            runner(tiny32, tiny_pairs, {"": []})
        assert time.monotonic() - started < 60


def started_by(marks: bytes) -> dict[int, bytes]:
    """The processes whose environment holds some words, and what each is."""
    found = {}
    for name in os.listdir("/proc"):
        with suppress(OSError):
            if name.isdecimal() and marks in Path(f"/proc/{name}/environ").read_bytes():
                found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes()[:200]
    return found


@pytest.mark.parametrize(
    ("number", "later"),
    [(signal.SIGKILL, 0), (signal.SIGKILL, 3), (signal.SIGTERM, 0), (signal.SIGINT, 1)],
)
def test_nothing_stays_behind_a_driver_that_started_ray(number, later, tiny_folder, tmp_path):
    """Real processes; those of the driver are known by a word in their environment.

    Agents that have only just begun when the raylet dies would not notice it by themselves.
    """
    word = f"TEST_WORD={tmp_path}"
    command = [sys.executable, "-m", "matchlens", "ablation", "--demo", "--model", tiny_folder]
    command += ["--device", "cpu", "--all-judged", "--runner", "ray", "--out", tmp_path / "out"]
    env = {**os.environ, "TEST_WORD": str(tmp_path)}
    env.pop("RAY_ADDRESS", None)
    driver = subprocess.Popen(
        command, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 200
        while not any(b"agent" in words for words in started_by(word.encode()).values()):
            assert time.monotonic() < deadline
            assert driver.poll() is None, driver.communicate()[1]
            time.sleep(0.02)
        time.sleep(later)
        assert len(started_by(word.encode())) > 3
        if number == signal.SIGKILL:
            driver.kill()
        else:
            os.killpg(driver.pid, number)  # as a terminal does, and a scheduler
        _, err = driver.communicate(timeout=120)
        deadline = time.monotonic() + 5
        while started_by(word.encode()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert started_by(word.encode()) == {}
    finally:
        for process in started_by(word.encode()):
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
    if number != signal.SIGKILL:
        assert driver.returncode == 130, err
        assert "Traceback" not in err
        assert err.splitlines()[-1].startswith("matchlens: stopped")
