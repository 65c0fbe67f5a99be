"""The parts of an encoded pair: every token is labelled with exactly one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

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


def label(sequence_ids: Sequence[int | None]) -> list[int]:
    """Label the tokens of one pair from the tokenizer's own record of it.

    Args:
        sequence_ids: for each token, 0 if it comes from the query, 1 if from the passage, None if
            the tokenizer added it (``BatchEncoding.sequence_ids``). Separator ids are not looked
            for: a literal "[SEP]" in a passage is text.

    Returns:
        One :class:`Part` number a token. The input's first token is CLS if the tokenizer added it;
        added tokens between query and passage are SEP1 (both of RoBERTa's ``</s></s>``), after the
        passage SEP2. Any other added token is ``OTHER``.

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
