"""What the site's build adds to the pages: the commands' help, and numbers from stored tables."""

from __future__ import annotations

import os
import re
from pathlib import Path

import matchlens.cli

SHORT = re.compile(r"<code>([^<\n]{1,28})</code>")
"""Code that is not broken over lines: a cut or an option at its hyphen."""
HELP = re.compile(r"<!-- help: ([\w ]*?) ?-->")
CELL = re.compile(r"(<!-- cell: ([\w-]+) ([^ ]+) -->)[^<]*(<!-- /cell -->)")
RESULTS = Path(__file__).parent / "results"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill ``<!-- help: COMMAND -->`` and ``<!-- cell: FILE CUT -->...<!-- /cell -->``.

    The latter's text becomes the value of a cut in Table 1 as ``results/FILE.txt`` prints it, or
    of ``original`` and ``random``.
    """
    markdown = HELP.sub(lambda found: f"```text\n{help_of(found[1])}\n```", markdown)
    return CELL.sub(lambda found: f"{found[1]}{cells(found[2])[found[3]]}{found[4]}", markdown)


def cells(name: str) -> dict[str, str]:
    """The original and the random ranking of a stored text, and its Table 1 by cut."""
    lines = (RESULTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    ends = re.search(
        r"(?:original|it reaches \S+) (\S+?);? +(?:random ranking|a random ranking of .* has) "
        r"(\.\d+)",
        "\n".join(lines),
    )
    if ends is None:
        raise ValueError(f"results/{name}.txt says neither original nor random ranking")
    found, columns = {"original": ends[1], "random": ends[2]}, []
    for line in lines:
        reader, *values = line.split() or [""]
        if line.startswith("X \\ Y"):
            columns = values[2:]
        elif columns and len(values) == len(columns):
            for column, value in zip(columns, values, strict=True):
                found[f"{reader}->{column}"] = re.sub("[v\N{DAGGER}]", "", value)
        elif columns:
            break
    return found


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
