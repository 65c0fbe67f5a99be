"""``matchlens score``: scores of pairs under cuts, as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from matchlens.cli import options as o
from matchlens.corpora import Pair
from matchlens.corpora.lines import MAX_LINE, is_unicode, numbered
from matchlens.directions import Cut, How
from matchlens.errors import InputError

HELP = """Score pairs without a cut and under each cut; JSON lines in, JSON lines out.

FILE holds one JSON object per line, with "query" and "text" (- reads standard input). One line for
each pair goes to standard output, keyed by the cuts as given; "" is no cut and always there.

\b
Example:
  matchlens score -m demo --pairs pairs.jsonl --cut 'Q->D'
  {"pair": 0, "scores": {"": 1.2, "Q->D": -0.3}}
"""
EXAMPLE = '{"query": "...", "text": "..."}'
CHUNK = 4096
OVER_ALL = (How.MEAN, How.RESAMPLE)
"""These take what they put in from the other pairs: all pairs are held and scored together."""

PairsFile = Annotated[str, typer.Option("--pairs", metavar="FILE", help="Pairs, or - for stdin.")]


def score(
    pairs: PairsFile,
    model: o.Model = "demo",
    cut: o.Cuts = None,
    max_length: o.MaxLength = None,
    prompt: o.PromptFile = None,
    revision: o.Revision = None,
    device: o.Device = None,
    dtype: o.Dtype = "float32",
    negate: o.Negate = False,
    label: o.Label = None,
    batch_tokens: o.BatchTokens = None,
    query_prefix: o.QueryPrefix = "",
    passage_prefix: o.PassagePrefix = "",
    quiet: o.Quiet = False,
) -> None:
    """Scores of pairs under cuts."""
    from matchlens.models.folder import check_dtype, check_length, find

    check_dtype(dtype)
    o.texts_and_sizes(query_prefix, passage_prefix, batch_tokens)
    total = 0
    if pairs != "-":
        total = sum(1 for _ in read_pairs(pairs))  # checks every line before the model is loaded
    folder = find(model, revision).asked(prompt).labelled(label, negate=negate)
    check_length(max_length)
    o.cuts_for(cut or (), folder)
    rows, done = read_pairs(pairs, query_prefix, passage_prefix), 0
    size = None if any(Cut.parse(text).how in OVER_ALL for text in cut or ()) else CHUNK
    chunk = list(islice(rows, size))
    from matchlens.models.load import load
    from matchlens.models.packed import keep_memory
    from matchlens.studies.ablation import score as score_pairs

    keep_memory()
    loaded = load(folder, device=device, dtype=dtype, max_length=max_length, negate=negate)
    with o.progress("score", quiet) as bar:
        while chunk:
            table = score_pairs(loaded, chunk, cut or (), batch_tokens=batch_tokens)
            for number, row in enumerate(table.to_dict("records"), start=done):
                line = json.dumps({"pair": number, "scores": row}, ensure_ascii=False)
                sys.stdout.write(line + "\n")
            done += len(chunk)
            if bar is not None:
                bar(done, total)
            chunk = list(islice(rows, size))
    sys.stdout.flush()


def read_pairs(name: str, query_prefix: str = "", passage_prefix: str = "") -> Iterator[Pair]:
    """The pairs of a JSON lines file, one at a time; lines with one query text are of one query.

    Raises:
        InputError: if the file or a line cannot be used; it names the line.
    """
    number, path, name = 0, name, "standard input" if name == "-" else name
    for number, line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise _wrong(name, number, "is not JSON") from None
        if not isinstance(row, dict):
            raise _wrong(name, number, "is not a JSON object")
        texts = []
        for key in ("query", "text"):
            value = row.get(key)
            if not isinstance(value, str) or not value.strip():
                came = "is missing" if key not in row else f"is {value!r:.40}"
                raise _wrong(name, number, f"{key!r} {came}")
            if not is_unicode(value):
                raise _wrong(name, number, f"{key!r} holds half a surrogate pair")
            texts.append(value)
        query, text = query_prefix + texts[0], passage_prefix + texts[1]
        yield Pair(texts[0], f"line {number}", query, text, grade=0)
    if number == 0:
        raise InputError(f"{name}: no pairs; expected one JSON object a line, such as {EXAMPLE}")


def _wrong(name: str, number: int, what: str) -> InputError:
    return InputError(
        f"{name}, line {number}: {what}; expected an object such as {EXAMPLE}, both with some text"
    )


def _typed_line() -> bytes:
    return sys.stdin.buffer.readline(MAX_LINE + 1)


def _lines(name: str) -> Iterator[tuple[int, str]]:
    if name == "-":
        for number, raw in enumerate(iter(_typed_line, b""), start=1):
            if len(raw) > MAX_LINE:
                raise _wrong("standard input", number, f"has more than {MAX_LINE:,} bytes")
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise _wrong("standard input", number, "is not UTF-8") from None
            if line.strip():
                yield number, line
    else:
        yield from numbered(Path(name))
