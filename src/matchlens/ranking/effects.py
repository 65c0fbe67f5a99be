"""Whether a cut changed a measure: an effect, no effect beyond a margin, or neither is shown.

A paired test that finds nothing is no proof that there is nothing. So an effect and its absence are
each shown by a test of their own, and what neither shows stays undecided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from matchlens.errors import InputError, counted, printed
from matchlens.ranking.significance import bootstrap_t, holm

ALPHA = 0.05
MARGIN = 0.06
"""Share of (original - random) up to which a change counts as none, query by query."""
LEAST_QUERIES = 10
"""Queries without which nothing is decided."""
MOST_QUERIES = 100_000
"""A larger number of queries is no advice."""
POWER = 0.8


def check_margin(margin: float) -> None:
    """Check a margin."""
    if not 0 < margin < 1:
        raise InputError(
            f"margin is {margin}; expected a share of (original - random) between 0 and 1, such as "
            f"{MARGIN}"
        )


@dataclass(frozen=True)
class Effect:
    """One change of a measure over queries, and how likely it is under each null.

    Every p is that of one paired t-test over queries, uncorrected.

    Args:
        n: queries.
        mean: mean change, in units of the measure.
        low: lower end of its 95% bootstrap-t interval; NaN where there is none.
        high: upper end.
        margin: mean over queries of the change that counts as none, in units of the measure.
        p_change: two-sided p of a mean change of 0.
        p_none: p of "the change lies outside plus or minus the margin": the larger of two
            one-sided tests.
        p_beyond: p of "the change lies inside the margin": the smaller of two one-sided tests.
    """

    n: int
    mean: float
    low: float
    high: float
    margin: float
    p_change: float
    p_none: float
    p_beyond: float

    def shown(self, sign: int) -> float:
        """P of "no change in this direction": a fall for the sign -1, a rise for 1."""
        return self.p_change if np.sign(self.mean) == sign else 1.0


def effect(
    change: Float[np.ndarray, " q"],
    better: Float[np.ndarray, " q"],
    collections: Sequence[str],
    *,
    margin: float = MARGIN,
    seed: int = 0,
    interval: bool = True,
) -> Effect:
    """Test one change of a measure against 0 and against a margin.

    Args:
        change: `[q]`, the measure under the cut minus the measure of the original.
        better: `[q]`, the original minus the random ranking: what there is to lose.
        collections: the collection of each query.
        margin: share of `better` that counts as no change.
        seed: of the interval's resamples.
        interval: whether the interval is computed.

    Source: Schuirmann 1987 (two one-sided tests).

    >>> import numpy as np
    >>> nothing = effect(np.tile([0.01, -0.01], 8), np.full(16, 0.5), ["a"] * 16)
    >>> nothing.p_none < 0.05, nothing.p_change > 0.5
    (True, True)
    """
    inside = margin * better
    low = high = np.array([np.nan])
    if interval:
        low, high = bootstrap_t(change[None], collections, seed=seed)
    above, below = change + inside, change - inside
    return Effect(
        n=len(change),
        mean=float(change.mean()),
        low=float(low[0]),
        high=float(high[0]),
        margin=float(inside.mean()),
        p_change=_two_sided(change),
        p_none=max(one_sided(above, 1), one_sided(below, -1)),
        p_beyond=min(one_sided(above, -1), one_sided(below, 1)),
    )


def _two_sided(values: Float[np.ndarray, " q"]) -> float:
    """P of the two-sided paired t-test; NaN where one value tells nothing."""
    return float(np.minimum(1.0, 2 * np.minimum(one_sided(values, 1), one_sided(values, -1))))


def one_sided(values: Float[np.ndarray, " q"], sign: int) -> float:
    """P of the one-sided paired t-test: how likely such a mean is where the true mean is 0.

    Args:
        values: `[q]`, one number for each query.
        sign: 1 for the alternative "the mean is above 0", -1 for "below".

    Returns:
        NaN for fewer than two queries; 0, .5 or 1 by the sign of the mean where all values are
        equal.

    >>> import numpy as np
    >>> round(one_sided(np.array([0.1, 0.2, 0.3]), 1), 3)
    0.037
    """
    from scipy.special import stdtr

    n = len(values)
    if n < 2:
        return float("nan")
    mean, error = sign * values.mean(), values.std(ddof=1) / np.sqrt(n)
    if error <= 1e-12 * max(abs(mean), 1e-300):
        return 0.5 - 0.5 * float(np.sign(mean))
    return float(stdtr(n - 1, -mean / error))


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against one claim, before the correction over the claims.

    Args:
        p_holds: p of the test that shows the claim; NaN where it could not be tested.
        p_not: p of the test that shows its contrary.
        lacking: why nothing can be decided, whatever the tests say; empty where it can.
    """

    p_holds: float
    p_not: float
    lacking: str = ""


def of_effect(effects: Sequence[Effect], sign: int = -1) -> Evidence:
    """Evidence for the claim that every one of some cuts changes the measure.

    It does not hold where one cut shows no effect, or the opposite one. These two exclude each
    other, so that the smaller of their p needs no correction; the smallest over the cuts does.
    """
    against = np.array([min(effect.p_none, effect.shown(-sign)) for effect in effects])
    return Evidence(max(effect.shown(sign) for effect in effects), float(holm(against).min()))


def of_none(effects: Sequence[Effect]) -> Evidence:
    """Evidence for the claim that no one of some cuts changes the measure beyond the margin."""
    beyond = np.array([effect.p_beyond for effect in effects])
    return Evidence(max(effect.p_none for effect in effects), float(holm(beyond).min()))


def both(first: Evidence, second: Evidence) -> Evidence:
    """Evidence for the claim that two things are so."""
    against = holm(np.array([first.p_not, second.p_not]))
    known = against[~np.isnan(against)]
    return Evidence(max(first.p_holds, second.p_holds), float(known.min(initial=1.0)))


HOLDS, NOT, UNDECIDED = "holds", "does not hold", "undecided"


@dataclass(frozen=True)
class Verdict:
    """What is decided of one claim.

    Args:
        verdict: holds, does not hold or undecided.
        p: the uncorrected p of the test that decided; of the one nearer to a decision where
            neither did; NaN where there was no test.
        p_corrected: the same after Holm over the claims.
    """

    verdict: str
    p: float
    p_corrected: float


def decide(evidence: Sequence[Evidence]) -> list[Verdict]:
    """Decide several claims, corrected in two families: all that holds, all that does not.

    A claim whose contrary is shown does not hold, even if its own test is passed, too: an effect
    that differs from 0 and lies inside the margin is none.

    Args:
        evidence: one for each claim.

    Source: Holm 1979.

    >>> [one.verdict for one in decide([Evidence(0.001, 0.9), Evidence(0.9, 0.01)])]
    ['holds', 'does not hold']
    >>> decide([Evidence(0.001, 0.9, "only 6 queries")])[0].verdict
    'undecided'
    """
    decidable = [not claim.lacking for claim in evidence]
    p_holds, p_not = (
        np.array([getattr(claim, name) for claim in evidence], dtype=np.float64)
        for name in ("p_holds", "p_not")
    )
    verdicts = []
    families = (holm(np.where(decidable, p, np.nan)) for p in (p_holds, p_not))
    for claim, holds, fails in zip(evidence, *families, strict=True):
        if fails <= ALPHA:
            verdicts.append(Verdict(NOT, claim.p_not, float(fails)))
        elif holds <= ALPHA:
            verdicts.append(Verdict(HOLDS, claim.p_holds, float(holds)))
        else:
            nearer = claim.p_not < claim.p_holds or np.isnan(claim.p_holds)
            p, corrected = (claim.p_not, fails) if nearer else (claim.p_holds, holds)
            verdicts.append(Verdict(UNDECIDED, p, float(corrected)))
    return verdicts


def unready(better: Float[np.ndarray, " q"], measure: str = "the measure") -> str:
    """Why no claim about a model can be decided on these queries; empty where one can."""
    n = len(better)
    if n < LEAST_QUERIES:
        return f"{counted(n, 'query')}; at least {LEAST_QUERIES} are needed"
    p = float(np.minimum(1.0, 2 * one_sided(better, 1)))
    if not p <= ALPHA:
        return (
            f"the untouched model is not shown to be better than a random ranking ({measure}: "
            f"{printed(better.mean())} more, p = {printed(p)})"
        )
    return ""


def queries_needed(values: Float[np.ndarray, " q"], *, alpha: float = ALPHA) -> int | None:
    """About how many queries would decide a one-sided test with 80% power, by what was observed.

    Args:
        values: `[q]`, what is tested against 0, as observed.
        alpha: level, already divided by the number of tests where they are corrected.

    Returns:
        None where there is one query, or the observed mean is 0, on the wrong side, or so small
        that more than 100,000 queries would be needed.

    Source: the normal approximation of the power of the t-test.

    >>> import numpy as np
    >>> queries_needed(np.array([0.3, -0.1, 0.2, 0.0, 0.1, 0.1]))
    14
    """
    from scipy.special import ndtri

    if len(values) < 2 or not values.mean() > 0:
        return None
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    reach = float(ndtri(1 - alpha) + ndtri(POWER))
    needed = (reach * spread / mean) ** 2 + 1
    return None if needed > MOST_QUERIES else max(LEAST_QUERIES, int(np.ceil(needed)))
