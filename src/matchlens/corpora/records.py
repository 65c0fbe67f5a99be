"""Records of any form, from data frames, dicts and iterables: values by the names of columns."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from matchlens.arguments import shown as shown_value
from matchlens.errors import InputError

from .lines import shown

NAMES: Mapping[str, tuple[str, ...]] = {
    "qid": ("qid", "query_id", "q_id", "query-id", "topic_id"),
    "query": ("query", "query_text", "question"),
    "docno": ("docno", "doc_id", "docid", "pid", "passage_id", "corpus-id", "document_id", "_id"),
    "text": ("text", "passage", "contents", "segment", "body"),
    "title": ("title",),
    "grade": ("grade", "label", "relevance", "rel"),
    "score": ("score",),
    "rank": ("rank",),
    "kind": ("kind",),
}
"""A column -> its names in PyTerrier, ranx, ir_measures, ir_datasets, BEIR and Pyserini; the first
one is taken where others stand beside it (PyTerrier's docid is a number of its index)."""
WORDS = {
    "qid": "the query's id",
    "query": "the query's text",
    "docno": "the passage's id",
    "text": "the passage's text",
    "grade": "the grade",
    "score": "the score",
}
ALSO = {
    "topics": {"query": ("text", "title")},
    "qrels": {"grade": ("score",)},
    "passages": {"docno": ("id",)},
}
"""Names that a column has in one part of a collection only: BEIR and ranx call a grade score."""


def is_frame(data: Any) -> bool:
    """Whether it is a pandas DataFrame; pandas is not imported for it."""
    return any(
        (kind.__name__, kind.__module__.split(".")[0]) == ("DataFrame", "pandas")
        for kind in type(data).__mro__
    )


def columns_of(data: Any, what: str) -> list[object]:
    """The columns of a frame; none where it is something else."""
    if not is_frame(data):
        if hasattr(data, "columns"):
            raise InputError(
                f"{what} is {shown_value(data)}; expected a pandas DataFrame: convert it, for "
                "instance with to_pandas()"
            )
        return []
    return [*data.columns]


def column(name: str, columns: Sequence[object], what: str) -> int | None:
    """The place of a column under any of its names; None where there is none."""
    names = [*NAMES[name], *(ALSO.get(what, {}).get(name, ()))]
    matches = [alias for alias in names if alias in columns]
    if not matches:
        return None
    if len(matches) > 1 and matches[0] != name and matches[1] in NAMES[name]:
        raise InputError(
            f"{what}: the columns {' and '.join(map(repr, matches))} may all be {WORDS[name]}; "
            f"expected one: rename the right one to {name!r}"
        )
    if columns.count(matches[0]) > 1:
        raise InputError(
            f"{what}: two columns are called {matches[0]!r}; expected one: drop or rename the other"
        )
    return columns.index(matches[0])


def records(data: Any, names: Sequence[str], needed: int, what: str) -> Iterator[tuple[Any, ...]]:
    """The values of each record in the order of names; what is missing is None.

    Only the first few names are needed.
    """

    def places(columns: list[object]) -> list[int | None]:
        at = [column(name, columns, what) for name in names]
        if lacking := [name for name, n in zip(names[:needed], at, strict=False) if n is None]:
            shown_columns = ", ".join(str(column)[:30] for column in columns[:10])
            raise InputError(
                f"{what}: no column for {' and '.join(WORDS[name] for name in lacking)} among "
                f"{shown(shown_columns, 100)}; expected {' and '.join(map(repr, lacking))}: rename "
                "the columns"
            )
        return at

    if columns := columns_of(data, what):
        values = [None if at is None else data.iloc[:, at].tolist() for at in places(columns)]
        for row in range(len(data)):
            yield tuple(None if cells is None else _known(cells[row]) for cells in values)
        return
    if isinstance(data, str | bytes) or not isinstance(data, Iterable) or is_frame(data):
        raise InputError(
            f"{what} is {shown_value(data)}; expected a DataFrame with the columns "
            f"{', '.join(names[:needed])}, a dict or a list of records: give one of them"
        )
    places_of: dict[tuple[object, ...], list[int | None]] = {}
    for number, record in enumerate(data, 1):
        fields = record._asdict() if hasattr(record, "_asdict") else record
        if isinstance(fields, Mapping):
            keys, values = tuple(fields), tuple(fields.values())
            if keys not in places_of:
                places_of[keys] = places([*keys])
            yield tuple(None if at is None else _known(values[at]) for at in places_of[keys])
        elif isinstance(record, tuple | list) and needed <= len(record) <= len(names):
            padded = (*record, *[None] * (len(names) - len(record)))
            yield tuple(map(_known, padded))
        else:
            raise InputError(
                f"{what}, record {number} is {shown_value(record)}; expected a dict or a tuple "
                f"({', '.join(names[:needed])}): write it so"
            )


def _known(value: Any) -> Any:
    """The value; None where it stands for a missing one."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return None if isinstance(value, numbers.Real) and math.isnan(value) else value


def as_id(value: Any) -> Any:
    """An id as text: whole numbers as they are written; others are refused where it is read."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return str(int(value)) if whole else "" if value is None else value


def whole_number(value: Any) -> str:
    """A rank as it would stand in a file."""
    number = float(value) if isinstance(value, numbers.Real) else math.nan
    return str(int(number)) if number.is_integer() else str(value)
