"""The whole study: all studies of one model on one sampling of pairs, sharing their passes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import EASY_GRADE, Pair, PairSet, thin
from matchlens.errors import InputError, brief
from matchlens.plan import Condition, single_cuts
from matchlens.ranking.effects import MARGIN
from matchlens.results import Result
from matchlens.studies import sizes
from matchlens.studies.attention.attention import attention
from matchlens.studies.attention.contrasts import CONTRASTS, Classes
from matchlens.studies.attention.watching import Watched, watch
from matchlens.studies.circuits.circuits import checked_halves, circuits, document_parts
from matchlens.studies.claims.claims import claims
from matchlens.studies.claims.evidence import check_redraws, evidence, evidence_cuts
from matchlens.studies.common import pair_key, ranked, relevant_grade
from matchlens.studies.cuts.controls import control_conditions, controls
from matchlens.studies.cuts.cut_modes import preset_cuts
from matchlens.studies.cuts.cut_study import ablation, conditions_of
from matchlens.studies.cuts.sweeps import WHOLE_HEAD, sweep, sweep_points
from matchlens.studies.looking import look
from matchlens.studies.presets import Preset
from matchlens.studies.presets import preset as preset_of
from matchlens.studies.screening import screen
from matchlens.studies.sizes import Size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from matchlens.engine import Progress, Run
    from matchlens.models.base import Base
    from matchlens.models.load import Reranker
    from matchlens.runners import MeasurementRequest, Runner


def sweeps(size: Size, preset: Preset) -> list[tuple[str, tuple[str, ...]]]:
    """The sweeps over layers, each a kind with its directions."""
    late = [("from", size.late)] if size.late else []
    return [("up-to", size.figure_1a(preset.name)), *late]


def study_conditions(
    name: str, size: Size, preset: Preset, layers: int, heads: int
) -> tuple[dict[str, Condition], int | None]:
    """The conditions of a study that cuts, and its most pairs (None: all that are ranked).

    >>> from matchlens.studies.presets import preset
    >>> from matchlens.studies.sizes import size
    >>> conditions, most = study_conditions("sweep", size("quick"), preset("default"), 2, 2)
    >>> len(conditions), most
    (10, None)
    """
    how = preset.how
    if name == "ablation":
        return dict(conditions_of(preset_cuts(preset))), None
    if name == "evidence":
        return dict(conditions_of(evidence_cuts(layers))), None
    if name == "controls":
        conditions, _, _ = control_conditions(preset.directions, [how], size.draws)
        return conditions, size.pairs
    kinds = sweeps(size, preset) if name == "sweep" else [("heads", (WHOLE_HEAD,))]
    points = [
        point
        for kind, directions in kinds
        for point in sweep_points(kind, directions, layers=layers, heads=heads, hows=(how,))[0]
    ]
    conditions = single_cuts(point.cut for point in points)
    return conditions, size.swept if name == "sweep" else size.pairs


Key = tuple[tuple[str, str, str], ...]


class Shared:
    """A runner that runs all that studies announced for the same pairs when the first one asks.

    A condition that two studies name is run once, and so are the layers that two conditions share.
    Other pairs, conditions that were not announced, and measurements are run by themselves.
    """

    def __init__(self, runner: Runner | None = None) -> None:
        from matchlens.runners import run

        self.runner = runner or run
        self._announced: dict[Key, dict[str, Condition]] = {}
        self._done: dict[Key, Run] = {}

    @property
    def scratch(self) -> Path | None:
        """The runner's."""
        return self.runner.scratch

    def announce(self, pairs: Sequence[Pair], conditions: Mapping[str, Condition]) -> None:
        """Announce conditions under which some pairs will be run."""
        announced = self._announced.setdefault(_key(pairs), {})
        for name, cuts in conditions.items():
            if name in announced and list(announced[name]) != list(cuts):
                raise InputError(
                    f"condition {name!r} stands for two things; give each a name of its own"
                )
            announced[name] = cuts

    def __call__(
        self,
        model: Reranker,
        pairs: Sequence[Pair],
        conditions: Mapping[str, Condition],
        *,
        asked: Sequence[MeasurementRequest] = (),
        **options: Any,
    ) -> Run:
        """Score the pairs under every condition, from the shared run where it has them."""
        key = _key(pairs)
        announced = self._announced.get(key, {})
        shared = not asked and all(
            list(announced.get(name, ("",))) == list(cuts) for name, cuts in conditions.items()
        )
        if shared and key in self._done:
            return self._done[key].only(conditions, model)
        out = self.runner(model, pairs, announced if shared else conditions, asked=asked, **options)
        if not shared:
            return out
        self._done[key] = out
        return out.only(conditions, model)


def _key(pairs: Sequence[Pair]) -> Key:
    return tuple(map(pair_key, pairs))


Stage = Callable[[str, int, int], None]
"""Called with what runs, pairs done and pairs in all."""


@dataclass(frozen=True, repr=False)
class Study:
    """The results of a whole study, by name.

    Args:
        results: study to result, in the order in which they ran.
        skipped: study to the reason why it was not run.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=2, per_grade=1)
    >>> found = matchlens.study(matchlens.load("demo"), pairs, studies=["ablation"])
    >>> list(found.results), found.to_frame("ablation")["cut"].iloc[1]
    (['ablation'], 'random')
    """

    results: Mapping[str, Result]
    skipped: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Study: {brief(', '.join(self.results), 120)}, {len(self.skipped)} skipped>"

    def __getitem__(self, name: str) -> Result:
        """One study's result."""
        if name in self.results:
            return self.results[name]
        why = self.skipped.get(name, f"expected one of {', '.join(self.results)}")
        raise InputError(f"the study has no result {name!r}; {why}")

    @typed
    def to_frame(self, name: str, table: str | None = None) -> pd.DataFrame:
        """A copy of a table of one study.

        Args:
            name: the study.
            table: its table, the first where None.

        Raises:
            InputError: if the study was not run or has no such table.
        """
        return self[name].to_frame(table)

    @typed
    def claims(self, *, margin: float = MARGIN) -> pd.DataFrame:
        """The paper's claims for this model, decided from the results.

        Args:
            margin: share of (original - random), query by query, that counts as no change.
        """
        return claims(self.results, margin=margin)

    @typed
    def plot(self, name: str, figure: str | None = None) -> Figure:
        """A figure of one study.

        Args:
            name: the study.
            figure: its figure, the main one where None.

        Raises:
            InputError: if the study was not run or has no such figure.
        """
        return self[name].plot(figure)

    @typed
    def to_latex(self, name: str) -> str:
        """The main table of one study in LaTeX.

        Args:
            name: the study.

        Raises:
            InputError: if the study was not run.
        """
        return self[name].to_latex()

    def _repr_html_(self) -> str:
        """What a notebook shows: every study's own display, in the order in which they ran."""
        return "\n".join(result._repr_html_() for result in self.results.values())

    @typed
    def save(self, folder: str | Path, *, drawings: bool = False) -> Path:
        """Write all results into one folder; :func:`matchlens.write_report` makes the page of it.

        Args:
            folder: where the results go.
            drawings: write printed tables, LaTeX and figures as well, as the command does.

        Raises:
            InputError: if the folder cannot be written, or belongs to something else.
        """
        for result in self.results.values():
            result.save(folder, drawings=drawings)
        return Path(folder)


@typed
def study(
    model: Reranker,
    pairs: PairSet,
    *,
    size: str = "default",
    studies: Sequence[str] | None = None,
    base: Base | str | Path | None = None,
    preset: str = "default",
    measure: str = "nDCG@10",
    rel: int | None = None,
    tie_tol: float | None = None,
    seed: int = 0,
    batch_tokens: int | None = None,
    progress: Stage | None = None,
    keep: Callable[[Result], None] | None = None,
    runner: Runner | None = None,
    redraws: Sequence[PairSet] = (),
) -> Study:
    """Run every study of the paper on the same pairs; what two of them need is computed once.

    One untouched pass over all pairs gives the attention meters and the mean states; what is cut
    on the same pairs goes through one plan.

    Args:
        model: a loaded reranker.
        pairs: queries with passages of several grades and easy negatives
            (``matchlens.choose(collection, easy=10)``); easy negatives are not ranked.
        size: ``quick`` (Table 1, three directions of Figure 1a, meters, circuits), ``default``
            (everything: Figure 1a on at most 700 pairs, costly parts on at most 450) or ``full``
            (everything on all pairs).
        studies: some of ``ablation``, ``evidence``, ``sweep``, ``heads``, ``controls``,
            ``screen``, ``attention``, ``circuits``, ``looking``; those of the size where None. One
            that is named here and cannot be run is an error; else it is skipped with its reason.
        base: a model before fine-tuning, for the circuits.
        progress: called with what runs, pairs done and pairs in all.
        keep: called with each result as soon as it is complete, to save it.
        redraws: other draws of the same sample (``choose`` with the same options and another
            seed). The claims that rest on few cuts (study ``evidence``) are decided on each of
            them, too.

    The arguments ``preset``, ``measure``, ``rel``, ``tie_tol``, ``seed``, ``batch_tokens`` and
    ``runner`` are those of :func:`matchlens.ablation`.

    Raises:
        InputError: if an option or the pairs cannot be used.

    Source: Vast et al. 2025, all of it.

    >>> import matchlens
    >>> pairs = matchlens.choose(matchlens.demo.load(), queries=4, per_grade=1, easy=1)
    >>> found = matchlens.study(matchlens.load("demo"), pairs, studies=["ablation"])
    >>> found["ablation"].to_frame()["queries"].iloc[0]
    np.int64(4)
    """
    chosen_size = sizes.size(size)
    names = sizes.chosen_studies(studies, chosen_size)
    for option, came, needs in (
        ("base", base is not None, "circuits"),
        ("redraws", bool(redraws), "evidence"),
    ):
        if came and needs not in names:
            raise InputError(
                f"{option} has no effect without the study {needs}, and {', '.join(names)} were "
                f"asked for; expected {needs} among them: add it to studies=, or leave {option} out"
            )
    check_redraws(pairs, redraws)
    rel = relevant_grade(pairs, rel)
    if set(names) & set(sizes.CUTTING):
        ranked(pairs, measure, rel)
    options = {
        "preset": preset,
        "measure": measure,
        "rel": rel,
        "tie_tol": tie_tol,
        "seed": seed,
        "batch_tokens": batch_tokens,
        "runner": Shared(runner),
    }
    whole = _Whole(model, pairs, chosen_size, options, base, redraws, progress)
    skipped = whole.impossible(names)
    if studies is not None and skipped:
        name, why = next(iter(skipped.items()))
        raise InputError(f"study {name!r} cannot be run: {why}")
    whole.names = tuple(name for name in names if name not in skipped)
    whole.announce()
    results: dict[str, Result] = {}
    for name in whole.names:
        for result in whole.run(name, results):
            results[result.study] = result
            if keep is not None:
                keep(result)
    return Study(results, skipped)


@dataclass
class _Whole:
    """One whole study: its options, and what its parts share."""

    model: Reranker
    pairs: PairSet
    size: Size
    options: Mapping[str, Any]
    base: Base | str | Path | None
    redraws: Sequence[PairSet]
    stage: Stage | None
    names: tuple[str, ...] = ()
    watched: Watched | None = None

    def __post_init__(self) -> None:
        self.preset = preset_of(self.options["preset"], self.model.decodes)
        self.classes = Classes.of(self.pairs.pairs, self.options["rel"])
        self.contrasts = []
        for contrast in CONTRASTS:
            with suppress(InputError):
                self.classes.check([contrast])
                self.contrasts.append(contrast)

    def impossible(self, names: Sequence[str]) -> dict[str, str]:
        """Studies that this model or these pairs do not allow, and why."""

        from matchlens import gating

        reasons = {}
        for name in ("attention", "screen", "circuits"):
            if name not in names:
                continue
            try:
                if name == "attention" and not self.contrasts:
                    self.classes.check(CONTRASTS[:1])
                elif name == "screen":
                    gating.check_gates(self.model)
                elif name == "circuits":
                    self.model.family.qk(0)  # raises where a model has no such matrices
                    self._halves()
            except InputError as error:
                reasons[name] = str(error)
        return reasons

    def _halves(self) -> tuple[Classes, Classes]:
        return checked_halves(self.pairs.pairs, self.options["rel"], self.options["seed"])

    def announce(self) -> None:
        """Tell the shared runner which conditions will be run on which pairs."""
        ranked = sum(pair.grade != EASY_GRADE for pair in self.pairs.pairs)
        shape = self.model.family.n_layers, self.model.family.n_heads
        for name in self.names:
            if name in sizes.CUTTING:
                conditions, most = study_conditions(name, self.size, self.preset, *shape)
                used, _ = thin(self.pairs, most or ranked, seed=self.options["seed"])
                self.options["runner"].announce(used.pairs, conditions)

    def _progress(self, what: str) -> Progress | None:
        return None if self.stage is None else partial(self.stage, what)

    def _call(self, study: Callable[..., Result], what: str, *kind: str, **own: Any) -> Result:
        """Call the function of a study with its own options, and the shared ones that it takes."""
        shared = {**self.options, "progress": self._progress(what)}
        takes = inspect.signature(study).parameters
        if "options" not in takes:
            shared = {name: value for name, value in shared.items() if name in takes}
        return study(self.model, self.pairs, *kind, **shared, **own)

    def run(self, name: str, done: Mapping[str, Result]) -> Iterator[Result]:
        """The results of one part of the whole."""
        size = self.size
        if name == "ablation":
            yield self._call(ablation, "Table 1")
        elif name == "evidence":
            own = {"redraws": self.redraws, "redraw_progress": self._progress(sizes.REDRAWN)}
            yield self._call(evidence, "cuts for the claims", **own)
        elif name == "sweep":
            for kind, directions in sweeps(size, self.preset):
                label = f"cut {kind.replace('-', ' ')} each layer"
                yield self._call(sweep, label, kind, directions=directions, most_pairs=size.swept)
        elif name == "heads":
            yield self._call(sweep, "every head alone", "heads", most_pairs=size.pairs)
        elif name == "controls":
            yield self._call(controls, "random edges", draws=size.draws, most_pairs=size.pairs)
        elif name == "screen":
            yield self._call(screen, sizes.SCREENED, most_pairs=size.pairs)
        elif name == "attention":
            yield self._call(
                attention,
                "matching heads, cut",
                contrasts=self.contrasts,
                causal=size.causal,
                most_pairs=size.causal_pairs,
                watched=self._untouched(),
            )
        elif name == "circuits":
            yield self._call(
                circuits,
                "terms of the logits",
                base=self.base,
                same_token="same_token" in self.preset.meters,
                most_pairs=size.pairs,
                watched=self._untouched(),
            )
        else:
            yield self._look(done)

    def _untouched(self) -> Watched:
        """The one untouched pass, with what the studies that are run need of it."""
        if self.watched is None:
            self.watched = watch(
                self.model,
                self.pairs,
                list(dict.fromkeys(("mass", *self.preset.meters))),
                means_of=self._halves()[0] if "circuits" in self.names else None,
                document=document_parts(self.preset.name),
                batch_tokens=self.options["batch_tokens"],
                progress=self._progress("attention"),
                runner=self.options["runner"],
            )
        return self.watched

    def _look(self, done: Mapping[str, Result]) -> Result:
        """Pairs token by token, by the scores and the matching heads that there are already."""
        scores = [done[name].scores for name in ("ablation", "sweep-up-to") if name in done]
        stored = {
            "scored": pd.concat(scores, ignore_index=True) if scores else None,
            "matching": done["attention"].tables["matching"] if "attention" in done else None,
        }
        return self._call(look, "pairs to look into", looks=self.size.looks, **stored)
