"""The whole study: all studies of one model on one sampling of pairs, sharing their passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from matchlens.arguments import typed
from matchlens.corpora import EASY_GRADE, Pair, PairSet, thin
from matchlens.directions import Cut
from matchlens.errors import InputError, brief
from matchlens.plan import Condition
from matchlens.ranking.effects import MARGIN
from matchlens.results import Result
from matchlens.studies import sizes
from matchlens.studies.attention.attention import attention
from matchlens.studies.attention.contrasts import CONTRASTS, Classes
from matchlens.studies.attention.watching import Watched, watch
from matchlens.studies.circuits.circuits import checked_halves, circuits, document_parts
from matchlens.studies.claims.claims import claims
from matchlens.studies.claims.evidence import evidence, evidence_cuts
from matchlens.studies.common import ranked, relevant_grade
from matchlens.studies.cuts.ablation import ablation
from matchlens.studies.cuts.controls import control_conditions, controls
from matchlens.studies.cuts.cut_modes import expand_modes
from matchlens.studies.cuts.cut_study import conditions_of
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
        made, _ = expand_modes(preset.cuts, None if how == "zero" else [how])
        return dict(conditions_of([way.cut for way in made])), None
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
    conditions = {"": [], **{point.cut: [Cut.parse(point.cut)] for point in points}}
    return conditions, size.swept if name == "sweep" else size.pairs


Key = tuple[tuple[str, str, str], ...]


class Shared:
    """Runs what several studies will ask of the same pairs when the first of them asks.

    A condition that two studies name is run once, and so are the layers that two conditions share.
    What is asked of other pairs, or beyond what was announced, is run by itself.

    Args:
        runner: runs what is shared, and what is not.
    """

    def __init__(self, runner: Runner | None = None) -> None:
        from matchlens.runners import run

        self.runner = runner or run
        self._announced: dict[Key, dict[str, Condition]] = {}
        self._done: dict[Key, Run] = {}
        self.passes = 0
        """Layer passes times pairs of the runs so far."""

    @property
    def scratch(self) -> Path | None:
        """The runner's."""
        return self.runner.scratch

    def announce(self, pairs: Sequence[Pair], conditions: Mapping[str, Condition]) -> None:
        """Say what will be asked of some pairs."""
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
            that was asked for by name and cannot be run is an error; else it is skipped with its
            reason.
        base: a model before fine-tuning, for the circuits.
        progress: called with what runs, pairs done and pairs in all.
        keep: called with each result as soon as it is there, to save it.
        redraws: other draws of the same sample (``choose`` with another seed). The claims that
            rest on few cuts (study ``evidence``) are decided on each of them, too.

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
    how_much = sizes.size(size)
    names = sizes.chosen_studies(studies, how_much)
    rel = relevant_grade(pairs, rel)
    if set(names) & set(sizes.CUTTING):
        ranked(pairs, measure, rel)
    whole = _Whole(
        model,
        pairs,
        how_much,
        base,
        {"preset": preset, "measure": measure, "rel": rel, "seed": seed},
        tie_tol,
        batch_tokens,
        progress,
        Shared(runner),
        redraws,
    )
    skipped = dict(whole.impossible(names))
    if studies is not None and skipped:
        name, why = next(iter(skipped.items()))
        raise InputError(f"study {name!r} cannot be run: {why}")
    whole.announce([name for name in names if name not in skipped])
    results: dict[str, Result] = {}
    for name in names:
        if name in skipped:
            continue
        for result in getattr(whole, name)(names, results):
            results[result.study] = result
            if keep is not None:
                keep(result)
    return Study(results, skipped)


@dataclass
class _Whole:
    """The parts of one whole study, and what they share."""

    model: Reranker
    pairs: PairSet
    size: sizes.Size
    base: Base | str | Path | None
    common: Mapping[str, Any]
    tie_tol: float | None
    batch_tokens: int | None
    stage: Stage | None
    shared: Shared
    redraws: Sequence[PairSet] = ()
    watched: Watched | None = None

    def __post_init__(self) -> None:
        self.preset = preset_of(str(self.common["preset"]), self.model.decodes)
        self.classes = Classes.of(self.pairs.pairs, int(self.common["rel"]))
        self.contrasts = []
        for contrast in CONTRASTS:
            with suppress(InputError):
                self.classes.check([contrast])
                self.contrasts.append(contrast)

    def impossible(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Studies that this model or these pairs do not allow, and why."""
        found = []
        if "attention" in names and not self.contrasts:
            try:
                self.classes.check(CONTRASTS[:1])
            except InputError as error:
                found.append(("attention", str(error)))
        if "screen" in names:
            from matchlens import gating

            try:
                gating.check_gates(self.model)
            except InputError as error:
                found.append(("screen", str(error)))
        if "circuits" in names:
            try:
                self.model.family.qk(0)  # it says where a model has no such matrices
                self._halves()
            except InputError as error:
                found.append(("circuits", str(error)))
        return found

    def _halves(self) -> tuple[Classes, Classes]:
        return checked_halves(self.pairs.pairs, int(self.common["rel"]), int(self.common["seed"]))

    def announce(self, names: Sequence[str]) -> None:
        """Tell the shared run what will be asked of which pairs."""
        ranked = sum(pair.grade != EASY_GRADE for pair in self.pairs.pairs)
        seed = int(self.common["seed"])
        family = self.model.family
        for name in names:
            if name in sizes.CUTTING:
                conditions, most = study_conditions(
                    name, self.size, self.preset, family.n_layers, family.n_heads
                )
                used, _ = thin(self.pairs, most or ranked, seed=seed)
                self.shared.announce(used.pairs, conditions)

    def _progress(self, what: str) -> Progress | None:
        return None if self.stage is None else partial(self.stage, what)

    def _options(self, what: str, *without: str) -> dict[str, Any]:
        """The options that the studies share, but for those that one does not take."""
        options = {
            **self.common,
            "tie_tol": self.tie_tol,
            "batch_tokens": self.batch_tokens,
            "progress": self._progress(what),
            "runner": self.shared,
        }
        return {name: value for name, value in options.items() if name not in without}

    def ablation(self, names: Sequence[str], done: Mapping[str, Result]) -> list[Result]:
        """Table 1."""
        return [ablation(self.model, self.pairs, **self._options("Table 1"))]

    def evidence(self, names: Sequence[str], done: Mapping[str, Result]) -> list[Result]:
        """The cuts that the claims rest on."""
        options = self._options("cuts for the claims")
        options |= {"redraws": self.redraws, "redraw_progress": self._progress(sizes.REDRAWN)}
        return [evidence(self.model, self.pairs, **options)]

    def sweep(self, names: Sequence[str], done: Mapping[str, Result]) -> list[Result]:
        """Figure 1a, and CLS cut from each layer on."""
        results = []
        for kind, directions in sweeps(self.size, self.preset):
            options = self._options(f"cut {kind.replace('-', ' ')} each layer")
            options |= {"directions": directions, "most_pairs": self.size.swept}
            results.append(sweep(self.model, self.pairs, kind, **options))
        return results

    def heads(self, names: Sequence[str], done: Mapping[str, Result]) -> list[Result]:
        """Every head alone."""
        options = self._options("every head alone")
        return [sweep(self.model, self.pairs, "heads", most_pairs=self.size.pairs, **options)]

    def controls(self, names: Sequence[str], done: Mapping[str, Result]) -> list[Result]:
        """Directions beside their controls."""
        options = self._options("random edges")
        options |= {"draws": self.size.draws, "most_pairs": self.size.pairs}
        return [controls(self.model, self.pairs, **options)]

    def screen(self, names: Sequence[str], done: Mapping[str, Result]) -> list[Result]:
        """Every head in every direction, to first order."""
        options = self._options(sizes.SCREENED, "preset", "batch_tokens")
        return [screen(self.model, self.pairs, most_pairs=self.size.pairs, **options)]

    def _untouched(self, names: Sequence[str]) -> Watched:
        """The one untouched pass, with what the studies that are run need of it."""
        if self.watched is None:
            wanted = "circuits" in names and not self.impossible(["circuits"])
            self.watched = watch(
                self.model,
                self.pairs,
                list(dict.fromkeys(("mass", *self.preset.meters))),
                means_of=self._halves()[0] if wanted else None,
                document=document_parts(self.preset.name),
                batch_tokens=self.batch_tokens,
                progress=self._progress("attention"),
                runner=self.shared,
            )
        return self.watched

    def attention(self, names: Sequence[str], done: Mapping[str, Result]) -> list[Result]:
        """Where attention goes, and the matching heads."""
        options = self._options("matching heads, cut", "tie_tol")
        options |= {"contrasts": self.contrasts, "causal": self.size.causal}
        options |= {"most_pairs": self.size.causal_pairs, "watched": self._untouched(names)}
        return [attention(self.model, self.pairs, **options)]

    def circuits(self, names: Sequence[str], done: Mapping[str, Result]) -> list[Result]:
        """The query-key matrices."""
        options = self._options("terms of the logits", "tie_tol", "measure")
        options |= {"base": self.base, "same_token": "same_token" in self.preset.meters}
        options |= {"most_pairs": self.size.pairs, "watched": self._untouched(names)}
        return [circuits(self.model, self.pairs, **options)]

    def looking(self, names: Sequence[str], done: Mapping[str, Result]) -> list[Result]:
        """A few pairs, token by token."""
        cut = [done[name].scores for name in ("ablation", "sweep-up-to") if name in done]
        options = self._options("pairs to look into", "tie_tol", "measure", "preset", "rel")
        options |= {"looks": self.size.looks}
        options["scored"] = pd.concat(cut, ignore_index=True) if cut else None
        if "attention" in done:
            options["matching"] = done["attention"].tables["matching"]
        return [look(self.model, self.pairs, **options)]
