"""``matchlens check``: the check at load alone, question by question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from matchlens.cli import options as o

if TYPE_CHECKING:
    from matchlens.models.check import Checks
    from matchlens.models.folder import ModelFolder
    from matchlens.models.load import Reranker

HELP = """Load a model and say what its check caused and saw.

Every command checks its model before it uses it; this one shows each question, what was seen and
what was expected. The status is 2 where something failed.

\b
Example:
  matchlens check --model cross-encoder/ms-marco-MiniLM-L-12-v2
"""


def check(
    model: o.Model = "demo",
    max_length: o.MaxLength = None,
    revision: o.Revision = None,
    device: o.Device = None,
    dtype: o.Dtype = "float32",
    negate: o.Negate = False,
    label: o.Label = None,
    prompt: o.PromptFile = None,
    quiet: o.Quiet = False,
) -> None:
    """The check of one model."""
    from matchlens.models.folder import check_dtype, check_length, find

    check_dtype(dtype)
    check_length(max_length)
    folder = find(model, revision).asked(prompt).labelled(label, negate=negate)
    o.say(f"loading and checking model {folder.name!r} ...", quiet)
    from matchlens.models.check import CheckError
    from matchlens.models.load import load

    o.show(_head(folder, dtype, max_length, negate) + "\n")
    try:
        loaded = load(folder, device=device, dtype=dtype, max_length=max_length, negate=negate)
    except CheckError as error:
        o.show("\n".join([*_lines(error.checks), ""]))
        raise
    o.show("\n".join([*_texts(loaded), "", *_lines(loaded.checks), ""]))


def _head(folder: ModelFolder, dtype: str, max_length: int | None, negate: bool) -> str:
    about, (layers, heads) = folder.identity(dtype, max_length, negate), folder.shape
    name = str(about["name"])
    return (
        f"{name if name.isprintable() else repr(name)}: {about['type']}, {layers} layers of "
        f"{heads} heads, {dtype}, at most {about['max_length']} tokens "
        f"({about['max_length_from']}), score {about['relevance']}\n"
    )


def _texts(model: Reranker) -> Iterator[str]:
    """How query and passage become one text."""
    if model.prompt is None:
        yield f"pair: {model.template} (no prompt)"
        return
    whose = "given" if model.chosen else "of its type"
    yield f"asked in the prompt {whose}, answers {model.prompt.yes!r} and {model.prompt.no!r}:"
    for piece in model.prompt.pieces:
        yield f"  {piece.replace('{instruction}', model.prompt.instruction)!r}"


def _lines(checks: Checks) -> Iterator[str]:
    yield f"{'':<8}{'':<60}{'seen':<11}expected"
    for name, one in checks.items():
        status, seen = "ok" if one["ok"] else "FAILED", one["seen"]
        if not one["expected"]:  # it is seen and refuses nothing
            status = "LOOK" if name in ("relevant_above", "marked") and seen == 0 else "-"
        shown = "nothing" if seen is None else f"{seen:.3g}"
        yield f"{status:<8}{one['what']:<60}{shown:<11}{one['expected']}".rstrip()
