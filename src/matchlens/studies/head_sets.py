"""Named sets of heads against random sets of the same size, matched by layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import cast

import numpy as np
import pandas as pd

from matchlens.corpora import PairSet
from matchlens.directions import Cut, Direction
from matchlens.engine import Progress
from matchlens.errors import InputError
from matchlens.models.load import Reranker
from matchlens.plan import Condition
from matchlens.ranking import holm
from matchlens.results import Result
from matchlens.studies.conduct import COSTLY_PAIRS, Settings, conduct
from matchlens.studies.hows import left_out, ways
from matchlens.studies.sweep_points import WHOLE_HEAD

Heads = tuple[tuple[int, int], ...]
RANDOM_SETS = 100
"""Random sets beside each named one, at least: fewer cannot show p < .01."""
TIE = 1e-12
MOST_TRIES = 200


def head_sets(
    model: Reranker,
    pairs: PairSet,
    sets: Mapping[str, str | Iterable[tuple[int, int]]],
    *,
    directions: Sequence[str | Direction] | None = None,
    hows: Sequence[str] = ("zero",),
    random: int = RANDOM_SETS,
    preset: str = "default",
    measure: str = "nDCG@10",
    rel: int = 2,
    tie_tol: float | None = None,
    rank_easy: bool = False,
    seed: int = 0,
    most_pairs: int | None = COSTLY_PAIRS,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """Cut named sets of heads, and random sets with as many heads in each layer.

    The question is not whether cutting the set does damage, but whether it does more than cutting
    just any heads of those layers.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        sets: name to heads, as text (``"8.1,4.9"``) or (layer, head) couples.
        directions: what is cut in these heads; the whole head where None.
        hows: ways of cutting.
        random: random sets a named one, at least 100; all there are where those are fewer.
        preset: ``default``, ``paper``, ``authors`` or ``zhan2020``.
        measure: any ir_measures measure by name.
        rel: lowest grade that counts as relevant for binary measures.
        tie_tol: scores closer than this (logits) are tied; by the weights' type where None.
        rank_easy: whether easy negatives stand in the rankings.
        seed: of the random sets, permutations, resampling and halves.
        most_pairs: at most so many pairs, spread over the queries; all where None.
        batch_tokens: most places of one layer call.
        progress: called with pairs done and pairs in all.

    Returns:
        Tables ``sets`` (a row a set, direction and how: the measure, its change, random_mean,
        random_sd, random_low, random_high (2.5% and 97.5% of the random sets' changes), draws,
        p_random: the share of sets, the named one among them, that change the measure at least as
        far down, p_random_two (in either direction), p_random_holm (over the rows), p_tau: that
        disturb the order at least as much by Kendall's tau-b), ``points`` (a row a set and draw;
        draw -1 is the named set) and ``queries``.

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
    texts = [str(one) for one in (directions or (WHOLE_HEAD,))]
    conditions, points, impossible = conditions_of(sets, texts, hows, random, seed, layers, heads)
    chosen = checked(sets, layers, heads, random)
    families = {str(point["cut"]): "random" for point in points}
    families.update({str(point["cut"]): "named" for point in points if point["draw"] == -1})
    done = conduct(
        model,
        pairs,
        conditions,
        Settings(preset, measure, rel, tie_tol, rank_easy, seed, batch_tokens, most_pairs),
        families=families,
        progress=progress,
    )
    table = pd.DataFrame(points).merge(done.table, on="cut", how="left", validate="many_to_one")
    kept = done.queries[done.queries["cut"].isin(["", *_named(points)])]
    return done.result(
        "head-sets",
        {
            "sets": {name: _text(one) for name, one in chosen.items()},
            "directions": list(dict.fromkeys(texts)),
            "hows": list(dict.fromkeys(str(point["how"]) for point in points)),
            "random": random,
        },
        {
            "sets": against(table, chosen),
            "points": table,
            "queries": pd.DataFrame(kept).reset_index(drop=True),
        },
        left_out(impossible),
    )


def conditions_of(
    sets: Mapping[str, str | Iterable[tuple[int, int]]],
    directions: Sequence[str] | None,
    hows: Sequence[str],
    random: int,
    seed: int,
    layers: int,
    heads: int,
) -> tuple[dict[str, Condition], list[dict[str, object]], list[str]]:
    """The conditions, what each is (set, direction, how, draw, cut), and cuts that cannot be made.

    Raises:
        InputError: if an argument cannot be used; see :func:`head_sets`.
    """
    chosen = checked(sets, layers, heads, random)
    made, impossible = ways(plain(directions or (WHOLE_HEAD,)), hows)
    drawn = {name: random_sets(one, heads, random, seed) for name, one in chosen.items()}
    points: list[dict[str, object]] = [
        {
            "set": name,
            "direction": way.base,
            "how": way.how,
            "draw": draw,
            "cut": f"{way.base}#{_text(one)}{way.cut.removeprefix(way.base)}",
        }
        for way in made
        for name, named in chosen.items()
        for draw, one in [(-1, named), *enumerate(drawn[name])]
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
                f"{text!r} is no plain direction; layers, heads and how are chosen by the study; "
                "expected, for example, 'Q->D' or 'Q->D+D->Q'"
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
        raise InputError("no set of heads given; expected at least one, for example top=8.1,4.9")
    if random < RANDOM_SETS:
        raise InputError(
            f"{random} random sets cannot show p < .01; expected {RANDOM_SETS} or more"
        )
    out = {}
    for name, given in sets.items():
        text = given if isinstance(given, str) else _text(tuple(given))
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
                "heads in each; expected a smaller set"
            )
    return out


def random_sets(named: Heads, heads: int, number: int, seed: int) -> list[Heads]:
    """Different random sets with as many heads in each layer as a named one, and not it.

    The draws hang on the seed and the number of heads in each layer, so that sets that are alike in
    this are compared with the same random sets. Where there are no more others than asked for,
    all of them come.

    Args:
        named: (layer, head) couples.
        heads: heads a layer.
        number: how many.
        seed: of the draws.
    """
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


def _text(heads: Iterable[tuple[int, int]]) -> str:
    return ",".join(f"{layer}.{head}" for layer, head in heads)


def _named(points: Sequence[Mapping[str, object]]) -> list[str]:
    return [str(point["cut"]) for point in points if point["draw"] == -1]


def against(table: pd.DataFrame, sets: Mapping[str, Heads]) -> pd.DataFrame:
    """Each named set beside its random ones; a row a set, direction and how.

    Args:
        table: a row a set and draw (-1: the named set) with what the measured table has.
        sets: name to heads.
    """
    if table.empty:
        return pd.DataFrame()
    rows = []
    for key, group in table.groupby(["set", "direction", "how"], sort=False):
        name, direction, how = (str(one) for one in cast(tuple[object, ...], key))
        named = group[group["draw"] == -1].iloc[0]
        others = pd.DataFrame(group[group["draw"] >= 0])
        diff, tau = others["diff"].to_numpy(), np.nan_to_num(others["tau_b"].to_numpy())
        own_tau = 0.0 if pd.isna(named["tau_b"]) else named["tau_b"]
        total = len(others) + 1
        low, high = np.percentile(diff, [2.5, 97.5])
        rows.append(
            {
                "set": name,
                "direction": direction,
                "how": how,
                "heads": _text(sets[name]),
                "size": len(sets[name]),
                "cut": named["cut"],
                "mean": named["mean"],
                "original": named["original"],
                "diff": named["diff"],
                "ci_low": named["ci_low"],
                "ci_high": named["ci_high"],
                "p": named["p"],
                "p_holm": named["p_holm"],
                "tau_b": named["tau_b"],
                "random_mean": float(diff.mean()),
                "random_sd": float(diff.std(ddof=1)) if len(diff) > 1 else float("nan"),
                "random_low": float(low),
                "random_high": float(high),
                "random_tau_b": float(tau.mean()),
                "draws": len(others),
                "p_random": (1 + int((diff <= named["diff"] + TIE).sum())) / total,
                "p_random_two": (1 + int((np.abs(diff) >= abs(named["diff"]) - TIE).sum())) / total,
                "p_tau": (1 + int((tau <= own_tau + TIE).sum())) / total,
            }
        )
    out = pd.DataFrame(rows)
    out["p_random_holm"] = holm(out["p_random"].to_numpy())
    return out
