"""The cuts that the claims rest on, each with the cuts that tell whether it leaves a back door.

Some tokens may carry the same state (CLS, SEP1 and SEP2 do from some layer on), so that cutting one
of them leaves the others to do its work: a backup path. So each cut of CLS or SEP stands beside its
siblings and their joint cut, and a claim uses the joint cut where that does more damage than every
single one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matchlens.corpora import PairSet
from matchlens.models.load import Reranker
from matchlens.results import Result
from matchlens.studies.conduct import Settings, conduct
from matchlens.studies.measuring import conditions_of

NAME = "evidence"
ALONE = ("D->D", "D->Q", "Q->D")
"""Cuts without siblings, in all layers."""


@dataclass(frozen=True)
class Path:
    """Cuts of tokens that may carry the same state.

    Args:
        main: the cut that a claim speaks of.
        others: the same cut of the tokens that may stand in for it.
        joint: all of them at once.
    """

    main: str
    others: tuple[str, ...]
    joint: str

    @property
    def cuts(self) -> tuple[str, ...]:
        """All of them, the joint one last."""
        return (self.main, *self.others, self.joint)


def early(layers: int) -> int:
    """The number of layers that count as early: the lower third."""
    return math.ceil(layers / 3)


def half(layers: int) -> int:
    """The number of layers of the lower half."""
    return math.ceil(layers / 2)


def read_sep(layers: int) -> tuple[Path, ...]:
    """SEP1 and SEP2 hidden from query and document, in all layers."""
    first, second = "{Q,D}->SEP1", "{Q,D}->SEP2"
    joint = "{Q,D}->{SEP1,SEP2}"
    return Path(first, (second,), joint), Path(second, (first,), joint)


def read_cls(layers: int) -> Path:
    """CLS hidden from query and document in the early layers."""
    where = f"@0:{early(layers)}"
    single = [f"{{Q,D}}->{part}{where}" for part in ("CLS", "SEP1", "SEP2")]
    return Path(single[0], tuple(single[1:]), f"{{Q,D}}->{{CLS,SEP1,SEP2}}{where}")


def gathering(layers: int) -> tuple[Path, Path]:
    """CLS blind to query and document in the lower half, and from there on."""
    found = []
    for where in (f"@0:{half(layers)}", f"@{half(layers)}:{layers}"):
        single = [f"{part}->{{Q,D}}{where}" for part in ("CLS", "SEP1", "SEP2")]
        found.append(Path(single[0], tuple(single[1:]), f"{{CLS,SEP1,SEP2}}->{{Q,D}}{where}"))
    return found[0], found[1]


def evidence_cuts(layers: int) -> tuple[str, ...]:
    """Every cut that a claim rests on, for a model of so many layers.

    >>> len(evidence_cuts(12)), evidence_cuts(12)[6]
    (18, '{Q,D}->CLS@0:4')
    """
    paths = (*read_sep(layers), read_cls(layers), *gathering(layers))
    return tuple(dict.fromkeys((*ALONE, *(cut for path in paths for cut in path.cuts))))


def evidence(model: Reranker, pairs: PairSet, **options: object) -> Result:
    """Make the cuts that the claims rest on.

    Args:
        model: a loaded reranker.
        pairs: candidates of graded queries.
        options: preset, measure, rel, tie_tol, seed, most_pairs, batch_tokens, progress and
            runner, as :func:`matchlens.ablation` takes them.

    Returns:
        Tables ``cuts`` (one row for each cut) and ``queries`` (one row for each cut and query, the
        random ranking among the cuts).

    Raises:
        InputError: if the pairs or an option cannot be used.

    Source: science 2, "Backup paths", and 3, "A statement about a model".
    """
    run = {name: options.pop(name) for name in ("progress", "runner") if name in options}
    conditions = conditions_of(evidence_cuts(model.family.n_layers))
    done = conduct(model, pairs, conditions, Settings(**options), **run)  # type: ignore[arg-type]
    return done.result(NAME, {}, {"cuts": done.table, "queries": done.queries})


def named(cuts: Sequence[str]) -> str:
    """Cuts in a sentence.

    >>> named(["D->D", "D->Q", "Q->D"])
    'D->D, D->Q and Q->D'
    """
    return " and ".join([", ".join(cuts[:-1]), cuts[-1]] if len(cuts) > 1 else list(cuts))
