"""The conditions of head sets: named sets, and random ones with as many heads in each layer
and, as near as can be, as much attention in the direction."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product

import numpy as np
from jaxtyping import Float

from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.plan import Condition
from matchlens.studies.cut_modes import expand_modes
from matchlens.studies.sweep_points import WHOLE_HEAD

Heads = tuple[tuple[int, int], ...]
RANDOM_SETS, MOST_SETS = 100, 100_000
"""Random sets beside each named one, at least: fewer cannot show p < .01."""
CANDIDATES, MOST_CANDIDATES = 20, 20_000
"""Candidates for each random set that is kept, where attention is matched; and at most in all."""
MOST_TRIES = 10
"""Draws for each candidate, some of which repeat."""
Masses = Mapping[str, Float[np.ndarray, "layer head"]]
"""Direction to the attention that each head gives it."""


def conditions_of(
    sets: Mapping[str, str | Iterable[tuple[int, int]]],
    directions: Sequence[str] | None,
    hows: Sequence[str],
    random: int,
    seed: int,
    layers: int,
    heads: int,
    masses: Masses | None = None,
) -> tuple[dict[str, Condition], list[dict[str, object]], list[str]]:
    """The conditions, what each is, and cuts that cannot be made.

    Args:
        sets: name to heads.
        directions: what is cut in them; the whole head where None.
        hows: ways of cutting.
        random: random sets a named one.
        seed: of the draws.
        layers: layers of the model.
        heads: heads a layer.
        masses: the attention that random sets are matched in, by direction; only the layers are
            matched where None.

    Returns:
        The conditions; a row for each condition (set, direction, how, draw, cut, shared: the share
        of the named heads that stand in it, and, where it was matched, mass); and the notes.

    Raises:
        InputError: if an argument cannot be used; see :func:`head_sets`.
    """
    chosen = checked(sets, layers, heads, random)
    made, impossible = expand_modes(
        plain((WHOLE_HEAD,) if directions is None else directions), hows
    )
    points: list[dict[str, object]] = []
    for way in made:
        mass = None if masses is None else masses[way.base]
        for name, named in chosen.items():
            drawn = random_sets(named, heads, random, seed, mass)
            points += [
                {
                    "set": name,
                    "direction": way.base,
                    "how": way.how,
                    "draw": draw,
                    "cut": f"{way.base}#{spelled(one)}{way.cut.removeprefix(way.base)}",
                    "shared": len(set(one) & set(named)) / len(named),
                    **({} if mass is None else {"mass": total(one, mass)}),
                }
                for draw, one in [(-1, named), *enumerate(drawn)]
            ]
    conditions: dict[str, Condition] = {"": []}
    for point in points:
        conditions[str(point["cut"])] = [Cut.parse(str(point["cut"]))]
    return conditions, points, impossible


def plain(directions: Sequence[str]) -> list[str]:
    """The directions, checked to have no layers, heads or way of their own.

    Raises:
        InputError: if one has, or there is none.
    """
    for text in directions:
        cut = Cut.parse(text)
        if not cut.directions or cut != Cut(cut.directions):
            raise InputError(
                f"{text!r} is no plain direction, and the study chooses layers, heads and how "
                "itself; expected directions only, for example 'Q->D' or 'Q->D+D->Q'"
            )
    if not directions:
        raise InputError("no direction given; expected at least one, for example 'Q->D'")
    return list(dict.fromkeys(directions))


def checked(
    sets: Mapping[str, str | Iterable[tuple[int, int]]], layers: int, heads: int, random: int
) -> dict[str, Heads]:
    """The sets as sorted couples, checked against the model.

    Raises:
        InputError: if there is none, one is empty, a head is out of range, a set has no random
            counterpart, or too few random sets are asked for.
    """
    if not sets:
        raise InputError(
            "no set of heads given; expected at least one, for example {'top': '8.1,4.9'} "
            "(--set top=8.1,4.9)"
        )
    checked_random(random)
    out = {}
    for name, given in sets.items():
        text = given if isinstance(given, str) else spelled(tuple(given))
        try:
            cut = Cut.parse(f"{WHOLE_HEAD}#{text}")
        except InputError:
            raise InputError(
                f"set {name!r} has the heads {text!r}; expected layer.head, as in '8.1,4.9'"
            ) from None
        cut.check(layers, heads)
        out[name] = tuple(sorted(set(cut.heads or ())))
        if possible(out[name], heads) < 2:
            raise InputError(
                f"set {name!r} holds every head of its layers, so that no other set has as many "
                "heads in each; expected a set with fewer heads"
            )
    return out


def checked_random(number: int) -> None:
    """See that enough random sets are asked for.

    Raises:
        InputError: if they are too few, or more than can be held.
    """
    if number > MOST_SETS:
        raise InputError(f"random is {number}; expected at most {MOST_SETS} random sets")
    if number < RANDOM_SETS:
        raise InputError(
            f"random is {number}, and so few sets cannot show p < .01; expected at least "
            f"{RANDOM_SETS}"
        )


def random_sets(
    named: Heads,
    heads: int,
    number: int,
    seed: int,
    mass: Float[np.ndarray, "layer head"] | None = None,
) -> list[Heads]:
    """Different random sets with as many heads in each layer as a named one, and not it.

    Candidates hang on the seed and the number of heads in each layer, so that sets that are alike
    in this have the same ones. Where there are no more others than asked for, all of them come.
    Where attention is matched, 20 candidates are drawn for each set, and those that come nearest to
    the named set are kept.

    Args:
        named: (layer, head) couples.
        heads: heads a layer.
        number: how many.
        seed: of the draws.
        mass: [layer, head], the attention that is matched; only the layers are where None.
    """
    wanted = number
    if mass is not None:
        wanted = max(number, min(CANDIDATES * number, MOST_CANDIDATES))
    found = _candidates(named, heads, wanted, seed)
    if mass is None or len(found) <= number:
        return found
    off = np.abs([total(one, mass) - total(named, mass) for one in found])
    return [found[place] for place in sorted(np.argsort(off, kind="stable")[:number])]


def total(heads: Iterable[tuple[int, int]], mass: Float[np.ndarray, "layer head"]) -> float:
    """The attention of several heads together."""
    return float(sum(mass[head] for head in heads))


def _candidates(named: Heads, heads: int, number: int, seed: int) -> list[Heads]:
    sizes = Counter(layer for layer, _ in named)
    if possible(named, heads) - 1 <= number:
        per_layer = [
            [tuple((layer, head) for head in some) for some in combinations(range(heads), size)]
            for layer, size in sizes.items()
        ]
        every = (tuple(sorted(sum(parts, ()))) for parts in product(*per_layer))
        return [one for one in every if one != named]
    words = [abs(seed), int(seed < 0), *(word for pair in sorted(sizes.items()) for word in pair)]
    generator = np.random.default_rng(words)
    found: dict[Heads, None] = {}
    for _ in range(MOST_TRIES * number):
        one = tuple(
            (layer, int(head))
            for layer, size in sorted(sizes.items())
            for head in sorted(generator.choice(heads, size, replace=False))
        )
        if one != named:
            found[one] = None
        if len(found) == number:
            break
    return list(found)


def possible(named: Heads, heads: int) -> int:
    """How many sets have as many heads in each layer, the named one among them."""
    sizes = Counter(layer for layer, _ in named)
    return math.prod(math.comb(heads, size) for size in sizes.values())


def spelled(heads: Iterable[tuple[int, int]]) -> str:
    """Heads as a cut spells them: ``8.1,4.9``."""
    return ",".join(f"{layer}.{head}" for layer, head in heads)
