"""``matchlens check`` and ``matchlens families``: the check of a model, and supported types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from matchlens.cli.job import check_model_options, load_model, model_folder, without_effect
from matchlens.cli.terminal import say, show
from matchlens.errors import InputError, counted, one_line
from matchlens.options import ModelSettings
from matchlens.settings import Settings, option, settings

if TYPE_CHECKING:
    from matchlens.models.check import Checks
    from matchlens.models.families import KnownModel
    from matchlens.models.folder import ModelFolder
    from matchlens.models.load import Reranker

HELP = """Load a model and print the results of its checks.

Every command checks its model before it uses it; this one prints each question, what was seen and
what was expected. The status is 2 where a check failed.

\b
Examples:
  matchlens check --model cross-encoder/ms-marco-MiniLM-L-12-v2
  matchlens check --all-known
"""
FAMILIES_HELP = """List the supported types of model, how each is read, and how a model is checked.

A type is what config.json calls model_type.
"""


@settings
class CheckSettings(ModelSettings):
    """Options of ``check``."""

    all_known: bool = option(
        default=False,
        help="Instead of one model, each of those that `matchlens families` names: they are "
        "downloaded, which takes hundreds of gigabytes; without a hub, those in its cache.",
    )


@settings
class FamiliesSettings(Settings):
    """Options of ``families``: none."""


def check(settings: CheckSettings) -> None:
    """Check one model."""
    check_model_options(settings)
    if settings.all_known:
        own = ("model", "revision", "max_length", "prompt", "negate", "label")
        without_effect(settings, "--all-known takes each model as it is listed", *own)
        _all_known(settings)
        return
    folder = model_folder(settings)
    say(f"loading and checking model {folder.name!r} ...", settings.quiet)
    from matchlens.models.check import CheckError

    show(_head(folder, settings) + "\n")
    try:
        loaded = load_model(folder, settings, settings.max_length)
    except CheckError as error:
        show("\n".join([*_lines(error.checks), ""]))
        raise
    show("\n".join([*_texts(loaded), "", *_lines(loaded.checks), ""]))


def _all_known(settings: CheckSettings) -> None:
    """Check each model that is known by name, and print the table."""
    import gc

    from matchlens.models.families import known_models

    proofs = []
    for model in known_models():
        say(f"loading and checking model {model.name!r} ...", settings.quiet)
        proof = prove(model, settings.device, settings.dtype)
        proofs.append(proof)
        show(f"{proof.status:<9} {model.name:<54} {one_line(proof.outcome)}\n")
        gc.collect()  # one model at a time in memory
    counts = Counter(proof.status for proof in proofs)
    shown = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    show(f"\n{counted(len(proofs), 'model')}: {shown}\n")
    if wrong := [proof.model.name for proof in proofs if proof.wrong]:
        raise InputError(
            f"{len(wrong)} of {len(proofs)} known models are not what the list says ({wrong[0]} "
            "the first); expected each to pass its check or to be refused as listed: report it"
        )


@dataclass(frozen=True)
class Proof:
    """What loading a known model showed: ``ok``, ``FAILED``, ``refused`` or ``not here``."""

    model: KnownModel
    status: str
    outcome: str

    @property
    def wrong(self) -> bool:
        """Whether the list is not right about it."""
        return self.status == "FAILED" or (self.status == "refused" and not self.model.refused)


def prove(model: KnownModel, device: str | None = None, dtype: str = "float32") -> Proof:
    """Load a known model, which the hub or its cache must have, and say what its check showed."""
    from matchlens.models.check import CheckError
    from matchlens.models.folder import find
    from matchlens.models.load import load

    try:
        folder = find(model.name)
        loaded = load(folder.with_prompt(None), device=device, dtype=dtype)
    except CheckError as error:
        return Proof(model, "FAILED", str(error))
    except InputError as error:
        if "the Hugging Face hub does not give" in str(error):
            outcome = "neither in the hub's cache nor given by the hub: nothing was checked"
            return Proof(model, "not here", outcome)
        return Proof(model, "refused", str(error))
    if model.refused:
        return Proof(model, "FAILED", f"it loads, and the list says: {model.refused}")
    if folder.model_type != model.type:
        return Proof(model, "FAILED", f"it is of type {folder.model_type}, not {model.type}")
    layers, heads = folder.shape
    apart = loaded.checks["scores_together"]["seen"]
    return Proof(model, "ok", f"{layers} layers of {heads} heads, scores within {apart}")


def families(settings: FamiliesSettings) -> None:
    """Print the supported types."""
    show("\n".join([*_families(), ""]))


def _families() -> Iterator[str]:
    from matchlens.models.checks.item import WHAT
    from matchlens.models.families import supported

    for family in supported():
        yield f"{family.type} ({family.library})"
        yield f"  pair         {family.template}"
        yield f"  score        {family.relevance}"
        yield f"  read from    {family.reads}"
        yield f"  token types  {family.token_types}"
        yield f"  attention    {family.attention}"
        yield ""
    from matchlens.models.families import CHECKED, known_as_text

    yield "Published models (those of one type load alike under any name):"
    yield from (f"  {line}" for line in known_as_text())
    yield ""
    yield from wrap(CHECKED, 98)
    yield ""
    yield "Each type is tested on a small model: its scores are the library's, every cut is that of"
    yield "a slow reference. Every model is checked when it is loaded (matchlens check --model M):"
    yield from (f"  {what}" for what in WHAT.values())


def _head(folder: ModelFolder, settings: CheckSettings) -> str:
    about = folder.identity(settings.dtype, settings.max_length, settings.negate)
    (layers, heads), name = folder.shape, str(about["name"])
    return (
        f"{name if name.isprintable() else repr(name)}: {about['type']}, "
        f"{counted(layers, 'layer')} of {counted(heads, 'head')}, {settings.dtype}, "
        f"at most {about['max_length']} tokens ({about['max_length_from']}), "
        f"score {about['relevance']}\n"
    )


def _texts(model: Reranker) -> Iterator[str]:
    """How query and passage become one text."""
    if model.prompt is None:
        yield f"pair: {model.template} (no prompt)"
        return
    answers = (model.prompt.yes, model.prompt.no)
    listed = " and ".join(repr(answer) for answer in answers if answer is not None)
    read = "" if getattr(model.family, "classifies", True) else f", answers read: {listed}"
    yield f"asked in a prompt ({model.identity.get('prompt_from')}){read}:"
    for piece in model.prompt.pieces:
        yield f"  {piece.replace('{instruction}', model.prompt.instruction)!r}"


def _lines(checks: Checks) -> Iterator[str]:
    yield f"{'':<8}{'':<60}{'seen':<11}expected"
    for name, check in checks.items():
        status, value = "ok" if check["ok"] else "FAILED", check["seen"]
        if not check["expected"]:  # it is seen and refuses nothing
            status = "LOOK" if name in ("relevant_above", "marked") and value == 0 else "-"
        shown = "nothing" if value is None else f"{value:.3g}"
        yield f"{status:<8}{check['what']:<60}{shown:<11}{check['expected']}".rstrip()
