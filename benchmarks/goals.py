"""The goals, and what was measured against each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.ratios import Spread, fastest, grown, ratio

Measurements = Mapping[str, Any]
"""The file that ``python -m benchmarks`` writes."""
Outcome = tuple[float, str] | None
"""The number that decides and its text; None where nothing was measured."""


@dataclass(frozen=True)
class Goal:
    """One line of the table of goals.

    Args:
        work: what is measured.
        goal: what is wanted, in words.
        met: whether a number meets it.
        outcome: reads the number from the measurements.
    """

    work: str
    goal: str
    met: Callable[[float], bool]
    outcome: Callable[[Measurements], Outcome]

    def row(self, measurements: Measurements) -> tuple[str, str, str, str]:
        """Work, goal, what was measured, and the verdict."""
        outcome = self.outcome(measurements)
        if outcome is None:
            return self.work, self.goal, "not measured", "-"
        return self.work, self.goal, outcome[1], "met" if self.met(outcome[0]) else "**missed**"


def over(peer: str, key: str) -> Callable[[Measurements], Outcome]:
    """How many times matchlens's CPU seconds a peer takes.

    Args:
        peer: begins the peer's name.
        key: the comparison.
    """

    def outcome(measurements: Measurements) -> Outcome:
        spread = _over(measurements, peer, key)
        return spread and (spread.median, f"{spread.text()} times")

    return outcome


def of_allowed(key: str) -> Callable[[Measurements], Outcome]:
    """The same against the compiled loop, as a share of what the operation count allows."""

    def outcome(measurements: Measurements) -> Outcome:
        works = measurements["works"]
        spread = _over(measurements, "loop over SDPA, compiled", key)
        counts = [_operations(works.get(name)) for name in ("plain", key)]
        if spread is None or None in counts:
            return None
        plain, shared = counts
        work = works[key]
        # The loop runs every condition from the first layer to the last.
        share_of_pairs = work["pairs"] * work["tokens"]["mean"]
        share_of_pairs /= works["plain"]["pairs"] * works["plain"]["tokens"]["mean"]
        allowed = plain * share_of_pairs * len(work["conditions"]) / shared
        share = Spread(tuple(value / allowed for value in spread.values))
        return share.median, f"{share.text()} of {allowed:.2f} times"

    return outcome


def _over(measurements: Measurements, peer: str, key: str) -> Spread | None:
    work = measurements["works"].get(key)
    ours = fastest(work, "ours")
    if ours is None or not work["contenders"].get(peer, {}).get("rounds"):
        return None
    return ratio(work, peer, ours[0])


def _operations(work: Mapping[str, Any] | None) -> float | None:
    """Useful operations of matchlens."""
    ours = None if work is None else work["contenders"].get("matchlens")
    return None if ours is None else ours["facts"].get("useful operations")


def masses(measurements: Measurements) -> Outcome:
    """Part masses over plain scoring, both by matchlens."""
    work = measurements["works"].get("masses")
    names = fastest(work, "ours")
    if work is None or names is None:
        return None
    plain = f"{names[0]}: plain scoring"
    if not work["contenders"].get(plain, {}).get("rounds"):
        return None
    spread = ratio(work, names[0], plain)
    return spread.median, f"{spread.text()} times"


def memory(measurements: Measurements) -> Outcome:
    """The largest growth of peak memory as the pairs grow tenfold."""
    growth = measurements["growth"]
    if len(growth) < 2:
        return None
    worst = max(grown(growth))
    numbers = ", ".join(f"{record['pairs']:,}" for record in growth)
    return worst, f"{worst - 1:+.1%} at most ({numbers} pairs)"


def gates(key: str, unit: str) -> Callable[[Measurements], Outcome]:
    """A figure of the gates, in several rounds."""

    def outcome(measurements: Measurements) -> Outcome:
        values = measurements.get("gates", {}).get(key)
        spread = Spread(tuple(values)) if values else None
        return spread and (spread.median, f"{spread.text()} {unit}")

    return outcome


def gpu(key: str, text: str) -> Callable[[Measurements], Outcome]:
    """A figure of the GPU run, of the MonoBERT-large shape."""

    def outcome(measurements: Measurements) -> Outcome:
        value = measurements.get("gpu", {}).get("shapes", {}).get("bert-large", {}).get(key)
        return None if value is None else (value, text.format(value))

    return outcome


def _at_least(bound: float) -> Callable[[float], bool]:
    return lambda value: value >= bound


def _at_most(bound: float) -> Callable[[float], bool]:
    return lambda value: value <= bound


WORKS = {"table1": "Table 1", "up-to": "Figure 1a", "heads": "every head alone"}
AS_WRITTEN = {"table1": 2.2, "up-to": 4.0, "heads": 4.0}
GOALS = (
    *(
        Goal(
            f"{name} against the compiled loop",
            "at least .95 of what the operation count allows",
            _at_least(0.95),
            of_allowed(key),
        )
        for key, name in WORKS.items()
    ),
    *(
        Goal(
            f"{name} against the loop as people write it",
            f"at least {AS_WRITTEN[key]:g} times faster",
            _at_least(AS_WRITTEN[key]),
            over("loop over SDPA", key),
        )
        for key, name in WORKS.items()
    ),
    Goal(
        "the screen over plain scoring by transformers",
        "at most 3 times",
        _at_most(3),
        gates("screen", "times"),
    ),
    Goal(
        "explaining two passages, the swap included",
        "at most 3 CPU s",
        _at_most(3),
        gates("explain", "CPU s"),
    ),
    Goal("part masses over plain scoring", "at most 1.10 times", _at_most(1.1), masses),
    Goal("memory, pairs grown tenfold", "at most +5%", _at_most(1.05), memory),
    Goal(
        "share of the bf16 peak of one GPU", "at least .5", _at_least(0.5), gpu("share", "{:.2f}")
    ),
    Goal(
        "the whole paper with a MonoBERT-large shape on one GPU",
        "under 10 minutes",
        lambda value: value < 600,
        gpu("paper_seconds", "about {:.0f} s, from a slice"),
    ),
)
