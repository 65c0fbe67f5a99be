"""Two Ray workers against one, each pinned to a core: at least 1.8 times the pace, on idle cores.

Rounds alternate; each worker has one thread, and the shards are CPU-bound. The cluster has a node a
core, so that two workers are on two nodes.

``--many 20000`` runs so many pairs with 4 workers on two nodes instead: the pace, the memory of the
driver as it goes on, and a node that is killed half way. A tiny model, so that what grows with the
pairs is seen; the scores must be those of this process alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import matchlens
import tiny
from matchlens.directions import Cut
from matchlens.runners import ShardedRunner
from matchlens.runners import runner as sharding
from matchlens.runners.ray import RayExecutor, RayWorker
from matchlens.runners.task import ModelSpec

ROUNDS = 5
PAIRS = 2500


class Pinned(RayWorker):
    """A worker on a core of its own, by the order of the nodes' ports."""

    def ready(self):
        import ray

        nodes = sorted(node["NodeID"] for node in ray.nodes() if node["Resources"].get("CPU"))
        place = nodes.index(ray.get_runtime_context().get_node_id())
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[place]})
        return super().ready()


def many(number: int) -> None:
    """Run pairs on two nodes, one of which is killed, and tell pace and memory."""
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="matchlens-") as made:
        folder = tiny.save(Path(made), layers=2, heads=2)
        model = matchlens.load(folder, device="cpu")
        pairs = tiny.pairs(number, queries=max(1, number // 50))
        conditions = {"": [], "Q->D": [Cut.parse("Q->D")], "D->D": [Cut.parse("D->D")]}
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
        spec = ModelSpec(str(folder), str(model.identity["sha256"]), device="cpu")
        executor = RayExecutor(spec, cluster.address, number=4, cores=1)
        runner = ShardedRunner(executor=executor)
        seen: list[tuple[int, float, float]] = []
        try:
            while not seen or len(executor._idle) < 4:  # the workers load the model
                runner(model, pairs[:4], {"": []})
                seen = [(0, 0.0, resident())]
            begun, killed = time.perf_counter(), False

            def progress(done: int, total: int) -> None:
                nonlocal killed
                if done - seen[-1][0] >= number // 10 or done == total:
                    seen.append((done, time.perf_counter() - begun, resident()))
                    print(
                        "  {:7d} pairs, {:6.1f} s, driver {:5.0f} MiB".format(*seen[-1]), flush=True
                    )
                if done >= number // 2 and not killed:
                    killed = True
                    print("  a node is killed", flush=True)
                    cluster.remove_node(nodes[1], allow_graceful=False)

            out = runner(model, pairs, conditions, progress=progress)
        finally:
            executor.close()
            cluster.shutdown()
        alone = ShardedRunner()(model, pairs, conditions)
    if not (out.scores.values == alone.scores.values).all():
        sys.exit("the scores are not those of one process")
    print(
        f"{number} pairs, {len(conditions)} conditions, 4 workers on 2 nodes, one killed half way: "
        f"{seen[-1][1]:.1f} s, {number / seen[-1][1]:.0f} pairs a second; the driver grew by "
        f"{seen[-1][2] - seen[1][2]:+.0f} MiB after its first tenth; the same scores as one process"
    )


def resident() -> float:
    """MiB of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    from ray.cluster_utils import Cluster

    import matchlens.runners.ray as ours

    ours.RayWorker = Pinned
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed")
    with tempfile.TemporaryDirectory(prefix="matchlens-") as made:
        folder = tiny.save(Path(made), layers=6, hidden_size=128, intermediate_size=512)
        model = matchlens.load(folder, device="cpu")
        pairs = tiny.pairs(PAIRS, queries=40)
        names = [f"{x}->{y}@0:{n}" for x in "QD" for y in "QD" for n in range(1, 6)]
        conditions = {"": [], **{name: [Cut.parse(name)] for name in names}}
        sharding.MOST_SHARDS = 40
        cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        recipe = ModelSpec(str(folder), str(model.identity["sha256"]), device="cpu")
        seconds: dict[int, list[float]] = {1: [], 2: []}
        try:
            for _ in range(ROUNDS):
                for number in (1, 2):
                    executor = RayExecutor(recipe, cluster.address, number=number, cores=1)
                    runner = ShardedRunner(executor=executor)
                    # the workers load the model
                    runner(model, pairs[:2], {"": []})
                    while len(executor._idle) < number:
                        runner(model, pairs[:2], {"": []})
                    begun = time.perf_counter()
                    runner(model, pairs, conditions)
                    seconds[number].append(time.perf_counter() - begun)
                    executor.close()
        finally:
            cluster.shutdown()
    ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    print(f"{PAIRS} pairs, {len(conditions)} conditions; seconds {seconds}")
    print(f"two workers against one: median {statistics.median(ratios):.2f}, all {ratios}")
    if statistics.median(ratios) < 1.8:
        sys.exit("two workers are less than 1.8 times as fast as one")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--many", type=int, help="pairs of the run on two nodes")
    many_pairs = parser.parse_args().many
    many(many_pairs) if many_pairs else main()
