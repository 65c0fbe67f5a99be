"""Pairs to look into, as text: what is read most, and what each cut does to the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from matchlens.errors import visible
from matchlens.report.table import columns
from matchlens.report.texts import note_lines, printed, wrapped
from matchlens.results import Result, records

MOST = 8
"""Tokens and cuts that are shown of a direction and of a look, at most."""
TEXT = 300
"""Characters of a text that are shown."""


def looking_text(result: Result, looks: Sequence[int] | None = None) -> str:
    """The list of pairs, and a view of some of them.

    Args:
        result: what :func:`matchlens.look` returned.
        looks: which are viewed; all where None.
    """
    model, table = result.identity["model"], result.to_frame("looks")
    assert isinstance(model, Mapping)  # noqa: S101
    body = [["look", "query", "passage", "grade", "score", "rank", "why"]]
    for row in records(table):
        cells = [str(row["look"]), plain(str(row["qid"]), 24), plain(str(row["docid"]), 24)]
        cells += [str(row["grade"]), printed(row["score"], 3), _rank(row["rank"])]
        body.append([*cells, str(row["why"])])
    lines = [f"Pairs to look into, read by {plain(str(model['name']), 60)}", ""]
    lines += _left(body)
    received = result.array("received")
    for row in records(table):
        if looks is None or row["look"] in looks:
            lines += ["", *_view(result, row, received)]
    return "\n".join([*lines, "", *note_lines(result)]).rstrip() + "\n"


def plain(text: str, most: int = TEXT) -> str:
    """A text fit for a terminal's line: no control characters, no marks of direction, not long.

    >>> plain("a\\n b\\x1b[31m" + chr(0x202E))
    'a b\\ufffd[31m\\ufffd'
    """
    shown = visible(" ".join(text[: 4 * most].split()))
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _left(rows: list[list[str]]) -> list[str]:
    """Columns whose last one is prose, to the left."""
    heads = columns([row[:-1] for row in rows])
    wide = max(map(len, heads))
    return [f"{head.ljust(wide)}  {row[-1]}" for head, row in zip(heads, rows, strict=True)]


def _view(result: Result, row: Mapping[str, object], received: np.ndarray) -> list[str]:
    look = int(str(row["look"]))
    tokens = result.to_frame("tokens")
    tokens = pd.DataFrame(tokens[tokens["look"] == look])
    lines = [f"Look {look}: {row['why']}"]
    lines += wrapped(f"query {plain(str(row['qid']), 60)}: {plain(str(row['query']))}", "  ")
    lines += wrapped(f"passage {plain(str(row['docid']), 60)}: {plain(str(row['passage']))}", "  ")
    lines += ["", "Read most (share of the reader's attention, mean over all layers and heads)"]
    mean = received[look].mean((0, 1))  # [reader, place], NaN behind the last token
    readers = [str(name) for name in _listed(result.options["readers"])]
    for reader, part in (("CLS", "Q"), ("CLS", "D"), ("Q", "D"), ("D", "Q")):
        lines += _most_read(tokens, mean[readers.index(reader)], reader, part)
    lines += _matching(result, tokens, received[look], readers)
    return [*lines, "", *_cuts(result, look)]


def _most_read(
    tokens: pd.DataFrame, values: np.ndarray, reader: str, part: str, named: str = ""
) -> list[str]:
    in_part = pd.DataFrame(tokens[tokens["part"] == part])
    places = in_part["place"].to_numpy()
    shares = values[places]
    words = dict(zip(places.tolist(), in_part["token"], strict=True))
    order = np.argsort(-shares, kind="stable")[:MOST]
    listed = [f"{plain(str(words[int(places[at])]), 20)} {shares[at]:.3f}" for at in order]
    total = f"{named or f'{reader}->{part}'} ({shares.sum():.2f}): "
    return wrapped(total + ", ".join(listed), "    ", "  ")


def _matching(
    result: Result, tokens: pd.DataFrame, received: np.ndarray, readers: list[str]
) -> list[str]:
    """What the first matching heads read, where they are known."""
    rows = [row for row in records(result.to_frame("heads")) if row["directions"]][:3]
    if not rows:
        return []
    lines = ["", "Read most by the matching heads that were found most surely"]
    for row in rows:
        for direction in str(row["directions"]).split(", "):
            reader, _, part = direction.partition("->")
            if reader in readers and part in set(tokens["part"]):
                head = received[int(str(row["layer"])), int(str(row["head"]))]
                named = f"{row['layer']}.{row['head']} {direction}, {row['kind']}"
                lines += _most_read(tokens, head[readers.index(reader)], reader, part, named)
    return lines


def _cuts(result: Result, look: int) -> list[str]:
    table = result.to_frame("cuts")
    table = pd.DataFrame(table[table["look"] == look])
    if table.empty:
        return ["Score under cuts: none is known of this pair"]
    table["change"] = table["score"] - table["score_original"]
    order = np.argsort(-table["change"].abs().to_numpy(), kind="stable")[:MOST]
    body = [["cut", "score", "change", "rank", "was"]]
    for row in records(pd.DataFrame(table.iloc[order])):
        cells = [printed(row["score"], 3), printed(row["change"], 3)]
        body.append([str(row["cut"]), *cells, _rank(row["rank"]), _rank(row["rank_original"])])
    shown = f"the {len(body) - 1} largest changes of {len(table)}"
    return [f"Score under cuts ({shown}; logits)", *columns(body)]


def _rank(value: object) -> str:
    return f"{float(str(value)):g}"


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []
