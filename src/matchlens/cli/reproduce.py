"""``matchlens reproduce``: a paper's own setting, its numbers beside ours."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from matchlens.cli import options as o
from matchlens.cli import study as whole_study
from matchlens.cli.job import Out, job
from matchlens.errors import InputError

if TYPE_CHECKING:
    from matchlens.results import Result

HELP = """Run a paper's own setting and put its numbers beside ours: wexir25.

wexir25 is Vast et al. 2025: MonoBERT-large on TREC DL 2019 to 2022, 512 tokens, nDCG@10. What must
be downloaded is said, with its size, and asked for before. Offline, a local model and TREC files
stand in for them; the comparison says which model and years it had.

\b
Examples:
  matchlens reproduce wexir25 --out out/paper
  matchlens reproduce wexir25 --explain
  matchlens reproduce wexir25 --model my/monobert --out out/mine \\
      --topics dl19.tsv --qrels dl19.qrels --topics dl20.tsv --qrels dl20.qrels \\
      --passages dl19.jsonl.gz --passages dl20.jsonl.gz
"""

Paper = Annotated[str, typer.Argument(metavar="PAPER", help="wexir25.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Download without asking.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="Another model [the paper's]."),
]


def reproduce(
    paper: Paper,
    out: Out = None,
    model: Model = None,
    topics: o.Topics = None,
    qrels: o.Qrels = None,
    passages: o.Passages = None,
    dataset: o.Dataset = None,
    demo: o.Demo = False,
    studies: whole_study.Studies = None,
    quick: whole_study.Quick = False,
    full: whole_study.Full = False,
    margin: whole_study.Margin = None,
    queries: o.Queries = None,
    seed: o.Seed = 0,
    revision: o.Revision = None,
    device: o.Device = None,
    dtype: o.Dtype = "float32",
    batch_tokens: o.BatchTokens = None,
    workers: o.Workers = None,
    runner: o.RunnerName = "local",
    ray_address: o.RayAddress = None,
    explain: o.Explain = False,
    yes: Yes = False,
    quiet: o.Quiet = False,
) -> None:
    """A paper, reproduced."""
    given = dict(locals())
    from matchlens.studies import sizes, wexir25
    from matchlens.studies.presets import preset

    if paper != wexir25.NAME:
        raise InputError(f"paper {paper!r} is not known; expected {wexir25.NAME}")
    if out is None and not explain:
        raise InputError("Missing option '--out': expected a folder for the results")
    if quick and full:
        raise InputError("--quick and --full exclude each other; give only one of them")
    whole_study.checked_margin(margin)
    size = sizes.size("quick" if quick else "full" if full else "default")
    named = None if studies is None else [word.strip() for word in studies.split(",") if word]
    names = sizes.chosen_studies(named, size)
    if "ablation" not in names:
        raise InputError("--studies leaves out ablation, whose Table 1 is compared; add it")
    here = bool(topics or qrels or passages or demo)
    datasets: list[str] = list(dataset or ()) if here or dataset else [*wexir25.DATASETS]
    _allow(model or wexir25.MODEL, revision, [] if here else datasets, yes, explain, quiet)
    made = job(
        out=out,
        model=model or wexir25.MODEL,
        demo=demo,
        dataset=datasets or None,
        topics=topics,
        qrels=qrels,
        passages=passages,
        easy=preset(wexir25.PRESET).easy,
        queries=queries if queries is not None else size.queries,
        preset=wexir25.PRESET,
        seed=seed,
        revision=revision,
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
        workers=workers,
        runner=runner,
        ray_address=ray_address,
        quiet=quiet,
    ).called("reproduce", reproduce, given)
    made = made.named(
        "reproduce", {"paper": paper, "size": size.name, "studies": named, "margin": margin}
    )
    from matchlens.studies.cost import study_cost

    made.check_ranking(easy=False)
    costs = study_cost(names, size, wexir25.PRESET, made.folder, made.pairs)
    if explain:
        typer.echo(costs)
        return
    o.say(costs, quiet)
    from matchlens.report.views import files_of, text_of

    def beside_the_paper(results: Mapping[str, Result]) -> None:
        beside = wexir25.beside_the_paper(results["ablation"])
        beside.texts.update(files_of(beside))
        beside.command = made.record
        beside.save(str(out))
        o.show(f"\n{text_of(beside)}")

    whole_study.conduct(made, size.name, named, None, margin, beside_the_paper)


def _allow(
    model: str,
    revision: str | None,
    datasets: list[str],
    yes: bool,
    explain: bool,
    quiet: bool,
) -> None:
    """Say what must be downloaded, and ask; nothing is downloaded before.

    Raises:
        InputError: if it cannot be reached, there is no room, or nobody says yes.
    """
    from matchlens.models.folder import download_size

    needs = [(f"model {model}", download_size(model, revision))]
    if datasets:
        from matchlens.corpora.downloads import needed

        needs += needed(datasets)
    needs = [(what, size) for what, size in needs if size]
    if not needs:
        return
    total = sum(size for _, size in needs)
    lines = [f"  {what}: {size / 1e9:.2f} GB" for what, size in needs]
    said = "\n".join(["to be downloaded:", *lines, f"  in all {total / 1e9:.1f} GB"])
    free = shutil.disk_usage(Path.home()).free
    if total > free:
        raise InputError(
            f"{total / 1e9:.1f} GB must be downloaded, and {free / 1e9:.1f} GB are free in the "
            "home folder; make room there, or name a local model (--model) and files (--topics, "
            "--qrels, --passages)"
        )
    if explain:
        typer.echo(said)
        raise typer.Exit
    o.say(said, quiet and yes)
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(
            f"{total / 1e9:.1f} GB must be downloaded; give --yes, or name a local model "
            "(--model) and files"
        )
    if not typer.confirm("download them?", err=True):
        raise InputError(
            "nothing was downloaded; say y, or name a local model (--model) and files (--topics, "
            "--qrels, --passages)"
        )
