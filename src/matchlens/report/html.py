"""Blocks and pages of HTML that stand alone, with one style for light and dark."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from matchlens.report.table import tag
from matchlens.report.texts import shown

STYLE = """
.matchlens{font:14px/1.45 system-ui,sans-serif;max-width:72rem}
.matchlens h1{font-size:1.4em;margin:.2em 0}.matchlens h2{font-size:1.15em;margin:1.2em 0 .3em}
.matchlens h3{font-size:1em;margin:.8em 0 .2em}
.matchlens p{margin:.3em 0}.matchlens .scroll{overflow-x:auto}
.matchlens table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4em 0}
.matchlens th,.matchlens td{padding:.15em .6em;text-align:left;border:0;background:none}
.matchlens th,.matchlens td{overflow-wrap:break-word}
.matchlens th.num,.matchlens td.num{text-align:right;white-space:nowrap}
.matchlens thead th{border-bottom:1px solid currentColor}.matchlens .lower{font-weight:bold}
.matchlens tbody tr{border-bottom:1px solid color-mix(in srgb,currentColor 15%,transparent)}
.matchlens img{max-width:100%;background:#fff}.matchlens .soft{opacity:.75}
.matchlens .sr{position:absolute;clip-path:inset(50%)}
@media print{.matchlens .scroll{overflow:visible}}
"""
"""The colours are the surroundings' own, so that a page or a notebook may be light or dark."""
_STYLE = Markup(STYLE)  # noqa: S704 - a constant
PAGE = "main{max-width:80rem;margin:auto;padding:2rem 1.2rem}.matchlens{font-size:15px}"


REPORT, LIVE = ("matchlens.report.page", "templates"), ("matchlens.live", "page")
"""The package and folder of the report's and of the live page's templates, styles and scripts."""


@cache
def environment(place: tuple[str, str] = REPORT) -> Environment:
    """Templates in which every text is escaped."""
    return Environment(
        loader=PackageLoader(*place),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def asset(name: str, place: tuple[str, str] = REPORT) -> str:
    """A style sheet or a script."""
    return files(place[0]).joinpath(place[1], name).read_text("utf-8")


def source_hash(text: str) -> str:
    """What a content security policy calls an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def line(text: object, most: int = 2000) -> str:
    """Put a text on one line, with control and direction characters spelled out."""
    return shown(" ".join(str(text)[: 4 * most].split()), most)


def picture(svg: str, words: str) -> Markup:
    """Embed a drawing that this package made as a picture: nothing in it can run or load."""
    content = base64.b64encode(svg.encode()).decode()
    image = tag("img", alt=words, src=f"data:image/svg+xml;base64,{content}")
    return Markup(str(image).removesuffix("</img>"))  # noqa: S704 - made by tag


def block(*pieces: Markup) -> str:
    """Put HTML into one block with its style, fit to stand in another page."""
    return str(tag("div", tag("style", _STYLE), *pieces, class_="matchlens"))


def page(title: str, *pieces: Markup) -> str:
    """Make a page in the colours of a results folder's page; it loads nothing.

    Args:
        title: its title, a text.
        pieces: HTML.
    """
    style = asset("base.css") + asset("page.css") + PAGE
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"{tag('title', line(title))}<style>{style}</style></head>"
        f"<body><main>{block(*pieces)}</main></body></html>\n"
    )
