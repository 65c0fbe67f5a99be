"""What a browser may ask for, checked: texts, cuts and a model, each within its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matchlens.corpora import Pair
from matchlens.corpora.lines import is_unicode
from matchlens.directions import Cut, How
from matchlens.errors import InputError
from matchlens.parts import NAMED, Part

MOST_PASSAGES = 20
MOST_CHARACTERS = 100_000
"""Characters of a text; the model reads as many tokens as it can."""
MOST_CUTS, LONGEST_CUT = 100, 20_000
LETTERS = "ABCDEFGHIJKLMNOPQRST"
HOWS = (How.ZERO, How.MASK, How.MEAN, How.SINK)
"""Ways of cutting on the page; ``resample`` would need other passages than those that are shown."""


@dataclass(frozen=True)
class Experiment:
    """Texts, cuts and a model.

    Args:
        model: the model's number.
        query: the query's text.
        passages: the passages' texts, A first.
        cuts: the cuts that hold together.
    """

    model: int
    query: str
    passages: tuple[str, ...]
    cuts: tuple[Cut, ...]

    @classmethod
    def of(cls, asked: Mapping[str, object], models: int) -> Experiment:
        """Check an experiment.

        Args:
            asked: what a browser has sent.
            models: how many models there are.

        Raises:
            InputError: if something in it cannot be used.
        """
        number, query, passages, cuts = (
            asked.get(name) for name in ("model", "query", "passages", "cuts")
        )
        if not isinstance(number, int) or not 0 <= number < models:
            raise InputError(f"the model is {number!r:.40}; expected a number below {models}")
        listed = passages if isinstance(passages, list) else []
        if not 1 <= len(listed) <= MOST_PASSAGES:
            raise InputError(
                f"{len(listed)} passages came; expected 1 to {MOST_PASSAGES}: add or remove some"
            )
        texts = [_text(f"passage {place}", text) for place, text in enumerate(listed, 1)]
        words = cuts if isinstance(cuts, list) else []
        return cls(number, _text("the query", query), tuple(texts), parsed(words))

    @property
    def pairs(self) -> list[Pair]:
        """The pairs, in order, each with its letter."""
        return [
            Pair("query", f"passage {LETTERS[place]}", self.query, text, grade=0, judged=False)
            for place, text in enumerate(self.passages)
        ]

    def only(self, count: int) -> Experiment:
        """The first passages alone.

        Args:
            count: how many.

        Raises:
            InputError: if there are fewer.
        """
        if len(self.passages) < count:
            raise InputError(
                f"{len(self.passages)} passage is there; expected {count} or more, so that one "
                "ranks above another: add a passage"
            )
        return Experiment(self.model, self.query, self.passages[:count], self.cuts)


def _text(what: str, text: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{what} has no text; expected some: type a word")
    if len(text) > MOST_CHARACTERS:
        raise InputError(
            f"{what} has {len(text):,} characters; expected at most {MOST_CHARACTERS:,}: shorten it"
        )
    if not is_unicode(text):
        raise InputError(f"{what} holds half a surrogate pair; expected text in Unicode: retype it")
    return text


def parsed(texts: list[object]) -> tuple[Cut, ...]:
    """The cuts that texts describe.

    Args:
        texts: the cuts' texts, from a browser.

    Raises:
        InputError: if one cannot be read or made here.
    """
    if len(texts) > MOST_CUTS or any(
        not isinstance(text, str) or len(text) > LONGEST_CUT for text in texts
    ):
        raise InputError(
            f"{len(texts)} cuts came; expected at most {MOST_CUTS}, each a text of at most "
            f"{LONGEST_CUT:,} characters: cut fewer heads apart"
        )
    cuts = tuple(cut for text in texts if (cut := Cut.parse(str(text))).directions)
    for cut in cuts:
        if cut.how not in HOWS:
            raise InputError(
                f"cut {str(cut)!r:.80} is made by {cut.how}; expected one of {', '.join(HOWS)}: "
                "change what follows the '~'"
            )
    return cuts


def directions(cut: Cut, parts: tuple[Part, ...]) -> list[str]:
    """The single directions that a cut names, as rows of the page's matrix.

    Args:
        cut: the cut.
        parts: the parts of the model's input.

    >>> directions(Cut.parse("{Q,D}->Q"), NAMED), directions(Cut.parse("Q->All"), NAMED)[:2]
    (['Q->Q', 'D->Q'], ['Q->CLS', 'Q->Q'])
    """
    out: list[str] = []
    for direction in cut.directions:
        for left in direction.left:
            if direction.right is None and Part.OTHER in parts:
                out.append(f"{left}->All")  # a prompt's words have no column of their own
            else:
                there = tuple(part for part in NAMED if part in parts)
                right = there if direction.right is None else direction.right
                out += [f"{left}->{one}" for one in right]
    return list(dict.fromkeys(out))
