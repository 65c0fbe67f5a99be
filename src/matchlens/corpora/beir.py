"""Collections in folders as BEIR writes them: corpus.jsonl, queries.jsonl, qrels/*.tsv."""

from __future__ import annotations

from pathlib import Path

from matchlens.arguments import typed
from matchlens.errors import InputError

from . import trec
from .collection import Collection
from .lines import shown


@typed
def load(
    folder: str | Path,
    split: str = "test",
    *,
    run: str | Path | None = None,
    name: str | None = None,
) -> Collection:
    """Read a folder in BEIR's form; files may end in .gz, and titles are put before the texts.

    Args:
        folder: holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (with BEIR's header).
        split: whose judgements to read, usually test, dev or train.
        run: a TREC run, as ``trec.load`` takes it.
        name: of the collection; the folder's name where None.

    Raises:
        InputError: a file is missing, or a line of it cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as made:
    ...     folder = Path(made) / "tea"
    ...     (folder / "qrels").mkdir(parents=True)
    ...     _ = (folder / "corpus.jsonl").write_text('{"_id": "d1", "title": "Tea", "text": "hot"}')
    ...     _ = (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "warm tea"}')
    ...     _ = (folder / "qrels/test.tsv").write_text("query-id\\tcorpus-id\\tscore\\nq1\\td1\\t1")
    ...     collection = load(folder)
    ...     collection.name, collection.texts(["d1"])
    ('tea', {'d1': 'Tea hot'})
    """
    queries, qrels, corpus = _files(folder, split)
    return trec.load(queries, qrels, [corpus], run, name=name or Path(folder).resolve().name)


def _files(folder: str | Path, split: str = "test") -> list[Path]:
    """The files of a folder in BEIR's form that are read: queries, judgements, passages."""
    names = ("queries.jsonl", f"qrels/{split}.tsv", "corpus.jsonl")
    return [_file(Path(folder), name) for name in names]


def _file(folder: Path, name: str) -> Path:
    """The file, or the same one packed."""
    path = folder / name
    packed = path.with_name(f"{path.name}.gz")
    if path.is_file() or packed.is_file():
        return path if path.is_file() else packed
    if name.startswith("qrels/") and (others := sorted(folder.glob("qrels/*.tsv*"))[:10]):
        splits = ", ".join(path_.name.split(".tsv")[0] for path_ in others)
        raise InputError(
            f"{shown(str(folder), 200)} has no {shown(name)}, but qrels of {shown(splits)}; "
            f"expected one of these: give split={splits.split(', ')[0]!r}, or on the command line "
            f"--topics {_file(folder, 'queries.jsonl')} --qrels {others[0]} --passages "
            f"{_file(folder, 'corpus.jsonl')}"
        )
    raise InputError(
        f"{shown(str(folder), 200)} has no {shown(name)}; expected a folder in BEIR's form, with "
        "corpus.jsonl, queries.jsonl and qrels/test.tsv: check the path"
    )
