"""``matchlens compare``: several results folders side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from matchlens.cli import options as o
from matchlens.errors import InputError

HELP = """Set results folders side by side: several models, or one model on several collections.

What differs between them comes first, since it says what cannot be compared. Then Table 1, the
curves of Figure 1a, the matching heads and the claims, as far as two folders or more hold them.
Folders of the same pairs are tested against each other, query by query.

\b
Examples:
  matchlens compare out/minilm out/bert
  matchlens compare out/dl19 out/dl20 --out out/both
"""

Folders = Annotated[list[Path], typer.Argument(metavar="DIR DIR...", help="Results folders.")]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write tables, figures, LaTeX and compare.html there."),
]
Seed = Annotated[int, typer.Option(help="Of the tests and the intervals.")]


def compare(folders: Folders, out: Out = None, seed: Seed = 0, quiet: o.Quiet = False) -> None:
    """Results folders side by side."""
    from matchlens.reading import read_back
    from matchlens.results import check_folder

    if out is not None:
        check_folder(out)
    from matchlens.report.views.compare import files as comparison_files
    from matchlens.report.views.compare import text as comparison_text
    from matchlens.studies.comparing import compare as study

    result = study(folders, seed=seed)
    with read_back(*folders):
        shown = comparison_text(result)
        if out is not None:
            try:
                result.save(out)
            except InputError as error:
                o.show(shown)
                raise InputError(f"{error} (the tables above are all that is left)") from None
    o.show(shown)
    if out is not None:
        with read_back(*folders):
            result.texts.update(comparison_files(result))
        result.save(out)
        o.say(f"comparison in {out}", quiet)
