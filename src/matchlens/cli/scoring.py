"""``matchlens score``: scores of pairs under cuts, as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from matchlens.cli.candidates import check_own_parts
from matchlens.cli.job import check_model_options, load_model, model_folder
from matchlens.cli.terminal import progress
from matchlens.corpora import Pair
from matchlens.corpora.lines import MAX_LINE, is_unicode, json_line, numbered
from matchlens.directions import Cut, How
from matchlens.errors import InputError
from matchlens.options import BatchTokens, Cuts, ModelSettings, Prefixes
from matchlens.plan import PUT_IN
from matchlens.settings import COLLECTION, Effect, option, settings

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


@settings(panel=COLLECTION, effect=Effect.INPUT)
class ScoreSettings(ModelSettings, Prefixes, BatchTokens, Cuts):
    """Options of ``score``."""

    pairs: str | None = option(
        default=None, metavar="FILE", help="Pairs as JSON lines, or - for standard input; required."
    )


def score(settings: ScoreSettings) -> None:
    """Score pairs under cuts."""
    from matchlens.studies.spec import check_cuts

    check_own_parts(settings)  # what is wrong comes before what is missing
    if settings.pairs is None:
        raise InputError("Missing option '--pairs': expected a file of pairs, or -")
    check_model_options(settings)
    cuts, total = settings.cut or [], 0
    if settings.pairs != "-":  # every line is checked before the model is loaded
        total = sum(1 for _ in read_pairs(settings.pairs))
    folder = model_folder(settings)
    check_cuts(cuts, folder, settings.sets)
    rows = read_pairs(settings.pairs, settings.query_prefix, settings.passage_prefix)
    every = [*map(Cut.parse, cuts), *chain.from_iterable(settings.sets.values())]
    size = None if any(cut.how in PUT_IN for cut in every) else CHUNK
    resampled = any(cut.how is How.RESAMPLE for cut in every)
    chunk, done = list(islice(rows, size)), 0
    from matchlens.studies.scoring import score as score_pairs

    loaded = load_model(folder, settings, settings.max_length)
    with progress("score", settings.quiet) as bar:
        while chunk:
            # what resample draws depends on the ids: with couples they are those of matchlens.score
            given = [(pair.query, pair.text) for pair in chunk] if resampled else chunk
            table = score_pairs(
                loaded, given, cuts, sets=settings.sets, batch_tokens=settings.batch_tokens
            )
            for number, row in enumerate(table.to_dict("records"), start=done):
                line = json.dumps({"pair": number, "scores": row})
                sys.stdout.write(line + "\n")
            done += len(chunk)
            if bar is not None:
                bar(done, total)
            chunk = list(islice(rows, size))
    sys.stdout.flush()


def read_pairs(name: str, query_prefix: str = "", passage_prefix: str = "") -> Iterator[Pair]:
    """The pairs of a JSON lines file, one at a time; lines with one query text are of one query."""
    number, path, name = 0, name, "standard input" if name == "-" else name
    for number, line in _lines(path):
        try:
            row, twice = json_line(line)
        except (ValueError, RecursionError):
            raise _wrong(name, number, "is not JSON") from None
        if not isinstance(row, dict):
            raise _wrong(name, number, "is not a JSON object")
        if read := [key for key in twice if key in ("query", "text")]:
            raise _wrong(name, number, f"{read[0]!r} stands twice, with different values")
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
