"""``matchlens serve``: a live page of a model, on this machine alone."""

from __future__ import annotations

import re
import warnings
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from matchlens.cli.candidates import COLLECTIONS, collections, draw
from matchlens.cli.job import check_model_options, load_model, model_folder
from matchlens.cli.terminal import say, show
from matchlens.corpora.lines import shown
from matchlens.directions import Cut, How
from matchlens.errors import InputError, Interrupted, MatchlensWarning
from matchlens.options import (
    Candidates,
    CollectionSettings,
    CutSets,
    Fields,
    ModelSettings,
    Seed,
    StudySettings,
)
from matchlens.settings import MODEL, RESULTS, Effect, option, options_of, settings, within

if TYPE_CHECKING:
    from matchlens.corpora import PairSet
    from matchlens.models.folder import ModelFolder
    from matchlens.report.results_folder import ResultsFolder

HELP = """Serve a live page: type a query and passages, cut who reads whom, watch the ranking.

The page opens in the browser; it listens on this machine alone, and its address has a random token.
Scores are those of `matchlens score`, contributions and swaps those of `matchlens explain`. Without
a collection the built-in one can be browsed. Ctrl-C ends it.

\b
Examples:
  matchlens serve
  matchlens serve -m my/reranker -m demo --dataset beir/nfcorpus/test --queries 50
  matchlens serve --cut-file sets.json --results out/study --no-open

Needs the serve extra: pip install 'matchlens[serve]'
"""


@settings(effect=Effect.RUN)
class ServeSettings(ModelSettings, CollectionSettings, Fields, Candidates, CutSets, Seed):
    """Options of ``serve``."""

    model: list[str] | None = option(  # type: ignore[assignment]
        "--model",
        "-m",
        default=None,
        metavar="MODEL",
        help="Local folder, Hugging Face id (downloaded), or 'demo' (built in) [demo]. Twice: two "
        "models are compared.",
        panel=MODEL,
    )
    port: int = option(default=0, help="Where it listens [any free one].", check=within(0, 65535))
    no_open: bool = option("--no-open", default=False, help="Open no browser.")
    link: str | None = option(
        default=None,
        metavar="URL",
        help="Open with the texts and cuts of an address that the page's Copy link made.",
    )
    results: Path | None = option(
        default=None,
        metavar="DIR",
        help="A results folder, whose matching heads and smallest swap become sets.",
        panel=RESULTS,
    )


def serve(settings: ServeSettings) -> None:
    """Serve a live page until Ctrl-C.

    Raises:
        Interrupted: when it was stopped.
    """
    from matchlens.live.server import check_extra, check_models

    check_extra()
    names = settings.model or ["demo"]
    check_models(len(names))
    check_model_options(settings)
    fragment = _fragment(settings.link)
    folders = [model_folder(settings, name) for name in names]
    sets = {**settings.sets, **_stored_sets(settings.results, folders)}
    if len(folders) == 1:
        (folder,) = folders
        for cut in chain.from_iterable(sets.values()):
            cut.check(*folder.shape, repr(folder.name), decoder=folder.decodes)
    pairs = _pairs(settings)
    say("loading and checking the model ...", settings.quiet)
    from matchlens.live.microscope import Microscope
    from matchlens.live.server import LivePage

    models = [load_model(folder, settings, settings.max_length) for folder in folders]
    with LivePage(Microscope(models, pairs, sets), settings.port, inside=False) as page:
        show(f"{page.url}{fragment}\n")
        say("open this address; Ctrl-C ends it", settings.quiet)
        if not settings.no_open:
            webbrowser.open(page.url + fragment)
        try:
            page.wait()
        except KeyboardInterrupt:
            raise Interrupted("the live page has stopped") from None


def _pairs(settings: ServeSettings) -> PairSet:
    """The candidates to browse, of the built-in collection where none is named."""
    from matchlens.studies.presets import preset

    kinds = (CollectionSettings, Fields, Candidates)
    names = [option.name for kind in kinds for option in options_of(kind)]
    chosen = StudySettings(**{name: getattr(settings, name) for name in names})
    if not any(getattr(chosen, name) for name in (*COLLECTIONS, "run")):
        chosen = replace(chosen, demo=True)
    standard = preset("default")
    read = collections(chosen, standard)
    return draw(read, chosen, standard, easy=chosen.easy or 0, seed=settings.seed)


def _fragment(link: str | None) -> str:
    """The part of a copied link after its ``#``."""
    if link is None:
        return ""
    fragment = urlsplit(link).fragment
    if re.fullmatch(r"s=[\w-]{1,60000}", fragment, re.ASCII) is None:
        raise InputError(
            f"--link {link!r:.60} holds no texts and cuts; expected a whole address that Copy link "
            "made, in quotes: copy it again"
        )
    return f"#{fragment}"


def _stored_sets(folder: Path | None, served: Sequence[ModelFolder]) -> dict[str, tuple[Cut, ...]]:
    """The matching heads, named sets of heads and smallest swap of a results folder."""
    if folder is None:
        return {}
    from matchlens.reading import read_back
    from matchlens.report.results_folder import ResultsFolder

    with read_back(folder):
        stored = ResultsFolder.load(folder)
        sets = {**_matching_heads(stored, folder), **_named_sets(stored)}
        swap = stored.option("explain", "swap")
        if isinstance(swap, list) and stored.option("explain", "swapped"):
            sets["smallest swap"] = tuple(Cut.parse(str(text)) for text in swap)
    if not sets:
        raise InputError(
            f"{str(folder)!r} holds no matching heads, sets of heads or swap; expected the results "
            "of attention, sweep head-sets or explain: run one of these with --out, or leave "
            "--results out"
        )
    if stored.about("model").get("sha256") not in {model.sha256 for model in served}:
        warnings.warn(
            f"{str(folder)!r} holds the results of another model ({shown(stored.model)}): its sets "
            "of heads say nothing of the one that is served",
            MatchlensWarning,
            stacklevel=2,
        )
        sets = {f"{name} of {stored.model}": cuts for name, cuts in sets.items()}
    return sets


def _matching_heads(stored: ResultsFolder, folder: Path) -> dict[str, tuple[Cut, ...]]:
    from matchlens.studies.attention.contrasts import EARLIER, is_earlier

    attention = stored.get("attention")
    if attention is None:
        return {}
    if is_earlier(attention.tables):
        raise InputError(f"the matching heads of {str(folder)!r} cannot be used: {EARLIER}")
    heads: dict[str, list[str]] = {}
    for row in stored.rows("attention", "matching"):
        if row["matching"]:
            heads.setdefault(str(row["direction"]), []).append(f"{row['layer']}.{row['head']}")
    return {
        f"matching heads {name}": (Cut.parse(f"{name}#{','.join(members)}"),)
        for name, members in heads.items()
    }


def _named_sets(stored: ResultsFolder) -> dict[str, tuple[Cut, ...]]:
    """The sets of heads of ``sweep head-sets``, cut as they were there."""
    named, directions, hows = (
        stored.option("head-sets", name) for name in ("sets", "directions", "hows")
    )
    if not isinstance(named, dict) or not isinstance(directions, list):
        return {}
    return {
        f"{name} {direction}{'' if how == How.ZERO else f'~{how}'}": (
            Cut.parse(f"{direction}#{members}~{how}"),
        )
        for name, members in named.items()
        for direction in directions
        for how in (hows if isinstance(hows, list) else [How.ZERO])
    }
