"""The page ``report.html``: a results folder to read in a browser, in one file without a network.

>>> from matchlens.report.page import LIMIT
>>> LIMIT
5000000
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matchlens._version import __version__
from matchlens.errors import InputError
from matchlens.report import views
from matchlens.report.exhibits import Detail, Exhibit
from matchlens.report.html import asset, environment, source_hash
from matchlens.report.page.overview import opening, provenance
from matchlens.report.pair_view import script, theme
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.texts import embedded
from matchlens.report.views import VIEWS, Files
from matchlens.report.views.explain import explaining
from matchlens.report.views.looking import looking
from matchlens.results import Result
from matchlens.saving import put

__all__ = ["LIMIT", "NAME", "files_of", "page", "page_of", "write"]

NAME = "report.html"
LIMIT = 5_000_000
"""Most bytes of the page."""
MOST_OF_A_PAIR = 2_000_000
"""Most bytes of the page of one explained pair."""
PAIRS = {"explain", "looking"}
"""Studies of single pairs: a page of these alone opens with the pair."""
LADDER = (
    Detail(),
    Detail(heads=100, links=15),
    Detail(heads=20, links=8),
    Detail(heads=0, links=3),
    Detail(heads=0, links=0),
    Detail(heads=0, links=0, rows=100),
)
"""What is dropped, in this order, where a page would be larger than it may be."""


def page(folder: Path, limit: int = LIMIT) -> str:
    """Make the page of a results folder from its stored tables alone.

    The same tables give the same text: it holds no times and no paths.

    Args:
        folder: the results folder.
        limit: most bytes; detail is dropped in the order of ``LADDER`` to keep it.

    Raises:
        InputError: if it is no results folder, a file cannot be read, or the page would be too
            large even with the least detail.

    Example::

        matchlens.report.page.page(Path("results"))
    """
    return _fitting(ResultsFolder.load(Path(folder)), repr(str(folder)), limit)


def page_of(result: Result, limit: int = MOST_OF_A_PAIR) -> str:
    """The page of one result, without a results folder."""
    manifest = {"identity": result.identity, "commands": [result.command] if result.command else []}
    return _fitting(ResultsFolder(manifest, {result.study: result}), result.study, limit)


def files_of(result: Result) -> Files:
    """A study's files, file name to content; of an explained margin its page, too."""
    page = {"explain.html": page_of(result)} if result.study == "explain" else {}
    return {**views.files_of(result), **page}


def _fitting(folder: ResultsFolder, name: str, limit: int) -> str:
    """The page in as much detail as the limit allows."""
    size, studies = 0, [exhibit for view in VIEWS.values() for exhibit in view.exhibits(folder)]
    for detail in LADDER:
        text = _render(folder, studies, detail)
        size = len(text.encode("utf-8"))
        if size <= limit:
            return text
    raise InputError(
        f"the page of {name} would have {size / 1e6:.1f} MB; expected at most "
        f"{limit / 1e6:g} MB; make a folder with fewer studies, directions or pairs"
    )


def write(folder: Path) -> Path:
    """Write ``report.html`` into a results folder; it is there whole or not at all."""
    put(folder, {NAME: page(folder).encode("utf-8")})
    return Path(folder) / NAME


def _render(folder: ResultsFolder, studies: Sequence[Exhibit], detail: Detail) -> str:
    pairs = (*explaining(folder, detail.links), looking(folder, detail.heads))
    exhibits = [*studies, *pairs]
    run = set(folder.studies) - {"study"}  # `report` adds it to any folder
    only_pairs = bool(run) and run <= PAIRS
    absent = [] if only_pairs else [exhibit.absent for exhibit in exhibits if exhibit.absent]
    exhibits = [exhibit for exhibit in exhibits if not exhibit.absent]
    first = opening(folder, {exhibit.id: exhibit.lead for exhibit in exhibits})
    claims = [] if only_pairs else first["tables"]
    tables = [*claims, *(table for exhibit in exhibits for table in exhibit.tables)]
    style, scripts = f"{theme()}{asset('pair.css')}{asset('page.css')}", script() + asset("page.js")
    content = {"tables": {table.name: table.data() for table in tables}}
    text = (
        environment()
        .get_template("page.html.j2")
        .render(
            opening=first,
            exhibits=exhibits,
            only_pairs=only_pairs,
            most_rows=detail.rows,
            provenance=provenance(folder, absent),
            paper_figures=folder.figures,
            version=__version__,
            style=style,
            script=scripts,
            style_hash=source_hash(style),
            script_hash=source_hash(scripts),
            data=embedded(content),
        )
    )
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
