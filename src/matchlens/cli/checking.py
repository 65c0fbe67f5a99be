"""``matchlens check``: the check at load alone, question by question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from matchlens.cli import options as o

if TYPE_CHECKING:
    from matchlens.models.check import Checks
    from matchlens.models.folder import ModelFolder

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
    prompt: o.PromptFile = None,
) -> None:
    """The check of one model."""
    from matchlens.models.folder import check_dtype, find

    check_dtype(dtype)
    folder = find(model, revision).asked(prompt)
    folder.limit(max_length)
    from matchlens.models.check import CheckError
    from matchlens.models.load import load

    o.show(_head(folder, dtype, max_length, negate) + "\n")
    try:
        loaded = load(folder, device=device, dtype=dtype, max_length=max_length, negate=negate)
    except CheckError as error:
        o.show("\n".join([*_lines(error.checks), ""]))
        raise
    o.show("\n".join([*_lines(loaded.checks), ""]))


def _head(folder: ModelFolder, dtype: str, max_length: int | None, negate: bool) -> str:
    about, (layers, heads) = folder.identity(dtype, max_length, negate), folder.shape
    name = str(about["name"])
    return (
        f"{name if name.isprintable() else repr(name)}: {about['type']}, {layers} layers of "
        f"{heads} heads, {dtype}, at most {about['max_length']} tokens, score "
        f"{about['relevance']}\n"
    )


def _lines(checks: Checks) -> Iterator[str]:
    yield f"{'':<8}{'':<60}{'seen':<11}expected"
    for name, one in checks.items():
        status, seen = "ok" if one["ok"] else "FAILED", one["seen"]
        if not one["expected"]:  # it is seen and refuses nothing
            status = "LOOK" if name == "relevant_above" and seen == 0 else "-"
        shown = "nothing" if seen is None else f"{seen:.3g}"
        yield f"{status:<8}{one['what']:<60}{shown:<11}{one['expected']}".rstrip()
