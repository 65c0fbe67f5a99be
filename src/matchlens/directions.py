"""Directions and cuts of attention: frozen values with a text form that parses back.

A cut's text form, used alike in the API, the command line, files and figures::

    cut    := "" | dir ("+" dir)* [ "@" layers | "#" heads ] [ "~" how ]
    dir    := side "->" right ;  side := PART | "{" PART ("," PART)+ "}" ;  right := side | "All"
    layers := n | a ":" b (half-open, a <= b) | n ("," n)+
    heads  := layer "." head ("," layer "." head)*
    how    := zero | mask | mean | resample | sink

PART is CLS, Q, SEP1, D or SEP2, or an own part, such as TITLE
(:class:`~matchlens.parts.OwnPart`), which is held against the pairs when they are run.

``X->Y``: X attends to Y. X's tokens are rows of the attention matrix, Y's are columns;
information flows from Y to X.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from matchlens.arguments import typed
from matchlens.errors import InputError, counted
from matchlens.parts import (
    BY_NAME,
    DECODER,
    NAMED,
    PART_NAMES,
    AnyPart,
    OwnPart,
    Part,
    is_own_name,
    order_of,
)

LONGEST = 150
"""Characters of a cut that its repr shows whole."""
EXAMPLE = "Q->D@0:8"
ARROW = {"\N{RIGHTWARDS ARROW}": "->"}
"""How figures and texts write an arrow, read as the one of the grammar."""


class How(StrEnum):
    """What cutting does to the attention of X's rows on Y's columns.

    >>> [str(how) for how in How]
    ['zero', 'mask', 'mean', 'resample', 'sink']
    """

    ZERO = "zero"
    """Softmax first, then set to 0, not renormalised (the default)."""
    MASK = "mask"
    """Removed before the softmax, so that the rest is renormalised (Geva et al. 2023)."""
    MEAN = "mean"
    """The removed term becomes its mean over the run's pairs in the untouched pass."""
    RESAMPLE = "resample"
    """The removed term becomes that of another pair of the same query in the untouched pass."""
    SINK = "sink"
    """The removed mass goes to the last SEP; refused where that is itself cut."""


@typed
@dataclass(frozen=True, repr=False)
class Direction:
    """``left -> right``: the left parts attend to the right ones; None on the right is ``All``.

    Args:
        left: parts whose tokens are rows of the attention matrix.
        right: parts whose tokens are columns, or None for every column that is not padding.
        decoder: whether CLS is written ``DEC``, as in an encoder-decoder.

    >>> d = Direction.parse("{D,Q}->All")
    >>> str(d), d.words
    ('{Q,D}->All', 'the query and the document read everything')
    """

    left: tuple[Part | OwnPart, ...]
    right: tuple[Part | OwnPart, ...] | None
    decoder: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "left", _side(self.left))
        if self.right is not None:
            object.__setattr__(self, "right", _side(self.right))

    @classmethod
    @typed
    def parse(cls, text: str) -> Direction:
        """Read one direction, such as ``Q->D``.

        Raises:
            InputError: on a syntax error, pointing at the character.
        """
        cut = Cut.parse(text)
        if len(cut.directions) != 1 or cut != Cut(cut.directions):
            raise InputError(
                f"{text!r} is not one direction; expected two sides and nothing else, for example "
                "'Q->D'"
            )
        return cut.directions[0]

    def __repr__(self) -> str:
        text = str(self)
        fits = len(text) <= LONGEST
        return f"Direction.parse({text!r})" if fits else f"<Direction {text[:LONGEST]}...>"

    def __str__(self) -> str:
        left, right = (
            "All" if side is None else self._written(_side_text(side))
            for side in (self.left, self.right)
        )
        return f"{left}->{right}"

    def _written(self, text: str) -> str:
        return re.sub(rf"\b{Part.CLS}\b", DECODER, text) if self.decoder else text

    @property
    def words(self) -> str:
        """The direction in words: who reads what."""
        verb = "reads" if len(self.left) == 1 else "read"
        right = "everything" if self.right is None else _side_words(self.right)
        words = f"{_side_words(self.left)} {verb} {right}"
        return re.sub(rf"\b{Part.CLS}\b", "the decoder", words) if self.decoder else words

    @property
    def columns(self) -> tuple[AnyPart, ...]:
        """The right-hand parts, ``All`` spelled out (with ``Other``)."""
        return tuple(Part) if self.right is None else self.right

    @property
    def own_parts(self) -> tuple[OwnPart, ...]:
        """The own parts that the direction names."""
        sides = (*self.left, *(self.right or ()))
        return tuple(part for part in sides if isinstance(part, OwnPart))

    def edges(self) -> Iterable[tuple[AnyPart, AnyPart]]:
        """Every (row part, column part) that the direction names."""
        return ((x, y) for x in self.left for y in self.columns)


@typed
@dataclass(frozen=True, repr=False)
class Cut:
    """Directions, layers, heads and how: what is cut.

    Args:
        directions: overlapping ones count once; none at all is no cut.
        layers: layer numbers from 0, or None for all layers. The empty tuple cuts nothing.
        heads: (layer, head) couples, or None for all heads; excludes ``layers``.
        how: what cutting does.

    >>> cut = Cut.parse("{D,Q}->D + Q->D @ 0:8 ~mask")
    >>> str(cut), Cut.parse(str(cut)) == cut
    ('Q->D+{Q,D}->D@0:8~mask', True)
    """

    directions: tuple[Direction, ...] = ()
    layers: tuple[int, ...] | None = None
    heads: tuple[tuple[int, int], ...] | None = None
    how: How = How.ZERO

    def __post_init__(self) -> None:
        unique = sorted(set(self.directions), key=_direction_key)
        object.__setattr__(self, "directions", tuple(unique))
        if not isinstance(self.how, str) or self.how not in list(How):
            raise InputError(f"how {self.how!r} is not known; expected one of {', '.join(How)}")
        object.__setattr__(self, "how", How(self.how))
        if self.layers is not None and self.heads is not None:
            raise InputError(
                f"the cut names the layers {self.layers} and the heads {self.heads}; expected "
                "only one of them: leave out the layers, since a head (layer, head) names its own"
            )
        if self.layers is not None:
            _not_negative(self.layers)
            object.__setattr__(self, "layers", tuple(sorted(set(self.layers))))
        if self.heads is not None:
            _not_negative(n for couple in self.heads for n in couple)
            object.__setattr__(self, "heads", tuple(sorted(set(self.heads))))
        if not unique and (self.layers, self.heads, self.how) != (None, None, How.ZERO):
            raise InputError(
                "the cut has layers, heads or a how, and no direction; expected at least one "
                "direction, for example 'Q->D'"
            )
        if self.how is How.SINK:
            for direction in unique:
                if Part.SEP2 in direction.columns:
                    raise InputError(
                        f"cut '{direction}~sink' moves the removed mass to SEP2, which it cuts "
                        "itself; expected a direction without SEP2 on the right, or another how: "
                        f"{hows_but(How.SINK)}"
                    )

    @classmethod
    @typed
    def parse(cls, text: str) -> Cut:
        """Read a cut from its text form; spaces are ignored, ``""`` is no cut.

        Raises:
            InputError: on a syntax error, pointing at the character and showing an example.
        """
        return _Parser(text).cut()

    @classmethod
    @typed
    def of(cls, cut: Cut | str) -> Cut:
        """The cut itself, or the cut that a text describes."""
        return cut if isinstance(cut, Cut) else cls.parse(cut)

    def __repr__(self) -> str:
        text = str(self)
        return f"Cut.parse({text!r})" if len(text) <= LONGEST else f"<Cut {text[:LONGEST]}...>"

    def __str__(self) -> str:
        text = "+".join(str(direction) for direction in self.directions)
        if self.layers is not None:
            text += "@" + _layers_text(self.layers)
        if self.heads is not None:
            text += "#" + ",".join(f"{layer}.{head}" for layer, head in self.heads)
        return text if self.how is How.ZERO else f"{text}~{self.how}"

    @property
    def words(self) -> str:
        """The cut in words, both ways round, for things shown to a person."""
        if not self.directions:
            return "no cut"
        read = "; ".join(direction.words for direction in self.directions)
        return f"{str(self).replace('->', ' → ')}: {read}"

    @property
    def own_parts(self) -> tuple[OwnPart, ...]:
        """The own parts that the cut names, each once."""
        named = (part for direction in self.directions for part in direction.own_parts)
        return tuple(dict.fromkeys(named))

    @typed
    def edges(self, layer: int) -> frozenset[tuple[AnyPart, AnyPart]]:
        """The (row part, column part) edges cut in ``layer``, in some head or all of them."""
        if self.layers is not None and layer not in self.layers:
            return frozenset()
        if self.heads is not None and all(at != layer for at, _ in self.heads):
            return frozenset()
        return frozenset(edge for direction in self.directions for edge in direction.edges())

    @typed
    def heads_at(self, layer: int) -> tuple[int, ...] | None:
        """The heads cut in ``layer``, or None for all of them."""
        if self.heads is None:
            return None
        return tuple(head for at, head in self.heads if at == layer)

    @typed
    def check(
        self, layers: int, heads: int, name: str = "the model", *, decoder: bool = True
    ) -> None:
        """Check layer and head numbers against a model with ``layers`` layers of ``heads`` heads.

        Args:
            layers: number of layers.
            heads: number of heads of a layer.
            name: what the message calls the model.
            decoder: whether it has a decoder beside its encoder.

        Raises:
            InputError: if a number is out of range, or ``DEC`` is named and there is none.
        """
        if not decoder and any(direction.decoder for direction in self.directions):
            raise InputError(
                f"cut {str(self)!r}: {name} is no encoder-decoder and has no {DECODER}; expected "
                "one of its own parts: the row that the score reads is CLS"
            )
        couples = self.heads or ()
        for layer in (*(self.layers or ()), *(at for at, _ in couples)):
            if layer >= layers:
                raise InputError(
                    f"cut {str(self)!r}: layer {layer} is out of range; expected 0 to "
                    f"{layers - 1}, since {name} has {counted(layers, 'layer')} "
                    "(counting starts at 0)"
                )
        for layer, head in couples:
            if head >= heads:
                raise InputError(
                    f"cut {str(self)!r}: head {layer}.{head} is out of range; expected 0 to "
                    f"{heads - 1}, since {name} has {counted(heads, 'head')} a layer "
                    "(counting starts at 0)"
                )


def hows_but(how: How) -> str:
    """The names of the other ways of cutting, for a message.

    >>> hows_but(How.SINK)
    'zero, mask, mean, resample'
    """
    return ", ".join(other for other in How if other is not how)


def _side(parts: Iterable[AnyPart]) -> tuple[AnyPart, ...]:
    side = tuple(parts)
    if not side or any(not isinstance(part, OwnPart) and part not in NAMED for part in side):
        raise InputError(
            f"a side of a direction is {side}; expected one or more of the parts {PART_NAMES}, as "
            "Part.parse gives them"
        )
    unique = {part if isinstance(part, OwnPart) else Part(part) for part in side}
    return tuple(sorted(unique, key=order_of))


def _side_text(side: tuple[AnyPart, ...]) -> str:
    return str(side[0]) if len(side) == 1 else "{" + ",".join(str(part) for part in side) + "}"


def _side_words(side: tuple[AnyPart, ...]) -> str:
    words = [part.words for part in side]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _direction_key(direction: Direction) -> tuple[object, ...]:
    right = direction.right or ()
    sides = ([*map(order_of, direction.left)], direction.right is None, [*map(order_of, right)])
    return (*sides, direction.decoder)


def _not_negative(numbers: Iterable[int]) -> None:
    for number in numbers:
        if number < 0:
            raise InputError(
                f"the cut names layer or head {number}; expected 0 or more: counting starts at 0"
            )


def _layers_text(layers: tuple[int, ...]) -> str:
    if not layers:
        return "0:0"
    first, last = layers[0], layers[-1]
    if len(layers) > 1 and layers == tuple(range(first, last + 1)):
        return f"{first}:{last + 1}"
    return ",".join(map(str, layers))


class _Parser:
    """Recursive descent over the grammar at the top of this file."""

    def __init__(self, text: str) -> None:
        self.text = text
        kept = [
            (i, c) for i, raw in enumerate(text) if not raw.isspace() for c in ARROW.get(raw, raw)
        ]
        self.places = [i for i, _ in kept]
        self.chars = "".join(c for _, c in kept)
        self.at = 0

    def cut(self) -> Cut:
        if not self.chars:
            return Cut()
        directions = [self.direction()]
        while self.take("+"):
            directions.append(self.direction())
        layers, heads, how = None, None, How.ZERO
        if self.take("@"):
            layers = self.layers()
        if self.peek("#"):
            if layers is None:
                self.at += 1
                heads = self.heads()
            if layers is not None or self.peek("@"):
                self.fail("'~' or the end ('@' and '#' exclude each other: heads name their layer)")
        if self.take("~"):
            how = self.how()
        if self.at < len(self.chars):
            others = "'+', '@', '#', '~'" if layers is heads else "'~'"
            self.fail(f"{others} or the end")
        return Cut(tuple(directions), layers, heads, how)

    def direction(self) -> Direction:
        self.named: set[str] = set()
        left, right = self.side("a part"), None
        if not self.take("->"):
            self.fail("'->'")
        if self.word() == "All":
            self.at += 3
        else:
            right = self.side("a part or All")
        if {str(Part.CLS), DECODER} <= self.named:
            self.fail(f"another part (CLS and {DECODER} are one: the row that the score reads)")
        return Direction(left, right, DECODER in self.named)

    def side(self, wanted: str) -> tuple[AnyPart, ...]:
        if not self.take("{"):
            return (self.part(wanted),)
        parts = [self.part("a part")]
        while self.take(","):
            parts.append(self.part("a part"))
        if len(parts) < 2:
            self.fail("',' and another part (braces hold two parts or more)")
        if not self.take("}"):
            self.fail("',' or '}'")
        return tuple(parts)

    def part(self, wanted: str) -> AnyPart:
        word = self.word()
        if (part := BY_NAME.get(word)) is not None:
            self.at += len(word)
            self.named.add(word)
            return part
        if is_own_name(word):
            self.at += len(word)
            return OwnPart(word)
        self.fail(f"{wanted} ({PART_NAMES}, or the name in capitals of a part of your own)")

    def layers(self) -> tuple[int, ...]:
        first = self.number("a layer number")
        if self.take(":"):
            start = self.at
            end = self.number("a layer number")
            if end < first:
                self.at = start
                self.fail(f"a number of at least {first} (a:b is half-open, a <= b)")
            return tuple(range(first, end))
        layers = [first]
        while self.take(","):
            layers.append(self.number("a layer number"))
        return tuple(layers)

    def heads(self) -> tuple[tuple[int, int], ...]:
        couples = []
        while True:
            layer = self.number("layer.head")
            if not self.take("."):
                self.fail("'.' and a head number (heads are layer.head)")
            couples.append((layer, self.number("a head number")))
            if not self.take(","):
                return tuple(couples)

    def how(self) -> How:
        word = self.word()
        if word not in list(How):
            self.fail(f"one of {', '.join(How)}")
        self.at += len(word)
        return How(word)

    def number(self, wanted: str) -> int:
        start = self.at
        while self.at < len(self.chars) and self.chars[self.at] in "0123456789":
            self.at += 1
            gap = self.at < len(self.chars) and self.places[self.at] > self.places[self.at - 1] + 1
            if gap and self.chars[self.at].isdigit():
                self.fail("no space inside a number")
        digits = self.chars[start : self.at]
        if not digits or len(digits) > 4:
            self.at = start
            self.fail(wanted)
        return int(digits)

    def word(self) -> str:
        end = self.at
        while end < len(self.chars) and (self.chars[end].isalnum() or self.chars[end] == "_"):
            end += 1
        return self.chars[self.at : end]

    def peek(self, token: str) -> bool:
        return self.chars.startswith(token, self.at)

    def take(self, token: str) -> bool:
        there = self.peek(token)
        self.at += len(token) * there
        return there

    def fail(self, expected: str) -> NoReturn:
        if self.at < len(self.chars):
            place = self.places[self.at]
            where = f"at character {place + 1}, {self.text[place]!r}"
        else:
            where = "at the end"
        hint = ""
        if self.chars.endswith("-") and ">" not in self.chars[self.chars.rfind("+") + 1 :]:
            hint = (
                "; in a shell put the cut into quotes: unquoted, '>' and what follows it is taken"
                " for a redirection into a file"
            )
        text = self.text if len(self.text) <= 80 else self.text[:77] + "..."
        raise InputError(
            f"cut {text!r}, {where}: expected {expected}; for example {EXAMPLE!r}{hint}"
        )
