"""Make a release and check it: nothing is published or tagged.

python tools/release.py [VERSION]

Sees that the tree is clean and that version, changelog and citation agree; builds sdist and wheel;
looks into both; installs each into an empty environment and makes a Table 1 there; writes the
checksums; and says what is left for a person to do.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
TINY = "import sys, tiny; tiny.save(sys.argv[1])"
WANTED = (
    "matchlens/__init__.py",
    "matchlens/_version.py",
    "matchlens/py.typed",
    "matchlens/report/results.schema.json",
    "matchlens/report/page/templates/page.html.j2",
    "matchlens/report/page/templates/page.css",
    "matchlens/report/page/templates/page.js",
    "matchlens/corpora/demo_data/topics.tsv",
    "matchlens/corpora/demo_data/qrels.tsv",
    "matchlens/corpora/demo_data/passages.jsonl",
    "matchlens/corpora/demo_data/DATACARD.md",
)
"""What a wheel must hold beside the modules; an sdist has it in src/."""
BESIDE = ("README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", "constraints.txt")
"""What an sdist must hold besides."""
UNWANTED = re.compile(
    r"(^|/)(__pycache__|\.venv[^/]*|\.cache|\.git|\.env|\.DS_Store|[^/]*_cache|out|dist|site)(/|$)"
    r"|\.py[co]$|\.safetensors$"
)


class Refused(Exception):  # noqa: N818 - it is no error of the program
    """Why there is no release, in one line."""


def version_of(root: Path, wanted: str | None) -> str:
    """The version that is released.

    Args:
        root: of the project.
        wanted: the version that was asked for; any where None.

    Raises:
        Refused: version, changelog and citation do not agree, or another one was asked for.
    """
    held = (root / "src/matchlens/_version.py").read_text("utf-8")
    found = re.search(r'__version__ = "([^"]+)"', held)
    if found is None:
        raise Refused("src/matchlens/_version.py states no version")
    version = found[1]
    if wanted is not None and wanted != version:
        raise Refused(
            f"version {wanted} was asked for and src/matchlens/_version.py says {version}; "
            "change it there first"
        )
    changes = (root / "CHANGELOG.md").read_text("utf-8")
    if not re.search(rf"^## \[?{re.escape(version)}\]?(\s|$)", changes, re.MULTILINE):
        raise Refused(f"CHANGELOG.md has no heading '## {version}'; name what is unreleased so")
    cited = re.search(
        r"^version: *(\S+)$", (root / "CITATION.cff").read_text("utf-8"), re.MULTILINE
    )
    if cited is None or cited[1].strip("\"'") != version:
        raise Refused(f"CITATION.cff does not say 'version: {version}'; change it there")
    return version


def check_clean(root: Path) -> None:
    """See that what is built is what is committed.

    Raises:
        Refused: the tree has changes or files that are not committed.
    """
    said = output(["git", "status", "--porcelain"], root)
    if said:
        raise Refused(f"the tree is not clean ({said.splitlines()[0].strip()}, ...); commit first")


def check_contents(names: Iterable[str], modules: Iterable[str], kind: str) -> None:
    """See that an archive holds everything, and nothing that a tool left.

    Args:
        names: the archive's files; an sdist's without its first folder.
        modules: the package's files, as ``matchlens/...``.
        kind: ``wheel`` or ``sdist``.

    Raises:
        Refused: it names what is missing or too much.
    """
    held = set(names)
    before = "" if kind == "wheel" else "src/"
    wanted = [f"{before}{name}" for name in {*WANTED, *modules}]
    wanted += [] if kind == "wheel" else BESIDE
    if missing := sorted(set(wanted) - held):
        raise Refused(f"the {kind} lacks {', '.join(missing[:5])}")
    if stray := sorted(name for name in held if UNWANTED.search(name)):
        raise Refused(f"the {kind} holds {', '.join(stray[:5])}; nothing of that belongs there")


def files_of(archive: Path) -> list[str]:
    """The names of an archive's files; an sdist's without its first folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            return opened.namelist()
    with tarfile.open(archive) as opened:
        return [one.name.partition("/")[2] for one in opened.getmembers() if one.isfile()]


def output(words: list[str], where: Path, **more: str) -> str:
    """What a command printed; its own words are shown where it fails.

    Raises:
        Refused: it failed.
    """
    done = subprocess.run(
        words, cwd=where, env={**os.environ, **more}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Refused(f"{' '.join(words[:6])} failed:\n{done.stdout}{done.stderr}".strip())
    return done.stdout


def try_out(archive: Path, version: str, model: Path, place: Path) -> None:
    """Install an archive into an empty environment, and make a Table 1 there.

    Args:
        archive: wheel or sdist.
        version: that it must say.
        model: a folder with a tiny model.
        place: an empty folder outside the project.

    Raises:
        Refused: a step failed.
    """
    venv.create(place / "venv", with_pip=True)
    programs = place / "venv" / ("Scripts" if os.name == "nt" else "bin")
    limits = ROOT / "constraints.txt"
    install = ["-m", "pip", "install", "--quiet", "--constraint", str(limits), str(archive)]
    output([str(programs / "python"), *install], place, PYTHONPATH="")
    matchlens = str(programs / "matchlens")

    def run(*words: str) -> str:
        return output([matchlens, *words], place, PYTHONPATH="", HF_HUB_OFFLINE="1")

    if version not in run("--version"):
        raise Refused(f"{archive.name} does not say that it is {version}")
    asked = [
        "--model",
        str(model),
        "--demo",
        "--queries",
        "4",
        "--cut",
        "Q->D",
        "--cut",
        "CLS->All",
    ]
    run("ablation", *asked, "--out", "results")
    run("report", "results")
    for name in ("manifest.json", "ablation/table1.parquet", "ablation/table1.tex", "report.html"):
        if not (place / "results" / name).is_file():
            raise Refused(f"{archive.name}: matchlens ablation wrote no {name}")


def main(words: list[str]) -> int:
    """Make the release; 2 with one line where it is refused."""
    try:
        version = version_of(ROOT, words[0] if words else None)
        check_clean(ROOT)
        print(f"building {version}", flush=True)
        dist = ROOT / "dist"
        for old in dist.glob("*"):
            old.unlink()
        output([sys.executable, "-m", "build", "--no-isolation"], ROOT)
        archives = sorted([*dist.glob("*.whl"), *dist.glob("*.tar.gz")])
        if [one.suffix for one in archives] != [".whl", ".gz"]:
            raise Refused(f"expected a wheel and an sdist in dist/, not {archives}")
        listed = output(["git", "ls-files", "src/matchlens"], ROOT).splitlines()
        modules = [name.removeprefix("src/") for name in listed]
        for archive in archives:
            kind = "wheel" if archive.suffix == ".whl" else "sdist"
            check_contents(files_of(archive), modules, kind)
        if find_spec("twine"):
            output([sys.executable, "-m", "twine", "check", "--strict", *map(str, archives)], ROOT)
        else:
            print("twine is not installed: how the README shows on PyPI is not checked")
        with tempfile.TemporaryDirectory(prefix="matchlens-release-") as work:
            model = Path(work) / "tiny"
            output([sys.executable, "-c", TINY, str(model)], ROOT, PYTHONPATH=str(ROOT / "tests"))
            for archive in archives:
                print(f"trying {archive.name} in an empty environment", flush=True)
                place = Path(work) / archive.suffix.strip(".")
                place.mkdir()
                try_out(archive, version, model, place)
    except Refused as reason:
        print(f"no release: {reason}", file=sys.stderr)
        return 2
    sums = [f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in archives]
    (dist / "SHA256SUMS").write_text("".join(sums), "utf-8")
    print("".join(sums), end="")
    print(f"dist/ holds {version}, checked. What is left, by hand:")
    print(f"  git tag --annotate v{version} --message 'matchlens {version}'")
    print(f"  git push origin v{version}")
    print("  twine upload dist/*.whl dist/*.tar.gz")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
