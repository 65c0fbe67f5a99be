"""What every command does around its study: options to a model and pairs, and results."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from matchlens.cli.candidates import check_own_parts, collections, draw
from matchlens.cli.recording import machine, record
from matchlens.cli.terminal import progress, say, show
from matchlens.errors import InputError, Interrupted, MatchlensWarning
from matchlens.options import ModelSettings, Placement, StudySettings
from matchlens.settings import Effect, Settings, options_of
from matchlens.studies.registry import STUDIES
from matchlens.studies.spec import Inputs

if TYPE_CHECKING:
    from matchlens.corpora import PairSet
    from matchlens.models.folder import ModelFolder
    from matchlens.models.load import Reranker
    from matchlens.results import Result
    from matchlens.runners import Runner
    from matchlens.runners.runner import Executor
    from matchlens.runners.task import ModelSpec


@dataclass(frozen=True)
class Job:
    """A command that is ready to run: its options are checked, its pairs are drawn."""

    command: str  # its name
    inputs: Inputs[Any]  # settings, model folder and pairs
    limit: int | None  # most tokens of a pair; the model's own limit where None
    redraw: Callable[[int], PairSet]  # draws the sample with another seed, without easy negatives
    record: dict[str, Any] = field(default_factory=dict)  # what the manifest records of the command

    @property
    def settings(self) -> Any:
        """The options, with defaults of the study filled in."""
        return self.inputs.settings

    @property
    def quiet(self) -> bool:
        """Whether nothing is printed to stderr."""
        return self.settings.quiet

    def redraws(self, number: int) -> list[PairSet]:
        """So many further draws of the sample, with the seeds after its own."""
        return [self.redraw(self.settings.seed + step) for step in range(1, number + 1)]

    def check_ranking(
        self, most: int | None, *, easy: bool = True, all_by: str = "--pairs 0"
    ) -> None:
        """Check, before the model is loaded, that some ranking can move the measure.

        Args:
            most: pairs that are cut at most; all where None.
            easy: whether easy negatives are ranked where the options add some.
            all_by: the option that cuts all pairs.
        """
        from matchlens.corpora import thin
        from matchlens.studies.common import ranked

        pairs, settings = self.inputs.pairs, self.settings
        own = {"rank_easy": easy and self.inputs.rank_easy}
        for measure in settings.measures:
            ranked(pairs, measure, self.inputs.rel, **own)
            if most is None:
                continue
            used, _ = thin(pairs, most, seed=settings.seed, easy=own["rank_easy"])
            try:
                ranked(used, measure, self.inputs.rel, **own)
            except InputError as error:
                raise InputError(
                    f"{len(used.pairs)} of {len(pairs.pairs)} pairs are cut; {all_by} cuts all of "
                    f"them. On these, {error}"
                ) from None

    @contextmanager
    def running(self) -> Iterator[tuple[Reranker, Runner]]:
        """Load the model, and lock the results folder until the run ends.

        Shards of a run that ends early are kept for the next run of the same command; those of a
        complete run are deleted.

        Raises:
            InputError: if the folder is in use or holds another unfinished run.
            Interrupted: if a person stopped it.
        """
        from matchlens.runners.store import Work
        from matchlens.signals import NOTHING_LEFT, Stop

        out, work = self.settings.out, None
        if out is not None:
            work = Work.open(out, self._about())
        stop, executor = Stop(), None
        try:
            with stop.listening():
                try:
                    model = self._load()
                    if stop.heard:  # an import may have swallowed the exception
                        raise KeyboardInterrupt
                    executor = executor_of(self.settings, self._model_spec())
                    from matchlens.runners import ShardedRunner

                    yield model, ShardedRunner(work and work.shards, executor, stop)
                    if work is not None:
                        with stop.shielded():
                            work.finish()
                        work = None
                finally:
                    if executor is not None:
                        executor.close()
        except BaseException as error:
            kept = 0 if work is None else work.leave()
            stopped = isinstance(error, KeyboardInterrupt) or stop.heard
            if not stopped or isinstance(error, InputError):
                raise
            raise Interrupted(
                f"stopped; {kept} {'shard is' if kept == 1 else 'shards are'} kept in "
                f"{str(out)!r}: run the same command again to go on"
                if kept
                else NOTHING_LEFT
            ) from None

    def save(self, result: Result) -> None:
        """Save the tables of a result, and then what is drawn from them."""
        self._save_tables(result)
        self._draw(result)

    def finish(self, result: Result) -> None:
        """Save the tables of a result, show its main table, then save what is drawn from them."""
        out, failure = self.settings.out, None
        try:  # the tables first: a fault in a drawing loses nothing
            self._save_tables(result)
        except InputError as error:
            failure = error
        show(_printed(result))
        if failure is not None:
            raise InputError(f"{failure} (the table above is not saved)")
        if out is not None:
            try:
                self._draw(result)
            except InputError as error:
                raise InputError(
                    f"{error} (the tables are saved, the figures and texts are not)"
                ) from None
            say(f"results in {out}", self.quiet)

    def _save_tables(self, result: Result) -> None:
        if self.settings.out is not None:
            result.command = self.record
            result.save(self.settings.out)

    def _draw(self, result: Result) -> None:
        from matchlens.report.views import files_of

        arrays = result.arrays
        result.texts.update(files_of(result))
        if self.settings.runs and (self.command != "study" or result.study == "ablation"):
            result.texts.update(self._runs(result))
        result.log, result.arrays = (), {}  # both are saved already, with the tables
        result.save(self.settings.out)
        result.arrays = arrays

    def _runs(self, result: Result) -> dict[str, str]:
        """TREC runs of a result's cuts, and of those that the folder has runs of already."""
        from matchlens.reading import SCORES, Snapshot
        from matchlens.studies.cuts.cut_study import RUNS_INDEX, trec_runs

        with Snapshot.open(self.settings.out) as there:
            kept = RUNS_INDEX in there.files and there.out.kind(RUNS_INDEX) == "file"
            index = there.out.read(RUNS_INDEX).decode(errors="replace") if kept else ""
            scores = there.table(SCORES)
        cuts = [line.partition("\t")[2] for line in index.split("\n")[1:] if line]
        wanted = scores["cut"].isin([*cuts, *result.scores["cut"]])
        return trec_runs(replace(result, scores=scores[wanted]))

    def _about(self) -> dict[str, object]:
        """What identifies an unfinished run: only a run with equal options resumes it."""
        from matchlens.studies.common import identity

        options, inputs = self.settings.recorded(), self.inputs
        known = options_of(type(self.settings))
        affecting = [option.name for option in known if option.effect is Effect.RESULT]
        model = inputs.folder.identity(self.settings.dtype, self.limit, self.settings.negate)
        return {
            "command": self.command,
            "options": {**{name: options[name] for name in affecting}, "rel": inputs.rel},
            "identity": identity(model, inputs.pairs),
        }

    def _model_spec(self) -> ModelSpec:
        from matchlens.runners.task import ModelSpec

        folder, settings = self.inputs.folder, self.settings
        return ModelSpec(
            folder.name,
            folder.sha256,
            folder.revision,
            folder.prompt,
            settings.dtype,
            self.limit,
            settings.device,
            settings.negate,
            None if folder.label is None else folder.label.number,
        )

    def _load(self) -> Reranker:
        settings = self.settings
        say(f"loading and checking model {self.inputs.folder.name!r} ...", self.quiet)
        model = load_model(self.inputs.folder, settings, self.limit)
        if self.record:
            self.record["machine"] = machine(model)
            self.record["options"] |= {
                "max_length": model.max_length,
                "device": str(model.device),
                "batch_tokens": settings.batch_tokens or model.batch_tokens,
            }
        return model


def model_folder(settings: ModelSettings, name: str | None = None) -> ModelFolder:
    """The folder of a model, with the prompt and the label that the options name.

    Args:
        name: the model's name; that of the options where None.
    """
    from matchlens.models.folder import find

    folder = find(settings.model if name is None else name, settings.revision)
    return folder.with_prompt(settings.prompt).labelled(settings.label, negate=settings.negate)


def load_model(folder: ModelFolder, settings: ModelSettings, limit: int | None) -> Reranker:
    """Load and check the model for a whole process; torch is imported here."""
    from matchlens.models.load import load
    from matchlens.models.packed import keep_memory

    keep_memory()
    return load(
        folder,
        device=settings.device,
        dtype=settings.dtype,
        max_length=limit,
        negate=settings.negate,
    )


def check_model_options(settings: ModelSettings) -> None:
    """Check type and length before a file is opened."""
    from matchlens.models.folder import check_dtype, check_length

    check_dtype(settings.dtype)
    check_length(settings.max_length)


def prepare(command: str, settings: StudySettings, typed: Settings) -> Job:
    """Check every option that can be checked without loading the model, and draw the pairs."""
    from matchlens.models.folder import check_dtype, check_length
    from matchlens.ranking import parse_measure
    from matchlens.results import check_folder
    from matchlens.studies.common import identity, relevant_grade
    from matchlens.studies.presets import preset as preset_of

    check_placement(settings)
    preset, out = preset_of(settings.preset), settings.out
    for measure in settings.measures:
        parse_measure(measure, rel=2 if settings.rel is None else settings.rel)
    check_dtype(settings.dtype)
    if out is not None:
        check_folder(out)
    read = collections(settings, preset)
    folder = model_folder(settings)
    limit = preset.max_length if settings.max_length is None else settings.max_length
    check_length(limit)
    folder = replace(folder, asked=limit)

    def drawn(seed: int, easy: int = 0) -> PairSet:
        return draw(read, settings, preset, easy=easy, seed=seed)

    pairs = drawn(settings.seed, settings.easy or 0)
    rel = relevant_grade(pairs, settings.rel)
    if out is not None:
        check_folder(out, identity(folder.identity(settings.dtype, limit, settings.negate), pairs))
    job = Job(command, Inputs(settings, folder, pairs, rel), limit, drawn)
    if out is None:
        return job
    chosen = {**pairs.sampling, "model": folder.name, "rel": rel, "measure": settings.measures}
    resolved = {key: value for key, value in chosen.items() if getattr(typed, key, 0) is None}
    return replace(job, record=record(command, typed, resolved, folder))


def with_easy(settings: Any) -> Any:
    """Settings with the preset's easy negatives, where the options do not say how many."""
    from matchlens.studies.presets import preset

    if settings.easy is not None:
        return settings
    return replace(settings, easy=preset(settings.preset).easy)


def need_out(settings: Any) -> None:
    """Check that there is a folder for the results, if there will be any."""
    check_own_parts(settings)  # what is wrong comes before what is missing
    if settings.out is None and not settings.dry_run:
        raise InputError("Missing option '--out': expected a folder for the results")


def run_study(name: str, settings: Any, typed: Settings | None = None) -> None:
    """Run one study of :data:`matchlens.studies.registry.STUDIES`.

    Args:
        typed: the options of the command ``demo``, which is a study with fixed options.
    """
    spec = STUDIES[name]
    if typed is None:
        need_out(settings)
    filled = with_easy(settings) if spec.easy else settings
    if spec.measures == 1:
        _ = filled.only_measure  # raises where there are several
    for why, names in _idle(name, settings):
        without_effect(settings, why, *names)
    spec.check(filled)
    job = prepare(name if typed is None else "demo", filled, typed or settings)
    inputs = job.inputs
    if spec.ranks:
        job.check_ranking(spec.most_pairs(filled))
    spec.ready(inputs)
    if getattr(settings, "pairs", None) is not None and spec.stored(inputs):
        why = f"the scores under cuts are in {str(settings.out)!r} and none is made"
        without_effect(settings, why, "pairs")
    if settings.dry_run:
        show(f"{spec.cost(inputs)}\n")
        return
    with job.running() as (model, runner):
        with progress(name, job.quiet, lambda: spec.stages(inputs)) as bar:
            study, arguments = spec.study(filled), spec.arguments(inputs)
            result = study(model, inputs.pairs, **arguments, runner=runner, progress=bar)
        job.finish(result)


def _idle(name: str, settings: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What can make options of a study change nothing, and their names."""
    if STUDIES[name].measures == 0:
        yield f"{name} measures no ranking", ("measure",)
    if name == "attention" and not settings.cutting:
        yield "attention --no-cut measures no ranking", ("measure",)
        yield "attention --no-cut cuts nothing", ("pairs", "random")
    if name == "screen":
        yield "screen neither screens nor ranks easy negatives", ("easy",)
    if name == "circuits" and settings.head:
        yield "--head names the heads whose vocabulary is searched", ("top",)
    elif name == "circuits" and settings.top == 0:
        yield "--top 0 searches no vocabulary", ("matches",)
    if name == "look" and settings.pair:
        yield "--pair names the pairs", ("looks",)


def without_effect(settings: Settings, why: str, *names: str) -> None:
    """Warn of those options that were given and change nothing, because of ``why``."""
    known = [each for each in options_of(type(settings)) if each.name in names]
    flags = [each.flag for each in known if getattr(settings, each.name) != each.default]
    if flags:
        verb, them = ("has", "it") if len(flags) == 1 else ("have", "them")
        warnings.warn(
            f"{why}, so that {' and '.join(flags)} {verb} no effect: leave {them} out",
            MatchlensWarning,
            stacklevel=2,
        )


def check_placement(settings: Placement) -> None:
    """Check that Ray is installed where it is needed."""
    if settings.runner == "ray" and find_spec("ray") is None:
        raise InputError(
            "--runner ray needs Ray, which is not installed; install it: "
            "pip install 'matchlens[ray]'"
        )


def executor_of(settings: Placement, spec: ModelSpec) -> Executor | None:
    """What runs the shards; None for this process."""
    if settings.runner == "ray":
        from matchlens.runners.ray import RayExecutor

        return RayExecutor(spec, settings.ray_address, settings.workers)
    if (settings.workers or 1) > 1:
        from matchlens.runners.local import ProcessExecutor

        return ProcessExecutor(spec, settings.workers or 1)
    return None


def _printed(result: Result) -> str:
    """The text of a result for this terminal."""
    from matchlens.report.views import ablation, text_of
    from matchlens.report.views.looking import looking_text

    if result.study == "ablation":
        bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        return ablation.text(result, bold=bold) + ablation.measures_text(result)
    if result.study == "looking" and not result.options["chosen"]:
        return looking_text(result, [0])
    return text_of(result)
