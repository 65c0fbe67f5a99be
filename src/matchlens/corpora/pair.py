"""One query with one candidate passage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

from matchlens.arguments import typed
from matchlens.errors import InputError, brief
from matchlens.parts import OwnPart, Part, PartSpan

from .lines import shown


@typed
@dataclass(frozen=True, slots=True, repr=False)
class Pair:
    """One query with one candidate passage.

    Args:
        qid: the query's id.
        docid: the passage's id.
        query: the query's text.
        text: the passage's text (title and text joined by one space where there is a title).
        grade: NIST-style relevance grade; -1 marks an easy negative.
        judged: False for an easy negative and for the grade 0 of an unjudged passage (of a run).
        kind: how the passage matches, where the collection says so (the demo collection does).
        collection: name of the collection that the query belongs to; qids are unique inside one.
        parts: characters of own parts, as :meth:`PairSet.with_parts` makes them.

    Raises:
        InputError: two such parts overlap, or characters are not in the text.

    >>> Pair("q1", "d7", "warm tea", "Tea is best served warm.", grade=3).judged
    True
    """

    qid: str
    docid: str
    query: str
    text: str
    grade: int
    judged: bool = True
    kind: str = ""
    collection: str = ""
    parts: tuple[PartSpan, ...] = ()

    def __post_init__(self) -> None:
        if self.parts:
            object.__setattr__(self, "parts", checked_spans(self))

    def __repr__(self) -> str:
        ids = f"{brief(self.qid, 30)}, {brief(self.docid, 30)}, grade {self.grade}"
        return f"<Pair {ids}: {brief(self.query)} | {brief(self.text)}>"


def digest(pairs: Sequence[Pair]) -> str:
    """One digest over the pairs, their texts and their grades, in order."""
    total = hashlib.sha256()
    for pair in pairs:
        fields = (pair.collection, pair.qid, pair.docid, str(pair.grade), pair.query, pair.text)
        if pair.parts:
            fields = (*fields, str([tuple(span) for span in pair.parts]))
        text = "\0".join(f"{len(field)}:{field}" for field in fields)
        total.update(text.encode("utf-8", "surrogatepass"))  # the tokenizer refuses those by name
    return total.hexdigest()


def checked_spans(pair: Pair) -> tuple[PartSpan, ...]:
    """The spans of own parts that hold characters, in order; overlapping ones refused."""
    whose = f"pair of query {shown(pair.qid)} and passage {shown(pair.docid)}"
    spans = []
    for part in pair.parts:
        if not isinstance(part, tuple) or len(part) != 4:
            raise InputError(
                f"{whose}: a part's characters are {shown(repr(part))}; expected a tuple (name, "
                "'Q' or 'D', start, end), as PairSet.with_parts makes it: use that"
            )
        span = PartSpan(*part)
        if span.of not in ("Q", "D"):
            raise InputError(
                f"{whose}: part {span.name} is of {shown(str(span.of))}; expected 'Q' or 'D': say "
                "whether its characters are the query's or the passage's"
            )
        OwnPart(span.name, Part.parse(span.of))
        text = pair.query if span.of == "Q" else pair.text
        integers = all(isinstance(n, Integral) and type(n) is not bool for n in span[2:])
        if not integers or not 0 <= span.start <= span.end <= len(text):
            raise InputError(
                f"{whose}: part {span.name} has characters {span.start} to {span.end} of a text "
                f"of {len(text)}; expected start and end inside the text, start first: correct the "
                "spans"
            )
        if span.start < span.end:
            spans.append(PartSpan(span.name, span.of, int(span.start), int(span.end)))
    apart: list[PartSpan] = []
    for span in sorted(spans, key=lambda span: (span.of, span.start)):
        before = apart[-1] if apart and apart[-1].of == span.of else None
        if before is None or before.end <= span.start:
            apart.append(span)
        elif before.name == span.name:
            apart[-1] = before._replace(end=max(before.end, span.end))
        else:
            raise InputError(
                f"{whose}: parts {before.name} and {span.name} overlap at character {span.start}; "
                "expected each character in one part at most: take the overlap out of one of them, "
                "or give it a part of its own"
            )
    return tuple(apart)
