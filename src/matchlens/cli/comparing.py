"""``matchlens compare``: several results folders side by side."""

from __future__ import annotations

from pathlib import Path

from matchlens.cli.terminal import say, show
from matchlens.errors import InputError
from matchlens.options import Out, Quiet, Seed
from matchlens.settings import RESULTS, Effect, argument, option, settings

HELP = """Set results folders side by side: several models, or one model on several collections.

What differs between them comes first, since it says what cannot be compared. Then Table 1, the
curves of Figure 1a, the matching heads and the claims, as far as two folders or more hold them.
Folders of the same pairs are tested against each other, query by query.

\b
Examples:
  matchlens compare out/minilm out/bert
  matchlens compare out/dl19 out/dl20 --out out/both
"""


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
    from matchlens.report.views.compare import files as comparison_files
    from matchlens.report.views.compare import text as comparison_text
    from matchlens.studies.comparing import compare as study

    result = study(folders, seed=settings.seed)
    with read_back(*folders):
        table = comparison_text(result)
        if out is not None:
            try:
                result.save(out)
            except InputError as error:
                show(table)
                raise InputError(f"{error} (the tables above are all that is left)") from None
    show(table)
    if out is not None:
        with read_back(*folders):
            result.texts.update(comparison_files(result))
        result.save(out)
        say(f"comparison in {out}", settings.quiet)
