"""``matchlens families``: which types of model are supported, and how each is read."""

from __future__ import annotations

from collections.abc import Iterator

import typer

HELP = """List the supported types of model, how each is read, and how a model is checked.

A type is what config.json calls model_type.
"""


def families() -> None:
    """The supported types."""
    typer.echo("\n".join(_lines()))


def _lines() -> Iterator[str]:
    from matchlens.models.checks.item import WHAT
    from matchlens.models.families import supported

    for one in supported():
        yield f"{one.type} ({one.library})"
        yield f"  pair         {one.template}"
        yield f"  score        {one.relevance}"
        yield f"  read from    {one.reads}"
        yield f"  token types  {one.token_types}"
        yield f"  attention    {one.attention}"
        yield ""
    yield "Each type is tested on a small model: its scores are the library's, every cut is that of"
    yield "a slow reference. Every model is checked when it is loaded (matchlens check --model M):"
    yield from (f"  {what}" for what in WHAT.values())
