"""Files as a stranger might write them: sound ones with flipped bytes, spliced lines, wrong gzip.

Strategies of hypothesis, used by the fuzz tests; the time they may take is a profile's.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from pathlib import Path

import pandas as pd
from hypothesis import settings
from hypothesis import strategies as st

from matchlens.columns import parquet
from matchlens.files import Folder
from matchlens.reading import reading

SECONDS = float(os.environ.get("MATCHLENS_FUZZ_SECONDS", "0"))
"""Seconds for all fuzz tests together; 0: a few examples of each, as in the default suite."""

SIGNS = (
    "\x00", "\r\n",
    "\\ud800", "\x1b[2J", "\ufeff", "\u202e", "\u2028", "\ud800", "\x85", "\x7f", "\t", "\n",
    " ", "NaN", "Infinity", "-1", "1e999", "9" * 40, "..", "/", "../", "{", "}", "[", "]", '"',
    "\\", "null", "true", "<script>", "'", "->", "@", "#", "~", "+", "All", "Q", "\U0010ffff",
)  # fmt: skip


def bounded(examples: int) -> settings:
    """The profile of a fuzz test.

    Args:
        examples: in the default suite.
    """
    return settings(max_examples=examples)


def mutated(sound: bytes) -> st.SearchStrategy[bytes]:
    """A sound file after up to four changes."""
    change = st.tuples(
        st.sampled_from(
            (
                "flip",
                "drop",
                "insert",
                "double line",
                "swap lines",
                "sign",
                "sign",
                "sign",
                "cut off",
            )
        ),
        st.integers(0, max(len(sound), 1) - 1),
        st.integers(0, 255),
        st.sampled_from(SIGNS),
    )
    return st.lists(change, min_size=1, max_size=4).map(lambda some: _changed(sound, some))


def _changed(content: bytes, changes: list[tuple[str, int, int, str]]) -> bytes:
    for kind, place, value, sign in changes:
        at = min(place, len(content))
        lines = content.split(b"\n")
        line = at % len(lines)
        if kind == "flip":
            content = content[:at] + bytes([value]) + content[at + 1 :]
        elif kind == "drop":
            content = content[:at] + content[at + 1 + value :]
        elif kind == "insert":
            content = content[:at] + bytes([value]) * (value + 1) + content[at:]
        elif kind == "double line":
            content = b"\n".join([*lines[:line], lines[line], *lines[line:]])
        elif kind == "swap lines":
            content = b"\n".join([*lines[line:], *lines[:line]])
        elif kind == "sign":
            content = content[:at] + sign.encode("utf-8", "surrogatepass") + content[at:]
        else:
            content = content[:at]
    return content


def packed(content: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """The same as gzip: whole, doubled, cut off, or with a flipped byte."""
    return st.tuples(
        content, st.sampled_from(("whole", "twice", "cut", "flip")), st.integers(0, 999)
    ).map(lambda drawn: _packed(*drawn))


def _packed(content: bytes, how: str, place: int) -> bytes:
    whole = gzip.compress(content, mtime=0)
    at = place % len(whole)
    return {
        "whole": whole,
        "twice": whole + whole,
        "cut": whole[:at],
        "flip": whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :],
    }[how]


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=8),
        st.sampled_from(SIGNS),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip
"""Any JSON value, NaN and lone surrogates among them."""


def replaced(content: object, path: tuple, value: object) -> object:
    """A copy of nested JSON with one value changed.

    Args:
        content: the JSON.
        path: keys and places that lead to it.
        value: what stands there now.
    """
    if not path:
        return value
    first, *rest = path
    if isinstance(content, dict):
        return {**content, first: replaced(content[first], tuple(rest), value)}
    assert isinstance(content, list)
    return [
        replaced(one, tuple(rest), value) if n == first else one for n, one in enumerate(content)
    ]


def paths(content: object, before: tuple = ()) -> list[tuple]:
    """Every place in nested JSON."""
    inside = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    return [before, *(path for key, one in inside for path in paths(one, (*before, key)))]


def resealed(folder: Path, *more: str) -> None:
    """Write into a manifest the sizes and hashes of the files as they are now, as a stranger can.

    Args:
        folder: a results folder; one whose manifest has no list of files is left as it is.
        more: files that are listed, too.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_bytes())
        listed = {*manifest["files"], *more}
    except (ValueError, KeyError, TypeError, RecursionError):
        return
    for name in sorted(listed):
        if (folder / name).is_file() and not (folder / name).is_symlink():
            raw = (folder / name).read_bytes()
            stamp = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
            manifest["files"][name] = stamp
    manifest.pop("manifest_sha256", None)
    path.write_text(json.dumps(manifest))


def read_parquet(path: Path) -> pd.DataFrame:
    """A table as results folders are read, by its path."""
    with reading(path), Folder.open(path.parent) as folder, folder.stream(path.name) as stream:
        return parquet(stream)
