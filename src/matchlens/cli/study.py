"""``matchlens study``, ``report`` and ``compare``: whole results folders, and their pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matchlens.cli.job import Job, need_out, prepare, with_easy, without_effect
from matchlens.cli.recording import record
from matchlens.cli.terminal import progress, say, show
from matchlens.errors import InputError
from matchlens.options import Base, Out, Quiet, Seed, StudySettings
from matchlens.settings import RESULTS, Effect, Settings, argument, option, settings, within

if TYPE_CHECKING:
    from matchlens.corpora import PairSet
    from matchlens.models.folder import ModelFolder
    from matchlens.results import Result
    from matchlens.studies.cost import WholeWork
    from matchlens.studies.sizes import Size

HELP = """Run every study of the paper on one sampling of pairs, and write the page.

Table 1, Figure 1a, every head alone, random controls, every head in every direction screened,
attention and matching heads (1b, 1c), the query-key circuits (2), pairs to look into; then the
paper's claims, one by one, and report.html.

\b
Sizes:
  --quick   16 queries; Table 1, three directions of Figure 1a, attention, circuits
  default   everything; Figure 1a on at most 700 pairs, heads and controls on at most 450
  --full    everything on all pairs

\b
Studies (--studies a,b):
  ablation, evidence, sweep, heads, controls, screen, attention, circuits, looking

The claims that rest on few cuts (evidence) are decided on three draws of the sample: the verdict of
each is printed, and whether they agree.

\b
Examples:
  matchlens study --demo --quick --out out/quick
  matchlens study -m my/model --dataset msmarco-passage/trec-dl-2019/judged --dry-run
  matchlens study -m my/model --topics t.tsv --qrels q.txt --passages p.jsonl.gz --out out/mine
"""
REPORT_HELP = """Rebuild a results folder's claims, results.json and page from its stored tables.

The page, report.html, is one file that needs nothing beside it and no network.
"""

COMPARE_HELP = """\
Set results folders side by side: several models, or one model on several collections.

What differs between them comes first, since it says what cannot be compared. Then Table 1, the
curves of Figure 1a, the matching heads, the screens and the claims, as far as two folders or more
hold them.
Folders of the same pairs are tested against each other, query by query.

\b
Examples:
  matchlens compare out/minilm out/bert
  matchlens compare out/dl19 out/dl20 --out out/both
"""


@settings
class Margin(Settings):
    """What counts as no change."""

    margin: float | None = option(
        default=None,
        metavar="SHARE",
        help="Claims: changes within this share of (original - random) count as none [0.06].",
    )


@settings
class SizeSettings(Margin):
    """How much of the whole study is run."""

    studies: str | None = option(
        default=None, metavar="A,B", help="Only these studies [those of the size]."
    )
    quick: bool = option(default=False, help="A first look: minutes.")
    full: bool = option(default=False, help="Everything on all pairs: hours or days.")

    def __post_init__(self) -> None:
        """Check that one size is chosen."""
        super().__post_init__()
        if self.quick and self.full:
            raise InputError("--quick and --full exclude each other; give only one of them")

    @property
    def size(self) -> str:
        """The name of the size."""
        return "quick" if self.quick else "full" if self.full else "default"

    @property
    def named(self) -> list[str] | None:
        """The studies that are named; None for those of the size."""
        return None if self.studies is None else [w.strip() for w in self.studies.split(",") if w]


@settings
class WholeSettings(StudySettings, SizeSettings, Base):
    """Options of ``study``."""

    samples: int | None = option(
        default=None,
        metavar="N",
        help="Draws of the sample on which the claims that rest on few cuts are decided, with "
        "the seeds after --seed [3].",
        check=within(1),
    )


@settings(effect=Effect.RUN)
class _Folder(Settings):
    folder: Path = argument("DIR", help="A results folder.")


@settings
class ReportSettings(_Folder, Margin, Quiet):
    """Options of ``report``."""


def study(settings: WholeSettings) -> None:
    """Run all studies, and write the page."""
    from matchlens.studies import sizes
    from matchlens.studies.spec import check_base

    whole = Whole.of(settings)
    for why, names in whole.idle():
        without_effect(settings, why, *names)
    _ = settings.only_measure  # raises where there are several
    filled = replace(with_easy(settings), queries=whole.queries)
    job = prepare("study", filled, settings)
    wanted = settings.base if "circuits" in whole.names else None
    base = check_base(job.inputs.folder, wanted)
    samples = settings.samples or sizes.SAMPLES
    redraws = job.redraws(samples - 1 if "evidence" in whole.names else 0)
    if whole.ready(job, redraws):
        whole.run(job, base=base, redraws=redraws)


@dataclass(frozen=True)
class Whole:
    """A whole study of the command ``study`` or ``reproduce``, whose options are checked."""

    settings: Any
    size: Size
    names: Sequence[str]

    @classmethod
    def of(cls, settings: Any) -> Whole:
        """Check the options that say how much is run."""
        from matchlens.studies import sizes

        need_out(settings)
        size = sizes.size(settings.size)
        names = sizes.chosen_studies(settings.named, size)
        check_margin(settings.margin)
        return cls(settings, size, names)

    @property
    def queries(self) -> int | None:
        """The number of queries that are drawn."""
        wanted = self.settings.queries
        return self.size.queries if wanted is None else wanted

    def idle(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """What the studies that are run leave without effect, and the names of these options."""
        needs = {"base": "circuits", "samples": "evidence", "runs": "ablation"}
        for option_, study_ in needs.items():
            if study_ not in self.names:
                yield f"{study_} is not among the studies", (option_,)
        measured = {*self.names} - {"circuits", "looking"}
        if measured <= {"attention"} and not (measured and self.size.causal):
            yield "these studies measure no ranking", ("measure",)

    def ready(self, job: Job, redraws: Sequence[PairSet] = ()) -> bool:
        """Check the rankings and print the costs; False where only these are wanted."""
        from matchlens.studies import sizes

        if set(self.names) & set(sizes.CUTTING):
            most = self.size.fewest(self.names)
            job.check_ranking(most, easy=False, all_by="--full")
        costs = self._work(job, redraws).in_words()
        if self.settings.dry_run:
            show(f"{costs}\n")
        else:
            say(costs, job.quiet)
        return not self.settings.dry_run

    def _work(self, job: Job, redraws: Sequence[PairSet]) -> WholeWork:
        from matchlens.studies.cost import WholeWork

        folder, pairs = job.inputs.folder, job.inputs.pairs
        return WholeWork(self.names, self.size, job.settings.preset, folder, pairs, redraws)

    def run(
        self,
        job: Job,
        *,
        base: ModelFolder | None = None,
        redraws: Sequence[PairSet] = (),
        after: Callable[[Mapping[str, Result]], None] | None = None,
    ) -> None:
        """Run the studies, save each as soon as it is done, then write the page."""
        out, size = job.settings.out, self.settings.size
        with job.running() as (model, runner):
            from matchlens.models.base import load_base
            from matchlens.report import conclusions, page
            from matchlens.studies.cost import rate
            from matchlens.studies.study import study as run_studies

            options = {**job.inputs.common, "measure": job.settings.only_measure}
            parts = self._work(job, redraws).progress_parts
            pace = rate if model.device.type == "cpu" else None
            with progress("study", job.quiet, parts, pace) as bar:
                done = run_studies(
                    model,
                    job.inputs.pairs,
                    size=size,
                    studies=self.settings.named,
                    base=None if base is None else load_base(base),
                    progress=bar and (lambda what, done, total: bar(done, total, what)),
                    keep=job.save,
                    runner=runner,
                    redraws=redraws,
                    **options,
                )
            for name, why in done.skipped.items():
                say(f"matchlens: {name} was left out: {why}", job.quiet)
            about = {"size": size, "studies": [*done.results], "skipped": dict(done.skipped)}
            margin = self.settings.margin
            result = conclusions.conclude(out, margin=margin, about={**about, **options})
            result.command = job.record
            result.save(out)
            show(conclusions.text(result))
            if after is not None:
                after(done.results)
            say(f"the page is {page.write(out)}", job.quiet)


def report(settings: ReportSettings) -> None:
    """Rebuild the page."""
    from matchlens.reading import read_back, read_manifest
    from matchlens.report.conclusions import write_report

    margin = settings.margin
    check_margin(margin)
    with read_back(settings.folder):
        # Studies made from Python have no command: a report alone could not be run again.
        known = read_manifest(settings.folder).get("commands")
        command: dict[str, Any] = record("report", settings) if known else {}
        path = write_report(settings.folder, margin=margin, command=command)
    say(f"the page is {path}", settings.quiet)


def check_margin(margin: float | None) -> None:
    """Check that a margin is a share."""
    if margin is not None:
        from matchlens.report import conclusions

        conclusions.check_margin(margin)


@settings(panel=RESULTS, effect=Effect.RUN)
class CompareSettings(Out, Seed, Quiet):
    """Options of ``compare``."""

    folders: list[Path] = argument("DIR DIR...", help="Results folders.")
    out: Path | None = option(
        default=None, metavar="DIR", help="Folder of tables, figures, LaTeX and compare.html."
    )


def compare(settings: CompareSettings) -> None:
    """Compare results folders."""
    from matchlens.reading import read_back
    from matchlens.results import check_folder

    folders, out = settings.folders, settings.out
    if out is not None:
        check_folder(out)
    from matchlens.report.views import compare as view
    from matchlens.studies.comparing import compare as compare_folders

    result = compare_folders(folders, seed=settings.seed)
    with read_back(*folders):
        table = view.text(result)
        if out is not None:
            try:
                result.save(out)
            except InputError as error:
                show(table)
                raise InputError(f"{error} (the tables above are all that is left)") from None
    show(table)
    if out is not None:
        with read_back(*folders):
            result.texts.update(view.files(result))
        result.save(out)
        say(f"comparison in {out}", settings.quiet)
