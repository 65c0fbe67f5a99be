"""What the page is made of: exhibits with their charts, tables, definitions and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from matchlens.figures import Drawing
from matchlens.figures.colours import places
from matchlens.figures.svg import inline, tag
from matchlens.report.definitions import DEFINITIONS
from matchlens.report.table import Table
from matchlens.report.texts import ARROW, notes, prose, shown, spelled
from matchlens.results import Result

HIDDEN = {"check", "batches", "check_batches", "parts", "digits", "original", "random_value"}
"""Options that are shown elsewhere, or only steer printing."""
WIDE, SQUARE, NARROW = 470.0, 364.0, 240.0
"""Widths of charts in points: a line's, a large one's with others beside it, a map's."""
ROWS = 500
"""Rows of a table that are shown on the page at most."""


@dataclass(frozen=True)
class Detail:
    """How much of the costly parts a page holds.

    Args:
        heads: how many matching heads of a pair can be chosen alone; all heads where None.
        links: links of each head of an explained pair; all where None.
        rows: rows of a table that are shown at most; longer tables are files alone.
    """

    heads: int | None = None
    links: int | None = None
    rows: int = ROWS


def chart(draw: Drawing, caption: str = "", width: float = WIDE, **look: Any) -> Markup:
    """Draw a figure for the page.

    Args:
        draw: the drawing, as the study's files have it.
        caption: a sentence below it.
        width: its width in points; a ``WIDE`` one has a line of its own.
        look: what else :class:`matchlens.figures.Look` has, and the drawing's own arguments.
    """
    svg = inline(draw(width=width, **{"title": "", **look}))
    return tag(
        "figure",
        tag("div", svg, class_="scroll"),
        tag("figcaption", caption) if caption else Markup(""),
        class_="drawing wide" if width >= WIDE else "drawing",
    )


@dataclass(frozen=True)
class Panel:
    """One of several views of an exhibit; the script makes tabs of them.

    Args:
        id: its place in the address.
        label: the tab's name.
        charts: what it shows.
        note: a sentence above the charts.
        beside: whether two small charts stand beside a large one.
        chooser: switches of the curves, above the charts.
    """

    id: str
    label: str
    charts: tuple[Markup, ...] = ()
    note: str | Markup = ""
    beside: bool = False
    chooser: Markup | None = None

    def html(self, tabs: bool) -> Markup:
        """Make the panel; with a heading where it is one of several."""
        note = tag("p", self.note, class_="panel-note") if self.note else Markup("")
        charts = Markup("").join(self.charts)
        if self.chooser is not None:
            inside = tag("div", self.chooser, note, charts, class_="chooser-frame")
        else:
            kind = "charts beside" if self.beside else "charts"
            inside = note + tag("div", charts, class_=kind)
        title = tag("h3", self.label, class_="panel-title") if tabs else Markup("")
        label = self.label if tabs else None
        return tag("div", title, inside, class_="panel", id=self.id, data_label=label)


def panels(id: str, views: Sequence[Panel]) -> Markup:
    """Make an exhibit's panels."""
    tabs = len(views) > 1
    return tag(
        "div",
        *(view.html(tabs) for view in views),
        class_="panels",
        data_panels=id if tabs else None,
    )


def words(text: str | Markup, kind: str = "caption") -> Markup:
    """Make a paragraph: a ``caption``, a ``legend``, or what is ``absent``."""
    return tag("p", text, class_=kind)


def titled(title: str, *blocks: Markup) -> Markup:
    """Put a heading above blocks."""
    return Markup("").join([tag("h3", title), *blocks])


@dataclass(frozen=True)
class Exhibit:
    """A table or figure of the page with everything that belongs to it.

    Args:
        id: its place in the address (``#id``), and the key of its definition.
        title: its heading, in words.
        subtitle: what it shows, in one line.
        number: its number in the paper, such as ``Figure 1a``; empty where it has none.
        lead: what it says, in plain sentences made from the numbers.
        body: its blocks.
        definition: what its numbers are, exactly; that of its id where empty.
        tables: its numbers, to look at and download.
        result: the study behind it, whose options and notes are shown.
        others: further studies behind it, whose options are shown as well.
        notes: what else a person should know before believing it.
        absent: why there is nothing to show; empty where there is.
        template: a template that draws the body, in place of blocks.
        context: what that template needs.
        caption: a caption of that template.
    """

    id: str
    title: str
    subtitle: str
    number: str = ""
    lead: tuple[str, ...] = ()
    body: tuple[Markup, ...] = ()
    definition: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    result: Result | None = None
    others: tuple[Result, ...] = ()
    notes: tuple[str, ...] = ()
    absent: str = ""
    template: str = ""
    context: Mapping[str, object] = field(default_factory=dict)
    caption: str = ""

    @property
    def defined(self) -> tuple[str, ...]:
        """What its numbers are, exactly."""
        return self.definition or DEFINITIONS[self.id]

    @property
    def options(self) -> list[tuple[str, str]]:
        """The options as names and texts, in the manifest's order.

        What several studies do not share stands once for each, with its name.
        """
        studies = [] if self.result is None else [self.result, *self.others]
        names = dict.fromkeys(name for study in studies for name in study.options)
        found: list[tuple[str, str]] = []
        for name in (name for name in names if name not in HIDDEN):
            texts = {
                study.study: shown(spelled(study.options[name]), 400)
                for study in studies
                if name in study.options
            }
            words_ = name.replace("_", " ")
            if len(texts) == len(studies) and len({*texts.values()}) == 1:
                found.append((words_, next(iter(texts.values()))))
            else:
                found += [(f"{words_} ({study})", text) for study, text in texts.items()]
        return found

    @property
    def all_notes(self) -> list[str]:
        """The study's notes and its own, each once."""
        own = notes_of(self.result) if self.result else ()
        return list(dict.fromkeys([*own, *self.notes]))


def notes_of(result: Result) -> tuple[str, ...]:
    """Return a study's notes as sentences."""
    return tuple(f"{note[:1].upper()}{note[1:]}." for note in map(prose, notes(result)))


def chooser(curves: Sequence[tuple[str, str, bool]]) -> Markup:
    """Make switches for curves: name, words, and whether it is shown at first."""
    if len(curves) == 1:
        name, words_, _ = curves[0]
        return tag("p", tag("span", name, class_="cut"), f": {words_}", class_="panel-note")
    labels, colours = [], places([name.replace(ARROW, "->") for name, _, _ in curves])
    for n, ((name, words_, on), colour) in enumerate(zip(curves, colours.values(), strict=True)):
        line = tag("line", x1="1", x2="21", y1="5", y2="5", class_="line")
        dot = tag("circle", cx="11", cy="5", r="4", class_="dot")
        box = {"type": "checkbox", "class_": f"choose x{n}", "checked": "" if on else None}
        inside = (
            Markup(str(tag("input", **box)).removesuffix("</input>")),  # noqa: S704 - made by tag
            tag("svg", line, dot, viewBox="0 0 22 10", aria_hidden="true"),
            tag("span", tag("span", name, class_="cut"), " ", tag("span", words_, class_="soft")),
        )
        labels.append(tag("label", *inside, class_=f"c{colour}"))
    choices = tag("div", *labels, class_="choices")
    return tag("fieldset", tag("legend", "Directions cut"), choices, class_="chooser")
