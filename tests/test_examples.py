"""The examples: all listed, short, said what for, and made of public names alone."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import matchlens

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
MOST_BYTES = 150_000


def cells(path: Path, kind: str) -> list[str]:
    found = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def code_of(path: Path) -> str:
    text = path.read_text("utf-8")
    return text if path.suffix == ".py" else "\n".join(cells(path, "code"))


def private(code: str) -> list[str]:
    """What code uses of matchlens that is no public name."""
    out = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            out += [one.name for one in node.names if one.name.startswith("matchlens.")]
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith("matchlens"):
            mine = [one.name for one in node.names if one.name not in matchlens.__all__]
            mine = [] if node.module == "matchlens.pyterrier" else mine
            out += [str(node.module)] * bool(mine) if node.module != "matchlens" else mine
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            out.append(node.attr)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "matchlens"
            and node.attr not in matchlens.__all__
        ):
            out.append(f"matchlens.{node.attr}")
    return out


def test_ten_scripts_and_three_notebooks_are_there_and_listed():
    listed = re.findall(r"^\| \[([^]]+)\]\(\1\) \|", (EXAMPLES / "README.md").read_text(), re.M)
    page = (ROOT / "docs/examples.md").read_text()
    assert [path.name for path in [*SCRIPTS, *NOTEBOOKS] if f"`{path.name}`" not in page] == []
    assert "ten short scripts and three notebooks" in page
    assert sorted(listed) == sorted(path.name for path in [*SCRIPTS, *NOTEBOOKS])
    assert (len(SCRIPTS), len(NOTEBOOKS)) == (10, 3)


@pytest.mark.parametrize("path", [*SCRIPTS, *NOTEBOOKS], ids=lambda path: path.name)
def test_an_example_uses_public_names_only(path):
    code = code_of(path)
    assert "import matchlens" in code
    assert private(code) == []


@pytest.mark.parametrize(
    "code",
    [
        "import matchlens.engine",
        "from matchlens.engine import run",
        "from matchlens import _version",
        "import matchlens\nmatchlens.engine.run",
        "import matchlens\nmatchlens.load('demo').family._layers",
    ],
)
def test_a_name_that_is_not_public_is_seen(code):
    assert private(code)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_short_and_says_what_a_reader_learns_and_how_long_it_takes(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) < 100
    said = ast.get_docstring(ast.parse(text)) or ""
    assert "You learn " in said
    assert re.search(r"takes about \d+ seconds", said)
    assert f"python examples/{path.name}" in said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_kept_without_outputs_and_says_what_a_reader_learns(path):
    held = json.loads(path.read_text("utf-8"))
    assert [
        cell["outputs"] for cell in held["cells"] if cell["cell_type"] == "code" and cell["outputs"]
    ] == []
    said = cells(path, "markdown")[0]
    assert "You learn " in said
    assert re.search(r"takes about \d+ seconds", said)


def test_every_picture_is_one_that_an_example_writes_and_small():
    """`make pictures` writes them all; a picture that nothing writes would grow old."""
    code = "\n".join(code_of(path) for path in [*SCRIPTS, *NOTEBOOKS])
    written = set(re.findall(r'PICTURES / "([\w-]+\.png)"', code))
    held = {path.name for path in (ROOT / "docs/pictures").glob("*.png")}
    assert {name for name in held if not name.startswith(("read-", "live-"))} == written
    for name in written:
        assert (ROOT / "docs/pictures" / name).stat().st_size < MOST_BYTES
