"""What is taken away from the live page: the lines of Python, and a page that needs no server."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from matchlens._version import __version__
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.live.experiment import LETTERS, Experiment
from matchlens.report.page.pair_view import asset, colours, steps
from matchlens.report.texts import num, shown

if TYPE_CHECKING:
    from matchlens.models.load import Reranker

LIMIT = 2_000_000
"""Most bytes of the saved page."""


@dataclass(frozen=True)
class Ranking:
    """Scores and ranks of the passages.

    Args:
        scores: under the cuts, logits.
        ranks: under the cuts, each with how many share it.
        plain: without cuts, logits.
        plain_ranks: without cuts.
    """

    scores: list[float]
    ranks: list[list[int]]
    plain: list[float]
    plain_ranks: list[list[int]]
    FIELDS: ClassVar = ("scores", "ranks", "plain", "plain_ranks")


def merged(cuts: tuple[Cut, ...]) -> tuple[Cut, ...]:
    """The same cuts with fewer texts: directions of the same layers or heads in one.

    >>> [str(cut) for cut in merged((Cut.parse("Q->D@3"), Cut.parse("D->Q@3")))]
    ['Q->D+D->Q@3']
    """
    groups: dict[tuple[object, ...], list[Cut]] = {}
    for cut in cuts:
        groups.setdefault((cut.layers, cut.heads, cut.how), []).append(cut)
    return tuple(
        Cut(
            tuple(direction for cut in group for direction in cut.directions),
            group[0].layers,
            group[0].heads,
            group[0].how,
        )
        for group in groups.values()
    )


def python_lines(model: Reranker, experiment: Experiment) -> str:
    """The lines of Python that print the same scores."""
    cuts = merged(experiment.cuts)
    options: dict[str, object] = {}
    if model.dtype != "float32":
        options["dtype"] = model.dtype
    if (asked := model.limits.get("--max-length")) is not None:
        options["max_length"] = asked
    if model.negate:
        options["negate"] = True
    loading = "".join(f", {name}={value!r}" for name, value in options.items())
    lines = ["import matchlens", "", f"model = matchlens.load({model.name!r}{loading})"]
    if model.chosen or model.family.label is not None:
        lines.append("# The server chose a prompt or a label: give load() the same.")
    passages = "".join(f"    {text!r},\n" for text in experiment.passages)
    sets = {"together": [str(cut) for cut in cuts]} if cuts else {}
    lines += [
        f"query = {experiment.query!r}",
        f"passages = [\n{passages}]",
        f"sets = {sets!r}",
        *_python_pairs(experiment),
        "print(matchlens.score(model, pairs, sets=sets))",
    ]
    return "\n".join(lines) + "\n"


def _python_pairs(experiment: Experiment) -> list[str]:
    if not any(cut.own_parts for cut in experiment.cuts):
        return ["pairs = [(query, text) for text in passages]"]
    listed = "".join(f"    {tuple(map(tuple, some))!r},\n" for some in experiment.parts)
    return [
        f"parts = [\n{listed}]",
        "pairs = [",
        '    matchlens.Pair("query", str(n), query, text, 0, parts=parts[n])',
        "    for n, text in enumerate(passages)",
        "]",
    ]


def page_of(
    title: str, model: str, experiment: Experiment, ranking: Ranking, lines: str, view: str
) -> str:
    """The page that is saved: one file, which asks no server for anything."""
    every = (*ranking.scores, *ranking.plain)
    low = min(every) - max(0.06 * (max(every) - min(every)), 0.1)
    width = 100 / (max(every) - low)
    rows = [
        {
            "letter": LETTERS[place],
            "text": shown(experiment.passages[place]),
            "rank": _rank(ranking.ranks[place]),
            "plain_rank": _rank(ranking.plain_ranks[place]),
            "score": num(ranking.scores[place], 3),
            "plain": num(ranking.plain[place], 3),
            "change": num(ranking.scores[place] - ranking.plain[place], 3, sign=True),
            "wide": round((ranking.scores[place] - low) * width, 2),
            "tick": round((ranking.plain[place] - low) * width, 2),
        }
        for place in sorted(range(len(experiment.passages)), key=lambda n: ranking.ranks[n][0])
    ]
    script = asset("pair.js") if view else ""
    style = f"{theme()}{asset('pair.css')}{own('export.css')}"
    text = (
        environment()
        .get_template("export.html.j2")
        .render(
            title=shown(title, 200) or shown(experiment.query, 200),
            query=shown(experiment.query),
            model=shown(model),
            cuts=[(str(cut), cut.words) for cut in merged(experiment.cuts)],
            rows=rows,
            lines=lines,
            view=Markup(view),  # noqa: S704 - its own template escaped it
            style=Markup(style),  # noqa: S704 - ours
            script=Markup(script),  # noqa: S704 - ours
            style_hash=_hash(style),
            script_hash=_hash(script),
            version=__version__,
        )
    )
    if (size := len(text.encode("utf-8", "backslashreplace"))) > LIMIT:
        raise InputError(
            f"the page would have {size / 1e6:.1f} MB; expected at most {LIMIT / 1e6:g} MB: take "
            "fewer or shorter passages"
        )
    return text


def _rank(place: list[int]) -> str:
    first, many = place
    return f"{first}" if many == 1 else f"{first}="


def theme() -> str:
    """The page's colours, light and dark, and the classes of their steps."""
    return (
        f":root{{color-scheme:light dark;{colours()}}}:root[data-theme=light]{{color-scheme:light}}"
        f":root[data-theme=dark]{{color-scheme:dark}}{steps()}"
    )


@cache
def environment() -> Environment:
    """Templates in which every text is escaped."""
    return Environment(
        loader=PackageLoader("matchlens.live", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def own(name: str) -> str:
    """A style sheet or a script of the live page."""
    return files("matchlens.live").joinpath("page", name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
