"""A figure as SVG for a page: colours are the page's CSS variables, each mark has its title.

The paper's figure and the page's are one drawing: a renderer of matplotlib writes what a figure
draws as elements without styles and ids, so that many stand on one page under a strict policy.
"""

from __future__ import annotations

from itertools import groupby
from math import cos, radians, sin
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Transform

from matchlens.figures.colours import variable
from matchlens.figures.page import Mark, PaperFigure, style

SCALE = 1.5
"""Pixels of the page for a point of the figure: 7 points are 10.5 px."""


def short(value: float) -> str:
    """Write a coordinate with one decimal at most.

    >>> short(3.04), short(-0.01), short(12.25)
    ('3', '0', '12.2')
    """
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def tag(name: str, *inside: str, **attributes: object) -> Markup:
    """Make an element; texts that are no Markup are escaped, ``class_`` is ``class``.

    >>> tag("text", "a<b", class_="x", stroke_width=1.50)
    Markup('<text class="x" stroke-width="1.5">a&lt;b</text>')
    """
    own = "".join(
        f' {key if key == "viewBox" else key.rstrip("_").replace("_", "-")}="{escape(text)}"'
        for key, value in attributes.items()
        if value is not None
        for text in [short(value) if isinstance(value, float) else str(value)]
    )
    return Markup(f"<{name}{own}>{''.join(map(escape, inside))}</{name}>")  # noqa: S704 - escaped above


def inline(figure: Figure) -> Markup:
    """Write a figure as an SVG element for a page.

    Args:
        figure: what one of this package's functions drew on a sheet of its own.

    Returns:
        The element: marks with titles, series in groups, no id, no style, no script.
    """
    assert isinstance(figure, PaperFigure)  # noqa: S101
    with style():
        dots, figure.dpi = figure.dpi, 72
        renderer = _Renderer(figure)
        figure.draw(renderer)
        figure.dpi = dots
    width, height = renderer.get_canvas_width_height()
    return tag(
        "svg",
        *renderer.elements(),
        class_=f"chart {figure.kind}",
        viewBox=f"0 0 {short(width)} {short(height)}",
        width=SCALE * width,
        height=SCALE * height,
        role="group",
        aria_label=figure.summary,
        data_columns=figure.columns or None,
    )


class _Renderer(RendererBase):
    """Keeps what is drawn as elements, those of a series together."""

    def __init__(self, figure: PaperFigure) -> None:
        super().__init__()
        width, height = figure.get_size_inches()
        self.size = float(width) * 72, float(height) * 72
        self.marks = figure.marks
        self.drawn: dict[int | None, list[Any]] = {None: []}
        self.mark, self.count, self.titled = Mark(), 0, True

    def get_canvas_width_height(self) -> tuple[float, float]:
        return self.size

    def points_to_pixels(self, points: Any) -> Any:
        return points

    def open_group(self, s: str, gid: str | None = None) -> None:
        self.mark, self.count, self.titled = self.marks.get(gid or "", Mark()), 0, s != "line2d"

    def close_group(self, s: str) -> None:
        self.mark = Mark()

    def draw_markers(self, *how: Any, **more: Any) -> None:
        self.titled = True
        super().draw_markers(*how, **more)

    def draw_path(
        self,
        gc: GraphicsContextBase,
        path: Path,
        transform: Transform,
        rgbFace: Any = None,  # noqa: N803
    ) -> None:
        tip = ""
        if self.titled:
            tip = self.mark.tips[self.count] if self.count < len(self.mark.tips) else ""
            self.count += 1
        points = np.asarray(transform.transform_path(path).vertices) * (1, -1) + (0, self.size[1])
        paint = (*_paint(gc, rgbFace), ("class", self.mark.kind or None))
        if f"{paint[0][1]} {paint[1][1]}" == "none none" and not tip:
            return
        row = self.drawn.setdefault(self.mark.series, [])
        if len(points) == 26:  # matplotlib's circle
            (left, top), (right, bottom) = points.min(0), points.max(0)
            place = {"cx": (left + right) / 2, "cy": (top + bottom) / 2, "r": (right - left) / 2}
            row.append(("circle", tuple((k, float(v)) for k, v in place.items()), paint, tip))
            return
        line = _commands(points, path.codes)
        if row and not tip and row[-1][0] == "path" and row[-1][2:] == (paint, ""):
            line = row.pop()[1][0][1] + line
        row.append(("path", (("d", line),), paint, tip))

    def draw_text(
        self, gc: GraphicsContextBase, x: float, y: float, s: str, prop: Any, angle: float,
        ismath: Any = False, mtext: Any = None,
    ) -> None:  # fmt: skip
        anchor = "middle" if angle or mtext is None else mtext.get_ha()
        part, anchor = {"left": (0, None), "right": (1, "end")}.get(anchor, (0.5, "middle"))
        wide = part * self.get_text_width_height_descent(s, prop, ismath)[0]
        x, y = float(x + wide * cos(radians(angle))), float(y - wide * sin(radians(angle)))
        turned = f"translate({short(x)} {short(y)}) rotate(-{short(angle)})" if angle else None
        place = (("transform", turned),) if turned else (("x", x), ("y", y))
        size = float(prop.get_size_in_points())
        how = (("fill", variable(gc.get_rgb())), ("font-size", size), ("text-anchor", anchor))
        self.drawn.setdefault(self.mark.series, []).append(("text", place, how, "", s))

    def elements(self) -> list[Markup]:
        """The elements, a group for each series; what neighbours share stands once."""
        out = []
        for series, row in self.drawn.items():
            parts = []
            for shared, items in groupby(row, key=lambda item: item[2][1:]):
                shapes = [
                    tag(name, *([tag("title", tip)] if tip else []), *text,
                        **dict(place), fill=paint[0][1])
                    for name, place, paint, tip, *text in items
                ]  # fmt: skip
                how = {name: value for name, value in shared if value is not None}
                parts += [tag("g", *shapes, **how)] if how else shapes
            out += parts if series is None else [tag("g", *parts, class_=f"series s{series}")]
        return out


def _paint(gc: GraphicsContextBase, face: Any) -> tuple[tuple[str, Any], ...]:
    """The attributes of a shape's face and edge; nothing where they are the default."""
    edge, wide = gc.get_rgb(), float(gc.get_linewidth())
    stroked = wide > 0 and edge[3] > 0
    face_alpha = 1.0 if face is None or len(face) < 4 else float(face[3])
    if gc.get_forced_alpha():
        face_alpha = float(gc.get_alpha())
    dashes = [] if not stroked else np.ravel(gc.get_dashes()[1] or [])
    return (
        ("fill", "none" if face is None or face_alpha == 0 else variable(tuple(face[:3]))),
        ("stroke", variable(edge) if stroked else None),
        ("fill-opacity", f"{face_alpha:.2g}" if face is not None and 0 < face_alpha < 1 else None),
        ("stroke-width", f"{wide:.2g}" if stroked else None),
        ("stroke-opacity", f"{edge[3]:.2g}" if stroked and edge[3] < 1 else None),
        ("stroke-dasharray", " ".join(f"{dash:.2g}" for dash in dashes) or None),
    )


_LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}
_LENGTHS = {Path.CURVE3: 2, Path.CURVE4: 3}


def _commands(points: np.ndarray, codes: Any) -> str:
    """A path's data; a step along one axis is written as such."""
    codes = [Path.MOVETO, *[Path.LINETO] * (len(points) - 1)] if codes is None else codes.tolist()
    out, k, last = [], 0, ("", "")
    while k < len(codes):
        if codes[k] == Path.CLOSEPOLY:
            out.append("Z")
            k += 1
            continue
        count = _LENGTHS.get(codes[k], 1)
        ends = [(short(x), short(y)) for x, y in points[k : k + count].tolist()]
        if codes[k] == Path.LINETO and last[1] == ends[0][1]:
            out.append(f"H{ends[0][0]}")
        elif codes[k] == Path.LINETO and last[0] == ends[0][0]:
            out.append(f"V{ends[0][1]}")
        else:
            out.append(_LETTERS[codes[k]] + " ".join(f"{x},{y}" for x, y in ends))
        last, k = ends[-1], k + count
    return "".join(out)
