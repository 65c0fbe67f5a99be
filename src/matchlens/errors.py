"""The errors that a person meets."""

from __future__ import annotations

MOST = 2000
"""Characters of an error's line at most."""


def visible(text: str) -> str:
    """A text in which control characters and marks of direction are replaced by a sign.

    Args:
        text: any text; line breaks are replaced, too.

    >>> visible("a" + chr(27) + "[31m" + chr(0x202E))
    'a\ufffd[31m\ufffd'
    """
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def one_line(text: str) -> str:
    """A text as one line for a terminal: nothing in it acts, and it is not too long.

    Args:
        text: any text; a long one loses its middle.

    >>> one_line("two" + chr(10) + "lines" + chr(27))
    'two lines\ufffd'
    """
    line = visible(" ".join(text.split()))
    if len(line) <= MOST:
        return line
    half = MOST // 2 - 30
    return f"{line[:half]} ... ({len(line):,} characters) ... {line[-half:]}"


class InputError(ValueError):
    """What a person gave cannot be used.

    Its one line says what came, what was expected and what to do; what a stranger wrote into it
    cannot act on a terminal.

    The command line prints the line and exits with status 2. Anything else that is raised is an
    error of the program and exits with status 1 and its traceback.

    >>> import matchlens
    >>> try:
    ...     matchlens.Cut.parse("Q->D@3#1.2")
    ... except InputError as error:
    ...     print(str(error)[:71])
    cut 'Q->D@3#1.2', at character 7, '#': expected '~' or the end ('@' and
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class Interrupted(Exception):  # noqa: N818 - it is no error
    """A person stopped a run; its one line says how to go on, and the status is 130."""


class MatchlensWarning(UserWarning):
    """Something to know before believing a number: printed and recorded, not fatal.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.warn("3 pairs were cut to 512 tokens", MatchlensWarning)
    >>> print(seen[0].message)
    3 pairs were cut to 512 tokens
    """
