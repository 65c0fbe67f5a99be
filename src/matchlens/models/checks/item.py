"""One question of the check at load: what was seen, what was expected, and whether they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

WHAT: Mapping[str, str] = {
    "limit": "most tokens of a pair: the smallest limit that is stated",
    "marked": "token type of the passage, 0 where it is not marked",
    "tokens": "texts whose token ids are not the library's own",
    "types": "texts whose token types are not the library's own",
    "cut": "tokens of an over-long passage that are not the library's",
    "prompt": "texts that are not encoded in the prompt, piece by piece",
    "library_alone": "the library's own pass never calls our attention function",
    "adapter": "what the adapter adds to its base's weights is in the loaded ones",
    "labels": "as many logits as config.json declares labels",
    "answers": "the score is the logits of the prompt's answers",
    "scores_together": "two pairs in one padded batch: the library's own scores",
    "scores_alone": "each pair alone, without padding: the library's own score",
    "order": "the batch turned round: each score goes with its pair",
    "texts": "two texts have two scores",
    "attention_calls": "our attention function is called once a layer",
    "ahead": "attention to later tokens, where the config has it and nowhere else",
    "attention_shapes": "layers that show it other heads, rows or columns",
    "maps": "each head attends as the library's head of its number",
    "maps_measured": "the same where attention is measured, in all rows",
    "head_output": "a head cut off takes away its slice of W_O, nothing else",
    "direction_output": "a direction cut takes away what it carried, in each layer",
    "apart": "what conditions share, computed once: the library's layer",
    "blind": "cut off from all, the score no longer knows the pair",
    "one_cut": "one direction cut in one layer moves the score",
    "token_types": "other token types: the library's own scores",
    "token_types_felt": "other token types move the score",
    "relevant_above": "of 8 queries: the relevant passage scores no lower",
    "predict": "a CrossEncoder object's predict: its model's own logits",
}
"""Name of each question, in the order in which they are asked, to its words."""

GATED: Mapping[str, str] = {
    "gates": "gates multiply attention after the softmax, in each layer",
    "slopes": "derivatives by the gates: the scores' own differences",
}
"""Likewise, asked where gates are first used."""

HALF = ("bfloat16", "float16")
"""Types in which a small change may leave a score where it is, and rounding moves attention."""

_DTYPES = ("float32", "float64", *HALF)

SCORES: Mapping[str, float] = dict(zip(_DTYPES, (1e-4, 1e-9, 0.15, 0.02), strict=True))
"""Largest difference of two scores that should be equal, in logits, relative above 1."""

MAPS: Mapping[str, float] = dict(zip(_DTYPES, (1e-3, 1e-8, 0.1, 0.03), strict=True))
"""Largest difference of two attention weights that should be equal; in half precision, largest
share of a row's attention that lies elsewhere, mean over rows."""

OUTPUTS: Mapping[str, float] = dict(zip(_DTYPES, (1e-4, 1e-9, 0.05, 0.01), strict=True))
"""Largest difference of two outputs of an attention that should be equal, relative to the
largest number in them."""


@dataclass(frozen=True)
class Item:
    """One question, a key of :data:`WHAT`, and its answer, which must lie within some bound.

    ``seen`` is None where there was nothing to see; ``problem`` says what was seen, for an error.

    >>> Item("attention_calls", 11, exactly=12).ok
    False
    """

    name: str
    seen: int | float | None
    most: int | float | None = None
    above: int | float | None = None
    exactly: int | float | None = None
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether what was seen is what was expected; so is anything where nothing was."""
        if self.most is None and self.above is None and self.exactly is None:
            return True
        return (
            self.seen is not None
            and math.isfinite(self.seen)
            and (self.most is None or self.seen <= self.most)
            and (self.above is None or self.seen > self.above)
            and (self.exactly is None or self.seen == self.exactly)
        )

    @property
    def expected(self) -> str:
        """What was expected, in words; empty where nothing was.

        >>> Item("one_cut", 0.5, above=0).expected
        'above 0'
        """
        bounds = {"at most": self.most, "above": self.above, "exactly": self.exactly}
        return " and ".join(f"{word} {at:.3g}" for word, at in bounds.items() if at is not None)

    def record(self) -> dict[str, object]:
        """The answer for a manifest; ``seen`` to three digits, None where it is not finite."""
        seen = self.seen
        if isinstance(seen, float):
            seen = float(f"{seen:.3g}") if math.isfinite(seen) else None
        what = WHAT.get(self.name) or GATED[self.name]
        return {"what": what, "seen": seen, "expected": self.expected, "ok": self.ok}


def within(name: str, seen: float, limit: float, problem: str, of: str = "") -> Item:
    """A question whose answer is a number that should be small, with its bound in the words."""
    return Item(name, seen, most=limit, problem=f"{problem} (at most {limit:.2g} {of}expected)")


@dataclass
class Worst:
    """The largest difference so far, and the first that is too large, in words.

    Layers above a wrong one are wrong for that reason alone.
    """

    most: float
    seen: float = 0.0
    problem: str = ""

    def grows(self, difference: float) -> bool:
        """Take a difference, NaN as the largest; True for the first that is too large."""
        if not difference <= self.seen and not math.isnan(self.seen):
            self.seen = difference
        return not self.problem and not difference <= self.most

    def item(self, name: str, of: str = "") -> Item:
        """The answer to a question."""
        return within(name, self.seen, self.most, self.problem, of)
