"""``matchlens attention``: where attention goes, and which heads match (Figures 1b and 1c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from matchlens.cli import options as o
from matchlens.cli.job import Job, command
from matchlens.cli.sweep import Random
from matchlens.errors import InputError

if TYPE_CHECKING:
    from matchlens.results import Result

HELP = """Measure attention between the input's parts and find the matching heads (Figures 1b, 1c).

Relevant passages are compared with hard negatives (judged 0) and easy ones (random passages, --easy
10 a query unless told otherwise). Matching heads are found on one half of the queries, described on
the other, and cut there, beside random sets of heads of the same layers.

\b
Meters:
  mass        share of a row's attention that goes to the columns (always measured)
  norm_mass   the same, weighted by what is written: a_ij |W_O v_j|
  same_token  share of the mass on the row's own token
  same_stem   share of the mass on words of the row's own stem, and what tells kinds of heads
  peak        the largest single attention
  entropy     of the attention inside the columns, in nats

\b
Examples:
  matchlens attention --demo --out out/demo
  matchlens attention -m my/model --dataset msmarco-passage/trec-dl-2019/judged --out out/dl19
  matchlens attention --demo --meter mass --meter same_stem --no-cut --out out/demo
"""

Meters = Annotated[
    list[str] | None,
    typer.Option("--meter", metavar="METER", help="A meter. Repeatable [the preset's: all]."),
]
Contrasts = Annotated[
    list[str] | None,
    typer.Option(
        "--contrast",
        metavar="CONTRAST",
        help="relevant-easy, relevant-hard or hard-easy. Repeatable [all].",
    ),
]
Directions = Annotated[
    list[str] | None,
    typer.Option(
        "--direction",
        metavar="DIR",
        help="A direction in which matching heads are looked for. Repeatable ['Q->D', 'D->Q'].",
    ),
]
Aggregate = Annotated[str | None, typer.Option(help="mean or median over queries [mean].")]
Q = Annotated[float, typer.Option(help="Matching heads: largest corrected p.")]
Auc = Annotated[float, typer.Option(help="Matching heads: least mean AUC over queries.")]
Length = Annotated[
    float,
    typer.Option(help="Matching heads: passages are of like length within this share."),
]
Lexical = Annotated[
    float, typer.Option(help="Lexical heads: least multiple of the expected same-stem mass.")
]
QueryWords = Annotated[
    float, typer.Option(help="Query-word readers: least multiple of the words' share of columns.")
]
Semantic = Annotated[
    float, typer.Option(help="Semantic heads: least multiple of near words' share of columns.")
]
Cutting = Annotated[bool, typer.Option("--cut/--no-cut", help="Cut the matching heads.")]


@command(easy=True)
def attention(
    job_of: Callable[[], Job],
    meter: Meters = None,
    contrast: Contrasts = None,
    direction: Directions = None,
    aggregate: Aggregate = None,
    q: Q = 0.05,
    auc: Auc = 0.75,
    length: Length = 0.1,
    lexical: Lexical = 2.0,
    query_words: QueryWords = 2.0,
    semantic: Semantic = 1.5,
    cutting: Cutting = True,
    random: Random = 100,
    pairs: o.MostPairs = None,
    explain: o.Explain = False,
) -> None:
    """Attention between the input's parts."""
    from matchlens.studies.contrasts import (
        CONTRASTS,
        Classes,
        Thresholds,
        checked_directions,
        checked_names,
    )
    from matchlens.studies.head_sets import checked_random
    from matchlens.studies.presets import COSTLY_PAIRS

    if meter is not None:
        checked_names(meter)
    directions = checked_directions(direction)
    thresholds = Thresholds(q, auc, length, lexical, query_words, semantic)
    if aggregate not in (None, "mean", "median"):
        raise InputError(f"--aggregate {aggregate!r} is not known; expected one of mean, median")
    most = o.most_pairs(pairs, COSTLY_PAIRS)
    if cutting:
        checked_random(random)
    contrasts = contrast or list(CONTRASTS)
    job = job_of()
    Classes.of(job.pairs.pairs, int(job.study["rel"])).check(contrasts)
    if explain:
        from matchlens.studies.cost import meters_cost
        from matchlens.studies.presets import preset

        names = checked_names(["mass", *(meter or preset(job.study["preset"]).meters)])
        typer.echo(meters_cost(names, job.folder, job.pairs))
        return
    with job.running() as at:
        from matchlens.studies.attention import attention as study

        options = {name: value for name, value in job.study.items() if name != "rank_easy"}
        with o.progress(
            "attention", job.quiet, lambda: job.parts("attention", 2 if cutting else 1)
        ) as bar:
            result = study(
                at.model,
                job.pairs,
                meters=meter,
                contrasts=contrasts,
                directions=directions,
                aggregate=aggregate,
                thresholds=thresholds,
                causal=cutting,
                random=random,
                most_pairs=most,
                progress=bar,
                runner=at.runner,
                **options,
            )
        job.finish(result, _table, _files)


def _table(result: Result) -> str:
    from matchlens.report.views import text_of

    return text_of(result)


def _files(result: Result) -> dict[str, str | bytes]:
    from matchlens.report.views import files_of

    return files_of(result)
