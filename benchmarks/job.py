"""A job: what all contenders of one comparison are asked to do, as plain data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """What is done, on what.

    Args:
        kind: ``scores`` (of every condition), ``masses`` (part masses and the untouched scores),
            ``triplets`` (of random heads) or ``growth``.
        model: folder of the model; empty where none is needed.
        max_length: most tokens of a pair.
        pairs: query and passage of each pair.
        conditions: cuts as texts, the empty text being the untouched model.
        threads: threads that a contender may use.
        sizes: whole numbers that the kind needs beside: heads, width of a head and of the model for
            ``triplets``; the number of pairs for ``growth``.
    """

    kind: str
    model: str = ""
    max_length: int = 128
    pairs: list[list[str]] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    threads: int = 1
    sizes: list[int] = field(default_factory=list)

    def write(self, path: Path, contender: Contender) -> None:
        """Write the job for one contender's process."""
        path.write_text(json.dumps({"job": asdict(self), "contender": asdict(contender)}))


@dataclass(frozen=True)
class Contender:
    """One that does the job.

    Args:
        name: what tables call it.
        module: module of this package that makes it.
        options: given to the module's ``make``.
        environment: the virtual environment that it needs; the one of matchlens where empty.
        side: ``ours``, ``peer`` (a fair opponent), ``authors`` (their loop's shape), ``baseline``
            (what something is measured against).
        required: keys that its results must have; all of the reference's where empty.
    """

    name: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: str = ""
    side: str = "peer"
    required: tuple[str, ...] = ()


class UnavailableError(Exception):
    """A contender cannot run here; the message says why."""


def read(path: Path) -> tuple[Job, Contender]:
    """The job and the contender of one process."""
    held = json.loads(path.read_text())
    return Job(**held["job"]), Contender(**held["contender"])
