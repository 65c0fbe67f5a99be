"""Shards: their boundaries, what is kept of them, and that a run in shards is the run."""

from __future__ import annotations

import itertools
import os
import random
import sys
import warnings
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import matchlens
import tiny as tiny_models
from matchlens.batching import split
from matchlens.corpora import Pair
from matchlens.directions import Cut
from matchlens.engine import batches_of, plan_of
from matchlens.meters.arrays import PairArray
from matchlens.meters.attention import AttentionMeter
from matchlens.meters.states import MeanStatesMeter, StatesMeter
from matchlens.parts import Part
from matchlens.plan import Control
from matchlens.qk import Hypothesis, MeanStates
from matchlens.runners import MeasurementRequest, ShardedRunner, run, runner, task
from matchlens.runners.local import ProcessExecutor, card
from matchlens.runners.measures import (
    Attention,
    Logits,
    States,
    logits_into,
    rows_into,
    states_into,
)
from matchlens.runners.ray import RayExecutor
from matchlens.runners.store import DamagedError, Store
from matchlens.runners.task import InProcessExecutor, ModelSpec, Worker
from matchlens.signals import Stop, Stopped

CONDITIONS = {
    "": [],
    "Q->D": [Cut.parse("Q->D")],
    "D->D@0:2~mean": [Cut.parse("D->D@0:2~mean")],
    "D->Q~resample": [Cut.parse("D->Q~resample")],
    "control": [Control(Cut.parse("Q->Q"), "edges", 0)],
}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of a few pairs."""
    monkeypatch.setattr(runner, "LEAST_WORK", 500)


@contextmanager
def undivided():
    """One shard, however many pairs there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "LEAST_WORK", 10**9)
        yield


def same(one, other) -> None:
    """Byte for byte the same run."""
    assert one.scores.values.tobytes() == other.scores.values.tobytes()
    assert one.tokens.tobytes() == other.tokens.tobytes()
    assert one.truncated.tobytes() == other.truncated.tobytes()
    assert (one.batches, one.causal, one.device) == (other.batches, other.causal, other.device)
    assert one.reach.tobytes() == other.reach.tobytes()


class Shuffled(InProcessExecutor):
    """Runs shards in another order, as workers may."""

    def outcomes(self, bound, shards, stop, progress):
        listed = list(shards)
        random.Random(3).shuffle(listed)
        yield from super().outcomes(bound, listed, stop, progress)


class Counted(InProcessExecutor):
    """Counts the shards that are run, and can stop after some."""

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self.ran: list[tuple[str, int]] = []
        self.most = most

    def outcomes(self, bound, shards, stop, progress):
        for shard, outcome in super().outcomes(bound, shards, stop, progress):
            self.ran.append((bound.task.kind, shard.number))
            if self.most is not None and len(self.ran) >= self.most:
                stop.requested = True
            yield shard, outcome


@given(st.lists(st.integers(5, 64), min_size=1, max_size=60), st.integers(1, 80))
def test_every_pair_is_in_one_shard_and_the_longest_come_first(tokens, passes):
    lengths = np.array(tokens)
    found = runner.divide(lengths, passes)
    assert sorted(np.concatenate(found).tolist()) == list(range(len(tokens)))
    order = lengths[np.concatenate(found)]
    assert (np.diff(order) <= 0).all()
    weights = [int(lengths[shard].sum()) * passes for shard in found]
    whole = max(runner.LEAST_WORK, sum(weights) // runner.MOST_SHARDS)
    assert all(weight >= whole for weight in weights[:-1])
    longest = [int(lengths[shard[-1]]) * passes for shard in found]
    assert all(weight - last < whole for weight, last in zip(weights, longest, strict=True))


@given(st.lists(st.integers(5, 64), min_size=1, max_size=60), st.integers(64, 300))
def test_a_shard_of_a_gpu_fills_one_layer_call(tokens, full):
    lengths = np.array(tokens)
    for passes in (100, 10**6):  # however long the sweep is
        shards = runner.divide(lengths, passes, full)
        assert len(shards) == len(split(lengths, full))
        assert all(len(split(lengths[shard], full)) == 1 for shard in shards)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=9),
    st.integers(20, 90),
    st.sampled_from([None, 0, 5, 30]),
)
def test_batches_cost_the_least_of_all_splits(tokens, most, overhead):
    order = sorted(tokens, reverse=True)
    each = most * len(tokens) if overhead is None else overhead

    def cost(sizes: list[int]) -> float:
        ends = list(itertools.accumulate(sizes))
        padded = [order[end - size] * size for end, size in zip(ends, sizes, strict=True)]
        full = any(p > most and size > 1 for p, size in zip(padded, sizes, strict=True))
        return float("inf") if full else sum(padded) + each * len(sizes)

    every = []
    for cuts in itertools.product((False, True), repeat=len(order) - 1):
        at = [0, *(n for n, cut in enumerate(cuts, 1) if cut), len(order)]
        every.append([b - a for a, b in itertools.pairwise(at)])
    found = split(np.array(tokens), most, overhead)
    assert [tokens[n] for batch in found for n in batch] == order
    sizes = [len(batch) for batch in found]
    assert cost(sizes) == min(map(cost, every))
    if overhead is None:
        assert len(sizes) == min(len(one) for one in every if cost(one) < float("inf"))


@pytest.mark.real
def test_texts_of_unlike_length_are_little_padded(demo_model, tiny32):
    """A batch costs a narrow model more than padding does, a wide one less."""
    texts = ["tea " * 20, "tea " * 25, "tea " * 200]
    pairs = [Pair("q", str(n), "warm tea", text, 0) for n, text in enumerate(texts)]
    encoded = demo_model.encode(pairs)
    batches = [batch.parts.shape for batch in batches_of(demo_model, encoded, 1024)]
    assert [rows for rows, _ in batches] == [1, 2]
    assert sum(rows * tokens for rows, tokens in batches) < 1.1 * encoded.lengths.sum()
    assert len([*batches_of(tiny32, tiny32.encode(pairs), 1024)]) == 1


def test_the_runner_divides_by_what_keeps_the_device_busy(tiny, tiny_pairs, monkeypatch):
    seen = []

    def divide(tokens, passes, full):
        seen.append(full)
        return [np.arange(len(tokens))]

    monkeypatch.setattr(runner, "divide", divide)
    ShardedRunner()(tiny, tiny_pairs, {"": []})
    elsewhere = replace(tiny, device=torch.device("meta"))
    with suppress(Exception):  # it is no device that runs anything: what was asked is enough
        ShardedRunner()(elsewhere, tiny_pairs, {"": []})
    assert seen == [0, 32768]


def test_the_pass_for_the_means_is_divided_by_its_own_work(tiny, tiny_pairs):
    executor = Counted()
    out = ShardedRunner(executor=executor)(tiny, tiny_pairs, CONDITIONS)
    passes = {task.MEANS: tiny.family.n_layers, task.SCORES: plan_of(tiny, CONDITIONS).passes}
    assert passes[task.MEANS] < passes[task.SCORES]
    shards = {kind: len(runner.divide(out.tokens, number)) for kind, number in passes.items()}
    assert Counter(kind for kind, _ in executor.ran) == shards
    assert shards[task.MEANS] < shards[task.SCORES]


def test_shards_of_a_long_run_are_few_and_hold_no_more_pairs_than_fit(monkeypatch):
    tokens = np.full(100_000, 60)
    assert len(runner.divide(tokens, 12)) <= runner.MOST_SHARDS + 1
    monkeypatch.setattr(runner, "LEAST_WORK", 10**6)
    assert max(map(len, runner.divide(np.full(10_000, 5), 1))) == runner.MOST_PAIRS


def test_a_run_in_shards_is_the_run_undivided(tiny, tiny_pairs, tmp_path):
    with undivided():
        whole = run(tiny, tiny_pairs, CONDITIONS, seed=1)
    here = ShardedRunner(tmp_path)(tiny, tiny_pairs, CONDITIONS, seed=1)
    assert len(list(tmp_path.glob("*/*.shard"))) > 8
    np.testing.assert_allclose(here.scores.values, whole.scores.values, atol=1e-10, rtol=0)
    assert here.tokens.tolist() == whole.tokens.tolist()
    assert here.truncated.tolist() == whole.truncated.tolist()
    assert (here.reach == whole.reach).all()
    assert (here.causal, here.device, here.plan) == (whole.causal, whole.device, whole.plan)
    assert sum(here.batches) == len(tiny_pairs)
    assert here.counts.rows > 0


def test_bytes_do_not_depend_on_order_folder_or_resuming(tiny32, tiny_pairs, tmp_path):
    first = ShardedRunner()(tiny32, tiny_pairs, CONDITIONS)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    same(first, ShardedRunner(tmp_path / "a")(tiny32, tiny_pairs, CONDITIONS))
    same(first, ShardedRunner(tmp_path / "b", Shuffled())(tiny32, tiny_pairs, CONDITIONS))
    again = Counted()
    same(first, ShardedRunner(tmp_path / "b", again)(tiny32, tiny_pairs, CONDITIONS))
    assert again.ran == []


def test_a_stopped_run_goes_on_where_it_stood(tiny32, tiny_pairs, tmp_path):
    first = ShardedRunner()(tiny32, tiny_pairs, CONDITIONS)
    ran = []
    for _ in range(100):
        some = Counted(most=3)
        try:
            last = ShardedRunner(tmp_path, some)(tiny32, tiny_pairs, CONDITIONS)
        except Stopped:
            ran += some.ran
            assert len(some.ran) == 3
            continue
        ran += some.ran
        break
    same(first, last)
    assert len(ran) == len(set(ran)) == len(list(tmp_path.glob("*/*.shard")))


def measured(model, pairs, runner, folder):
    """Every measure, by a runner or, where it is None, by meters of one undivided run."""
    folder.mkdir()
    shape = (len(pairs), model.family.n_layers, model.family.n_heads, 5, 5)
    names = ("mass", "entropy")
    arrays = {name: PairArray(folder / f"{name}.npy", shape) for name in names}
    queries = tuple((pair.collection, pair.qid) for pair in pairs)
    classes = tuple("relevant" if pair.grade > 1 else None for pair in pairs)
    states = States(queries, classes, (Part.D,))
    sums = states.empty(model)
    draw = np.random.default_rng(0)
    means = draw.normal(size=(2, model.family.n_layers, 32))
    logits = Logits(means[0], means[1], (Part.D,))
    moments = logits.empty(model)
    if runner is None:
        meters = [AttentionMeter(names, arrays), MeanStatesMeter(sums, queries, classes)]
        with undivided():
            run(model, pairs, {"": []}, asked=tiny_models.watched_by(*meters, StatesMeter(moments)))
    else:
        asked = [
            MeasurementRequest(Attention(names), rows_into(arrays)),
            MeasurementRequest(states, states_into(sums)),
            MeasurementRequest(logits, logits_into(moments)),
        ]
        runner(model, pairs, {"": []}, asked=asked)
    assert isinstance(sums, MeanStates)
    assert isinstance(moments, Hypothesis)
    found = {name: array.mapped() for name, array in arrays.items()}
    found |= {"query": sums.result().query, "document": sums.result().document}
    shares = moments.result()
    return {**found, "share": shares.share, "variance": shares.variance}


def test_measures_in_shards_are_those_of_the_run_and_do_not_depend_on_order(
    tiny, tiny_pairs, tmp_path
):
    whole = measured(tiny, tiny_pairs, None, tmp_path / "whole")
    (tmp_path / "shards").mkdir()
    first = measured(tiny, tiny_pairs, ShardedRunner(tmp_path / "shards"), tmp_path / "one")
    other = measured(tiny, tiny_pairs, ShardedRunner(), tmp_path / "other")
    again = measured(
        tiny, tiny_pairs, ShardedRunner(tmp_path / "shards", Shuffled()), tmp_path / "again"
    )
    assert len(list((tmp_path / "shards").glob("*/*.shard"))) > 1
    for name, values in whole.items():
        np.testing.assert_allclose(first[name], values, atol=1e-6, rtol=1e-6)
        assert first[name].tobytes() == other[name].tobytes() == again[name].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    ["seed", "pairs", "text", "conditions", "measure", "dtype", "batch_tokens"],
)
def test_a_shard_of_another_run_is_not_taken(tiny32, tiny, tiny_pairs, tmp_path, other):
    def ran(model=tiny32, pairs=tiny_pairs, conditions=CONDITIONS, **options) -> Counted:
        counted = Counted()
        ShardedRunner(tmp_path, counted)(model, pairs, conditions, **options)
        return counted

    ran()
    changed = [replace(tiny_pairs[0], text="cat"), *tiny_pairs[1:]]
    rows = PairArray(tmp_path / "mass.npy", (24, 3, 4, 5, 5))
    options = {
        "seed": {"seed": 1},
        "pairs": {"pairs": tiny_pairs[:-1]},
        "text": {"pairs": changed},
        "conditions": {"conditions": {"": [], "Q->D": [Cut.parse("Q->D~mask")]}},
        "measure": {"asked": [MeasurementRequest(Attention(("mass",)), rows_into({"mass": rows}))]},
        "dtype": {"model": tiny},
        "batch_tokens": {"batch_tokens": 64},
    }[other]
    again = ran(**options)
    assert bool(again.ran) == (other != "batch_tokens")


def damage(path, how: str) -> None:
    raw = bytearray(path.read_bytes())
    if how == "flipped":
        raw[-3] ^= 1
    elif how == "cut":
        raw = raw[: len(raw) // 2]
    elif how == "empty":
        raw = bytearray()
    else:
        raw = bytearray((path.parent / "000001.shard").read_bytes())
    path.write_bytes(bytes(raw))


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "another"])
def test_a_damaged_shard_is_run_again_and_that_is_said(tiny32, tiny_pairs, tmp_path, how):
    conditions = {"": [], "Q->D": [Cut.parse("Q->D")]}
    first = ShardedRunner(tmp_path)(tiny32, tiny_pairs, conditions)
    (folder,) = tmp_path.iterdir()
    damage(folder / "000000.shard", how)
    with pytest.raises(DamagedError):
        Store(folder, "x").read(0)
    counted = Counted()
    with pytest.warns(matchlens.MatchlensWarning, match="shard 0 of an earlier run is damaged"):
        same(first, ShardedRunner(tmp_path, counted)(tiny32, tiny_pairs, conditions))
    assert counted.ran == [("scores", 0)]


def test_a_shard_that_vanishes_while_others_run_is_run_again(tiny32, tiny_pairs, tmp_path):
    class Vanishing(Shuffled):
        def outcomes(self, *args):
            for number, (shard, outcome) in enumerate(super().outcomes(*args)):
                yield shard, outcome
                if number == 2:
                    (tmp_path.glob("*/*.shard").__next__()).unlink()

    first = ShardedRunner()(tiny32, tiny_pairs, {"": []})
    same(first, ShardedRunner(tmp_path, Vanishing())(tiny32, tiny_pairs, {"": []}))


def test_progress_begins_at_what_is_done(tiny32, tiny_pairs, tmp_path):
    with pytest.raises(Stopped):
        ShardedRunner(tmp_path, Counted(most=2))(tiny32, tiny_pairs, {"": []})
    calls = []
    runner = ShardedRunner(tmp_path)
    runner(tiny32, tiny_pairs, {"": []}, progress=lambda *call: calls.append(call))
    assert 0 < calls[0][0] < len(tiny_pairs)
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1] == (len(tiny_pairs), len(tiny_pairs))
    assert {call[1] for call in calls} == {len(tiny_pairs)}


def failing(monkeypatch, model, errors: dict[int, Exception]) -> list[int]:
    """Makes numbered layer calls raise; returns the pairs of each call."""
    sizes: list[int] = []
    above = type(model.family).after_attention

    def broken(self, number, context, states):
        sizes.append(len(states))
        if (error := errors.get(len(sizes))) is not None:
            raise error
        return above(self, number, context, states)

    monkeypatch.setattr(type(model.family), "after_attention", broken)
    return sizes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "call"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 1),
        (RuntimeError("alloc_cpu.cpp: DefaultCPUAllocator: can't allocate memory"), 7),
        (MemoryError(), 30),
    ],
)
def test_out_of_memory_halves_the_batch_and_is_said_once(
    tiny, tiny_pairs, tmp_path, monkeypatch, error, call
):
    first = ShardedRunner()(tiny, tiny_pairs, CONDITIONS)
    failing(monkeypatch, tiny, {call: error, call + 9: error})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        again = ShardedRunner(tmp_path)(tiny, tiny_pairs, CONDITIONS)
    np.testing.assert_allclose(again.scores.values, first.scores.values, atol=1e-10, rtol=0)
    assert again.batch_tokens == tiny.batch_tokens // 4
    texts = [str(one.message) for one in said]
    assert texts[-1].startswith(
        "out of memory with batches of 1024 tokens; they are of at most 256"
    )
    assert len(texts) <= 2


def test_a_shortage_of_memory_ends_with_its_run(tiny, tiny_pairs, monkeypatch):
    """The next run of the process begins with what was asked, and its record says so."""
    with monkeypatch.context() as patch:
        failing(patch, tiny, {1: MemoryError()})
        with pytest.warns(matchlens.MatchlensWarning, match="they are of at most 150 now"):
            short = run(tiny, tiny_pairs, CONDITIONS, batch_tokens=300)
        assert short.batch_tokens == 150
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = run(tiny, tiny_pairs, CONDITIONS, batch_tokens=300)
    assert after.batch_tokens == 300
    assert after.batches == ShardedRunner()(tiny, tiny_pairs, CONDITIONS, batch_tokens=300).batches


def test_pairs_are_tokenized_once(tiny, tiny_pairs, monkeypatch):
    """Of a run too long to be kept, once more in each shard of each pass."""
    conditions = {name: CONDITIONS[name] for name in ("", "Q->D", "D->D@0:2~mean")}
    encode, encoded = type(tiny).encode, []

    def counted(self, pairs):
        encoded.append(len(pairs))
        return encode(self, pairs)

    monkeypatch.setattr(type(tiny), "encode", counted)
    few = run(tiny, tiny_pairs, conditions)
    assert encoded == [len(tiny_pairs)]
    monkeypatch.setattr(runner, "KEPT_PAIRS", len(tiny_pairs) - 1)
    same(few, run(tiny, tiny_pairs, conditions))
    assert sum(encoded) == 4 * len(tiny_pairs)


@pytest.mark.slow
def test_out_of_memory_with_one_pair_is_the_end_and_other_errors_are_not_memory(
    tiny, tiny_pairs, monkeypatch
):
    sizes = failing(monkeypatch, tiny, dict.fromkeys(range(1, 99), MemoryError()))
    with pytest.raises(matchlens.InputError, match="out of memory with one pair of"):
        ShardedRunner()(tiny, tiny_pairs, {"": []})
    assert sizes[-1] == 1
    monkeypatch.undo()
    failing(monkeypatch, tiny, {2: RuntimeError("shapes differ")})
    with pytest.raises(RuntimeError, match="shapes differ"):
        ShardedRunner()(tiny, tiny_pairs, {"": []})


def test_a_score_that_is_no_number_names_its_pair_and_the_cut(tiny, tiny_pairs, monkeypatch):
    score, whole, ran = type(tiny.family).score, task.run_shard, []

    def told(model, plan, shard, **options):
        ran.append(shard.numbers)
        return whole(model, plan, shard, **options)

    def broken(self, states, parts):
        out = score(self, states, parts).clone()
        if len(ran) == 2:
            out[1] = torch.nan
        return out

    monkeypatch.setattr(task, "run_shard", told)
    monkeypatch.setattr(type(tiny.family), "score", broken)
    with pytest.raises(matchlens.InputError, match=r"under cut '' is nan") as caught:
        ShardedRunner()(tiny, tiny_pairs, {"": []})
    pair = tiny_pairs[int(ran[1][1])]
    said = f"score of query {pair.qid!r} and passage {pair.docid!r} under"
    assert said in str(caught.value)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_workers_give_the_same_bytes(tiny32, tiny_folder, tiny_pairs, tmp_path):
    """Real processes, each with the model; none is left behind."""
    sha256 = str(tiny32.identity["sha256"])
    recipe = ModelSpec(str(tiny_folder), sha256, device="cpu")
    workers = ProcessExecutor(recipe, 2)
    first = ShardedRunner()(tiny32, tiny_pairs, CONDITIONS)
    try:
        same(first, ShardedRunner(tmp_path, workers)(tiny32, tiny_pairs, CONDITIONS))
        processes = [worker.process.pid for worker in workers._workers]
    finally:
        workers.close()
    assert len(processes) == 2
    assert not any(is_alive(process) for process in processes)


def test_a_worker_with_other_files_says_so(tiny_folder):
    with pytest.raises(matchlens.InputError, match="expected the same files on every node"):
        ModelSpec(str(tiny_folder), "0" * 64, device="cpu").load()


@pytest.mark.parametrize(
    ("device", "devices"),
    [
        (None, ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda", ["cuda:0", "cuda:1", "cuda:0"]),
        ("cuda:1", ["cuda:1", "cuda:1", "cuda:1"]),
        ("cpu", ["cpu", "cpu", "cpu"]),
    ],
)
def test_workers_take_the_cards_in_turn_unless_one_is_named(device, devices):
    assert [card(device, place, 2) for place in range(3)] == devices
    assert [card(device, place, 1) for place in range(3)] == [device] * 3


def test_the_device_that_a_worker_is_given_is_the_one_it_loads_on(tiny_folder, tiny32):
    """Where the spec names another, too: "cuda" says less than the card that is a worker's turn."""
    spec = ModelSpec(str(tiny_folder), str(tiny32.identity["sha256"]), device="cuda")
    worker = Worker(spec.to_json(), "cpu")
    worker.load()
    assert worker.model is not None
    assert str(worker.model.device) == "cpu"


@pytest.mark.parametrize(
    ("device", "gpus", "asked"),
    [
        (None, 2, (1, "cuda")),
        ("cuda", 2, (1, "cuda")),
        ("cuda:1", 2, (1, "cuda")),
        ("cpu", 2, (0, "cpu")),
        (None, 0, (0, "cpu")),
        ("cuda", 0, (0, "cuda")),
    ],
)
def test_a_ray_worker_asks_for_a_gpu_for_every_cuda_device(device, gpus, asked, monkeypatch):
    """Its own is the only one that it sees, so the number is the command's own."""
    hired = []

    class Actor:
        ready = SimpleNamespace(remote=object)

        def options(self, num_gpus, **_):
            return SimpleNamespace(remote=lambda *given: hired.append((num_gpus, given[2])) or self)

    node = {"Alive": True, "Resources": {"CPU": 4, "GPU": gpus}}
    cluster = {"is_initialized": lambda: True, "nodes": lambda: [node]}
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(**cluster, remote=lambda _: Actor()))
    RayExecutor(ModelSpec("m", "0" * 64, device=device))._connect(Stop())
    assert hired == [asked] * (2 if asked[0] else 1)


def test_a_first_signal_waits_for_the_shard_and_a_second_does_not():
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        stop.hear(2, None)
    with stop.shielded():
        stop.hear(2, None)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            stop.hear(2, None)
