"""Tables that others may have written: columns of plain values, read within a bound of memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import pandas as pd

MOST_TABLE = 2**30
"""Bytes that a table may take, in its file and decoded, and all tables of a folder that are read
together; reading takes up to about three times as many."""
MOST_FOOTER = 2**20
"""Bytes of the description at a Parquet file's end."""
MOST_COLUMNS = 10_000
"""Columns of a table."""
_MAGIC = b"PAR1"
_DELTA_BYTE_ARRAY = 7
_SIZES, _HEADERS = (2, 3), {5: 2, 7: 2, 8: 4}
"""Fields of a Parquet page's header: its sizes; its kinds, with the field of their encoding."""

NUMBERS = {
    "pair", "score", "queries", "mean", "original", "diff", "ci_low", "ci_high", "p", "p_holm",
    "p_flip", "p_unpaired", "q", "tau_b", "score_change", "overlap", "low",
    "high", "auc", "rho", "layer", "head", "n", "grade", "tokens",
}  # fmt: skip
"""Columns that hold numbers, in whatever table they stand."""
TRUTHS = {"significant_paper", "held", "truncated", "swapped"}
"""Columns that hold truth values."""
EITHER = {"significant", "matching", "kept"}
"""Columns that hold truth values in one table and numbers in another."""
WORDS = {
    "cut", "direction", "how", "qid", "docid", "collection", "study", "id", "verdict", "claim",
    "kind",
}  # fmt: skip
"""Columns that hold texts."""
PLACES, MOST_PLACE = ("layer", "head"), 1024
"""Columns that count layers and heads from 0 (-1: none), and what they reach at most."""


def check_columns(table: pd.DataFrame) -> None:
    """See that the columns of a study's table hold what their names promise.

    A text where a number is expected could be printed as if it were one, and "False" is true.

    Raises:
        ValueError: if a column holds something else; it names the column.

    >>> check_columns(pd.DataFrame({"significant": ["False"]}))
    Traceback (most recent call last):
    ...
    ValueError: column 'significant' holds str, expected truth values
    """
    types = pd.api.types
    if not len(table):
        return
    for name in map(str, table.columns):
        column = table[name]
        number = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
        nothing = bool(column.isna().all())
        truth = types.is_bool_dtype(column)
        if name in NUMBERS and not (number or nothing):
            wanted = "numbers"
        elif (name in TRUTHS and not truth) or (name in EITHER and not (number or truth)):
            wanted = "truth values"
        # Before version 3, pandas holds texts with gaps as objects: only what is there can tell.
        elif name in WORDS and not (nothing or types.is_string_dtype(column.dropna())):
            wanted = "texts"
        else:
            wanted = ""
        if wanted:
            raise ValueError(f"column {name!r} holds {column.dtype}, expected {wanted}")
        if name in PLACES and not nothing and not column.dropna().between(-1, MOST_PLACE).all():
            raise ValueError(f"column {name!r} counts beyond {MOST_PLACE:,}")


def parquet(stream: BinaryIO, limit: int | None = None) -> pd.DataFrame:
    """A table of texts, numbers and truth values.

    It may take ``limit`` bytes in memory, :data:`MOST_TABLE` where None.

    What a file claims is not believed: its pages' headers are added up before anything is decoded,
    and a text that a page names by number is counted as often as it is named.

    Raises:
        ValueError: if it is none, its columns are no plain values, or it takes too much memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow.compute import call_function as call

    limit = MOST_TABLE if limit is None else limit
    size = stream.seek(0, 2)
    stream.seek(max(0, size - 8))
    end = stream.read(8)
    if size > limit:
        raise ValueError(f"it has {size:,} bytes, more than {limit:,}")
    if len(end) < 8 or end[4:] != _MAGIC:
        raise ValueError("it is no Parquet file")
    if (footer := struct.unpack("<I", end[:4])[0]) > min(size, MOST_FOOTER):
        raise ValueError(f"its description has {footer:,} bytes, more than {MOST_FOOTER:,}")
    limits: Any = {"thrift_string_size_limit": MOST_FOOTER, "thrift_container_size_limit": 100_000}
    stream.seek(0)
    about = pq.ParquetFile(stream, **limits)
    names = about.schema_arrow.names
    if len(names) > MOST_COLUMNS or len(set(names)) < len(names):
        raise ValueError(f"it has {len(names):,} columns, or two of one name")
    types = pa.types
    plain = (types.is_integer, types.is_float32, types.is_float64, types.is_boolean, types.is_null)
    texts = []
    for column in about.schema_arrow:
        if types.is_string(column.type) or types.is_large_string(column.type):
            texts.append(column.name)
        elif not any(kind(column.type) for kind in plain):
            raise ValueError(f"column {column.name!r} holds no plain values, but {column.type}")
    needed = _decoded(stream, about.metadata, limit)
    if needed > limit:
        raise ValueError(f"it takes {needed:,} bytes, more than {limit:,}")
    stream.seek(0)
    file = pq.ParquetFile(stream, read_dictionary=texts, pre_buffer=False, **limits)
    table = file.read(use_threads=False)
    expanded = sum(
        call("sum", [call("binary_length", [chunk.dictionary]).take(chunk.indices)]).as_py() or 0
        for column in table.columns
        if pa.types.is_dictionary(column.type)
        for chunk in column.chunks
    )
    if needed + expanded > limit:
        raise ValueError(f"it takes {needed + expanded:,} bytes, more than {limit:,}")
    fields = [
        pa.field(column.name, pa.string() if pa.types.is_dictionary(column.type) else column.type)
        for column in table.schema
    ]
    return table.cast(pa.schema(fields)).to_pandas()


def _decoded(stream: BinaryIO, about: Any, limit: int) -> int:
    """The bytes that a Parquet file's columns take at most, without their repeated texts."""
    needed = 0
    for group in range(about.num_row_groups):
        rows = about.row_group(group)
        for place in range(rows.num_columns):
            column = rows.column(place)
            if min(rows.num_rows, column.num_values) < 0:
                raise ValueError(f"{rows.num_rows:,} rows")
            values = max(rows.num_rows, column.num_values)
            needed += values * 8
            if needed > limit:
                raise ValueError(f"{about.num_rows:,} rows of {rows.num_columns:,} columns")
            if not values:  # Arrow then leaves the column's place open
                continue
            start, first = column.data_page_offset, column.dictionary_page_offset
            if column.has_dictionary_page and first and 0 < first < start:
                start = first
            for size in _pages(stream, start, column.total_compressed_size):
                needed += size
                if needed > limit:
                    return needed
    return needed


def _pages(stream: BinaryIO, start: int, length: int) -> Iterator[int]:
    """The size of each page of a column, unpacked, by its header (PageHeader of Parquet)."""
    if start < 0 or length < 0:
        raise ValueError("a column lies before its file")
    place = start
    while place < start + length:
        stream.seek(place)
        header = _struct(stream)
        unpacked, packed = (header.get(field) for field in _SIZES)
        if not (
            isinstance(unpacked, int) and isinstance(packed, int) and min(unpacked, packed) >= 0
        ):
            raise ValueError("a page has no size")
        for field, encoding in _HEADERS.items():
            kind = header.get(field)
            if isinstance(kind, dict) and kind.get(encoding) == _DELTA_BYTE_ARRAY:
                raise ValueError("its texts are stored as changes of each other")
        yield max(unpacked, packed)
        place = stream.tell() + packed


def _struct(stream: BinaryIO) -> dict[int, object]:
    fields: dict[int, object] = {}
    last = 0
    while first := _byte(stream):
        kind, step = first & 15, first >> 4
        last = last + step if step else _number(stream)
        fields[last] = kind == 1 if kind in (1, 2) else _value(stream, kind)
    return fields


def _value(stream: BinaryIO, kind: int) -> object:
    if kind in (1, 2, 3):  # a truth value in a list, a byte
        return _byte(stream)
    if kind in (4, 5, 6):
        return _number(stream)
    if kind in (7, 8):  # a float; bytes
        stream.seek(8 if kind == 7 else _varint(stream), 1)
        return None
    if kind in (9, 10):
        first = _byte(stream)
        count = first >> 4 if first >> 4 < 15 else _varint(stream)
        for _ in range(count):
            _value(stream, first & 15)
        return None
    if kind == 12:
        return _struct(stream)
    raise ValueError("a page has an unknown header")


def _number(stream: BinaryIO) -> int:
    value = _varint(stream)
    return (value >> 1) ^ -(value & 1)


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(stream)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise ValueError("a page's header has too long a number")


def _byte(stream: BinaryIO) -> int:
    if not (byte := stream.read(1)):
        raise ValueError("a page ends early")
    return byte[0]
