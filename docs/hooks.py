"""What the site's build adds to the pages: the commands' own help, as it stands now."""

from __future__ import annotations

import os
import re

import matchlens.cli

SHORT = re.compile(r"<code>([^<\n]{1,28})</code>")
"""Code that is not broken over lines: a cut or an option at its hyphen."""
HELP = re.compile(r"<!-- help: ([\w ]*?) ?-->")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put a command's help in place of ``<!-- help: COMMAND -->``."""
    return HELP.sub(lambda found: f"```text\n{help_of(found[1])}\n```", markdown)


def on_page_content(html: str, **_: object) -> str:
    """Keep short code on one line."""
    return SHORT.sub(r'<code class="short">\1</code>', html)


def help_of(command: str) -> str:
    """What ``matchlens COMMAND --help`` prints.

    Args:
        command: a command's name; empty for the program's own help.
    """
    import io
    from contextlib import redirect_stdout

    os.environ["COLUMNS"] = "96"
    out = io.StringIO()
    with redirect_stdout(out):
        status = matchlens.cli.main([*command.split(), "--help"])
    if status != 0:
        raise ValueError(f"matchlens {command} --help ended with status {status}")
    return out.getvalue().strip()
