"""What can be said of every supported model type, read off the classes that walk them."""

from __future__ import annotations

from dataclasses import dataclass

from matchlens.models.folder import FAMILIES
from matchlens.models.load import class_of_family

TYPES = {
    0: "none",
    1: "one, the same for all tokens",
    2: "two, the passage has type 1",
}


@dataclass(frozen=True)
class About:
    """A model type in words.

    Args:
        type: as config.json names it.
        library: the library's class that holds its weights.
        template: how a pair is encoded.
        reads: which rows of the last layer the score reads.
        relevance: how the score comes of the logits.
        token_types: which it is fed.
        attention: how matchlens's attention function gets its turn.
    """

    type: str
    library: str
    template: str
    reads: str
    relevance: str
    token_types: str
    attention: str


def about(model_type: str) -> About:
    """What a supported type's family says of itself.

    >>> about("roberta").template
    '<s> query </s></s> passage </s>'
    """
    family = class_of_family(model_type)
    asks = getattr(family.library, "_supports_attention_backend", False)
    return About(
        model_type,
        family.library.__name__,
        family.template,
        family.reads,
        family.relevance,
        TYPES[family.token_types],
        "ours, called by the library's layers through its attention interface"
        if asks
        else "ours, called between the library's modules, which know no such interface",
    )


def supported() -> list[About]:
    """Every supported type."""
    return [about(name) for name in FAMILIES]
