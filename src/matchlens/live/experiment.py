"""What a browser may ask for, checked: texts, cuts and a model, each within its bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from matchlens.corpora import Pair
from matchlens.corpora.lines import is_unicode
from matchlens.corpora.own import named_parts
from matchlens.directions import Cut, How
from matchlens.errors import InputError, counted
from matchlens.parts import NAMED, Part, PartSpan

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
        parts: for each passage its own parts and the query's, where they are known.
    """

    model: int
    query: str
    passages: tuple[str, ...]
    cuts: tuple[Cut, ...]
    parts: tuple[tuple[PartSpan, ...], ...] = ()

    @classmethod
    def of(cls, body: Mapping[str, object], models: int) -> Experiment:
        """Check the experiment that a browser has sent."""
        number, passages, cuts = (body.get(name) for name in ("model", "passages", "cuts"))
        if not isinstance(number, int) or not 0 <= number < models:
            raise InputError(f"the model is {number!r:.40}; expected a number below {models}")
        passages = passages if isinstance(passages, list) else []
        if not 1 <= len(passages) <= MOST_PASSAGES:
            raise InputError(
                f"{counted(len(passages), 'passage')} came; expected 1 to {MOST_PASSAGES}: add or "
                "remove some"
            )
        texts = [_text(f"passage {place}", text) for place, text in enumerate(passages, 1)]
        if cuts is not None and not isinstance(cuts, list):
            raise InputError(f"the cuts are {cuts!r:.60}; expected a list of texts: ['Q->D']")
        query = _text("the query", body.get("query"))
        return cls(number, query, tuple(texts), parsed(cuts or []))

    @property
    def pairs(self) -> list[Pair]:
        """The pairs, in order, each with its letter."""
        parts = self.parts or ((),) * len(self.passages)
        return [
            Pair("query", f"passage {letter}", self.query, text, 0, judged=False, parts=spans)
            for letter, text, spans in zip(LETTERS, self.passages, parts, strict=False)
        ]

    def only(self, count: int) -> Experiment:
        """The first passages alone."""
        if len(self.passages) < count:
            raise InputError(
                f"{counted(len(self.passages), 'passage')} came; expected {count} or more, so that "
                "one ranks above another: add a passage"
            )
        return replace(self, passages=self.passages[:count], parts=self.parts[:count])


class KnownParts:
    """The own parts that the texts of a collection have."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.own = named_parts(pairs)
        self._of_pair = {(pair.query, pair.text): pair.parts for pair in pairs if pair.parts}
        self._of_query = {
            query: tuple(span for span in spans if span.of == "Q")
            for (query, _), spans in self._of_pair.items()
        }

    def on(self, experiment: Experiment) -> Experiment:
        """The experiment, with the parts of those of its texts that are in the collection."""
        query = experiment.query
        of_query = self._of_query.get(query, ())
        parts = tuple(self._of_pair.get((query, text), of_query) for text in experiment.passages)
        names = {span.name for spans in parts for span in spans}
        for cut in experiment.cuts:
            for part in cut.own_parts:
                if part.name not in names:
                    raise InputError(
                        f"cut {str(cut)!r:.80} names {part.name}, and none of these texts has it; "
                        "expected a query of the collection with its passages, as they stand: "
                        "choose one, or take the cut away"
                    )
        return replace(experiment, parts=parts if names else ())


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
    """The cuts that texts describe."""
    if len(texts) > MOST_CUTS or any(
        not isinstance(text, str) or len(text) > LONGEST_CUT for text in texts
    ):
        raise InputError(
            f"{counted(len(texts), 'cut')} came; expected at most {MOST_CUTS}, each a text of at "
            f"most {LONGEST_CUT:,} characters: cut fewer heads apart"
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

    >>> directions(Cut.parse("{Q,D}->Q"), NAMED), directions(Cut.parse("Q->All"), NAMED)[:2]
    (['Q->Q', 'D->Q'], ['Q->CLS', 'Q->Q'])
    """
    out: list[str] = []
    for direction in cut.directions:
        for left in direction.left:
            if direction.right is None and Part.OTHER in parts:
                out.append(f"{left}->All")  # a prompt's words have no column of their own
            else:
                named = (part for part in NAMED if part in parts)
                right = named if direction.right is None else direction.right
                out += [f"{left}->{part}" for part in right]
    return list(dict.fromkeys(out))
