"""``matchlens explain``: why one passage ranks above another."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matchlens.cli.job import load_model, model_folder
from matchlens.cli.recording import machine, record
from matchlens.cli.scoring import read_pairs
from matchlens.cli.terminal import progress, say, show
from matchlens.corpora import Pair
from matchlens.corpora.formats import suffix
from matchlens.corpora.lines import numbered
from matchlens.corpora.own import labelled, read_parts, spans_by_id
from matchlens.errors import InputError, counted
from matchlens.options import PARTS_HELP, ModelSettings, Out, Prefixes, Seed
from matchlens.settings import STUDY, Effect, option, settings

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


@settings(panel=STUDY, effect=Effect.INPUT)
class ExplainSettings(Out, ModelSettings, Prefixes, Seed):
    """Options of ``explain``."""

    query: str | None = option(default=None, metavar="TEXT", help="The query.")
    passage: list[str] | None = option(
        default=None, metavar="TEXT", help="A passage; two or more are needed. Repeatable."
    )
    pairs: Path | None = option(
        default=None,
        metavar="FILE",
        help='Query and passages instead: JSON lines with "query" and "text" (- for stdin), or a '
        ".tsv with query<TAB>passage lines.",
    )
    parts: Path | None = option(default=None, metavar="FILE", help=PARTS_HELP)
    compare: str = option(
        default="0,1",
        metavar="A,B",
        help="Numbers of the two passages, from 0.",
        effect=Effect.RESULT,
    )
    points: int | None = option(
        default=None,
        metavar="K",
        help="Least points of the integral; they double as needed [32].",
        effect=Effect.RESULT,
    )
    no_swap: bool = option(
        "--no-swap",
        default=False,
        help="Make no cuts: contributions alone.",
        effect=Effect.RESULT,
    )


def explain(settings: ExplainSettings) -> None:
    """Explain why one passage ranks above another."""
    from matchlens.models.folder import check_dtype, check_length
    from matchlens.results import check_folder
    from matchlens.studies.common import identity
    from matchlens.studies.explaining import POINTS, check_points, compared, pair_set

    check_dtype(settings.dtype)
    query, passages = _texts(settings.query, settings.passage, settings.pairs)
    chosen = compared(_numbers(settings.compare), len(passages))
    points = POINTS if settings.points is None else settings.points
    check_points(points)
    pairs = _labelled(query, passages, settings)
    out = settings.out
    if out is not None:
        check_folder(out)
    folder = model_folder(settings)
    check_length(settings.max_length)
    if out is not None:
        model = folder.identity(settings.dtype, settings.max_length, settings.negate)
        check_folder(out, identity(model, pair_set(pairs)))
    from matchlens.report.page import files_of
    from matchlens.report.views.explain import explain_text
    from matchlens.studies.explaining import explain as explain_passages

    loaded = load_model(folder, settings, settings.max_length)
    with progress("explain", settings.quiet) as bar:
        result = explain_passages(
            loaded,
            pairs[0].query,
            pairs,
            compare=chosen,
            points=points,
            swap=not settings.no_swap,
            seed=settings.seed,
            progress=bar,
        )
    failure = None
    if out is not None:  # the tables first: a fault in a drawing loses nothing
        typed = settings
        if str(settings.pairs) == "-":  # what came by standard input cannot be read again
            typed = replace(settings, pairs=None, query=query, passage=passages)
        result.command = record("explain", typed, {"points": points}, folder)
        result.command |= {"machine": machine(loaded)}
        try:
            result.save(out)
        except InputError as error:
            failure = error
    show(explain_text(result, bold=sys.stdout.isatty()))
    if failure is not None:
        raise InputError(f"{failure} (the text above is not saved)")
    if out is not None:
        result.texts.update(files_of(result))
        result.log = ()
        result.save(out)
        say(f"results in {out}; look at {out / 'explain.html'}", settings.quiet)


def _labelled(query: str, passages: Sequence[str], settings: ExplainSettings) -> tuple[Pair, ...]:
    """The pairs, each passage with its number, and their user-defined parts."""
    prefixes = {"Q": settings.query_prefix, "D": settings.passage_prefix}
    query = prefixes["Q"] + query
    pairs = tuple(
        Pair("query", str(number), query, prefixes["D"] + passage, 0, judged=False)
        for number, passage in enumerate(passages)
    )
    for name, (of, spans) in ({} if settings.parts is None else read_parts(settings.parts)).items():
        pairs = labelled(pairs, {name: spans_by_id(pairs, of, spans, prefixes[of])}, of)
    return pairs


def _texts(
    query: str | None, passages: Sequence[str] | None, pairs: Path | None
) -> tuple[str, list[str]]:
    """The query and its passages, from the command line or a file."""
    if pairs is not None:
        if query is not None or passages:
            raise InputError(f"--pairs came with --query or --passage; expected {EXAMPLE}")
        rows = (
            _lines(pairs)
            if suffix(pairs) == ".tsv"
            else [(p.query, p.text) for p in read_pairs(str(pairs))]
        )
        queries = list(dict.fromkeys(row[0] for row in rows))
        if len(queries) != 1:
            raise InputError(
                f"{pairs}: {len(queries)} queries came; expected one query with its passages"
            )
        return queries[0], [row[1] for row in rows]
    if query is None or not query.strip() or not passages or len(passages) < 2:
        raise InputError(
            f"{'a' if query and query.strip() else 'no'} query and "
            f"{counted(len(passages or ()), 'passage')} came; expected one query with two or more "
            f"passages: {EXAMPLE}"
        )
    for text in passages:
        if not text.strip():
            raise InputError("a --passage has no text; expected some text in each")
    return query, list(passages)


def _lines(name: Path) -> list[tuple[str, str]]:
    rows = []
    for number, line in numbered(name):
        query, tab, text = line.partition("\t")
        if not tab or not query.strip() or not text.strip():
            raise InputError(f"{name}, line {number}: expected query<TAB>passage, both with text")
        if more := text.count("\t"):
            raise InputError(
                f"{name}, line {number}: {more + 2} columns came; expected query<TAB>passage: "
                "leave other columns out, or write JSON lines"
            )
        rows.append((query, text))
    if not rows:
        raise InputError(f"{name}: no pairs; expected a line query<TAB>passage for each passage")
    return rows


def _numbers(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(\d{1,6})\s*,\s*(\d{1,6})\s*", text)
    if match is None:
        raise InputError(
            f"--compare is {text!r:.60}; expected two numbers of passages, such as 0,1"
        )
    return int(match[1]), int(match[2])
