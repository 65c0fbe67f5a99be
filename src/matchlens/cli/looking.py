"""``matchlens look``: a few pairs, token by token."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from matchlens.cli import options as o
from matchlens.cli.job import Job, command

if TYPE_CHECKING:
    import pandas as pd

    from matchlens.results import Result

HELP = """Look into a few pairs: what each token receives from every head, and what cuts do.

Of a few queries it takes a relevant passage that ranks high, one that ranks low, a hard negative
that ranks high and a random passage (--easy 10 a query unless told otherwise), or the pairs that
--pair names. Where --out holds studies of the same model and pairs, their scores under cuts and
their matching heads are used; else Table 1's cuts are run on these queries' candidates.

\b
Examples:
  matchlens look --demo --out out/demo
  matchlens look --demo --pair 'd01 d01-01' --cut 'Q->D' --cut 'D->Q' --out out/demo
  matchlens look -m my/model --dataset msmarco-passage/trec-dl-2019/judged --looks 4 --out out/dl19
"""

Looks = Annotated[int, typer.Option(metavar="N", help="How many pairs are chosen.")]
Named = Annotated[
    list[str] | None,
    typer.Option(
        "--pair",
        metavar="'QID DOCID'",
        help="This pair instead, the collection's name before it where there are several. "
        "Repeatable.",
    ),
]


@command(easy=True)
def look(
    job_of: Callable[[], Job],
    looks: Looks = 12,
    pair: Named = None,
    cut: o.Cuts = None,
    pairs: o.MostPairs = None,
    explain: o.Explain = False,
) -> None:
    """A few pairs, token by token."""
    from matchlens.studies.looking import candidates_to_run, checked_looks, ids_of, named
    from matchlens.studies.presets import COSTLY_PAIRS

    checked_looks(looks)
    chosen = [ids_of(text) for text in pair or ()]
    most = o.most_pairs(pairs, COSTLY_PAIRS)
    job = job_of()
    o.cuts_for(cut or (), job.folder)
    given = named(job.pairs.pairs, chosen) if chosen else []
    rel, seed = int(job.study["rel"]), int(job.study["seed"])
    if explain:
        from matchlens.studies.cost import looks_cost

        rows = candidates_to_run(job.pairs, given, len(given) or looks, rel, seed, most)
        typer.echo(looks_cost(job.folder, job.pairs, rows, cut, str(job.study["preset"])))
        return
    with job.running() as at:
        from matchlens.studies.looking import look

        scored, matching = _at_hand(job.out)
        taken = ("preset", "rel", "seed", "batch_tokens")
        with o.progress(
            "look", job.quiet, lambda: [("look", 20.0)] * (scored is None) + [("look", 1.0)]
        ) as bar:
            result = look(
                at.model,
                job.pairs,
                looks=looks,
                chosen=chosen or None,
                scored=scored,
                matching=matching,
                cuts=cut,
                most_pairs=most,
                progress=bar,
                runner=at.runner,
                **{name: job.study[name] for name in taken},
            )
        job.finish(result, partial(_table, every=bool(chosen)), _files)


def _at_hand(out: Path | None) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The folder's scores under Table 1's and Figure 1a's cuts, and its matching heads.

    Its identity was compared. Scores that an earlier look left are not used: they are of few
    queries, and the same command would then choose among these.
    """
    from matchlens.reading import MANIFEST, read_back, read_manifest

    if out is None or not (out / MANIFEST).exists():
        return None, None
    with read_back(out):
        return _read(out, read_manifest(out)["studies"])


def _read(out: Path, held: dict[str, object]) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    import pandas as pd

    from matchlens.results import Result

    cuts: set[str] = set()
    scored = matching = None
    for study, main in (("ablation", "table1"), ("sweep-up-to", "points")):
        if study in held:
            result = Result.load(out, study)
            cuts |= {"", *result.to_frame(main)["cut"]}
            scored = pd.DataFrame(result.scores[result.scores["cut"].isin(list(cuts))])
    if "attention" in held:
        matching = Result.load(out, "attention").tables.get("matching")
    return scored, matching


def _table(result: Result, *, every: bool) -> str:
    from matchlens.report.looking import looking_text

    return looking_text(result, None if every else [0])


def _files(result: Result) -> dict[str, str | bytes]:
    from matchlens.report.looking import looking_files

    return looking_files(result)
