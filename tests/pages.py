"""The documentation's pages and their code blocks, and what stands in for a reader's files."""

from __future__ import annotations

import gzip
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import tiny

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NOT_RUN = "Not run in our tests"
"""How the title of a block begins that is parsed only; what follows says why."""
PRINTS = "It prints"
ELSEWHERE = {"add-a-family.md": "tests/test_add_a_family.py"}
"""Pages whose code another test runs."""
_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]*)"')
_FILE = re.compile(r"[\w./-]+\.\w+")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        page: its file, from the project's root.
        line: the line on which it begins.
        language: the fence's first word.
        title: what stands above it on the site.
        body: its text.
    """

    page: str
    line: int
    language: str
    title: str
    body: str

    @property
    def place(self) -> str:
        """Where it is, for a message."""
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that its title names, if it names one."""
        return self.title if _FILE.fullmatch(self.title) else None


def pages() -> list[Path]:
    """README and every page of the site."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """A page's name, from the project's root."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        title = _TITLE.search(match[2])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(name_of(page), line, match[1], title[1] if title else "", match[3]))
    return found


def commands(body: str) -> list[list[str]]:
    """The commands of a shell block, each as its words; comments are no words."""
    joined = body.replace("\\\n", " ")
    found = []
    for line in joined.splitlines():
        for part in re.split(r"\s&&\s", line):
            words = shlex.split(part, comments=True)
            if words:
                found.append(words)
    return found


def furnish(folder: Path) -> None:
    """The files that pages name as a reader's own: a model, a collection, a run.

    The model is a random one of 12 layers with 12 heads, so that what the demo model can be asked
    can be asked of it in seconds.
    """
    shape = {"layers": 12, "heads": 12, "hidden_size": 24, "intermediate_size": 24}
    tiny.save(folder / "path/to/model", **shape)
    tiny.save(folder / "path/to/model-before-fine-tuning", seed=1, **shape)
    written = {one.file: one.body for one in blocks(DOCS / "recipes/my-files.md") if one.file}
    for name, text in written.items():
        (folder / name).write_text(text)
    (folder / "passages.jsonl.gz").write_bytes(gzip.compress(written["passages.jsonl"].encode()))
    (folder / "more").mkdir()
    for name, text in written.items():
        (folder / "more" / name).write_text(re.sub(r"\b([qd])(\d)\b", r"\g<1>9\2", text))
    run = (
        f"q{q} Q0 d{(q + rank) % 5 + 1} {rank} {10 - rank} bm25\n"
        for q in range(1, 5)
        for rank in range(1, 5)
    )
    (folder / "bm25.run").write_text("".join(run))
    (folder / "pairs.jsonl").write_text('{"query": "warm tea", "text": "the tea is warm"}\n')
