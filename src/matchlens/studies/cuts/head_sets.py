"""Named sets of heads against random sets, matched by layer and by attention."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from matchlens.arguments import typed
from matchlens.corpora import PairSet
from matchlens.directions import Cut, Direction
from matchlens.errors import InputError
from matchlens.parts import NAMED, Part
from matchlens.plan import Condition, single_cuts
from matchlens.ranking import holm
from matchlens.results import Result
from matchlens.studies.attention.watching import Reader, watch
from matchlens.studies.cuts.cut_modes import (
    expand_modes,
    feasible,
    left_out,
    note,
    plain_directions,
    whole_part,
)
from matchlens.studies.cuts.cut_study import Settings, conduct, pairs_run
from matchlens.studies.cuts.sweeps import WHOLE_HEAD
from matchlens.studies.presets import COSTLY_PAIRS

if TYPE_CHECKING:
    from matchlens.engine import Progress
    from matchlens.models.load import Reranker
    from matchlens.runners import Runner


Heads = tuple[tuple[int, int], ...]
RANDOM_SETS, MOST_SETS = 100, 100_000
"""Random sets beside each named one, at least: fewer cannot show p < .01."""
CANDIDATES, MOST_CANDIDATES = 20, 20_000
"""Candidates for each random set that is kept, where attention is matched; and at most in all."""
NEAR = 4
"""Digits of a candidate's distance from the named set, as a share of its attention."""
MOST_TRIES = 10
"""Draws for each candidate, some of which repeat."""
Masses = Mapping[str, Float[np.ndarray, "layer head"]]
"""Direction to the attention that each head gives it."""


def set_conditions(
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

    Returns:
        The conditions; a row for each condition (set, direction, how, draw, cut, shared: the share
        of the named heads that stand in it, and, where it was matched, mass); and the notes.
    """
    chosen = checked_sets(sets, layers, heads, random)
    cuts, impossible = expand_modes(
        plain_directions((WHOLE_HEAD,) if directions is None else directions), hows
    )
    points: list[dict[str, object]] = []
    for moded in cuts:
        mass = None if masses is None else masses[moded.base]
        for name, named in chosen.items():
            drawn = random_sets(named, heads, random, seed, mass)
            points += [
                {
                    "set": name,
                    "direction": moded.base,
                    "how": moded.how,
                    "draw": draw,
                    "cut": f"{moded.base}#{spelled(members)}{moded.cut.removeprefix(moded.base)}",
                    "shared": len(set(members) & set(named)) / len(named),
                    **({} if mass is None else {"mass": total(members, mass)}),
                }
                for draw, members in [(-1, named), *enumerate(drawn)]
            ]
    return single_cuts(str(point["cut"]) for point in points), points, impossible


def checked_sets(
    sets: Mapping[str, str | Iterable[tuple[int, int]]], layers: int, heads: int, random: int
) -> dict[str, Heads]:
    """The sets as sorted couples, checked against the model."""
    if not sets:
        raise InputError(
            "no set of heads given; expected at least one, for example {'top': '8.1,4.9'} "
            "(--set top=8.1,4.9)"
        )
    checked_random(random)
    out = {}
    for name, members in sets.items():
        text = members if isinstance(members, str) else spelled(tuple(members))
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
    """Check that the number of random sets is within bounds."""
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

    Candidates depend on the seed and the number of heads in each layer only. Where there are no
    more than ``number``, all are returned. Where attention is matched, 20 candidates are drawn for
    each set, and those nearest to the named set are kept; where distances are alike to 0.01% of
    its attention, the seed decides.
    """
    wanted = number
    if mass is not None:
        wanted = max(number, min(CANDIDATES * number, MOST_CANDIDATES))
    candidates = _candidates(named, heads, wanted, seed)
    if mass is None or len(candidates) <= number:
        return candidates
    # Distances are rounded: where all sets have the same attention, as in the whole head, what is
    # left of them is rounding errors, and those prefer the same heads with every seed.
    own = total(named, mass)
    off = np.abs([total(members, mass) - own for members in candidates])
    lot = np.random.default_rng([abs(seed), int(seed < 0)]).permutation(len(candidates))
    nearest = np.lexsort((lot, (off / (own or 1.0)).round(NEAR)))[:number]
    # In the candidates' order: sorting them by distance would tie the number of a draw to its mass.
    return [candidates[place] for place in sorted(nearest)]


def total(heads: Iterable[tuple[int, int]], mass: Float[np.ndarray, "layer head"]) -> float:
    """The attention of several heads together."""
    return float(sum(mass[head] for head in heads))


def _candidates(named: Heads, heads: int, number: int, seed: int) -> list[Heads]:
    sizes = Counter(layer for layer, _ in named)
    if possible(named, heads) - 1 <= number:
        per_layer = [
            [tuple((layer, head) for head in chosen) for chosen in combinations(range(heads), size)]
            for layer, size in sizes.items()
        ]
        every = (tuple(sorted(sum(parts, ()))) for parts in product(*per_layer))
        return [members for members in every if members != named]
    # Seeded by the sizes in each layer: sets of one shape share their candidates, and so the runs.
    words = [abs(seed), int(seed < 0), *(word for pair in sorted(sizes.items()) for word in pair)]
    generator = np.random.default_rng(words)
    candidates: dict[Heads, None] = {}
    for _ in range(MOST_TRIES * number):
        members = tuple(
            (layer, int(head))
            for layer, size in sorted(sizes.items())
            for head in sorted(generator.choice(heads, size, replace=False))
        )
        if members != named:
            candidates[members] = None
        if len(candidates) == number:
            break
    return list(candidates)


def possible(named: Heads, heads: int) -> int:
    """How many sets have as many heads in each layer, the named one among them."""
    sizes = Counter(layer for layer, _ in named)
    return math.prod(math.comb(heads, size) for size in sizes.values())


def spelled(heads: Iterable[tuple[int, int]]) -> str:
    """Heads as a cut spells them: ``8.1,4.9``."""
    return ",".join(f"{layer}.{head}" for layer, head in heads)


TIE = 1e-12


@typed
def head_sets(
    model: Reranker,
    pairs: PairSet,
    sets: Mapping[str, str | Iterable[tuple[int, int]]],
    *,
    directions: Sequence[str | Direction] | None = None,
    hows: Sequence[str] = ("zero",),
    random: int = RANDOM_SETS,
    preset: str = "default",
    measure: str | Sequence[str] = "nDCG@10",
    rel: int | None = None,
    tie_tol: float | None = None,
    rank_easy: bool = False,
    seed: int = 0,
    most_pairs: int | None = COSTLY_PAIRS,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
    runner: Runner | None = None,
) -> Result:
    """Cut named sets of heads, and random sets that are like them but for the heads.

    A random set has as many heads in each layer and, as near as can be, as much attention in the
    direction that is cut: the sum over its heads of their mean mass in the untouched model. Where
    the whole head is cut, all heads have the same, so that the layers alone are matched.

    The question is not whether cutting the set does damage, but whether it does more than cutting
    just any heads of those layers.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        sets: name to heads, as text (``"8.1,4.9"``) or (layer, head) couples.
        directions: what is cut in these heads; the whole head where None.
        hows: modes of cutting.
        random: random sets for each named one, at least 100; all that exist where those are fewer.

    The arguments ``preset``, ``measure``, ``rel``, ``tie_tol``, ``rank_easy``, ``seed``,
    ``most_pairs``, ``batch_tokens``, ``progress`` and ``runner`` are those of
    :func:`matchlens.ablation`.

    Returns:
        Tables ``sets`` (a row for each set, direction and how: the measure, its change,
        random_mean, random_sd, random_low, random_high (2.5% and 97.5% of the random sets'
        changes), draws; p_random, by the measure: the share of sets, the named one among them, that
        change it at least as far down, p_random_two (in either direction); p_tau, by the order: the
        share that disturb it at least as much by Kendall's tau-b; p_random_holm and p_tau_holm,
        each over the rows; and how well the random sets match: mass of the named set, random_mass
        with random_mass_low and random_mass_high (2.5% and 97.5% of theirs), random_shared: the
        mean share of the named heads that stand in a random set), ``points`` (a row for each set
        and draw; draw -1 is the named set) and ``queries``.

    Raises:
        InputError: if a set, an option or the pairs cannot be used.

    Source: science 2 and 4 (matching heads, tested causally); North et al. 2002 for p.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> result = matchlens.head_sets(matchlens.load("demo"), pairs, {"top": "11.3"})
    >>> result.to_frame()["draws"].tolist()  # layer 11 has eleven other heads
    [11]
    """
    layers, heads = model.family.n_layers, model.family.n_heads
    texts = [str(text) for text in ((WHOLE_HEAD,) if directions is None else directions)]
    chosen = checked_sets(sets, layers, heads, random)
    expand_modes(plain_directions(texts), hows)
    settings = Settings(preset, measure, rel, tie_tol, rank_easy, seed, batch_tokens, most_pairs)
    masses = _masses(model, pairs_run(pairs, settings)[0], texts, batch_tokens, runner)
    conditions, points, impossible = set_conditions(
        chosen, texts, hows, random, seed, layers, heads, masses
    )
    named = dict.fromkeys((str(point["cut"]) for point in points if point["draw"] == -1), "named")
    families = {str(point["cut"]): "random" for point in points} | named
    done = conduct(
        model, pairs, conditions, settings, families=families, progress=progress, runner=runner
    )
    table = pd.DataFrame(points).merge(done.table, on="cut", how="left", validate="many_to_one")
    if len(feasible(table)) < len(table):
        raise InputError(
            f"a direction cannot be cut: {'; '.join(note(done.reasons.values()))}; leave this "
            "direction out"
        )
    queries = done.queries[done.queries["cut"].isin(["", *named])]
    options = {
        "sets": {name: spelled(members) for name, members in chosen.items()},
        "directions": list(dict.fromkeys(texts)),
        "hows": list(dict.fromkeys(str(point["how"]) for point in points)),
        "random": random,
    }
    tables = {
        "sets": against(table, chosen),
        "points": table,
        "queries": pd.DataFrame(queries).reset_index(drop=True),
    }
    return done.result("head-sets", options, tables, left_out(impossible))


def _masses(
    model: Reranker,
    used: PairSet,
    directions: Sequence[str],
    batch_tokens: int | None,
    runner: Runner | None,
) -> dict[str, np.ndarray]:
    """The mean attention of each head over the pairs, [layer, head], by direction.

    What a row gives to ``Other``, which no meter has, is the rest of its attention.
    """
    watched = watch(model, used, ["mass"], batch_tokens=batch_tokens, runner=runner)
    reader, reads_other = Reader(watched.arrays, watched.parts), watched.out.reach[..., Part.OTHER]
    masses = {text: np.zeros((model.family.n_layers, model.family.n_heads)) for text in directions}
    for text in masses:
        for x, y in Cut.parse(text).edges(0):
            if x not in reader.parts:
                continue
            if y in reader.parts:
                masses[text] += np.nan_to_num(reader.of("mass", x, y)).mean(0)
            elif y == Part.OTHER:
                named = sum(np.nan_to_num(reader.of("mass", x, part)) for part in NAMED)
                rest = np.where(np.isnan(reader.of("mass", x, x)), 0, 1 - named).mean(0)
                row = whole_part(reader.parts[reader.parts.index(x)])
                masses[text] += rest * reads_other[:, row, None]
    return masses


def against(table: pd.DataFrame, sets: Mapping[str, Heads]) -> pd.DataFrame:
    """Each named set beside its random ones; a row for each set, direction and how."""
    if table.empty:
        return pd.DataFrame()
    rows = []
    for key, group in table.groupby(["set", "direction", "how"], sort=False):
        name, direction, how = map(str, cast(tuple[object, ...], key))
        named = group[group["draw"] == -1].iloc[0]
        others = pd.DataFrame(group[group["draw"] >= 0])
        diff, tau = others["diff"].to_numpy(), np.nan_to_num(others["tau_b"].to_numpy())
        own_tau = 0.0 if pd.isna(named["tau_b"]) else named["tau_b"]
        low, high = np.percentile(diff, [2.5, 97.5])
        tails = {
            "p_random": diff <= named["diff"] + TIE,
            "p_random_two": np.abs(diff) >= abs(named["diff"]) - TIE,
            "p_tau": tau <= own_tau + TIE,
        }
        matched = {}
        if "mass" in group:
            mass = others["mass"].to_numpy(dtype=np.float64)
            ends = np.percentile(mass, [2.5, 97.5])
            matched = {
                "mass": named["mass"],
                "random_mass": float(mass.mean()),
                "random_mass_low": float(ends[0]),
                "random_mass_high": float(ends[1]),
                "random_shared": float(others["shared"].to_numpy(dtype=np.float64).mean()),
            }
        rows.append(
            {
                "set": name,
                "direction": direction,
                "how": how,
                "heads": spelled(sets[name]),
                "size": len(sets[name]),
                **{column: named[column] for column in _OF_A_SET},
                "random_mean": float(diff.mean()),
                "random_sd": float(diff.std(ddof=1)) if len(diff) > 1 else float("nan"),
                "random_low": float(low),
                "random_high": float(high),
                "random_tau_b": float(tau.mean()),
                "draws": len(others),
                **{p: (1 + int(tail.sum())) / (len(others) + 1) for p, tail in tails.items()},
                **matched,
            }
        )
    out = pd.DataFrame(rows)
    for name in ("p_random", "p_tau"):
        out[f"{name}_holm"] = holm(out[name].to_numpy())
    return out


_OF_A_SET = ("cut", "mean", "original", "diff", "ci_low", "ci_high", "p", "p_holm", "tau_b")
