"""``matchlens circuits``: the query-key matrices behind the matching heads (Figure 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from matchlens.cli import options as o
from matchlens.cli.job import Job, command

if TYPE_CHECKING:
    from matchlens.results import Result

HELP = """Measure the query-key matrices of every head: what reads what by its weights (Figure 2).

A token i reads a token j with the weight x_j' A x_i, A = W_K' W_Q of the head. Its alignment,
trace(A), is large where tokens read tokens like themselves. It is drawn against a contrast of the
logits of the mean query token and the mean document token, coloured by how much more the head
attends from query to document in relevant passages than in random ones (--easy 10 a query unless
told otherwise). One half of the queries gives the means, the other the colours.

\b
Contrasts, the reader first:
  QD-DD  a query token reads document tokens more than a document token does (default)
  DQ-QQ  a document token reads query tokens more than a query token does
  QD-QQ  a query token reads document tokens more than query tokens
  DQ-DD  a document token reads query tokens more than document tokens

\b
Also: random heads, crossed heads and (--base) the model before fine-tuning for comparison; which
terms the logits vary with; and which words of the vocabulary the most aligned heads match.

\b
Examples:
  matchlens circuits --demo --out out/demo
  matchlens circuits -m my/model --base before/fine-tuning --demo --out out/mine
  matchlens circuits --demo --head 8.1,4.9 --same-token --out out/demo
  matchlens circuits --demo --contrast QD-QQ --biases --divided --top 0 --out out/demo
"""

Base = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL", help="A model of the same shape before fine-tuning: folder or hub id."
    ),
]
Contrast = Annotated[str, typer.Option(metavar="CONTRAST", help="What Figure 2 has as x.")]
Variant = Annotated[
    str,
    typer.Option(help="all, positive or above: all singular triplets, u.v > 0, or u.v > 0.3."),
]
Divided = Annotated[bool, typer.Option("--divided", help="Divide the logits by sqrt(d_h).")]
Biases = Annotated[bool, typer.Option("--biases", help="With the biases b_Q and b_K.")]
Top = Annotated[
    int, typer.Option(metavar="N", help="Most aligned heads looked at in the vocabulary; 0: none.")
]
Head = Annotated[
    list[str] | None,
    typer.Option("--head", metavar="HEADS", help="These heads instead: '8.1,4.9'. Repeatable."),
]
Matches = Annotated[int, typer.Option(metavar="N", help="Token pairs kept for each of them.")]
SameToken = Annotated[
    bool, typer.Option("--same-token", help="Also the same-token share in context (slower).")
]


@command(easy=True)
def circuits(
    job_of: Callable[[], Job],
    base: Base = None,
    contrast: Contrast = "QD-DD",
    variant: Variant = "all",
    divided: Divided = False,
    biases: Biases = False,
    top: Top = 6,
    head: Head = None,
    matches: Matches = 50,
    same_token: SameToken = False,
    pairs: o.MostPairs = None,
    explain: o.Explain = False,
) -> None:
    """Query-key matrices, their means, nulls and terms."""
    from matchlens.studies import circuits as own
    from matchlens.studies.presets import COSTLY_PAIRS

    own.checked(contrast, variant, top, matches)
    own.named_heads(head)
    most = o.most_pairs(pairs, COSTLY_PAIRS)
    job = job_of()
    heads = own.named_heads(head, *job.folder.shape)
    before = None
    if base is not None:
        from matchlens.models.folder import find

        before = find(base, scores=False)
        own.check_base(job.folder, before)
    seed = int(job.study["seed"])
    own.checked_halves(job.pairs.pairs, int(job.study["rel"]), seed)
    few = own.other_half(job.pairs, seed, most)
    if explain:
        from matchlens.studies.cost import circuits_cost

        number = top if heads is None else len(heads)
        typer.echo(circuits_cost(job.folder, job.pairs, few, same_token=same_token, heads=number))
        return
    with job.running() as at:
        from matchlens.models.base import load_base
        from matchlens.studies.circuits import circuits as study

        second = None if before is None else load_base(before)
        taken = ("preset", "rel", "seed", "batch_tokens")
        with o.progress("circuits", job.quiet, lambda: job.parts("circuits", 3)) as bar:
            result = study(
                at.model,
                job.pairs,
                base=second,
                contrast=contrast,
                variant=variant,
                divided=divided,
                biases=biases,
                top=top,
                heads=heads,
                matches=matches,
                same_token=same_token,
                most_pairs=most,
                progress=bar,
                runner=at.runner,
                **{name: job.study[name] for name in taken},
            )
        job.finish(result, _table, _files)


def _table(result: Result) -> str:
    from matchlens.report.views import text_of

    return text_of(result)


def _files(result: Result) -> dict[str, str | bytes]:
    from matchlens.report.views import files_of

    return files_of(result)
