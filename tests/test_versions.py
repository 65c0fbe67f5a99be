"""What is installed: the lowest versions are those of pyproject.toml, and every pin is one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text("utf-8").splitlines()
    couples = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(package): Version(version) for package, version in couples}


def bounds() -> dict[str, tuple[Requirement, Version]]:
    """The one bound of everything that `make test` installs, by name."""
    out = {}
    for text in [*PROJECT["dependencies"], *EXTRAS["demo"], *EXTRAS["dev"]]:
        requirement = Requirement(text)
        (one,) = requirement.specifier
        assert one.operator in (">=", "==")
        out[canonicalize_name(requirement.name)] = (requirement, Version(one.version))
    return out


def test_the_lowest_versions_are_the_bounds():
    held = pins("constraints-lowest.txt")
    assert {name: held.get(name) for name in bounds()} == {
        name: bound for name, (_, bound) in bounds().items()
    }


def test_the_versions_that_tests_run_with_are_allowed():
    held = pins("constraints.txt")
    for name, (requirement, _) in bounds().items():
        assert held[name] in requirement.specifier, name


def test_python_s_bound_is_the_one_that_tools_check():
    (bound,) = re.findall(r"[\d.]+", PROJECT["requires-python"])
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    assert tools["pyright"]["pythonVersion"] == bound
    assert tools["ruff"]["target-version"] == f"py{bound.replace('.', '')}"


def test_the_citation_says_the_version():
    said = (ROOT / "src/matchlens/_version.py").read_text("utf-8")
    (version,) = re.findall(r'__version__ = "(.+)"', said)
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {version}\n" in cited
    # what is unreleased is no release: its folders are not continued by the release's version
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert version.endswith(".dev0") == ("\n## Unreleased\n" in changes)
