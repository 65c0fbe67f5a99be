"""How the reference reads docstrings: doctests as code, Sphinx roles as links."""

from __future__ import annotations

import re
from typing import Any

import griffe

import matchlens

ROLE = re.compile(r":(?:func|class|meth|data|mod):`~?([\w.\s]+?)`")
DOCTEST = re.compile(
    r"^( *)>>> .*(?:\n(?!\s*$).*)*(?:\n\n?\1>>> .*(?:\n(?!\s*$).*)*)*", re.MULTILINE
)


class Examples(griffe.Extension):
    """Turns every docstring into what Markdown shows well."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring.

        Args:
            obj: the documented object.
        """
        if obj.docstring is not None:
            obj.docstring.value = shown(obj.docstring.value)


def shown(text: str) -> str:
    """A docstring with its doctests fenced and its roles as links.

    Args:
        text: the docstring.
    """
    text = DOCTEST.sub(lambda found: f"\n```pycon\n{found[0]}\n```", text)
    return ROLE.sub(lambda found: link("".join(found[1].split())), text)


def link(name: str) -> str:
    """A name as code, linked where the reference shows it.

    Args:
        name: dotted or plain.
    """
    known = name.removeprefix("matchlens.")
    if known in matchlens.__all__:
        return f"[`{name}`][matchlens.{known}]"
    return f"`{name}`"
