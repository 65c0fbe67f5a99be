"""Every code block of README and the site is run, or parsed where it cannot be.

Commands on the demo collection are run on few, short pairs, by a random model of the demo model's
shape where no model is named: their options, files and words are what is tested, not the model.
Python blocks load what they say. ``make docs-test`` runs this without the tests' shape checks.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub is imported

import torch

import matchlens
import matchlens.cli
import matchlens.models.load
from matchlens.cli.commands import application
from matchlens.studies.registry import STUDIES
from pages import (
    DOCS,
    ELSEWHERE,
    NOT_RUN,
    PRINTS,
    ROOT,
    Block,
    blocks,
    commands,
    furnish,
    name_of,
    pages,
)

FEW = {"--queries": "8", "--per-grade": "1", "--max-length": "40"}
WITH_EASY = ("attention", "circuits", "look", "study")
PARSED = ("README.md", "docs/results/README.md")
"""Pages without titles on their blocks: what needs a hub or the reader's files is parsed there."""
KNOWN = {
    "matchlens compare out/mine out/other": "the second folder is the reader's",
}
"""Commands of README that are parsed only, and why."""
LANGUAGES = {"python", "sh", "text", "diff", "json", ""}


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """A reader's own files."""
    folder = tmp_path_factory.mktemp("files")
    furnish(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def loaded_once():
    """One model is loaded, and checked, once for all pages; each page gets it as it is."""
    real, held = matchlens.models.load.load, {}

    def load(model="demo", **options):
        key = (str(getattr(model, "path", model)), *sorted(map(str, options.items())))
        key = (os.getcwd() if "/" in str(model) else "", *key)
        if key not in held:
            held[key] = real(model, **options)
        return held[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matchlens.models.load, "load", load)
        patch.setattr(matchlens, "load", load)
        yield


@pytest.fixture
def here(files, tmp_path, monkeypatch) -> Path:
    """A folder with these files, in which the page's blocks run."""
    torch.set_num_threads(1)
    folder = tmp_path / "here"
    folder.mkdir()
    for one in files.iterdir():
        (folder / one.name).symlink_to(one) if one.is_dir() else shutil.copy(one, folder)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    known, studies = set(sys.modules), dict(STUDIES)
    yield folder
    STUDIES.clear()
    STUDIES.update(studies)
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_blocks_of_a_page_run(page, here, monkeypatch):
    found = blocks(page)
    assert {one.language for one in found} <= LANGUAGES
    if page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).as_posix() in ELSEWHERE:
        return
    if any(one.language == "diff" for one in found):
        apply_and_test(found, here)
        return
    if name_of(page) == "README.md":  # its Python takes all pairs of the demo collection
        few = functools.partial(matchlens.choose, queries=2, per_grade=1)
        monkeypatch.setattr(matchlens, "choose", few)
    space: dict[str, object] = {"__name__": "page"}
    printed = ""
    for one in found:
        if one.title == PRINTS:
            assert printed.rstrip() == one.body.rstrip(), one.place
        elif one.title.startswith(NOT_RUN):
            assert len(one.title) > len(NOT_RUN) + 2, f"{one.place}: no reason"
            parse_all(one)
        elif one.file is not None:
            (here / one.file).write_text(one.body)
        elif one.language == "python":
            printed = python(one, space)
        elif one.language == "sh":
            shell(one, here)


def python(one: Block, space: dict[str, object]) -> str:
    """Run a Python block; what it prints."""
    out = io.StringIO()
    code = builtins.compile("\n" * one.line + one.body, str(ROOT / one.page), "exec")
    with contextlib.redirect_stdout(out):
        exec(code, space)
    return out.getvalue()


def shell(one: Block, here: Path) -> None:
    """Run the commands of a shell block, or parse them where they cannot run here."""
    for words in commands(one.body):
        if words[0] != "matchlens" or (one.page in PARSED and not runs_here(words, here)):
            assert one.page in PARSED, f"{one.place}: say in a title that it is not run: {words}"
            parse(one, words)
            continue
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = matchlens.cli.main(small(words[1:]))
        said = f"{one.place}: {' '.join(words)}\n{out.getvalue()}{err.getvalue()}"
        assert status == 0, said
        if "--out" in words and "--dry-run" not in words:
            assert any((here / words[words.index("--out") + 1]).iterdir()), said


def small(words: list[str]) -> list[str]:
    """A command with few, short pairs, and a small model where it names none."""
    if words[0] == "demo":
        return [*words, "--queries", "1", "--cut", "Q->D"]
    demo = "--demo" in words
    more: dict[str, str] = {}
    if words[0] in WITH_EASY:
        more["--easy"] = "2" if demo else "1"  # of so many there are enough
    if "--out" in words and words[0] not in ("compare", "report"):
        if demo:
            more |= FEW
        if not {"--model", "-m"} & set(words):
            more["--model"] = "path/to/model"
        if "head-sets" in words or (words[0] == "attention" and "--no-cut" not in words):
            more["--pairs"] = "12"
        if "--pair" in words:  # it must be among the pairs
            more = {**more, "--all-judged": "", "--queries": "32"}
            del more["--per-grade"]
    return [*words, *(w for k, v in more.items() if k not in words for w in (k, v) if w)]


def test_the_exceptions_are_in_the_readme():
    shown = [one for one in blocks(ROOT / "README.md") if one.language == "sh"]
    found = {" ".join(words) for one in shown for words in commands(one.body)}
    assert set(KNOWN) <= found


def runs_here(words: list[str], here: Path) -> bool:
    """Whether a command needs neither a hub nor files that are not here."""
    given = " ".join(words)
    if (
        given in KNOWN
        or words[1] in ("reproduce", "serve")  # a hub; until it is stopped
        or any(sign in given for sign in ("--dataset", "$", "..."))
    ):
        return False
    models = [words[n + 1] for n, word in enumerate(words[:-1]) if word in ("--model", "-m")]
    return all(model == "demo" or (here / model).is_dir() for model in models)


def parse_all(one: Block) -> None:
    """Parse every command of a block that is not run."""
    assert one.language == "sh", one.place
    for words in commands(one.body):
        parse(one, words)


def parse(one: Block, words: list[str]) -> None:
    """See that what a command names exists: its options, its target, its file, its extra."""
    while "=" in words[0] and not words[0].startswith("-"):  # VARIABLE=value before the command
        words = words[1:]
    if words[0] == "matchlens":
        group = application()
        assert words[1] in group.commands, one.place
        given = [word for word in words[2:] if word != "..."]
        with group.make_context("matchlens", [words[1]]) as context:
            group.commands[words[1]].make_context(words[1], given, parent=context)
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert all(re.search(rf"^{target}:", makefile, re.M) for target in words[1:]), one.place
    elif words[0] == "pip":
        extras = re.findall(r"\[([\w,]+)\]", " ".join(words))
        project = (ROOT / "pyproject.toml").read_text()
        names = [name for extra in extras for name in extra.split(",")]
        assert names
        assert all(re.search(rf"^{name} = \[", project, re.M) for name in names), one.place
    elif words[0] == "ray":
        assert words[1] in ("start", "stop")
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file(), one.place
    else:
        known = (["python3", "-m", "venv", ".venv"], [".", ".venv/bin/activate"])
        assert words in known, f"{one.place}: {words}"


def apply_and_test(found: list[Block], here: Path) -> None:
    """Apply a page's diffs to a copy of the source, and run the tests that the page writes."""
    for name in ("src", "tests"):
        shutil.copytree(
            ROOT / name, here / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    shutil.copy(ROOT / "pyproject.toml", here)
    tests = []
    for one in found:
        if one.language == "diff":
            assert one.file is not None, one.place
            path = here / one.file
            path.write_text(applied(path.read_text(), one))
        elif one.file is not None:
            (here / one.file).write_text(one.body)
            tests.append(one.file)
    assert tests
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests],
        env={**os.environ, "PYTHONPATH": str(here / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout or "[100%]" in done.stdout


def applied(text: str, one: Block) -> str:
    """A file after a diff whose context stands in it once."""
    lines = one.body.splitlines()
    old = "\n".join(line[1:] for line in lines if line[:1] in (" ", "-"))
    new = "\n".join(line[1:] for line in lines if line[:1] in (" ", "+"))
    assert text.count(old) == 1, f"{one.place}: its context stands {text.count(old)} times in it"
    return text.replace(old, new)
