"""The package as a whole: its public names, what importing it costs, the shape of its files."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import matchlens

SOURCE = Path(matchlens.__file__).parent
ROOT = Path(__file__).parents[1]
MOST_LINES = 600
MOST_PARAMETERS = 8
MANY_PARAMETERS = {
    *("ablation", "attention", "choose", "circuits", "controls", "head_sets", "look", "screen"),
    *("study", "sweep"),
}
"""Public functions that take a keyword for each option, as is the habit of the field."""
HEAVY = {"torch", "transformers", "pandas", "scipy", "statsmodels", "ir_measures", "pyarrow"}


def modules() -> list[str]:
    """Every module of the package, by its dotted name."""
    return [
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(SOURCE.rglob("*.py"))
    ]


@pytest.mark.parametrize("name", sorted(matchlens.__all__))
def test_a_public_name_is_there_and_documented(name):
    value = getattr(matchlens, name)
    if name == "__version__":
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", value)
        return
    assert inspect.ismodule(value) or inspect.isfunction(value) or inspect.isclass(value)
    words = vars(value)["__doc__"] if inspect.isclass(value) else value.__doc__  # not inherited
    assert words
    first = words.strip().split("\n\n")[0]
    assert first[-1] in ".:;", first


def test_public_names_are_listed_once_and_come_lazily():
    assert list(matchlens.__all__) == sorted(set(matchlens.__all__))
    assert set(matchlens._PLACES) == set(matchlens.__all__) - {"__version__"}
    assert dir(matchlens) == sorted(matchlens.__all__)
    with pytest.raises(AttributeError, match="module 'matchlens' has no attribute 'loda'"):
        _ = matchlens.loda


@pytest.mark.parametrize("name", [name for name in modules() if "._" not in name])
def test_a_module_says_what_it_is_for(name):
    words = importlib.import_module(name).__doc__
    assert words
    assert words.strip().split("\n\n")[0].endswith((".", ":"))


@pytest.mark.parametrize("name", ["matchlens", "matchlens.cli", "matchlens.models.folder"])
def test_importing_loads_nothing_heavy(name):
    code = f"import sys, {name}; print(*sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert name in loaded
    assert not HEAVY & loaded
    assert done.stderr == ""


def test_importing_a_submodule_does_not_replace_a_public_function():
    """Each public function that shares its name with a module, and the old path of the algebra."""
    code = (
        "import importlib, types, warnings, matchlens\n"
        "warnings.simplefilter('error')\n"
        "for name in ('circuits', 'corpora', 'models', 'qk'):\n"
        "    importlib.import_module(f'matchlens.{name}')\n"
        "import matchlens.circuits as algebra\n"
        "assert isinstance(matchlens.circuits, types.FunctionType), matchlens.circuits\n"
        "assert matchlens.circuits.__module__ == 'matchlens.studies.circuits.circuits'\n"
        "assert algebra is matchlens.circuits\n"
        "assert isinstance(matchlens.qk, types.ModuleType)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_windows_is_refused_in_one_line():
    program = "import sys; sys.platform = 'win32'; import matchlens"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()[-1:]
    assert line.startswith("ImportError: matchlens runs on Linux and macOS")


def test_old_names_work_with_a_warning():
    from matchlens import qk

    for old, new in (("query_key", "circuits"), ("looking", "look")):
        with pytest.warns(DeprecationWarning, match=f"matchlens.{new}"):
            assert getattr(matchlens, old) is getattr(matchlens, new)
        assert old not in matchlens.__all__
    x = np.arange(6.0).reshape(2, 3)
    for name in qk.__all__:
        with pytest.warns(DeprecationWarning, match=f"matchlens.qk.{name}"):
            assert getattr(importlib.import_module("matchlens.circuits"), name) is getattr(qk, name)
    with pytest.warns(DeprecationWarning, match=r"matchlens\.qk\.spearman"):
        assert matchlens.circuits.spearman(x, x).rho == qk.spearman(x, x).rho
    later = {"Turns", "alignment_at", "averaged", "distances", "logits_at", "spread"}
    functions = {name for name in qk.__all__ if callable(getattr(qk, name))} - later
    assert functions == {name for name in qk.__all__ if hasattr(matchlens.circuits, name)}


def test_public_names_work_without_the_submodules_having_been_imported():
    """In a fresh process each name leads to its place, whatever was asked for before."""
    code = (
        "import matchlens; "
        "names = ['Part', 'Cut', 'trec', 'table1']; "
        "print(*(getattr(matchlens, name).__name__ for name in names))"
    )
    env = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["Part", "Cut", "matchlens.corpora.trec", "table1"]


def test_no_source_file_is_long():
    long = {
        str(path.relative_to(SOURCE)): lines
        for path in SOURCE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_only_listed_public_functions_have_many_parameters():
    many: dict[str, list[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                if len({a.arg for a in names} - {"self", "cls"}) > MOST_PARAMETERS:
                    many.setdefault(node.name, []).append(str(path.relative_to(SOURCE)))
    assert set(many) == MANY_PARAMETERS
    assert all(len(places) == 1 for places in many.values()), many
    assert set(matchlens.__all__) >= MANY_PARAMETERS


def project_files() -> list[Path]:
    """The project's own files: none that a tool made."""
    folders = ("src", "tests", "docs", "benchmarks", "examples", ".ci")
    inside = (path for name in folders for path in (ROOT / name).rglob("*"))
    return [
        path
        for path in [*ROOT.iterdir(), *inside]
        if path.is_file() and not {"__pycache__", ".envs"} & set(path.parts)
    ]


def test_no_file_names_a_place_on_somebody_s_machine():
    homes = "|".join(("/home/", "/Users/", "/root/", r"[A-Z]:\\+Users\\+"))
    named = re.compile(rf"(?<![\w.~-])(?:{homes})[\w.-]+".encode())
    for mark, told in ((b"/", (b"see ", b"home", b"x")), (b"\\", (b"C:", b"Users", b"x"))):
        assert named.search(mark.join(told))
    files = project_files()
    assert {"pyproject.toml", "engine.py", "test_package.py"} <= {path.name for path in files}
    found = {
        str(path.relative_to(ROOT)): match[0]
        for path in files
        if (match := named.search(path.read_bytes()))
    }
    assert found == {}
