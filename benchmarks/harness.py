"""Contenders take turns at one job; what each gives is held against the reference first."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.environments import python, surroundings
from benchmarks.job import Contender, Job, UnavailableError
from benchmarks.worker import Local

ROOT = Path(__file__).resolve().parent.parent
TOLERANCES = {"scores": 2e-4, "mass": 1e-5, "triplets": 1e-6}
"""Largest difference from the float64 reference: of logits, of part masses, of triplets."""

Results = dict[str, np.ndarray]
Say = Callable[[str], None]


class Handle(Protocol):
    """A contender that is ready: here or in a process of its own."""

    facts: dict[str, Any]

    def round(self) -> tuple[dict[str, float], Results]:
        """Do the work once."""
        ...


class Remote:
    """A contender in a process of its own.

    Args:
        contender: which.
        job: what it does.
        folder: where the job, the results and its log lie.

    Raises:
        UnavailableError: if it cannot run here.
    """

    def __init__(self, contender: Contender, job: Job, folder: Path) -> None:
        file = folder / "job.json"
        job.write(file, contender)
        self.results, self.log = folder / "results.npz", folder / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(python(contender.environment)), "-m", "benchmarks.worker", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=surroundings(job.threads),
            )
        self.facts = self._answer()
        if "unavailable" in self.facts:
            self.end()
            raise UnavailableError(str(self.facts["unavailable"]))

    def round(self) -> tuple[dict[str, float], Results]:
        """Do the work once.

        Raises:
            UnavailableError: if the process ended.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(f"{self.results}\n")
        self.process.stdin.flush()
        took = self._answer()
        with np.load(self.results) as held:
            return took, {key[1:]: held[key] for key in held}

    def end(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            said = (self.log.read_text().strip().splitlines() or ["nothing"])[-1]
            raise UnavailableError(f"its process ended: {said}")
        return json.loads(line)


@dataclass
class Standing:
    """How a contender stands.

    Args:
        contender: which.
        facts: what it says of itself: batch size, versions, seconds to prepare.
        rounds: CPU and wall seconds and memory of each round; empty where it is refused.
        difference: largest difference from the reference, by kind of number.
        wrong: why its time is refused, empty where its results are right.
        absent: why it did not run, empty where it did.
    """

    contender: Contender
    facts: dict[str, Any] = field(default_factory=dict)
    rounds: list[dict[str, float]] = field(default_factory=list)
    difference: dict[str, float] = field(default_factory=dict)
    wrong: str = ""
    absent: str = ""

    def record(self) -> dict[str, Any]:
        """As it is written to the JSON file."""
        out = {"side": self.contender.side, "facts": self.facts, "rounds": self.rounds}
        out |= {"difference": self.difference, "wrong": self.wrong, "absent": self.absent}
        return out


def compare(results: Results, right: Results, contender: Contender, partial: bool) -> Results:
    """Largest differences from the reference, by kind of number; NaN where a number is missing.

    Args:
        results: what a contender gave.
        right: the reference; NaN where it was not computed.
        contender: says which results are required.
        partial: whether the contender ran only some of the pairs, the others' numbers being NaN.
    """
    out: dict[str, Any] = {}
    for key in contender.required or tuple(right):
        kind = "mass" if key == "mass" else "triplets" if key in ("values", "cosines") else "scores"
        known = ~np.isnan(right[key])
        found = results.get(key)
        worst = np.nan
        if found is not None and found.shape == right[key].shape:
            gaps = np.abs(found.astype(np.float64) - right[key])[known]
            gaps = gaps[~np.isnan(gaps)] if partial else gaps
            worst = float(gaps.max()) if len(gaps) else np.nan
        out[kind] = float(np.maximum(out.get(kind, 0.0), worst))  # NaN stays
    return out


def verdict(difference: dict[str, float]) -> str:
    """Why results are refused; empty if they are right."""
    for kind, worst in difference.items():
        if not worst <= TOLERANCES[kind]:
            return (
                f"{kind} differ from the reference by {worst:.2g} (at most {TOLERANCES[kind]:.0e})"
            )
    return ""


def compete(
    job: Job,
    contenders: Sequence[Contender],
    right: Results,
    rounds: int,
    say: Say = print,
    remote: bool = True,
) -> list[Standing]:
    """Let contenders do the job in turns, in an order that moves on by one each round.

    Args:
        job: the job.
        contenders: who.
        right: the reference.
        rounds: how often each does it.
        say: told what happens.
        remote: whether each runs in a process of its own.

    Returns:
        How each stands, in the order given. One whose results are wrong in any round has no times.
    """
    with tempfile.TemporaryDirectory(prefix="matchlens-bench-") as held:
        standings = [Standing(contender) for contender in contenders]
        handles: dict[str, Handle] = {}
        for place, standing in enumerate(standings):
            folder = Path(held, str(place))
            folder.mkdir()
            try:
                handles[standing.contender.name] = handle = _ready(
                    standing.contender, job, folder, remote
                )
                standing.facts = handle.facts
                say(f"  {standing.contender.name}: ready {handle.facts['prepare seconds']:.1f} s")
            except UnavailableError as error:
                standing.absent = str(error)
                say(f"  {standing.contender.name}: absent: {error}")
        try:
            for number in range(rounds):
                at = number % len(standings)
                for standing in standings[at:] + standings[:at]:
                    if standing.contender.name in handles and not standing.wrong:
                        _turn(standing, handles[standing.contender.name], right, say)
                        if standing.absent:
                            del handles[standing.contender.name]
        finally:
            for handle in handles.values():
                if isinstance(handle, Remote):
                    handle.end()
    return standings


def _ready(contender: Contender, job: Job, folder: Path, remote: bool) -> Handle:
    if remote:
        return Remote(contender, job, folder)
    file = folder / "job.json"
    job.write(file, contender)
    return Local(file)


def _turn(standing: Standing, handle: Handle, right: Results, say: Say) -> None:
    try:
        took, results = handle.round()
    except UnavailableError as error:
        standing.absent, standing.rounds = str(error), []
        say(f"  {standing.contender.name}: {error}")
        return
    if standing.contender.module == "peak":
        took["rate"] = float(results["rates"].max())
    else:
        scale = float(standing.facts.get("scale", 1))
        found = compare(results, right, standing.contender, scale > 1)
        for kind, worst in found.items():  # NaN stays
            before = standing.difference.get(kind, 0.0)
            standing.difference[kind] = float(np.maximum(worst, before))
        standing.wrong = verdict(standing.difference)
        took["cpu"], took["wall"] = took["cpu"] * scale, took["wall"] * scale
    if standing.wrong:
        standing.rounds = []
        say(f"  {standing.contender.name}: wrong: {standing.wrong}")
        return
    standing.rounds.append(took)
    say(f"  {standing.contender.name}: {took['cpu']:.2f} CPU s, {took['wall']:.2f} s")
