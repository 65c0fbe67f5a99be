"""Two Ray workers against one, each pinned to a core: at least 1.8 times the pace, on idle cores.

Rounds alternate; each worker has one thread, and the shards are CPU-bound. The cluster has a node a
core, so that two workers are on two nodes.
"""

from __future__ import annotations

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
from matchlens.runners import ShardedRunner, shards
from matchlens.runners.model_spec import ModelSpec
from matchlens.runners.ray import RayExecutor, RayWorker

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
        shards.MOST = 40
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
    main()
