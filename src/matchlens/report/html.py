"""Small pieces of HTML in which every text is escaped, and one style for light and dark."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from importlib import resources

from matchlens.errors import visible

STYLE = """
.matchlens{font:14px/1.45 system-ui,sans-serif;max-width:72rem}
.matchlens h1{font-size:1.4em;margin:.2em 0}.matchlens h2{font-size:1.15em;margin:1.2em 0 .3em}
.matchlens h3{font-size:1em;margin:.8em 0 .2em}
.matchlens p{margin:.3em 0}.matchlens .scroll{overflow-x:auto}
.matchlens table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4em 0}
.matchlens caption{text-align:left;opacity:.8;padding:.2em 0}
.matchlens th,.matchlens td{padding:.15em .6em;text-align:right;border:0;background:none}
.matchlens th,.matchlens td{white-space:nowrap;overflow-wrap:break-word}
.matchlens th.t,.matchlens td.t{text-align:left;white-space:normal}
.matchlens thead th{border-bottom:1px solid currentColor}
.matchlens tbody tr{border-bottom:1px solid color-mix(in srgb,currentColor 15%,transparent)}
.matchlens img{max-width:100%;background:#fff}.matchlens .said{opacity:.75}
.matchlens h2+.scroll caption{position:absolute;clip-path:inset(50%)}
@media print{.matchlens .scroll{overflow:visible}}
"""
"""The colours are the surroundings' own, so that a page or a notebook may be light or dark."""
PAGE = "main{max-width:80rem;margin:auto;padding:2rem 1.2rem}.matchlens{font-size:15px}"
LONG = 200
"""Characters of a text that are shown."""


def shown(value: object, most: int = LONG) -> str:
    """A text on one line, without control characters and marks of direction, escaped.

    >>> shown("<b>x</b>" + chr(0x202E)), shown("a" * 9, most=4)
    ('&lt;b&gt;x&lt;/b&gt;\\ufffd', 'aaa…')
    """
    words = " ".join(str(value)[: 4 * most].split())
    plain = visible(words)
    plain = plain if len(plain) <= most and len(str(value)) <= 4 * most else plain[: most - 1] + "…"
    return html.escape(plain.replace("->", "→"))


def element(tag: str, value: object, name: str = "") -> str:
    """A text in an element.

    >>> element("p", "a < b")
    '<p>a &lt; b</p>'
    """
    classed = f' class="{html.escape(name)}"' if name else ""
    return f"<{tag}{classed}>{shown(value, 2000)}</{tag}>"


def table(
    caption: str, head: Sequence[object], rows: Iterable[Sequence[object]], *, text: int = 1
) -> str:
    """A table with a caption and headings that a screen reader tells.

    Args:
        caption: what it shows.
        head: the columns' names.
        rows: cells, as they are printed.
        text: how many columns are text, to the left; the first is the row's heading.
    """

    def cell(tag: str, place: int, value: object, scope: str = "") -> str:
        left = ' class="t"' if place < text else ""
        return f"<{tag}{left}{scope}>{shown(value)}</{tag}>"

    names = "".join(cell("th", n, name, ' scope="col"') for n, name in enumerate(head))
    body = ""
    for first, *rest in rows:
        heading = cell("th", 0, first, ' scope="row"')
        body += f"<tr>{heading}{''.join(cell('td', n, one) for n, one in enumerate(rest, 1))}</tr>"
    return (
        f'<div class="scroll" tabindex="0"><table>{element("caption", caption)}'
        f"<thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def picture(svg: str, words: str) -> str:
    """A drawing that this package made, as a picture: nothing in it can run or load.

    Args:
        svg: the drawing.
        words: what it shows, for those who do not see it.
    """
    content = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{shown(words)}" src="data:image/svg+xml;base64,{content}">'


def listed(sentences: Iterable[str]) -> str:
    """Sentences as a list."""
    return f"<ul>{''.join(element('li', sentence) for sentence in sentences)}</ul>"


def _sheet() -> str:
    """The style sheet of a results folder's page."""
    folder = resources.files("matchlens.report.page").joinpath("templates")
    return folder.joinpath("page.css").read_text("utf-8")


def block(*pieces: str) -> str:
    """Pieces of HTML in one block with its style, fit to stand in another page."""
    return f'<div class="matchlens"><style>{STYLE}</style>{"".join(pieces)}</div>'


def page(title: str, *pieces: str) -> str:
    """A page of its own, in the colours of a results folder's page; it loads nothing.

    Args:
        title: its title, a text.
        pieces: HTML.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{shown(title)}</title><style>{_sheet()}{PAGE}</style></head>"
        f"<body><main>{block(*pieces)}</main></body></html>\n"
    )
