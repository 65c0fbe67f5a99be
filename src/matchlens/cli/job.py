"""What every study's command does before the study: options to a checked model and pairs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from matchlens.cli import options as o
from matchlens.cli.recording import machine, record
from matchlens.cli.where import Where
from matchlens.errors import InputError, Interrupted

if TYPE_CHECKING:
    from matchlens.corpora import PairSet
    from matchlens.models.folder import ModelFolder
    from matchlens.models.load import Reranker
    from matchlens.results import Result
    from matchlens.runners import Runner
    from matchlens.runners.model_spec import ModelSpec

Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Results folder, new or continued.")]
Preset = Annotated[
    str,
    typer.Option(
        help="default; paper (512 tokens, uncorrected unpaired test, 2 digits); authors (the "
        "groups of the authors' code on a run's top 100, 128 tokens); zhan2020 (whole segments, "
        "by mask)."
    ),
]
Runs = Annotated[bool, typer.Option("--runs", help="Write a TREC run for every cut.")]


SPEED = ("batch_tokens", "workers", "runner", "ray_address", "quiet", "out", "explain", "yes")
"""Options that say nothing of what is made."""


@dataclass(frozen=True)
class At:
    """What a study is run with.

    Args:
        model: loaded and checked.
        runner: runs the pairs.
    """

    model: Reranker
    runner: Runner


@dataclass(frozen=True)
class Job:
    """A model that was looked at but not loaded, pairs, and the options of the run.

    Args:
        folder: the model's folder.
        pairs: the chosen pairs.
        limit: most tokens of a pair; the model's own limit where None.
        study: options that every study takes by name.
        device: where the model runs.
        dtype: type of its weights.
        negate: whether its scores are negated.
        out: the results folder, if any.
        runs: whether TREC runs are written.
        quiet: whether stderr stays empty.
        record: what the manifest says of the command.
        about: what is made, for the folder of an unfinished run: command and options.
        where: who runs the pairs.
        redraw: the sample drawn with another seed, without easy negatives.
    """

    folder: ModelFolder
    pairs: PairSet
    limit: int | None
    study: dict[str, Any]
    device: str | None
    dtype: str
    negate: bool
    out: Path | None
    runs: bool
    quiet: bool
    record: dict[str, object] = field(default_factory=dict)
    about: Mapping[str, object] = field(default_factory=dict)
    where: Where = field(default_factory=Where)
    redraw: Callable[[int], PairSet] | None = None

    def redraws(self, number: int) -> list[PairSet]:
        """Further draws of the sample, with the seeds after its own.

        Args:
            number: how many.
        """
        assert self.redraw is not None  # noqa: S101
        return [self.redraw(self.study["seed"] + step) for step in range(1, number + 1)]

    @contextmanager
    def running(self) -> Iterator[At]:
        """The model and who runs the pairs; the results folder is locked meanwhile.

        Where the run ends early, by a fault or by a person, its shards are kept for the next run of
        the same command; where it comes to its end, nothing is left of them.

        Raises:
            InputError: if the folder is in use or holds another unfinished run.
            Interrupted: if a person stopped it.
        """
        from matchlens.runners.stopping import Stop
        from matchlens.runners.store import Work

        work = None
        if self.out is not None:
            from matchlens.studies.common import identity

            made = self.folder.identity(self.dtype, self.limit, self.negate)
            work = Work.open(self.out, {**self.about, "identity": identity(made, self.pairs)})
        stop, executor = Stop(), None
        try:
            with stop.listening():
                try:
                    model = self.load()
                    if stop.heard:  # an import may have swallowed the exception
                        raise KeyboardInterrupt
                    executor = self.where.executor(self._recipe())
                    from matchlens.runners import ShardedRunner

                    yield At(
                        model, ShardedRunner(None if work is None else work.shards, executor, stop)
                    )
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
                f"{str(self.out)!r}: run the same command again to go on"
                if kept
                else "stopped before the end; nothing half-written was left"
            ) from None

    def check_ranking(self, *, easy: bool = True) -> None:
        """See, before the model is loaded, that the ranking of some query can move the measure.

        Args:
            easy: whether easy negatives may stand in the rankings.

        Raises:
            InputError: if none can; it says why and what to do.
        """
        from matchlens.studies.common import ranked

        measure, rel = str(self.study["measure"]), int(self.study["rel"])
        ranked(self.pairs, measure, rel, rank_easy=easy and bool(self.study["rank_easy"]))

    def named(self, command: str, options: Mapping[str, object]) -> Job:
        """The job of a command with options of its own.

        Args:
            command: its name.
            options: its options; those that say nothing of what is made are left out.
        """
        said = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in options.items()
            if name not in SPEED
        }
        given: Any = self.about.get("options", {})
        return replace(self, about={"command": command, "options": {**given, **said}})

    def parts(self, study: str, runs: int = 2) -> list[tuple[str, float]]:
        """The runs of one study, in order, each with its operations: what its progress counts.

        Args:
            study: ``attention`` or ``circuits``.
            runs: how many of them there are.
        """
        from matchlens.studies import sizes
        from matchlens.studies.cost import stage_work

        work = stage_work(
            [study], sizes.size("default"), str(self.study["preset"]), self.folder, self.pairs
        )
        return [(study, operations) for _, operations in work][:runs]

    def _recipe(self) -> ModelSpec:
        from matchlens.runners.model_spec import ModelSpec

        return ModelSpec(
            self.folder.name,
            self.folder.sha256,
            self.folder.revision,
            self.folder.prompt,
            self.dtype,
            self.limit,
            self.device,
            self.negate,
            None if self.folder.label is None else self.folder.label.number,
        )

    def load(self) -> Reranker:
        """Load and check the model; only here is torch imported."""
        o.say(f"loading and checking model {self.folder.name!r} ...", self.quiet)
        from matchlens.models.load import load
        from matchlens.models.packed import keep_memory

        keep_memory()
        model = load(
            self.folder,
            device=self.device,
            dtype=self.dtype,
            max_length=self.limit,
            negate=self.negate,
        )
        if self.record:
            self.record["machine"] = machine(model)
            options = self.record["options"]
            assert isinstance(options, dict)  # noqa: S101
            options |= {"max_length": model.max_length, "device": str(model.device)}
            options["batch_tokens"] = self.study["batch_tokens"] or model.batch_tokens
        return model

    def called(
        self,
        name: str,
        declared: Callable[..., Any] | inspect.Signature,
        given: Mapping[str, Any],
    ) -> Job:
        """The job, with what the manifest says of its command: see :func:`recording.record`."""
        if self.out is None:
            return self
        chosen = {**self.pairs.sampling, "model": self.folder.name, "rel": self.study["rel"]}
        resolved = {key: value for key, value in chosen.items() if given.get(key, 0) is None}
        return replace(self, record=record(name, declared, given, resolved, self.folder))

    def finish(
        self,
        result: Result,
        show: Callable[[Result], str],
        render: Callable[[Result], Mapping[str, str | bytes]],
    ) -> None:
        """Write the tables, show the result, then write what is drawn from the tables.

        Args:
            result: the study's result.
            show: the table for the terminal; it is shown even if nothing can be written.
            render: the study's texts and figures, file name to content.

        Raises:
            InputError: if the folder cannot be written.
        """
        failure = self._save(result)  # the tables first: a fault in a drawing loses nothing
        o.show(show(result))
        if failure is not None:
            raise InputError(f"{failure} (the table above is not saved)")
        if self.out is None:
            return
        from matchlens.studies.ablation import trec_runs

        result.texts.update(render(result))
        if self.runs:
            result.texts.update(trec_runs(result))
        result.log, result.arrays = (), {}  # both are there from the first time
        if (failure := self._save(result)) is not None:
            raise InputError(f"{failure} (the tables are saved, the figures and texts are not)")
        o.say(f"results in {self.out}", self.quiet)

    def _save(self, result: Result) -> InputError | None:
        if self.out is not None:
            result.command = self.record
            try:
                result.save(self.out)
            except InputError as error:
                return error
        return None


def job(
    out: Out = None,
    model: o.Model = "demo",
    demo: o.Demo = False,
    dataset: o.Dataset = None,
    query_field: o.QueryField = None,
    doc_fields: o.DocFields = None,
    topics: o.Topics = None,
    qrels: o.Qrels = None,
    passages: o.Passages = None,
    run: o.RunFile = None,
    per_grade: o.PerGrade = None,
    all_judged: o.AllJudged = False,
    depth: o.Depth = None,
    easy: o.Easy = None,
    queries: o.Queries = None,
    ideal: o.Ideal = None,
    query_prefix: o.QueryPrefix = "",
    passage_prefix: o.PassagePrefix = "",
    preset: Preset = "default",
    measure: o.Measure = "nDCG@10",
    rel: o.Rel = None,
    max_length: o.MaxLength = None,
    prompt: o.PromptFile = None,
    seed: o.Seed = 0,
    runs: Runs = False,
    revision: o.Revision = None,
    device: o.Device = None,
    dtype: o.Dtype = "float32",
    negate: o.Negate = False,
    label: o.Label = None,
    batch_tokens: o.BatchTokens = None,
    workers: o.Workers = None,
    runner: o.RunnerName = "local",
    ray_address: o.RayAddress = None,
    quiet: o.Quiet = False,
) -> Job:
    """Check every option that can be checked without loading the model."""
    from matchlens.models.folder import check_dtype, check_length, find
    from matchlens.ranking import parse_measure
    from matchlens.results import MANIFEST, check_folder
    from matchlens.studies.common import identity, relevant_grade
    from matchlens.studies.presets import preset as preset_of

    where = Where(runner, workers, ray_address)
    where.check()
    chosen = preset_of(preset)
    easy = easy or 0
    parse_measure(measure, rel=2 if rel is None else rel)
    check_dtype(dtype)
    o.texts_and_sizes(query_prefix, passage_prefix, batch_tokens)
    if out is not None:
        check_folder(out)
    found = o.collections(
        demo=demo,
        dataset=dataset,
        query_field=query_field,
        doc_fields=doc_fields,
        topics=topics,
        qrels=qrels,
        passages=passages,
        run=run,
        uses_run=depth is not None
        or easy > 0
        or (chosen.depth is not None and per_grade is None and not all_judged),
    )
    folder = find(model, revision).asked(prompt).labelled(label, negate=negate)
    limit = max_length if max_length is not None else chosen.max_length
    check_length(limit)
    draw = partial(
        o.pairs,
        found,
        per_grade=per_grade,
        all_judged=all_judged,
        depth=depth,
        preset_per_grade=chosen.per_grade,
        preset_depth=chosen.depth,
        ideal=ideal,
        queries=queries,
        query_prefix=query_prefix,
        passage_prefix=passage_prefix,
    )
    pairs = draw(easy=easy, seed=seed)
    grade = relevant_grade(pairs, rel)
    if out is not None and (out / MANIFEST).exists():
        check_folder(out, identity(folder.identity(dtype, limit, negate), pairs))
    study = {
        "preset": preset,
        "measure": measure,
        "rel": grade,
        "rank_easy": easy > 0,
        "seed": seed,
        "batch_tokens": batch_tokens,
    }
    given = {"preset": preset, "measure": measure, "rel": grade, "seed": seed, "runs": runs}
    about = {"options": {**given, "device": device}}
    return Job(
        folder,
        pairs,
        limit,
        study,
        device,
        dtype,
        negate,
        out,
        runs,
        quiet,
        about=about,
        where=where,
        redraw=lambda other: draw(easy=0, seed=other),
    )


def command(study: Callable[..., None] | None = None, *, easy: bool = False) -> Callable[..., Any]:
    """A command whose options are the study's own, and behind them those that every study takes.

    Args:
        study: called with a function that makes the :class:`Job` (so that its own options can be
            checked first) and with its own options.
        easy: whether the study wants the preset's easy negatives where none are asked for.
    """
    if study is None:
        return lambda study: command(study, easy=easy)
    name = study.__name__.replace("_", "-")
    own = list(inspect.signature(study, eval_str=True).parameters.values())[1:]
    shared = list(inspect.signature(job, eval_str=True).parameters.values())

    def run(**given: Any) -> None:
        said = dict(given)
        mine = {option.name: given.pop(option.name) for option in own}
        if given["out"] is None and not mine.get("explain"):
            raise InputError("Missing option '--out': expected a folder for the results")
        if easy and given["easy"] is None:
            from matchlens.studies.presets import preset as preset_of

            given["easy"] = preset_of(given["preset"]).easy

        def job_of(**defaults: Any) -> Job:
            """The job, with defaults of the study's own where the person said nothing."""
            own = {name: value for name, value in defaults.items() if given[name] is None}
            made = job(**{**given, **own})
            made = made.called(name, run.__signature__, said)  # type: ignore[attr-defined]
            return made.named(name, mine)

        study(job_of, **mine)

    options = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in (*own, *shared)]
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    run.__doc__ = study.__doc__
    return run
