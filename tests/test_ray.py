"""A Ray cluster of two nodes on this machine, one of which dies in the middle."""

from __future__ import annotations

import os
import signal

import pytest

import matchlens
from matchlens.directions import Cut
from matchlens.runners import ShardedRunner, shards
from matchlens.runners.recipe import Recipe

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
    from matchlens.runners.ray import OnRay

    monkeypatch.setattr(shards, "LEAST", 400)
    made, nodes = cluster
    recipe = Recipe(str(tiny_folder), str(tiny32.identity["sha256"]), device="cpu")
    on_ray = OnRay(recipe, made.address, number=2, cores=1)
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
    from matchlens.runners.ray import OnRay

    recipe = Recipe(str(tiny_folder), str(tiny32.identity["sha256"]), device="cpu")
    runner = ShardedRunner(executor=OnRay(recipe, address))
    with pytest.raises(matchlens.InputError, match="no Ray cluster can be reached"):
        runner(tiny32, tiny_pairs, {"": []})
