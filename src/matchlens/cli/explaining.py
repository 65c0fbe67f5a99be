"""``matchlens explain``: why one passage ranks above another."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from matchlens.cli import options as o
from matchlens.cli.job import Out
from matchlens.cli.recording import record
from matchlens.cli.scoring import read_pairs
from matchlens.corpora.lines import numbered
from matchlens.errors import InputError

HELP = """Explain why a model ranks one passage above another: no grades, no collection needed.

The margin, score of A minus score of B, is shared out over directions, heads and words. Next to
what a unit contributes stands the margin when it is really cut in both passages, and the smallest
set of cuts found that swaps the two. --out saves the tables and explain.html, a page to look at.

\b
Examples:
  matchlens explain -m demo --query 'warm tea' \\
      --passage 'The tea is warm.' --passage 'The dog ran far.'
  matchlens explain -m my/model --pairs pairs.jsonl --compare 0,2 --out out/why
"""
EXAMPLE = "--query TEXT --passage TEXT --passage TEXT, or --pairs FILE"

Query = Annotated[str | None, typer.Option(metavar="TEXT", help="The query.")]
Texts = Annotated[
    list[str] | None,
    typer.Option("--passage", metavar="TEXT", help="A passage. Repeat it: two or more are needed."),
]
PairsFile = Annotated[
    str | None,
    typer.Option(
        "--pairs",
        metavar="FILE",
        help='The query and its passages instead: JSON lines with "query" and "text", or .tsv: '
        "query<TAB>passage a line; - is stdin.",
    ),
]
Compared = Annotated[
    str, typer.Option("--compare", metavar="A,B", help="Numbers of the two passages, from 0.")
]
Points = Annotated[
    int | None,
    typer.Option(metavar="K", help="Least points of the integral; they double as needed [32]."),
]
NoSwap = Annotated[bool, typer.Option("--no-swap", help="Make no cuts: contributions alone.")]


def explain(
    query: Query = None,
    passage: Texts = None,
    pairs: PairsFile = None,
    compare: Compared = "0,1",
    out: Out = None,
    model: o.Model = "demo",
    points: Points = None,
    no_swap: NoSwap = False,
    max_length: o.MaxLength = None,
    prompt: o.PromptFile = None,
    seed: o.Seed = 0,
    revision: o.Revision = None,
    device: o.Device = None,
    dtype: o.Dtype = "float32",
    negate: o.Negate = False,
    label: o.Label = None,
    query_prefix: o.QueryPrefix = "",
    passage_prefix: o.PassagePrefix = "",
    quiet: o.Quiet = False,
) -> None:
    """Why one passage ranks above another."""
    given = dict(locals())
    from matchlens.models.folder import check_dtype, check_length, find
    from matchlens.results import check_folder
    from matchlens.studies.explaining import POINTS, check_points, compared

    check_dtype(dtype)
    o.texts_and_sizes(query_prefix, passage_prefix, None)
    text, passages = _texts(query, passage, pairs)
    chosen = compared(_numbers(compare), len(passages))
    points = POINTS if points is None else points
    check_points(points)
    if out is not None:
        check_folder(out)
    folder = find(model, revision).asked(prompt).labelled(label, negate=negate)
    check_length(max_length)
    from matchlens.models.load import load
    from matchlens.report.explaining import explain_files, explain_text
    from matchlens.studies.explaining import explain as explain_passages

    loaded = load(folder, device=device, dtype=dtype, max_length=max_length, negate=negate)
    with o.progress("explain", quiet) as bar:
        result = explain_passages(
            loaded,
            query_prefix + text,
            [passage_prefix + one for one in passages],
            compare=chosen,
            points=points,
            swap=not no_swap,
            seed=seed,
            progress=bar,
        )
    if out is not None:  # the tables first: a fault in a drawing loses nothing
        result.command = record("explain", explain, given, {"points": points}, folder)
        result.save(out)
    o.show(explain_text(result, bold=sys.stdout.isatty()))
    if out is not None:
        result.texts.update(explain_files(result))
        result.log = ()
        result.save(out)
        o.say(f"results in {out}; look at {out / 'explain.html'}", quiet)


def _texts(
    query: str | None, passages: Sequence[str] | None, pairs: str | None
) -> tuple[str, list[str]]:
    """The query and its passages, from the command line or a file.

    Raises:
        InputError: if they do not go together, or the file cannot be used.
    """
    if pairs is not None:
        if query is not None or passages:
            raise InputError(f"--pairs came with --query or --passage; expected {EXAMPLE}")
        rows = (
            _lines(pairs)
            if pairs.endswith(".tsv")
            else [(p.query, p.text) for p in read_pairs(pairs)]
        )
        queries = list(dict.fromkeys(row[0] for row in rows))
        if len(queries) != 1:
            raise InputError(
                f"{pairs}: {len(queries)} queries came; expected one query with its passages"
            )
        return queries[0], [row[1] for row in rows]
    if query is None or not query.strip() or not passages or len(passages) < 2:
        raise InputError(
            f"{'a' if query and query.strip() else 'no'} query and {len(passages or ())} passages "
            f"came; expected one query with two or more passages: {EXAMPLE}"
        )
    for text in passages:
        if not text.strip():
            raise InputError("a --passage has no text; expected some text in each")
    return query, list(passages)


def _lines(name: str) -> list[tuple[str, str]]:
    rows = []
    for number, line in numbered(Path(name)):
        query, tab, text = line.partition("\t")
        if not tab or not query.strip() or not text.strip():
            raise InputError(f"{name}, line {number}: expected query<TAB>passage, both with text")
        rows.append((query, text))
    if not rows:
        raise InputError(f"{name}: no pairs; expected a line query<TAB>passage for each passage")
    return rows


def _numbers(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"\s*(\d{1,6})\s*,\s*(\d{1,6})\s*", text)
    if found is None:
        raise InputError(
            f"--compare is {text!r:.60}; expected two numbers of passages, such as 0,1"
        )
    return int(found[1]), int(found[2])
