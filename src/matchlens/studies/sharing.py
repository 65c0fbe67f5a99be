"""One run for several studies: what they ask of the same pairs goes through one plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matchlens.corpora import Pair
from matchlens.engine import Progress, Run
from matchlens.errors import InputError
from matchlens.models.load import Reranker
from matchlens.plan import Condition
from matchlens.runners import MeasurementRequest, Runner, run

Key = tuple[tuple[str, str, str], ...]


class Shared:
    """Runs what several studies will ask of the same pairs when the first of them asks.

    A condition that two studies name is run once, and so are the layers that two conditions share.
    What is asked of other pairs, or beyond what was announced, is run by itself.

    Args:
        runner: runs what is shared, and what is not.
    """

    def __init__(self, runner: Runner = run) -> None:
        self.runner = runner
        self._announced: dict[Key, dict[str, Condition]] = {}
        self._done: dict[Key, Run] = {}
        self.passes = 0
        """Layer passes times pairs of the runs so far."""

    @property
    def scratch(self) -> Path | None:
        """The runner's."""
        return self.runner.scratch

    def announce(self, pairs: Sequence[Pair], conditions: Mapping[str, Condition]) -> None:
        """Say what will be asked of some pairs.

        Raises:
            InputError: if a name stands for other cuts already.
        """
        held = self._announced.setdefault(_key(pairs), {})
        for name, cuts in conditions.items():
            if name in held and list(held[name]) != list(cuts):
                raise InputError(
                    f"condition {name!r} stands for two things; give each a name of its own"
                )
            held[name] = cuts

    def __call__(
        self,
        model: Reranker,
        pairs: Sequence[Pair],
        conditions: Mapping[str, Condition],
        *,
        seed: int = 0,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
        asked: Sequence[MeasurementRequest] = (),
    ) -> Run:
        """Score the pairs under every condition, from the shared run where it has them.

        What is measured, too, is run by itself.
        """
        key = _key(pairs)
        held = self._announced.get(key, {})
        common = not asked and all(
            list(held.get(name, ("",))) == list(cuts) for name, cuts in conditions.items()
        )
        if not common or key not in self._done:
            out = self.runner(
                model,
                pairs,
                held if common else conditions,
                seed=seed,
                batch_tokens=batch_tokens,
                progress=progress,
                asked=asked,
            )
            self.passes += out.plan.passes * len(pairs)
            if not common:
                return out
            self._done[key] = out
        return self._done[key].only(conditions, model)


def _key(pairs: Sequence[Pair]) -> Key:
    return tuple((pair.collection, pair.qid, pair.docid) for pair in pairs)
