"""The goals, and what was measured against each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.ratios import Spread, Work, fastest, grown, ratio, share

Held = Mapping[str, Any]
Found = tuple[float, str] | None
"""What decides, and how it is said; None where nothing was measured."""


@dataclass(frozen=True)
class Goal:
    """One line of the table of goals.

    Args:
        work: what is measured.
        goal: what is wanted, in words.
        met: whether a number meets it.
        found: reads the number from what is stored.
    """

    work: str
    goal: str
    met: Callable[[float], bool]
    found: Callable[[Held], Found]

    def row(self, held: Held) -> tuple[str, str, str, str]:
        """Work, goal, what was measured, and the verdict."""
        found = self.found(held)
        if found is None:
            return self.work, self.goal, "not measured", "-"
        return self.work, self.goal, found[1], "met" if self.met(found[0]) else "**missed**"


def times_faster(key: str, side: str) -> Callable[[Held], Found]:
    """How many times the CPU seconds of the fastest of a side take matchlens's fastest."""

    def found(held: Held) -> Found:
        work = held["works"].get(key)
        names = fastest(work, side, "ours")
        if work is None or names is None:
            return None
        spread = ratio(work, *names)
        return spread.median, f"{spread.text()} times ({names[1]} against {names[0]})"

    return found


def masses(held: Held) -> Found:
    """Part masses over plain scoring, both by the same configuration of matchlens."""
    work = held["works"].get("masses")
    names = fastest(work, "ours")
    if work is None or names is None:
        return None
    plain = f"{names[0]}: plain scoring"
    if not work["contenders"].get(plain, {}).get("rounds"):
        return None
    spread = ratio(work, names[0], plain)
    return spread.median, f"{spread.text()} times ({names[0]})"


def peak(key: str) -> Callable[[Held], Found]:
    """Share of the machine's own rate of matrix products."""

    def found(held: Held) -> Found:
        work: Work | None = held["works"].get(key)
        names = fastest(work, "ours")
        if work is None or names is None:
            return None
        spread: Spread | None = share(work, names[0])
        return spread and (spread.median, f"{spread.text()} ({names[0]})")

    return found


def memory(held: Held) -> Found:
    """The largest growth of peak memory as the pairs grow tenfold."""
    growth = held["growth"]
    if len(growth) < 2:
        return None
    worst = max(grown(growth))
    numbers = ", ".join(f"{one['pairs']:,}" for one in growth)
    return worst, f"{worst - 1:+.1%} at most ({numbers} pairs)"


def gpu(key: str, text: str) -> Callable[[Held], Found]:
    """A figure of the GPU run, of the MonoBERT-large shape."""

    def found(held: Held) -> Found:
        value = held.get("gpu", {}).get("shapes", {}).get("bert-large", {}).get(key)
        return None if value is None else (value, text.format(value))

    return found


GOALS = (
    Goal(
        "Table 1 against the fastest correct peer",
        "at least 1.5 times faster",
        lambda x: x >= 1.5,
        times_faster("table1", "peer"),
    ),
    Goal(
        "Figure 1a against the fastest correct peer",
        "at least 3 times",
        lambda x: x >= 3,
        times_faster("up-to", "peer"),
    ),
    Goal(
        "every head alone against the fastest correct peer",
        "at least 3 times",
        lambda x: x >= 3,
        times_faster("heads", "peer"),
    ),
    Goal(
        "Table 1 against the authors' loop, padded to 128",
        "at least 5 times",
        lambda x: x >= 5,
        times_faster("table1", "authors"),
    ),
    Goal(
        "Figure 1a against the authors' loop, padded to 128",
        "at least 5 times",
        lambda x: x >= 5,
        times_faster("up-to", "authors"),
    ),
    Goal(
        "attention statistics against the authors' loop, padded to 128",
        "at least 10 times",
        lambda x: x >= 10,
        times_faster("masses", "authors"),
    ),
    Goal("part masses over plain scoring", "at most 1.10 times", lambda x: x <= 1.10, masses),
    Goal(
        "share of the GEMM peak, plain scoring", "at least .80", lambda x: x >= 0.8, peak("plain")
    ),
    Goal("share of the GEMM peak, Figure 1a", "at least .80", lambda x: x >= 0.8, peak("up-to")),
    Goal("memory, pairs grown tenfold", "at most +5%", lambda x: x <= 1.05, memory),
    Goal(
        "share of the bf16 peak of one GPU",
        "at least .5",
        lambda x: x >= 0.5,
        gpu("share", "{:.2f}"),
    ),
    Goal(
        "the whole paper with a MonoBERT-large shape on one GPU",
        "under 10 minutes",
        lambda x: x < 600,
        gpu("paper_seconds", "about {:.0f} s, from a slice"),
    ),
)
