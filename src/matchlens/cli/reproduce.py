"""``matchlens reproduce``: a paper's own setting, its numbers beside ours."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from matchlens.cli import study
from matchlens.cli.candidates import COLLECTIONS
from matchlens.cli.job import prepare
from matchlens.cli.terminal import say, show
from matchlens.errors import InputError
from matchlens.options import (
    BatchTokens,
    CollectionSettings,
    Device,
    DryRun,
    Out,
    Placement,
    Precision,
    Queries,
    Quiet,
    Seed,
    StudySettings,
    Yes,
)
from matchlens.settings import MODEL, Effect, argument, one_of, option, settings

if TYPE_CHECKING:
    from matchlens.results import Result

HELP = """Run a paper's own setting and put its numbers beside ours: wexir25.

wexir25 is Vast et al. 2025: MonoBERT-large on TREC DL 2019 to 2022, 512 tokens, nDCG@10. Before
anything is downloaded, its size is printed and you are asked. Offline, a local model and TREC files
stand in for it; the comparison says which model and years it used.

\b
Examples:
  matchlens reproduce wexir25 --out out/paper
  matchlens reproduce wexir25 --dry-run
  matchlens reproduce wexir25 --model my/monobert --out out/mine \\
      --topics dl19.tsv --qrels dl19.qrels --topics dl20.tsv --qrels dl20.qrels \\
      --passages dl19.jsonl.gz --passages dl20.jsonl.gz
"""


@settings
class ReproduceSettings(
    study.SizeSettings, CollectionSettings, Queries, Precision, Device, BatchTokens, Placement, Out,
    Seed, Quiet, DryRun, Yes,
):  # fmt: skip
    """Options of ``reproduce``."""

    paper: str = argument("PAPER", help="wexir25.", check=one_of("wexir25"))
    model: str | None = option(
        "--model",
        "-m",
        default=None,
        metavar="MODEL",
        help="Local folder, Hugging Face id (downloaded), or 'demo' (built in) [the paper's].",
        panel=MODEL,
        effect=Effect.INPUT,
    )


def reproduce(settings: ReproduceSettings) -> None:
    """Reproduce a paper."""
    from matchlens.studies import wexir25
    from matchlens.studies.presets import preset

    whole = study.Whole.of(settings)
    if "ablation" not in whole.names:
        raise InputError("--studies leaves out ablation, whose Table 1 is compared; add it")
    shared = {field.name for field in fields(settings)} & {f.name for f in fields(StudySettings)}
    filled = StudySettings(
        **{
            **{name: getattr(settings, name) for name in shared},
            "model": settings.model or wexir25.MODEL,
            "easy": preset(wexir25.PRESET).easy,
            "queries": whole.queries,
            "preset": wexir25.PRESET,
        }
    )
    here = any(getattr(settings, name) for name in COLLECTIONS if name != "dataset")
    if not (here or settings.dataset):
        filled = replace(filled, dataset=[*wexir25.DATASETS])
    if not _allow(settings, filled, [] if here else filled.dataset or []):
        return
    job = prepare("reproduce", filled, settings)
    if not whole.ready(job):
        return
    from matchlens.report.views import files_of, text_of

    def beside_the_paper(results: Mapping[str, Result]) -> None:
        beside = wexir25.beside_the_paper(results["ablation"])
        beside.texts.update(files_of(beside))
        beside.command = job.record
        beside.save(str(settings.out))
        show(f"\n{text_of(beside)}")

    whole.run(job, after=beside_the_paper)


def _allow(settings: ReproduceSettings, filled: StudySettings, datasets: list[str]) -> bool:
    """Print what must be downloaded, and ask; nothing is downloaded before."""
    from matchlens.models.hub import download_size

    needs = [(f"model {filled.model}", download_size(filled.model, filled.revision))]
    if datasets:
        from matchlens.corpora.irds import needed

        needs += needed(datasets)
    needs = [(what, size) for what, size in needs if size]
    if not needs:
        return True
    total = sum(size for _, size in needs)
    lines = [f"  {what}: {size / 1e9:.2f} GB" for what, size in needs]
    text = "\n".join(["to be downloaded:", *lines, f"  in all {total / 1e9:.1f} GB"])
    free = shutil.disk_usage(Path.home()).free
    if total > free:
        raise InputError(
            f"{total / 1e9:.1f} GB must be downloaded, and {free / 1e9:.1f} GB are free in the "
            "home folder; make room there, or name a local model (--model) and files (--topics, "
            "--qrels, --passages)"
        )
    if settings.dry_run:
        show(f"{text}\n")
        return False
    say(text, settings.quiet and settings.yes)
    if settings.yes:
        return True
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
    return True
