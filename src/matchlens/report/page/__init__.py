"""The page ``report.html``: a results folder to read in a browser, in one file without a network.

>>> from matchlens.report.page import LIMIT
>>> LIMIT
5000000
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from matchlens._version import __version__
from matchlens.errors import InputError
from matchlens.report.exhibits import Detail
from matchlens.report.page.overview import made, opening
from matchlens.report.page.sections.looking import looking
from matchlens.report.results_folder import ResultsFolder
from matchlens.report.texts import embedded
from matchlens.report.views import VIEWS
from matchlens.saving import put

__all__ = ["LIMIT", "NAME", "page", "write"]

NAME = "report.html"
LIMIT = 5_000_000
"""Most bytes of the page."""
LADDER = (
    Detail(),
    Detail(heads=100),
    Detail(heads=20),
    Detail(heads=0),
    Detail(heads=0, distributions=3),
    Detail(heads=0, distributions=0),
    Detail(heads=0, distributions=0, rows=100),
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
    held = ResultsFolder.load(Path(folder))
    size = 0
    for detail in LADDER:
        text = _render(held, detail)
        size = len(text.encode("utf-8"))
        if size <= limit:
            return text
    raise InputError(
        f"the page of {str(folder)!r} would have {size / 1e6:.1f} MB; expected at most "
        f"{limit / 1e6:g} MB; make a folder with fewer studies, directions or pairs"
    )


def write(folder: Path) -> Path:
    """Write ``report.html`` into a results folder; it is there whole or not at all.

    Args:
        folder: the results folder.

    Returns:
        The page's path.

    Raises:
        InputError: see :func:`page`; also if it cannot be written.
    """
    put(folder, {NAME: page(folder).encode("utf-8")})
    return Path(folder) / NAME


def _render(held: ResultsFolder, detail: Detail) -> str:
    pair, pair_data = looking(held, detail.heads)
    exhibits = [one for view in VIEWS.values() for one in view.exhibits(held, detail)]
    exhibits.append(pair)
    first = opening(held, {exhibit.id: exhibit.lead for exhibit in exhibits})
    tables = [*first.tables, *(table for exhibit in exhibits for table in exhibit.tables)]
    style, script = _asset("page.css"), _asset("page.js")
    content = {"tables": {table.name: table.data() for table in tables}, "pair": pair_data}
    text = (
        _environment()
        .get_template("page.html.j2")
        .render(
            opening=first,
            exhibits=exhibits,
            most_rows=detail.rows,
            made=made(held),
            version=__version__,
            style=style,
            script=script,
            style_hash=_hash(style),
            script_hash=_hash(script),
            data=embedded(content),
        )
    )
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("matchlens.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _asset(name: str) -> str:
    return files("matchlens.report.page").joinpath("templates", name).read_text("utf-8")


def _hash(text: str) -> str:
    """What the policy calls an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
