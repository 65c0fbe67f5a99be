"""What is taken away from the live page: the lines of Python, and a page that needs no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from matchlens._version import __version__
from matchlens.directions import Cut
from matchlens.errors import InputError
from matchlens.live.experiment import LETTERS, Experiment
from matchlens.report.html import LIVE, asset, environment, source_hash
from matchlens.report.pair_view import script, theme
from matchlens.report.texts import num, shown

if TYPE_CHECKING:
    from matchlens.models.load import Reranker

LIMIT = 2_000_000
"""Most bytes of the saved page."""
TICK = 0.8
"""Percent of a bar that the line of the score without cuts takes."""


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
    if (max_length := model.limits.get("--max-length")) is not None:
        options["max_length"] = max_length
    if model.negate:
        options["negate"] = True
    if (label := getattr(model.family, "label", None)) is not None:
        options["label"] = label.number
    if (revision := model.identity.get("revision")) is not None:
        options["revision"] = revision
    loading = "".join(f", {name}={value!r}" for name, value in options.items())
    loaded = f"matchlens.load({model.name!r}{loading})"
    if (wrapped := model.identity.get("object")) is not None:  # its weights need not be the hub's
        loaded = f"...  # the {wrapped} that the server got: give it here"
    lines = ["import matchlens", "", f"model = {loaded}"]
    if model.chosen:
        lines.append("# The server was given a prompt: give load() the same.")
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
    listed = "".join(f"    {tuple(map(tuple, spans))!r},\n" for spans in experiment.parts)
    return [
        f"parts = [\n{listed}]",
        "pairs = [",
        '    matchlens.Pair("query", str(n), query, text, 0, parts=parts[n])',
        "    for n, text in enumerate(passages)",
        "]",
    ]


def page_of(
    title: str,
    model: str,
    experiment: Experiment,
    ranking: Mapping[str, Any],
    lines: str,
    view: str,
) -> str:
    """The page that is saved: one file, which asks no server for anything.

    Args:
        title: what it is called.
        model: the model's name.
        experiment: texts and cuts.
        ranking: what :meth:`Microscope.score` returned: ``scores``, ``ranks`` and, without cuts,
            ``plain``, ``plain_ranks``.
        lines: lines of Python that give the same numbers.
        view: the pair view's HTML; empty where there is none.
    """
    scores: Sequence[float] = ranking["scores"]
    plain: Sequence[float] = ranking["plain"]
    low, high = min(*scores, *plain), max(*scores, *plain)
    low -= max(0.06 * (high - low), 0.1)
    rows = [
        {
            "letter": LETTERS[place],
            "text": shown(experiment.passages[place]),
            "rank": _rank(*ranking["ranks"][place]),
            "plain_rank": _rank(*ranking["plain_ranks"][place]),
            "score": num(scores[place], 3),
            "plain": num(plain[place], 3),
            "change": num(scores[place] - plain[place], 3, sign=True),
            "wide": round((scores[place] - low) / (high - low) * 100, 2),
            "tick": round((plain[place] - low) / (high - low) * (100 - TICK), 2),
        }
        for place in sorted(range(len(scores)), key=lambda n: ranking["ranks"][n][0])
    ]
    scripts = script() if view else ""
    style = f"{theme()}{asset('pair.css')}{asset('export.css', LIVE)}"
    text = (
        environment(LIVE)
        .get_template("export.html.j2")
        .render(
            title=shown(title, 200) or shown(experiment.query, 200),
            query=shown(experiment.query),
            model=shown(model),
            cuts=[(str(cut), cut.words) for cut in merged(experiment.cuts)],
            rows=rows,
            lines=lines,
            tick=TICK,
            view=Markup(view),  # noqa: S704 - its own template escaped it
            style=Markup(style),  # noqa: S704 - ours
            script=Markup(scripts),  # noqa: S704 - ours
            style_hash=source_hash(style),
            script_hash=source_hash(scripts),
            version=__version__,
        )
    )
    if (size := len(text.encode("utf-8", "backslashreplace"))) > LIMIT:
        raise InputError(
            f"the page would have {size / 1e6:.1f} MB; expected at most {LIMIT / 1e6:g} MB: take "
            "fewer or shorter passages"
        )
    return text


def _rank(first: int, sharing: int) -> str:
    return f"{first}" if sharing == 1 else f"{first}="
