"""The errors of results folders, of runs and of runs made again, and what their messages say."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

import matchlens
import matchlens.cli
from hostile_files import resealed
from matchlens import reading, results, saving
from matchlens.cli.commands import commands
from matchlens.cli.rerunning import commands_of
from matchlens.files import Folder
from matchlens.meters.arrays import Rows
from matchlens.results import Result, read_manifest
from matchlens.runners import ShardedRunner, task
from matchlens.runners.measures import packed, rows_into
from matchlens.runners.store import Store, Work
from matchlens.runners.task import InProcessExecutor, ModelSpec, answered, from_bytes, to_bytes
from remedies import C, listed

FULL = OSError(28, "No space left on device")
REAL = {
    **{name: getattr(Folder, name) for name in ("create", "move", "write")},
    "outcomes": InProcessExecutor.outcomes,
    "run_shard": task.run_shard,
}
"""What is replaced by something that fails."""


def nothing(folder: Path) -> None:
    """Leave a folder as it is."""


def copied(w, spoil: Callable[[Path], object] = nothing) -> Path:
    """A copy of a results folder, with something done to it."""
    folder = Path(f"copy{next(w.outs)}")
    shutil.copytree(w.results(), folder)
    spoil(folder)
    return folder


def held(w) -> Result:
    return Result.load(w.results(), "ablation")


def reads(w, spoil) -> object:
    return Result.load(copied(w, spoil), "ablation")


def saves(w, spoil) -> object:
    return held(w).save(copied(w, spoil))


def saves_to(w, where: str) -> object:
    """Save in one of several places."""
    Path("mine").mkdir(exist_ok=True)
    Path("mine/notes.txt").write_text("mine")
    Path("empty").mkdir(exist_ok=True)
    if where == "other":
        shutil.copytree(w.results(), where)
    result = held(w)
    return replace(result, identity={**result.identity, "seed": 1}).save(where)


def table(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    """Write another table, and a manifest that says so."""

    def spoil(folder: Path) -> None:
        change(pd.read_parquet(folder / name)).to_parquet(folder / name, index=False)
        resealed(folder)

    return spoil


def damage(folder: Path) -> None:
    (folder / "scores.parquet").write_bytes(b"x")
    resealed(folder)


def link(name: str) -> Callable[[Path], None]:
    """A link in a results folder."""

    def spoil(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to("/tmp")

    return spoil


def bounded(w, spoil) -> object:
    w.patch.setattr(reading, "MOST_FILES", 50)
    return saves(w, spoil)


def crowd(folder: Path) -> None:
    (folder / "mine").mkdir()
    for number in range(60):
        (folder / f"mine/{number}").touch()


def moving(w, always: bool) -> object:
    """Read a folder that another process writes to, once or all the time."""
    w.patch.setattr(reading.Snapshot, "moved", lambda _: always)
    return held(w)


def much(w, cuts: list[str]) -> object:
    """Save an ablation where a table may be as large as that of one cut."""
    one = held(w)
    every = [one.pairs, one.scores, *one.tables.values()]
    most = max(int(each.memory_usage(index=False).sum()) for each in every)
    w.patch.setattr(results, "MOST_TABLE", most)
    return matchlens.ablation(w.model, w.pairs, cuts=cuts).save(f"out{next(w.outs)}")


def fails(name: str, at: str, error: OSError = FULL):
    """Save where the disk fails at a file, or does not."""

    def call(w, failing: bool) -> object:
        def broken(self: Folder, file: str, *given: object) -> object:
            if failing and file == at and (name != "move" or given[0].path.name == "out"):
                raise error
            return REAL[name](self, file, *given)

        w.patch.setattr(Folder, name, broken)
        return held(w).save("out")

    return call


def busy(w, where: str) -> object:
    """Write into a folder that another thread writes into."""
    folder = copied(w)
    with ThreadPoolExecutor(1) as other:
        lock = other.submit(saving.Lock.take, folder).result()
        try:
            if where == "same":
                return saving.put(folder, {"a.txt": b"x"})
            if where == "other":
                return saving.put(copied(w), {"a.txt": b"x"})
        finally:
            other.submit(lock.leave).result()
    return saving.put(folder, {"a.txt": b"x"})


def puts(w, spoil) -> object:
    return saving.put(copied(w, spoil), {"a.txt": b"x"})


def tries(w, number: int) -> object:
    w.patch.setattr(saving, "TRIES", number)
    return puts(w, nothing)


# Runs


def unfinished(w, given: tuple[str, bool]) -> object:
    """Begin a run in a folder where the first shard of one is kept."""
    seed, emptied = given
    folder = copied(w)
    work = Work.open(folder, {"command": "ablation", "seed": 0})
    Store(work.shards / ("0" * 32), "0" * 32).write(0, {"x": np.ones(1)})
    assert work.leave() == 1
    if emptied:
        shutil.rmtree(folder / ".matchlens-work")
    return Work.open(folder, {"command": "ablation", "seed": int(seed)}).leave()


def works(w, spoil) -> object:
    return Work.open(copied(w, spoil), {"command": "ablation"}).leave()


def stored(w, failing: bool) -> object:
    def write(*given: object) -> None:
        if failing:
            raise FULL
        REAL["write"](*given)

    w.patch.setattr(Folder, "write", write)
    return Store(Path("shards"), "0" * 32).write(0, {"x": np.ones(1)})


def sent(w, bent: bool) -> object:
    """A run in which what a worker sends is not what it should."""

    def outcomes(self, *given):
        for shard, outcome in REAL["outcomes"](self, *given):
            yield shard, {**outcome, **({"tokens": outcome["tokens"][:-1]} if bent else {})}

    w.patch.setattr(InProcessExecutor, "outcomes", outcomes)
    return ShardedRunner()(w.model, w.pairs.pairs, {"": []})


def small_memory(w, given: tuple[int, dict]) -> object:
    """Score in a memory that holds so many tokens."""
    most, options = given

    def run_shard(model, plan, shard, *, budget, **more):
        tokens = model.encode(shard.pairs).lengths
        if max(min(budget, tokens.sum()), tokens.max()) > most:
            raise MemoryError
        return REAL["run_shard"](model, plan, shard, budget=budget, **more)

    w.patch.setattr(task, "run_shard", run_shard)
    model = matchlens.load(w.model_folder, device="cpu", max_length=options.get("max_length"))
    batch = options.get("batch_tokens")
    return matchlens.score(model, w.pairs.pairs[:6], batch_tokens=batch)


def no_memory() -> bytes:
    raise MemoryError


# Ray, but for the cluster


def ray_says(w, versions: tuple[str, ...]) -> object:
    """A worker of a cluster says which versions it has."""
    import ray

    from matchlens.runners.ray import RayExecutor, _Worker

    w.patch.setattr(ray, "get", lambda reference: reference)
    return RayExecutor(None)._outcome(to_bytes({"versions": packed(versions)}), _Worker(None))


def ours() -> tuple[str, ...]:
    from matchlens.runners.ray import versions

    return versions()


def ray_dies(w, given: tuple[int, float]) -> object:
    """A cluster whose workers die so many times, and which lacks room for a while."""
    import ray
    from ray.exceptions import RayActorError

    from matchlens.runners import ray as runner

    deaths, waits = given
    lives = iter([False] * deaths)
    shards = []

    def wait(references: list, timeout: float) -> tuple[list, list]:
        nonlocal waits
        waits -= 1
        return (references[:1] if waits < 0 else [], [])

    def get(reference: object) -> bytes:
        if reference == "ready":
            return to_bytes({"versions": packed(runner.versions())})
        if not next(lives, True):
            raise RayActorError
        return answered(reference)

    def begin(on: object, stop: object) -> None:
        on._connected, on._cards, on.cores = True, 0, 1
        on._hire()

    def hire(on: object) -> None:
        def remote(held: object, shard: object) -> object:
            prepared = task.BoundTask(w.model, held)
            return lambda: to_bytes(prepared.run(shard))

        actor = SimpleNamespace(work=SimpleNamespace(remote=remote))
        name = f"ready{len(shards)}"
        on._workers["ready" if "ready" not in on._workers else name] = runner._Worker(actor)

    for name, value in {"put": lambda one: one, "wait": wait, "get": get}.items():
        w.patch.setattr(ray, name, value)
    w.patch.setattr(runner.RayExecutor, "_connect", begin)
    w.patch.setattr(runner.RayExecutor, "_hire", hire)
    w.patch.setattr(runner, "PATIENCE", runner.POLL)
    return ShardedRunner(None, runner.RayExecutor(None))(w.model, w.pairs.pairs, {"": []})


def ray_here(w, on_ray: bool) -> object:
    """A run on this machine, where Ray cannot be started."""
    import ray

    from matchlens.runners.ray import RayExecutor

    def init(*_: object, **__: object) -> None:
        raise RuntimeError("no room for its files")

    w.patch.setattr(ray, "init", init)
    w.patch.setattr("matchlens.runners.ray._watched", lambda: None)
    executor = RayExecutor(None, "local") if on_ray else None
    return ShardedRunner(None, executor)(w.model, w.pairs.pairs, {"": []})


# Commands that are run again


def commanded(w) -> Path:
    """A results folder that a command wrote."""
    folder = w.folder / "results-command"
    if not folder.exists():
        words = ["-m", str(w.model_folder), *w.words, "--cut", "Q->D", "--device", "cpu"]
        assert matchlens.cli.main(["ablation", *words, "--out", str(folder), "-q"]) == 0
    return folder


def manifest(folder: Path, edit: Callable[[dict], object]) -> dict:
    content = json.loads((folder / "manifest.json").read_text())
    edit(content)
    (folder / "manifest.json").write_text(json.dumps(content))
    return content


def rerun(w, given: tuple) -> object:
    """Run a folder's commands again; the value edits its manifest, and gives options."""
    edit, *more = given
    folder = Path(f"out{next(w.outs)}")
    shutil.copytree(commanded(w), folder)
    manifest(folder, edit)
    return w.command(w.capfd, ["rerun", str(folder), "-q", *more])


def first(**changed: object) -> Callable[[dict], object]:
    """Change the options of the first command."""
    return lambda content: content["commands"][0]["asked"].update(changed)


def same(_: dict) -> None:
    """Leave a manifest as it is."""


def listed_again(w, edit) -> object:
    folder = Path(f"out{next(w.outs)}")
    shutil.copytree(commanded(w), folder)
    return commands_of(manifest(folder, edit), folder, commands())


def edited(w, anew: bool) -> dict:
    """The manifest of a folder whose own was edited, or of the one that it was made anew in."""
    folder = Path(f"out{next(w.outs)}")
    shutil.copytree(commanded(w), folder)
    manifest(folder, lambda one: one["studies"]["ablation"]["options"].update(original=0.1))
    if not anew:
        return read_manifest(folder)
    out = Path(f"out{next(w.outs)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        w.command(w.capfd, ["rerun", str(folder), "--out", str(out), "--yes", "-q"], leaves=True)
    return read_manifest(out)


READS, RUNS, AGAIN = "reading.py:", "runners/", "cli/rerunning.py:"
# fmt: off
RESULTS = [
    C(READS + "_no_results", "", lambda w, v: Result.load(v(w), "ablation"),
      lambda w: "nowhere", [lambda w: w.results()]),
    C(READS + "Snapshot.open", "cannot be read", lambda w, v: Result.load(v(w), "ablation"),
      lambda w: "a\0b", [lambda w: w.results()]),
    C(READS + "_no_results", "", reads,
      lambda folder: (folder / "manifest.json").unlink(), [nothing]),
    C(READS + "Snapshot.of", "as a manifest", reads,
      lambda folder: (folder / "manifest.json").write_text("{"), [nothing]),
    C(READS + "Snapshot.of", "was changed since", edited, False, [True]),
    C(READS + "check_inside", "take it out", saves, link("mine"), [nothing]),
    C(READS + "check_inside", "holds more", bounded, crowd, [nothing]),
    C(READS + "steadily", "", moving, True, [False]),
    C(READS + "read_back", "", lambda w, v: matchlens.compare([copied(w, v), w.results("second")]),
      table("ablation/table1.parquet", lambda one: one.drop(columns="cut")), [nothing]),
    C(READS + "reading", "", reads, damage, [nothing]),
    C("results.py:Result.array", "was kept",
      lambda w, v: Result.load(w.results("attention"), "attention").array(v), "luck", listed),
    C("results.py:Result.to_frame", "", lambda w, v: held(w).to_frame(v), "luck", listed),
    C("results.py:Result._of", "no study", lambda w, v: Result.load(w.results(), v), "luck",
      lambda m: m.rpartition("holds: ")[2].split(", ")),
    C("results.py:Result._of", "no column", reads,
      table("scores.parquet", lambda one: one.drop(columns="score")), [nothing]),
    C("results.py:check_folder", "is a file", saves_to, "mine/notes.txt", ["new"]),
    C("saving.py:writing", "", saves_to, "/proc/out", ["new"]),
    C("results.py:_is_ours", "is no folder", saves, link(".matchlens-work"), [nothing]),
    C("results.py:check_folder", "lies in", saves_to, ".matchlens-work/new", ["new"]),
    C("results.py:_is_ours", "holds files", saves_to, "mine", ["new", "empty"]),
    C("results.py:_check_identity", "", saves_to, "other", ["new"]),
    C("results.py:_parquet", "", much, ["Q->D", "D->Q", "D->D"], [["Q->D"]]),
    C("files.py:Folder._odd", "", works, link(".matchlens-work"), [nothing]),
    C("saving.py:writing", "", works, link(".matchlens-work"), [nothing]),
    C("saving.py:Lock._switch", "", fails("move", "manifest.json"), True, [False]),
    C("saving.py:Save.commit", "", lambda w, v: replace(held(w), options=v).save("out"),
      {"digits": 99}, [{"digits": 3}]),
    C("saving.py:writing", "", fails("create", "pairs.parquet"), True, [False]),
    C("saving.py:_locked", "in use", busy, "same", ["free", "other"]),
    C("saving.py:_locked", "changes all", tries, 0, [saving.TRIES]),
    C(RUNS + "measures.py:rows_into.take", "",
      lambda w, v: rows_into({"mass": Rows(np.arange(2), (3,))})(np.arange(2), v),
      {"mass": np.ones((2, 4), np.float32)}, [{"mass": np.ones((2, 3), np.float32)}]),
    C(RUNS + "task.py:ModelSpec.load", "",
      lambda w, v: ModelSpec(str(w.model_folder), v(w)).load("cpu"), lambda w: "0" * 64,
      [lambda w: w.model.identity["sha256"]]),
    C(RUNS + "runner.py:ShardedRunner._outcomes", "", sent, True, [False]),
    C(RUNS + "runner.py:_Gathered.lower", "", small_memory, (100, {"batch_tokens": 1024}),
      lambda m: [(100, {"batch_tokens": int(m.rpartition("tokens ")[2].split()[0])})], slow=True),
    C(RUNS + "store.py:Store.write", "", stored, True, [False]),
    C(RUNS + "task.py:BoundTask.run", "", small_memory, (9, {}), [(9, {"max_length": 9})],
      slow=True),
    C(RUNS + "task.py:answered", "", lambda w, v: from_bytes(answered(v)), no_memory,
      [lambda: to_bytes({})]),
    C(RUNS + "task.py:from_bytes", "{value}", lambda w, v: from_bytes(answered(v)), no_memory,
      [lambda: to_bytes({})]),
    C(RUNS + "task.py:from_bytes", "cannot be used", lambda w, v: from_bytes(v), b"",
      [to_bytes({})]),
    C(RUNS + "store.py:Work._agree", "", unfinished, (1, False), [(0, False), (1, True)]),
    C("saving.py:writing", "", works, link(".matchlens-work/shards"), [nothing]),
    C(RUNS + "ray.py:RayExecutor._outcome", "", ray_says, ("matchlens 0",), lambda m: [ours()],
      slow=True),
    C(RUNS + "ray.py:RayExecutor.outcomes", "took down", ray_dies, (9, 0), [(1, 0)], slow=True),
    C(RUNS + "ray.py:RayExecutor.outcomes", "no Ray node", ray_dies, (0, 3), [(0, 0)], slow=True),
    C(RUNS + "ray.py:RayExecutor._unreachable", "cannot be started", ray_here, True, [False],
      slow=True),
    C("settings.py:from_json", "", rerun, (first(luck=1), "--yes"), [(same, "--yes")],
      slow=True),
    C("settings.py:Option.from_json", "", rerun, (first(seed="x" * 5000), "--yes"),
      [(same, "--yes")],
      slow=True),
    C(AGAIN + "_judge", "something else", rerun,
      (lambda content: content["identity"]["versions"].update(numpy="1.0"), "--yes"),
      [(same, "--yes"), (lambda content: content["identity"]["versions"].update(numpy="1.0"),
                         "--yes", "--anyway")], slow=True),
    C(AGAIN + "_allow", "rerun asks", rerun, (same,), [(same, "--yes")]),
    C(AGAIN + "commands_of", "holds no command", rerun,
      (lambda content: content.pop("commands"), "--yes"), [(same, "--yes")], slow=True),
    C(AGAIN + "commands_of", "commands; expected at most", rerun,
      (lambda content: content.update(commands=content["commands"] * 101), "--yes"),
      [(same, "--yes")], slow=True),
    C(AGAIN + "commands_of", "the device", rerun, (first(device="meta"), "--yes"),
      [(first(device="meta"), "--yes", "--device", "cpu")], slow=True),
    C(AGAIN + "commands_of", "left out", listed_again, first(runner="ray"), [same]),
    C(AGAIN + "checked", "", rerun,
      (lambda content: content["commands"][0].update(command="rm"), "--yes"), [(same, "--yes")],
      slow=True),
]
# fmt: on
ELSEWHERE = {
    (READS + "Snapshot._checked", ""): "test_results.py:"
    "test_a_file_that_was_changed_is_named_and_the_same_command_repairs_it",
    (AGAIN + "_judge", "not as it was"): "test_rerun.py:"
    "test_anyway_says_what_differs_and_where_the_tables_do",
    (AGAIN + "_allow", "answer y"): "test_rerun.py:test_no_is_the_answer_that_runs_nothing",
    (RUNS + "local.py:_Worker.died", ""): "test_stopping.py:"
    "test_a_killed_worker_is_told_from_a_stopped_one",
    (RUNS + "ray.py:RayExecutor._unreachable", "no Ray cluster"): "test_ray.py:"
    "test_a_cluster_that_is_not_there_is_named",
    (RUNS + "runner.py:_read", ""): "test_runners.py:"
    "test_a_damaged_shard_is_run_again_and_that_is_said",
    ("saving.py:Lock._put_aside", ""): "test_results.py:"
    "test_a_person_s_file_in_the_way_is_put_aside",
}
"""Messages that name no remedy, or whose remedies are done by a test of another file."""
