"""The parts of an encoded pair: every token is labelled with exactly one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from matchlens.arguments import typed
from matchlens.errors import InputError


class Part(IntEnum):
    """A part of ``[CLS] query [SEP] passage [SEP]``; the numbers are the order in the input.

    ``OTHER`` is for real tokens that fit no part (a prompt's words); padding is in no part. ``DEC``
    is the decoder's one token of an encoder-decoder: it has the number of CLS, whose place it takes
    as the row that the score reads.

    >>> Part.parse("Q"), str(Part.SEP1)
    (<Part.Q: 1>, 'SEP1')
    """

    CLS = 0
    Q = 1
    SEP1 = 2
    D = 3
    SEP2 = 4
    OTHER = 5
    DEC = 0

    def __str__(self) -> str:
        return "Other" if self is Part.OTHER else self.name

    @classmethod
    @typed
    def parse(cls, text: str) -> Part:
        """Read a part's name, ``CLS``, ``Q``, ``SEP1``, ``D``, ``SEP2`` or ``DEC``.

        Raises:
            InputError: if ``text`` names no part.
        """
        if (part := BY_NAME.get(text)) is not None:
            return part
        raise InputError(f"{text!r} is no part of the input; expected one of {PART_NAMES}")

    @property
    def words(self) -> str:
        """The part in words, for things shown to a person.

        >>> Part.Q.words
        'the query'
        """
        return _WORDS[self]


PADDING = 6
"""Label of padding, which is in no part; one past the last part, so that labels index tables."""
LABELS = PADDING + 1
"""Number of labels without own parts, whose labels follow."""

OWN_NAME = re.compile("[A-Z][A-Z0-9_]{1,39}")
RESERVED = ("SEP", "ALL", "OTHER", "PAD", "PADDING")
"""Names that would be taken for another part."""

NAMED = (Part.CLS, Part.Q, Part.SEP1, Part.D, Part.SEP2)
"""The five parts that a direction can name."""

DECODER = "DEC"
"""The name of CLS in an encoder-decoder."""

BY_NAME: Mapping[str, Part] = {**{str(part): part for part in NAMED}, DECODER: Part.DEC}
"""The parts by the names that a direction may use."""

PART_NAMES = ", ".join(BY_NAME)

_WORDS = {
    Part.CLS: "CLS",
    Part.Q: "the query",
    Part.SEP1: "the first SEP",
    Part.D: "the document",
    Part.SEP2: "the last SEP",
    Part.OTHER: "the prompt",
}


@dataclass(frozen=True)
class OwnPart:
    """An own part: characters of the query or of the passage, such as a title.

    Its tokens stay tokens of Q or D. A token belongs to the part that holds its first character
    that is no white space. In a cut that was read from text, what it is part ``of`` is not known.

    Raises:
        InputError: if the name is not 2 to 40 capital letters, digits and ``_``, a letter first, or
            is that of another part.

    >>> OwnPart("TITLE", Part.D) == OwnPart("TITLE"), OwnPart("TITLE").words
    (True, 'TITLE')
    """

    name: str
    of: Part | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not is_own_name(self.name):
            raise InputError(
                f"{str(self.name)[:60]!r} cannot name an own part; expected 2 to 40 "
                "capital letters, digits or '_', a letter first, and no name that is taken: "
                f"{PART_NAMES}, {', '.join(RESERVED)}: write TITLE, for example"
            )

    def __str__(self) -> str:
        return self.name

    @property
    def words(self) -> str:
        """The part in words, for things shown to a person."""
        return self.name


class PartSpan(NamedTuple):
    """An own part's characters in text "Q" or "D", from ``start`` up to, not with, ``end``."""

    name: str
    of: str
    start: int
    end: int


AnyPart = Part | OwnPart


def is_own_name(word: str) -> bool:
    """Whether a word may name an own part.

    >>> is_own_name("TITLE"), is_own_name("SEP1"), is_own_name("title")
    (True, False, False)
    """
    return OWN_NAME.fullmatch(word) is not None and word not in (*RESERVED, *BY_NAME)


def order_of(part: AnyPart) -> tuple[int, str]:
    """Where a part stands in a text form: the five in the order of the input, then by name."""
    return (LABELS, part.name) if isinstance(part, OwnPart) else (int(part), "")


def label(sequence_ids: Sequence[int | None]) -> list[int]:
    """Label the tokens of one pair with :class:`Part` numbers, by the tokenizer's record of it.

    That record (``BatchEncoding.sequence_ids``) has 0 for a token of the query, 1 for one of the
    passage, None for one that the tokenizer added. Separator ids are not looked for: a literal
    "[SEP]" in a passage is text. The first token is CLS if the tokenizer added it; added tokens
    between query and passage are SEP1 (both of RoBERTa's ``</s></s>``), behind the passage SEP2,
    elsewhere ``OTHER``.

    Raises:
        InputError: if the query or the passage has no token, or they do not stand in that order.

    >>> [str(Part(p)) for p in label([None, 0, 0, None, 1, None])]
    ['CLS', 'Q', 'Q', 'SEP1', 'D', 'SEP2']
    >>> [str(Part(p)) for p in label([None, 0, None, None, 1, None])]
    ['CLS', 'Q', 'SEP1', 'SEP1', 'D', 'SEP2']
    >>> [str(Part(p)) for p in label([None, None, 0, 1])]
    ['CLS', 'Other', 'Q', 'D']
    """
    query = [i for i, s in enumerate(sequence_ids) if s == 0]
    passage = [i for i, s in enumerate(sequence_ids) if s == 1]
    if not query or not passage:
        which = "query" if not query else "passage"
        raise InputError(f"the {which} gives no token; expected at least one: give it some text")
    if query[-1] > passage[0]:
        raise InputError(
            "the tokenizer puts the passage before the query; expected the query first: give "
            "the model's folder a tokenizer whose template is '[CLS] query [SEP] passage [SEP]'"
        )
    labels = []
    for i, sequence in enumerate(sequence_ids):
        if sequence is not None:
            labels.append(int(Part.Q if sequence == 0 else Part.D))
        elif i == 0:
            labels.append(int(Part.CLS))
        elif query[-1] < i < passage[0]:
            labels.append(int(Part.SEP1))
        elif i > passage[-1]:
            labels.append(int(Part.SEP2))
        else:
            labels.append(int(Part.OTHER))
    return labels
