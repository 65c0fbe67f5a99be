"""What the code itself must not do, whatever comes in."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import matchlens
from matchlens.reading import check_inside, inner, read_array, read_manifest, read_parquet
from matchlens.results import Result

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
    ("models/load.py", "importlib.import_module"): "the walkers of FAMILIES, a constant",
    ("showing.py", "importlib.import_module"): "a constant",
    ("__init__.py", "importlib.import_module"): "the public names, a constant",
    ("models/packed.py", "import ctypes"): "mallopt, two constants; nothing of a stranger's",
    ("runners/ray.py", "import socket"): "asks whether a cluster that was named is there",
    ("runners/ray.py", "os.posix_spawn"): "Python on a file of ours, with no word of a stranger's",
    ("runners/work.py", "import socket"): "this machine's name, for the lock's message",
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


def test_a_link_in_a_results_folder_deletes_nothing_elsewhere(tmp_path):
    """A study's old files are taken away; were the study a link, those of another folder would."""
    table = pd.DataFrame({"pair": [0]})
    scores = pd.DataFrame({"cut": [""], "pair": [0], "score": [0.0]})
    result = Result("ablation", {}, {}, (), table, scores, {"t": table})
    result.save(tmp_path / "out")
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("ten years of work")
    for file in (tmp_path / "out" / "ablation").iterdir():
        file.unlink()
    (tmp_path / "out" / "ablation").rmdir()
    (tmp_path / "out" / "ablation").symlink_to(home)
    with pytest.raises(matchlens.InputError, match="is a symbolic link"):
        result.save(tmp_path / "out")
    assert (home / "thesis.tex").read_text() == "ten years of work"
    (tmp_path / "way").symlink_to(tmp_path / "out")  # the folder itself may be reached by a link
    (tmp_path / "out" / "ablation").unlink()
    result.save(tmp_path / "way")
    check_inside(tmp_path / "way")


def test_tables_and_arrays_of_strangers_are_plain_and_small(tmp_path, monkeypatch):
    import numpy as np

    pd.DataFrame({"x": [[1], [2]]}).to_parquet(tmp_path / "nested.parquet")
    pd.DataFrame({"x": np.zeros(5000)}).to_parquet(tmp_path / "long.parquet")
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "texts.npy", np.array(["a"]))
    monkeypatch.setattr("matchlens.reading.MOST_TABLE", 10_000)
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
    monkeypatch.setattr("matchlens.files.MOST_TEXT", 1000)
    (tmp_path / "manifest.json").write_bytes(b" " * 2000)
    with pytest.raises(matchlens.InputError, match="2,000 bytes, more than 1,000"):
        read_manifest(tmp_path)
