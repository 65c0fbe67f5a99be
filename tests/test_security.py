"""What the code itself must not do, whatever comes in."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import matchlens
import matchlens.cli
from hostile_files import read_parquet, resealed
from matchlens.columns import check_columns
from matchlens.errors import InputError
from matchlens.files import Folder, OddFileError
from matchlens.reading import inner, read_array, read_manifest
from matchlens.results import Result, check_folder
from matchlens.runners.store import DamagedError, Store, Work
from matchlens.saving import put
from test_cli import listing

SOURCE = Path(matchlens.__file__).parent
FORBIDDEN_MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code",
    "subprocess", "pty", "commands", "imp", "runpy", "ctypes", "cffi", "xml", "yaml", "socket",
}  # fmt: skip
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__", "breakpoint"}
FORBIDDEN_CALLS = {
    "torch.load", "torch.save", "torch.jit.load", "torch.hub.load", "pd.read_pickle",
    "pandas.read_pickle", "os.system", "os.popen", "os.execv", "os.spawnv", "pd.eval",
    "np.loadtxt", "np.fromfile", "tempfile.mktemp", "os.posix_spawn", "os.posix_spawnp",
}  # fmt: skip
ALLOWED = {
    ("models/folder.py", "importlib.import_module"): "the walkers of FAMILIES, a constant",
    ("showing.py", "importlib.import_module"): "a constant",
    ("arguments.py", "importlib.import_module"): "the functions of CONVERTED, a constant",
    ("__init__.py", "importlib.import_module"): "the public names, a constant",
    ("models/packed.py", "import ctypes"): "mallopt, two constants; nothing of a stranger's",
    ("runners/ray.py", "import socket"): "asks whether a cluster that was named is there",
    ("runners/ray.py", "os.posix_spawn"): "Python on a file of ours, with no word of a stranger's",
    ("live/server.py", "import socket"): "listens on this machine's own address, 127.0.0.1, alone",
    ("saving.py", "import socket"): "this machine's name, for the lock's message",
    ("models/load.py", "library.from_pretrained"): "is handed a config and tensors; opens no file",
    ("models/pickled.py", "import pickle"): "walks a file with stand-ins; nothing is called",
    ("models/pickled.py", "torch.load"): "with weights_only=True, after that walk",
    ("ranking/measures.py", "ast.literal_eval"): "plain values in a measure's text",
}
"""Calls that may look dangerous, by file, and why each is not."""
LOOKED_AT = {"importlib.import_module", "ast.literal_eval"}


def dotted(node: ast.expr) -> str:
    """The name that a call is written with."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def uses(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """What a module imports and calls that can run code, open a process or unpickle."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [one.name.partition(".")[0] for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [(node.module or "").partition(".")[0]]
        else:
            names = []
        yield from ((f"import {name}", node.lineno) for name in names if name in FORBIDDEN_MODULES)
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        if name in FORBIDDEN_NAMES | FORBIDDEN_CALLS | LOOKED_AT:
            yield name, node.lineno
        for word in node.keywords:
            value = word.value.value if isinstance(word.value, ast.Constant) else "?"
            if word.arg in ("shell", "allow_pickle", "trust_remote_code") and value is not False:
                yield f"{word.arg}={value}", node.lineno
            if word.arg in ("use_safetensors", "autoescape") and value is not True:
                yield f"{word.arg}={value}", node.lineno
        keywords = {word.arg for word in node.keywords}
        if name in ("np.load", "np.save") and "allow_pickle" not in keywords:
            yield name, node.lineno
        if name.endswith(".from_pretrained") and not keywords & {
            "use_safetensors",
            "trust_remote_code",
        }:
            yield name, node.lineno


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], int]:
    """File and use -> line."""
    return {
        (path.relative_to(SOURCE).as_posix(), name): line
        for path in sorted(SOURCE.rglob("*.py"))
        for name, line in uses(ast.parse(path.read_text()))
    }


def test_nothing_unpickles_runs_code_or_opens_a_process(found):
    assert {one: line for one, line in found.items() if one not in ALLOWED} == {}


def test_every_exception_above_is_needed(found):
    assert set(ALLOWED) <= set(found)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import subprocess",
        "eval(x)",
        "np.load(path)",
        "np.save(path, x)",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "run(x, shell=True)",
        "AutoModel.from_pretrained(path)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "AutoModel.from_pretrained(path, use_safetensors=None)",
        "Environment(autoescape=False)",
    ],
)
def test_the_search_finds(line):
    assert list(uses(ast.parse(line)))


@pytest.mark.parametrize(
    "name", ["../x", "a/../x", "/x", "", "a//x", ".hidden", "a\0", "a b", "x" * 300, "a\n", "é"]
)
def test_no_name_leads_out_of_a_results_folder(name, tmp_path):
    with pytest.raises(ValueError, match="no name for a file"):
        inner(name)
    table = pd.DataFrame({"pair": [0]})
    scores = pd.DataFrame({"cut": [""], "pair": [0], "score": [0.0]})
    for study, texts in (("ablation", {name: "x"}), (name, {})):
        result = Result(study, {}, {}, (), table, scores, {"t": table}, texts=texts)
        with pytest.raises(ValueError, match="no name for a file"):
            result.save(tmp_path / "out")
        assert not (tmp_path / "out").exists()


# --- nothing outside a results folder is touched, whatever lies in it

PLACES = (
    ".matchlens-work", ".matchlens-work/shards", ".matchlens-work/about.json",
    ".matchlens-work/lock", ".matchlens-work/commit", ".matchlens-work/commit/manifest.json",
    "ablation", "ablation/t.parquet", "ablation/t.json", "meters", "meters/m.npy", "runs",
    "runs/0001.run", "pairs.parquet", "scores.parquet", "manifest.json", "run.log", "report.html",
)  # fmt: skip
ODD = ("link to a folder", "link to a file", "link to nothing", "endless", "pipe", "folder", "hard")
KEY = "0" * 32


def small(**changed) -> Result:
    table = pd.DataFrame({"pair": [0]})
    scores = pd.DataFrame({"cut": [""], "pair": [0], "score": [0.0]})
    texts = {"runs/0001.run": "r\n", "runs/index.tsv": "i\n"}
    settings = {"texts": texts, "log": ("1 s",), **changed}
    return Result("ablation", {}, {}, (), table, scores, {"t": table}, **settings)


def outside(folder: Path) -> Path:
    """A folder that holds what a results folder and its work folder hold, and more."""
    for name in ("thesis.tex", "about.json", "lock", "manifest.json", "t.parquet", "0001.run"):
        for place in ("", "shards", f"shards/{KEY}", "commit", "shards/matchlens-abcdefgh"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            (folder / place / name).write_text("ten years of work")
    for number in range(3):
        (folder / f"shards/{KEY}/{number:06d}.shard").write_text("ten years of work")
    return folder


def lay(place: Path, kind: str, home: Path) -> None:
    """Put something odd in the place of a file or folder."""
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
        (place / "mine.txt").write_text("mine")
    elif kind == "hard":
        os.link(home / "thesis.tex", place)
    else:
        ends = {"link to a folder": home, "link to a file": home / "thesis.tex"}
        place.symlink_to(ends.get(kind, "/dev/zero" if kind == "endless" else home / "nothing"))


def every_use(out: Path) -> Iterator[str]:
    """What a refusal says, of everything that is done with a results folder."""

    def run() -> None:
        work = Work.open(out, {"command": "test"})
        store = Store(work.shards / KEY, "key")
        store.write(0, {"x": np.zeros(1)})
        store.read(0)
        work.finish()

    def array() -> None:
        Result.load(out, "ablation").array("m")

    uses = (
        lambda: check_folder(out),
        lambda: Result.load(out, "ablation"),
        array,
        run,
        lambda: small().save(out),
        lambda: put(out, {"report.html": b"new"}),
    )
    for use in uses:
        try:
            use()
        except (InputError, DamagedError) as error:
            yield str(error)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", PLACES)
def test_nothing_outside_a_results_folder_is_touched(name, kind, tmp_path):
    home, out = outside(tmp_path / "home"), tmp_path / "out"
    np.save(tmp_path / "m.npy", np.zeros(3, dtype=np.float32))
    small(arrays={"m": tmp_path / "m.npy"}).save(out)
    lay(out / name, kind, home)
    before = listing(home)
    signal.alarm(30)  # a pipe or a device that is waited for would hang
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", matchlens.MatchlensWarning)
        said = list(every_use(out))
    signal.alarm(0)
    assert listing(home) == before
    assert all(line.isprintable() and len(line) < 600 for line in said)
    if kind == "folder" and name not in (".matchlens-work", "ablation", "meters", "runs"):
        assert [path for path in out.rglob("mine.txt") if path.read_text() == "mine"]


def test_a_refusal_names_the_link_and_what_it_says_works(tmp_path):
    home, out = outside(tmp_path / "home"), tmp_path / "out"
    small().save(out)
    shutil.rmtree(out / "ablation")
    (out / "ablation").symlink_to(home)
    with pytest.raises(InputError, match=r"ablation' is a symbolic link.*take it out"):
        small().save(out)
    (out / "ablation").unlink()
    (tmp_path / "way").symlink_to(out)  # the folder itself may be reached by a link
    small().save(tmp_path / "way")
    assert Result.load(tmp_path / "way", "ablation").study == "ablation"


def flipping(place: Path, home: Path, until: threading.Event) -> None:
    """Put a link to another folder in a folder's place and take it out again, without end."""
    aside = place.with_name(f"{place.name}.aside")
    while not until.is_set():
        with suppress(OSError):
            os.rename(place, aside)
            os.symlink(home, place)
            time.sleep(0.0005)
            os.unlink(place)
            os.rename(aside, place)
        time.sleep(0.001)
        if place.is_symlink():
            place.unlink()


@pytest.mark.parametrize(
    "name", [".matchlens-work", ".matchlens-work/shards", "ablation", "runs", f"shards/{KEY}"]
)
def test_nothing_outside_is_touched_while_links_come_and_go(name, tmp_path):
    home, out = outside(tmp_path / "home"), tmp_path / "out"
    small().save(out)
    before, until = listing(home), threading.Event()
    name = f".matchlens-work/{name}" if name.startswith("shards/") else name
    thread = threading.Thread(target=flipping, args=(out / name, home, until))
    thread.start()
    try:
        for _ in range(5):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", matchlens.MatchlensWarning)
                list(every_use(out))
    finally:
        until.set()
        thread.join()
    assert listing(home) == before


@pytest.mark.slow
@pytest.mark.parametrize("step", ["replace", "unlink", "open", "mkdir", "stat"])
@pytest.mark.parametrize("name", [".matchlens-work", ".matchlens-work/shards", "ablation"])
def test_a_link_that_is_swapped_in_at_any_step_leads_nowhere(name, step, tmp_path, monkeypatch):
    """Before every step, at first each and then every so many, between check and use."""
    home = outside(tmp_path / "home")
    before, real, number = listing(home), getattr(os, step), 0
    while True:
        number += 1 + number // 6
        out = tmp_path / f"out-{number}"
        small(texts={"ablation/old.svg": "old"}).save(out)
        (out / f".matchlens-work/shards/{KEY}").mkdir(parents=True)
        (out / f".matchlens-work/shards/{KEY}/000007.shard").write_text("old")
        calls = []

        def swapped(*args, out=out, calls=calls, number=number, **options):
            calls.append(args)
            if len(calls) == number:
                with suppress(OSError):
                    os.rename(out / name, tmp_path / f"aside-{number}")
                    os.symlink(home, out / name)
            return real(*args, **options)

        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore", matchlens.MatchlensWarning)
            patch.setattr(os, step, swapped)
            list(every_use(out))
        assert listing(home) == before
        if len(calls) < number:
            break


def test_a_folder_that_is_open_is_left_by_no_name(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text("x")
    with Folder.open(tmp_path / "in") as folder:
        for name in ("../secret", "/etc/passwd", "a/../../secret", "", ".", "a//b"):
            for use in (folder.read, folder.remove, folder.kind, folder.folder):
                with pytest.raises(ValueError, match="no name inside a folder"):
                    use(name)
        os.symlink(tmp_path / "secret", tmp_path / "in/link")
        with pytest.raises(OddFileError, match="take it out"):
            folder.read("link")
        os.mkfifo(tmp_path / "in/pipe")
        for name in ("pipe", "link"):
            with pytest.raises(OddFileError):
                folder.own(name)


# --- tables and arrays within their bounds


def tables_beyond_reason(folder: Path) -> dict[str, Path]:
    """Parquet files, small on disk, that are huge or odd in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    large, one = "x" * 2**20, pa.array([1])
    named = pa.DictionaryArray.from_arrays(pa.array(np.zeros(300, np.int32)), pa.array([large]))
    many = pa.array([large] * 300)
    plain = {"use_dictionary": False, "compression": "zstd"}
    made = {
        "one text named often": (pa.table({"x": named}), {"store_schema": False}),
        "a text again and again": (pa.table({"x": many}), plain),
        "texts": (pa.table({"x": [f"{n}{large}" for n in range(300)]}), plain),
        "a text as no change": (
            pa.table({"x": many}),
            {**plain, "column_encoding": {"x": "DELTA_BYTE_ARRAY"}},
        ),
        "rows": (pa.table({"x": pa.array(np.zeros(40_000_000, np.int8))}), {}),
        "row groups": (pa.table({"x": np.zeros(20_000, np.int8)}), {"row_group_size": 1}),
        "columns": (pa.table({f"x{n}": one for n in range(10_001)}), {}),
        "two of a name": (pa.Table.from_arrays([one, one], names=["x", "x"]), {}),
        "lists": (pa.table({"x": [[1], [2]]}), {}),
        "objects": (pa.table({"x": [{"a": 1}]}), {}),
        "bytes": (pa.table({"x": [b"a"]}), {}),
        "times": (pa.table({"x": pa.array([0], pa.timestamp("ns"))}), {}),
        "decimals": (pa.table({"x": pa.array([1], pa.decimal128(30))}), {}),
        "halves": (pa.table({"x": pa.array(np.zeros(1, np.float16))}), {}),
    }
    for name, (table, options) in made.items():
        pq.write_table(table, folder / f"{name}.parquet", **options)
    return {name: folder / f"{name}.parquet" for name in made}


READ = (
    f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
"""
    + """
from pathlib import Path
from matchlens import InputError, columns
def peak():  # that of getrusage begins with that of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
from hostile_files import read_parquet
columns.MOST_TABLE = 64 * 2**20
read_parquet(Path(sys.argv[1]))
before = peak()
for path in sys.argv[2:]:
    try:
        read_parquet(Path(path))
        print("was read:", path)
    except InputError as error:
        assert "cannot be read" in str(error) and len(str(error)) < 400, error
print((peak() - before) // 1024)
"""
)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says the peak")
def test_tables_are_read_within_a_bound_of_memory(tmp_path):
    """In a process of its own, whose memory was never larger."""
    paths = tables_beyond_reason(tmp_path)
    assert all(path.stat().st_size < 4 * 2**20 for path in paths.values())
    pd.DataFrame({"x": ["a"]}).to_parquet(tmp_path / "sound.parquet")
    words = [sys.executable, "-c", READ, tmp_path / "sound.parquet", *paths.values()]
    env = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3 * 64, done.stdout


def test_a_table_as_large_as_it_may_be_is_read(tmp_path, monkeypatch):
    """The bound is of what the table takes, not of what it might."""
    table = pd.DataFrame({"cut": ["x" * 100, "y"] * 5000, "pair": np.arange(10_000)})
    table.to_parquet(tmp_path / "t.parquet", index=False)
    monkeypatch.setattr("matchlens.columns.MOST_TABLE", 900_000)
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "t.parquet"), table)
    monkeypatch.setattr("matchlens.columns.MOST_TABLE", 600_000)
    with pytest.raises(InputError, match="more than 600,000"):
        read_parquet(tmp_path / "t.parquet")


def test_the_tables_of_a_folder_share_the_bound(tmp_path, monkeypatch):
    wide = pd.DataFrame({"text": ["x" * 1000] * 100})
    result = small()
    result.tables = {f"t{n}": wide for n in range(20)}
    result.save(tmp_path)
    assert len(Result.load(tmp_path, "ablation").tables) == 20
    monkeypatch.setattr("matchlens.reading.MOST_TABLE", 10**6)
    with pytest.raises(InputError, match="bytes, more than"):
        Result.load(tmp_path, "ablation")


def test_tables_that_cannot_be_read_again_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("matchlens.results.MOST_TABLE", 10)
    with pytest.raises(InputError, match=r"takes 24 bytes|takes 8 bytes|takes .* bytes, more"):
        small().save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("mean", "0.5"),
        ("significant", "False"),
        ("significant_paper", 1.0),
        ("cut", 3),
        ("diff", True),
        ("mean", [0.5]),
        ("mean", b"0.5"),
        ("mean", pd.Timestamp(0)),
        ("layer", 10**9),
        ("mean", None),
    ],
)
def test_columns_of_another_type_are_one_line_for_every_reader(column, value, tmp_path, capfd):
    """A text where a number is expected, or "False", which is true: report and compare refuse."""
    given = pd.DataFrame({"cut": ["", "random", "Q->D"], "mean": [0.5, 0.25, 0.75]})
    identity = {"model": {}, "pairs": {"sources": []}, "versions": {}}
    for name in ("one", "two"):
        result = replace(small(), identity=identity, tables={"table1": given})
        result.save(tmp_path / name)
    path = tmp_path / "one/ablation/table1.parquet"
    given.assign(**{column: pd.Series([value] * 3)}).to_parquet(path, index=False)
    resealed(tmp_path / "one")
    before = listing(tmp_path)
    one, two = (str(tmp_path / name) for name in ("one", "two"))
    for words in (["report", one], ["compare", one, two], ["compare", two, one]):
        assert matchlens.cli.main([*words, "-q"]) == 2
        _, err = capfd.readouterr()
        (line,) = err.splitlines()
        assert line.isprintable()
        if value is not None:
            assert column in line
        assert "Traceback" not in line
    assert listing(tmp_path) == before


def test_tables_and_arrays_of_strangers_are_plain_and_small(tmp_path, monkeypatch):
    pd.DataFrame({"x": [[1], [2]]}).to_parquet(tmp_path / "nested.parquet")
    pd.DataFrame({"x": np.zeros(5000)}).to_parquet(tmp_path / "long.parquet")
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "texts.npy", np.array(["a"]))
    monkeypatch.setattr("matchlens.columns.MOST_TABLE", 10_000)
    for name, says in (("nested", "no plain values"), ("long", "5,000 rows of 1 columns")):
        with pytest.raises(matchlens.InputError, match=says):
            read_parquet(tmp_path / f"{name}.parquet")
    for name in ("object", "texts"):
        with pytest.raises(matchlens.InputError, match="cannot be read"):
            read_array(tmp_path / f"{name}.npy")
    header = (
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }"
    )
    (tmp_path / "huge.npy").write_bytes((header % 10**15).ljust(127) + b"\n")
    with pytest.raises(matchlens.InputError, match="cannot be read"):
        read_array(tmp_path / "huge.npy")


def test_a_manifest_that_is_a_bomb_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("matchlens.reading.MOST_MANIFEST", 1000)
    (tmp_path / "manifest.json").write_bytes(b" " * 2000)
    with pytest.raises(matchlens.InputError, match="2,000 bytes, more than 1,000"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("values", [["Q->D", None], [None, None], ["Q->D"]])
def test_texts_with_gaps_are_texts_in_every_version_of_pandas(values):
    check_columns(pd.DataFrame({"cut": pd.Series(values, dtype=object)}))


@pytest.mark.parametrize("values", [["Q->D", 1], [1, None], [b"Q->D"]])
def test_other_values_among_texts_are_refused(values):
    with pytest.raises(ValueError, match="column 'cut' holds object, expected texts"):
        check_columns(pd.DataFrame({"cut": pd.Series(values, dtype=object)}))
