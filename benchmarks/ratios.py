"""What the stored rounds say: medians, ratios round by round, shares of the peak."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Work = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """A number measured in several rounds.

    Args:
        values: one a round.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.values)

    def text(self, digits: int = 2, unit: str = "") -> str:
        """Median and range.

        >>> Spread((1.0, 2.0, 4.0)).text(1, " s")
        '2.0 s (1.0 to 4.0)'
        """
        low, high = (f"{end:.{digits}f}" for end in (min(self.values), max(self.values)))
        return f"{self.median:.{digits}f}{unit} ({low} to {high})"


def took(work: Work, name: str, what: str = "cpu") -> Spread:
    """Seconds of a contender, a number for each round.

    Args:
        work: a comparison as it is stored.
        name: the contender.
        what: ``cpu``, ``wall``, ``memory_mib`` or ``rate``.
    """
    return Spread(tuple(one[what] for one in work["contenders"][name]["rounds"]))


def ratio(work: Work, name: str, over: str, what: str = "cpu") -> Spread:
    """One contender's seconds over another's, round by round."""
    pairs = zip(took(work, name, what).values, took(work, over, what).values, strict=True)
    return Spread(tuple(one / other for one, other in pairs))


def timed(work: Work, side: str) -> list[str]:
    """The contenders of a side whose times count, fastest first."""
    names = [
        name
        for name, one in work["contenders"].items()
        if one["side"] == side and one["rounds"] and "rate" not in one["rounds"][0]
    ]
    return sorted(names, key=lambda name: took(work, name).median)


def fastest(work: Work | None, *sides: str) -> list[str] | None:
    """The fastest of each side; None where the comparison or a side is lacking."""
    if work is None:
        return None
    found = [timed(work, side) for side in sides]
    return [names[0] for names in found] if all(found) else None


def share(work: Work, name: str) -> Spread | None:
    """Share of the machine's rate of matrix products that useful operations reach, by round."""
    meter = work["contenders"].get("matrix products")
    useful = work["contenders"][name]["facts"].get("useful operations")
    if meter is None or useful is None or not meter["rounds"]:
        return None
    rounds = zip(took(work, name).values, took(work, "matrix products", "rate").values, strict=True)
    return Spread(tuple(useful / cpu / rate for cpu, rate in rounds))


def grown(growth: Sequence[dict[str, Any]]) -> list[float]:
    """Peak memory of each number of pairs over that of the number before, medians."""
    medians = [
        statistics.median(one["memory_mib"] for one in record["rounds"]) for record in growth
    ]
    return [later / earlier for earlier, later in itertools.pairwise(medians)]
