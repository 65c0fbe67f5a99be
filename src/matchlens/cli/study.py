"""``matchlens study`` and ``matchlens report``: everything at once, and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from matchlens.cli import options as o
from matchlens.cli.circuits import Base
from matchlens.cli.job import Job, command
from matchlens.cli.recording import record
from matchlens.errors import InputError

if TYPE_CHECKING:
    from matchlens.corpora import PairSet
    from matchlens.results import Result
    from matchlens.studies.study import Stage

HELP = """Run every study of the paper on one sampling of pairs, and write the page.

Table 1, Figure 1a, every head alone, random controls, attention and matching heads (1b, 1c), the
query-key circuits (2), pairs to look into; then the paper's claims, one by one, and report.html.

\b
Sizes:
  --quick   16 queries; Table 1, three directions of Figure 1a, attention, circuits
  default   everything; Figure 1a on at most 700 pairs, heads and controls on at most 450
  --full    everything on all pairs

\b
Studies (--studies a,b):
  ablation, evidence, sweep, heads, controls, attention, circuits, looking

The claims that rest on few cuts (evidence) are decided on three draws of the sample: the verdict of
each is printed, and whether they agree.

\b
Examples:
  matchlens study --demo --quick --out out/quick
  matchlens study -m my/model --dataset msmarco-passage/trec-dl-2019/judged --explain
  matchlens study -m my/model --topics t.tsv --qrels q.txt --passages p.jsonl.gz --out out/mine
"""
REPORT_HELP = """Rebuild a results folder's claims, results.json and page from its stored tables.

The page, report.html, is one file that needs nothing beside it and no network.
"""

Studies = Annotated[
    str | None, typer.Option(metavar="A,B", help="Only these studies [those of the size].")
]
Quick = Annotated[bool, typer.Option("--quick", help="A first look: minutes.")]
Full = Annotated[bool, typer.Option("--full", help="Everything on all pairs: hours or days.")]
Margin = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Claims: changes within this share of (original - random) count as none [0.06].",
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Draws of the sample on which the claims of few cuts are decided, with the seeds "
        "after --seed [3].",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.")]


@command(easy=True)
def study(
    job_of: Callable[..., Job],
    studies: Studies = None,
    quick: Quick = False,
    full: Full = False,
    base: Base = None,
    margin: Margin = None,
    samples: Samples = None,
    explain: o.Explain = False,
) -> None:
    """All studies, and the page."""
    from matchlens.studies import sizes

    if quick and full:
        raise InputError("--quick and --full exclude each other; give only one of them")
    how_much = sizes.size("quick" if quick else "full" if full else "default")
    named = None if studies is None else [word.strip() for word in studies.split(",") if word]
    names = sizes.chosen_studies(named, how_much)
    checked_margin(margin)
    if samples is not None and samples < 1:
        raise InputError(f"--samples is {samples}; expected 1 or more draws of the sample")
    job = job_of(queries=how_much.queries)
    if set(names) & set(sizes.CUTTING):
        job.check_ranking(easy=False)
    before = None
    if base is not None:
        from matchlens.models.folder import find
        from matchlens.studies.circuits import check_base

        before = find(base, scores=False)
        check_base(job.folder, before)
    from matchlens.studies.cost import study_cost

    more = (samples or sizes.SAMPLES) - 1 if "evidence" in names else 0
    redraws = job.redraws(more)
    costs = study_cost(names, how_much, str(job.study["preset"]), job.folder, job.pairs, redraws)
    if explain:
        typer.echo(costs)
        return
    o.say(costs, job.quiet)
    conduct(job, how_much.name, named, before, margin, redraws=redraws)


def conduct(
    job: Job,
    size: str,
    named: list[str] | None,
    base: Any,
    margin: float | None,
    after: Callable[[Mapping[str, Result]], None] | None = None,
    redraws: Sequence[PairSet] = (),
) -> None:
    """Run the studies, save each as it comes, then write the page.

    Args:
        job: the model and the pairs.
        size: quick, default or full.
        named: the studies that were asked for by name, if any.
        base: the folder of the model before fine-tuning, if any.
        margin: of the claims.
        after: called with the studies' results, by name, before the page is written.
        redraws: other draws of the sample, for the claims.
    """
    assert job.out is not None  # noqa: S101
    with job.running() as at:
        from matchlens.models.base import load_base
        from matchlens.report import conclusions
        from matchlens.studies.study import study as run_all

        options = {name: value for name, value in job.study.items() if name != "rank_easy"}
        with stages(job, size, named, redraws) as stage:
            done = run_all(
                at.model,
                job.pairs,
                size=size,
                studies=named,
                base=None if base is None else load_base(base),
                progress=stage,
                keep=lambda result: _keep(job, result),
                runner=at.runner,
                redraws=redraws,
                **options,
            )
        for name, why in done.skipped.items():
            o.say(f"matchlens: {name} was left out: {why}", job.quiet)
        about = {"size": size, "studies": list(done.results), "skipped": dict(done.skipped)}
        result = conclusions.conclude(job.out, margin=margin, about={**about, **options})
        result.command = job.record
        result.save(job.out)
        o.show(conclusions.text(result))
        if after is not None:
            after(done.results)
        page_of(job.out, job.quiet)


def page_of(folder: Path, quiet: bool) -> None:
    """Write the page of a results folder and say where it is."""
    from matchlens.report import page

    o.say(f"the page is {page.write(folder)}", quiet)


def _keep(job: Job, result: Result) -> None:
    """Save a study as soon as it is there: its tables first, then what is drawn from them."""
    assert job.out is not None  # noqa: S101
    result.command = job.record
    result.save(job.out)
    arrays = result.arrays
    result.texts.update(_files(result))
    if job.runs and result.study == "ablation":
        from matchlens.studies.ablation import trec_runs

        result.texts.update(trec_runs(result))
    result.log, result.arrays = (), {}
    result.save(job.out)
    result.arrays = arrays


def _files(result: Result) -> Mapping[str, str | bytes]:
    from matchlens.report.views import files_of

    return files_of(result)


def report(folder: Folder, margin: Margin = None, quiet: o.Quiet = False) -> None:
    """The page, made again."""
    from matchlens.reading import read_back
    from matchlens.report.conclusions import write_report

    checked_margin(margin)
    asked = {} if margin is None else record("report", report, {"margin": margin})
    with read_back(folder):
        path = write_report(folder, margin=margin, command=asked)
    o.say(f"the page is {path}", quiet)


def checked_margin(margin: float | None) -> None:
    """See that a margin is a share.

    Raises:
        InputError: if it is not.
    """
    if margin is not None:
        from matchlens.report.conclusions import check_margin

        check_margin(margin)


@contextmanager
def stages(
    job: Job, size: str, named: list[str] | None, redraws: Sequence[PairSet] = ()
) -> Iterator[Stage | None]:
    """A bar that says which part runs and how long all of them take, on a terminal."""

    def parts() -> list[tuple[str, float]]:
        from matchlens.studies import sizes
        from matchlens.studies.cost import stage_work

        how_much = sizes.size(size)
        names = sizes.chosen_studies(named, how_much)
        preset = str(job.study["preset"])
        return stage_work(names, how_much, preset, job.folder, job.pairs, redraws)

    with o.progress("study", job.quiet, parts) as bar:
        if bar is None:
            yield None
            return
        yield lambda what, done, total: bar(done, total, what)
