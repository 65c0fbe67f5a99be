"""Own parts: which characters of queries and passages belong to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matchlens.errors import InputError, counted
from matchlens.files import read_json
from matchlens.parts import OwnPart, Part, PartSpan

from .lines import shown
from .pair import Pair

TEXT_NAMES = ("text", "contents", "passage", "segment", "body")
"""Names of a passage's text, beside its title."""
EXAMPLE = '{"TITLE": {"of": "D", "spans": {"d1": [[0, 12]]}}}'
Spans = Callable[[Pair], Iterable[tuple[int, int]]]
"""The characters of a part in a pair."""


def own_parts(pairs: Iterable[Pair]) -> dict[str, Part]:
    """The own parts that pairs have, by name, and what each is a part of."""
    known: dict[str, str] = {}
    for pair in pairs:
        for span in pair.parts:
            if known.setdefault(span.name, span.of) != span.of:
                raise InputError(
                    f"part {span.name} has characters of queries and of passages; expected one of "
                    f"them: call it Q{span.name} in queries and D{span.name} in passages"
                )
    return {name: Part.parse(known[name]) for name in sorted(known)}


def named_parts(pairs: Iterable[Pair]) -> tuple[OwnPart, ...]:
    """The own parts that pairs have, by name."""
    return tuple(OwnPart(name, of) for name, of in own_parts(pairs).items())


def labelled(
    pairs: Sequence[Pair], parts: Mapping[str, Spans | Sequence[Any]], of: str
) -> tuple[Pair, ...]:
    """The pairs with more own parts; see :meth:`PairSet.with_parts`."""
    if not parts:
        raise InputError(
            "no part came; expected a dict from names to spans: give {'TITLE': function}"
        )
    known = own_parts(pairs)
    added: list[list[PartSpan]] = [[] for _ in pairs]
    for name, spans in parts.items():
        OwnPart(name)
        if name in known:
            raise InputError(
                f"the pairs have a part {name}; expected another name: call the new one {name}2, "
                "for example"
            )
        listed = [spans(pair) for pair in pairs] if callable(spans) else spans
        if len(listed) != len(pairs):
            raise InputError(
                f"part {name} has spans for {counted(len(listed), 'pair')}; expected a list for "
                f"each of the {counted(len(pairs), 'pair')}, empty where a pair has none: write "
                "one for each"
            )
        new = [_spans_of(name, of, own, pair) for pair, own in zip(pairs, listed, strict=True)]
        if not any(span.start != span.end for own in new for span in own):
            raise InputError(
                f"no pair has a character of part {name}; expected one at least: check the spans, "
                "or leave the part out"
            )
        added = [[*before, *own] for before, own in zip(added, new, strict=True)]
    return tuple(
        replace(pair, parts=(*pair.parts, *own)) if own else pair
        for pair, own in zip(pairs, added, strict=True)
    )


def _spans_of(name: str, of: str, spans: Any, pair: Pair) -> list[PartSpan]:
    """The spans of a part in one pair."""
    try:
        return [PartSpan(name, of, start, end) for start, end in spans]
    except (TypeError, ValueError):
        raise InputError(
            f"part {name} of query {shown(pair.qid)} and passage {shown(pair.docid)} has the spans "
            f"{shown(repr(spans))}; expected a list of couples (start, end), empty where it has "
            "none: return such a list"
        ) from None


def field_spans(
    field: str, texts: Mapping[str, Mapping[str, Mapping[str, str]]], prefix: str
) -> Callable[[Pair], list[tuple[int, int]]]:
    """A function from a pair to the characters of one field of its passage.

    ``texts`` are by collection, passage id and field.
    """

    def spans(pair: Pair) -> list[tuple[int, int]]:
        name = pair.collection
        if name not in texts:
            return []
        fields = texts[name].get(pair.docid, {})
        wanted = "text" if field not in fields and field in TEXT_NAMES else field
        if wanted not in fields:
            raise InputError(
                f"passage {shown(pair.docid)} of {shown(name)} has no field {shown(str(field))}; "
                f"expected some of {shown(', '.join(fields), 200)}: name those that make up its "
                "text"
            )
        if pair.text != prefix + " ".join(filter(None, fields.values())):
            raise InputError(
                f"the text of passage {shown(pair.docid)} is not that of collection {shown(name)}; "
                "expected the pairs that were chosen from it: choose them from this collection"
            )
        start = len(prefix)
        for name_, text in fields.items():
            if name_ == wanted:
                return [(start, start + len(text))] if text else []
            start += len(text) + bool(text)
        return []

    return spans


def read_parts(path: str | Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Read own parts from a file.

    Args:
        path: a JSON file: name -> ``of`` ("D" or "Q") and ``spans``, which has for ids of passages
            (or queries) a list of couples, the first character and one past the last; or, by
            the names of collections, such an object for each.

    Raises:
        InputError: the file cannot be read or used.
    """
    listed, where = read_json(path, "parts file", EXAMPLE)
    if not isinstance(listed, dict) or not listed:
        raise InputError(f"{where} holds no object of parts; expected JSON such as {EXAMPLE}")
    parts: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, about in listed.items():
        OwnPart(name)
        wrong = not isinstance(about, dict) or set(about) != {"of", "spans"}
        if wrong or about["of"] not in ("D", "Q") or not isinstance(about["spans"], dict):
            raise InputError(
                f"{where}, part {name}: expected 'of' (\"D\" or \"Q\") and 'spans' alone, such as "
                f"{EXAMPLE}"
            )
        parts[name] = (about["of"], about["spans"])
    return parts


def spans_by_id(pairs: Iterable[Pair], of: str, spans: Mapping[str, Any], prefix: str) -> Spans:
    """A function from a pair to the spans that a file gives for its passage or query.

    ``spans`` are by id, or by collection and id, in characters of the text without the ``prefix``
    that stands before it.

    Raises:
        InputError: an id without its collection stands for several texts of the pairs, or spans
            are of a collection that the pairs do not have.
    """
    known: set[str] = set()
    texts: dict[str, str] = {}
    for pair in pairs:
        known.add(pair.collection)
        its_id, text = (pair.docid, pair.text) if of == "D" else (pair.qid, pair.query)
        by_collection = isinstance(spans.get(pair.collection), Mapping)
        if not by_collection and its_id in spans and texts.setdefault(its_id, text) != text:
            raise InputError(
                f"the parts file has spans for {shown(its_id)}, which is the id of two texts; "
                "expected the collection as well, such as "
                f"{{{json.dumps(pair.collection)}: {{{json.dumps(its_id)}: [[0, 12]]}}}}: write "
                "the spans so"
            )
    named = [name for name, its_spans in spans.items() if isinstance(its_spans, Mapping)]
    if wrong := [name for name in named if name not in known]:
        raise InputError(
            f"the parts file has spans for collection {shown(wrong[0])}; expected some of "
            f"{shown(', '.join(sorted(known)), 200)}: correct the name"
        )

    def of_pair(pair: Pair) -> Any:
        its_spans = spans.get(pair.collection)
        by_id = its_spans if isinstance(its_spans, Mapping) else spans
        own = by_id.get(pair.docid if of == "D" else pair.qid, [])
        try:
            return [(start + len(prefix), end + len(prefix)) for start, end in own]
        except (TypeError, ValueError):
            return own  # refused by name where it is used

    return of_pair
