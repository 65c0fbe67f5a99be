"""What the page is made of: exhibits with their charts, tables, definitions and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from matchlens.figures.page import places
from matchlens.report.definitions import DEFINITIONS
from matchlens.report.table import Table, tag
from matchlens.report.texts import ARROW, notes, prose, shown, spelled
from matchlens.results import Result

HIDDEN = {"check", "batches", "parts", "digits", "original", "random_value"}
"""Options that are shown elsewhere, or only steer printing."""
ROWS = 500
"""Rows of a table that are shown on the page at most."""


@dataclass(frozen=True)
class Detail:
    """How much of the costly parts a page holds.

    Args:
        heads: how many matching heads of a pair can be chosen alone; all heads where None.
        links: links of each head of an explained pair; all where None.
        distributions: heads for each direction whose distributions are drawn.
        rows: rows of a table that are shown at most; longer tables are files alone.
    """

    heads: int | None = None
    links: int | None = None
    distributions: int = 6
    rows: int = ROWS


@dataclass(frozen=True)
class Chart:
    """A drawing with its caption."""

    svg: Markup
    caption: str = ""
    wide: bool = False

    def html(self) -> Markup:
        """Make the chart's figure."""
        return tag(
            "figure",
            tag("div", self.svg, class_="scroll"),
            tag("figcaption", self.caption) if self.caption else Markup(""),
            class_="drawing wide" if self.wide else "drawing",
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
    charts: tuple[Chart, ...]
    note: str | Markup = ""
    beside: bool = False
    chooser: Markup | None = None

    def html(self, tabs: bool) -> Markup:
        """Make the panel; with a heading where it is one of several."""
        note = tag("p", self.note, class_="panel-note") if self.note else Markup("")
        charts = Markup("").join(chart.html() for chart in self.charts)
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


def key(names: Sequence[str], sign: str = "dot") -> Markup:
    """Explain the colours of a chart: by a ``dot``, a ``share``'s box, or the line of ``steps``."""
    items, colours = [], places(names)
    for n, name in enumerate(names):
        if sign == "share":
            drawn = tag("rect", width="10", height="10", class_="share")
        elif sign == "steps":
            drawn = tag("polyline", points="1,9 1,3 21,3 21,9", class_=f"steps k{n}")
        else:
            line = tag("line", x1="1", x2="21", y1="5", y2="5", class_="bar")
            drawn = line + tag("circle", cx="11", cy="5", r="4", class_="dot")
        box = "0 0 10 10" if sign == "share" else "0 0 22 10"
        svg = tag("svg", drawn, viewBox=box, aria_hidden="true")
        items.append(
            tag("li", svg, name, class_=f"g{n}" if sign == "share" else f"c{colours[name]}")
        )
    return tag("ul", *items, class_="key boxes" if sign == "share" else "key")


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
        """The study's options as names and texts, in the manifest's order."""
        return [
            (name.replace("_", " "), shown(spelled(value), 400))
            for name, value in (self.result.options.items() if self.result else ())
            if name not in HIDDEN
        ]

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
        name, said, _ = curves[0]
        return tag("p", tag("span", name, class_="cut"), f": {said}", class_="panel-note")
    labels, colours = [], places([name.replace(ARROW, "->") for name, _, _ in curves])
    for n, ((name, said, on), colour) in enumerate(zip(curves, colours.values(), strict=True)):
        line = tag("line", x1="1", x2="21", y1="5", y2="5", class_="line")
        dot = tag("circle", cx="11", cy="5", r="4", class_="dot")
        box = {"type": "checkbox", "class_": f"choose x{n}", "checked": "" if on else None}
        inside = (
            Markup(str(tag("input", **box)).removesuffix("</input>")),  # noqa: S704 - made by tag
            tag("svg", line, dot, viewBox="0 0 22 10", aria_hidden="true"),
            tag("span", tag("span", name, class_="cut"), " ", tag("span", said, class_="soft")),
        )
        labels.append(tag("label", *inside, class_=f"c{colour}"))
    choices = tag("div", *labels, class_="choices")
    return tag("fieldset", tag("legend", "Directions cut"), choices, class_="chooser")
