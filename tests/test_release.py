"""What a release is refused for; `make release` makes one in earnest."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
assert _spec is not None
assert _spec.loader is not None
release = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release)


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "src/matchlens").mkdir(parents=True)
    (tmp_path / "src/matchlens/_version.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2026-01-01)\n")
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.2.3\n")
    return tmp_path


@pytest.mark.parametrize("wanted", [None, "1.2.3"])
def test_the_version_that_is_released(project, wanted):
    assert release.version_of(project, wanted) == "1.2.3"


@pytest.mark.parametrize(
    ("file", "text", "wanted", "says"),
    [
        ("CHANGELOG.md", "## 1.2.30\n## Unreleased\n", None, "no heading '## 1.2.3'"),
        ("CITATION.cff", "cff-version: 1.2.3\nversion: 1.2.2\n", None, "'version: 1.2.3'"),
        ("CITATION.cff", "cff-version: 1.2.3\n", None, "'version: 1.2.3'"),
        ("src/matchlens/_version.py", "", None, "states no version"),
        ("CHANGELOG.md", "## 1.2.4\n", "1.2.4", "1.2.4 was asked for .* says 1.2.3"),
    ],
)
def test_versions_that_do_not_agree_are_refused(project, file, text, wanted, says):
    (project / file).write_text(text)
    with pytest.raises(release.Refused, match=says):
        release.version_of(project, wanted)


def test_a_tree_that_is_not_clean_is_refused(project):
    subprocess.run(["git", "init", "--quiet", project], check=True)
    with pytest.raises(release.Refused, match="the tree is not clean"):
        release.check_clean(project)
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["add", "."], [*who, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", "-C", project, *words], check=True)
    release.check_clean(project)


MODULES = ("matchlens/engine.py",)
WHEEL = [*release.WANTED, *MODULES, "matchlens-1.2.3.dist-info/METADATA"]
SDIST = [*(f"src/{name}" for name in (*release.WANTED, *MODULES)), *release.BESIDE]


@pytest.mark.parametrize(("names", "kind"), [(WHEEL, "wheel"), (SDIST, "sdist")])
def test_what_an_archive_holds(names, kind):
    release.check_contents(names, MODULES, kind)
    for gone in names:
        rest = [name for name in names if name != gone]
        if gone.endswith("METADATA"):
            continue
        with pytest.raises(release.Refused, match=f"the {kind} lacks {gone}"):
            release.check_contents(rest, MODULES, kind)


@pytest.mark.parametrize(
    "stray",
    [
        "matchlens/__pycache__/engine.cpython-311.pyc",
        ".venv/bin/python",
        ".venv-lowest/pyvenv.cfg",
        ".pytest_cache/README.md",
        ".cache/demo/model.safetensors",
        "out/demo/report.html",
        ".git/config",
        "tiny/model.safetensors",
    ],
)
def test_what_a_tool_left_is_refused(stray):
    with pytest.raises(release.Refused, match="nothing of that belongs there"):
        release.check_contents([*WHEEL, stray], MODULES, "wheel")


def test_every_file_that_is_wanted_is_there():
    assert [name for name in release.WANTED if not (ROOT / "src" / name).is_file()] == []
    assert [name for name in release.BESIDE if not (ROOT / name).is_file()] == []


def test_the_names_in_archives(tmp_path):
    wheel, sdist = tmp_path / "a-1-py3-none-any.whl", tmp_path / "a-1.tar.gz"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("a/b.py", "")
    with tarfile.open(sdist, "w:gz") as made:
        made.addfile(tarfile.TarInfo("a-1/src/a/b.py"), io.BytesIO())
    assert release.files_of(wheel) == ["a/b.py"]
    assert release.files_of(sdist) == ["src/a/b.py"]


def test_a_command_that_fails_is_shown(tmp_path):
    with pytest.raises(release.Refused, match=r"(?s)git frobnicate failed:.*frobnicate"):
        release.output(["git", "frobnicate"], tmp_path)
