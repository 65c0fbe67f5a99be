"""The errors that users see."""

from __future__ import annotations

import errno
import os
import re
import reprlib
from dataclasses import fields
from numbers import Real
from typing import Any

MOST, MUCH = 2000, 400
"""Characters of an error's line at most, and those beyond which long paths lose their middle."""
LINE = 200
"""Characters of an object's repr at most."""
_PATH = re.compile(r"(?<!\()'[^'\s]*/[^'\s]{60,}'|(?<![\w'(/])/[^\s':;,]{60,}")
"""A long path; one in parentheses and quotes is an argument in a line of Python, and stays."""


def visible(text: str) -> str:
    """A text in which control characters and marks of direction are replaced by a sign."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def counted(number: Any, noun: str) -> str:
    """A number with its noun, in the plural unless it is 1.

    Args:
        number: a whole number.
        noun: in the singular.

    >>> counted(1, "query"), counted(2, "query"), counted(1200, "pair"), counted(0, "pass")
    ('1 query', '2 queries', '1,200 pairs', '0 passes')
    """
    count = int(number)
    if count == 1:
        return f"1 {noun}"
    plural = re.sub(r"(?<=[^aeiou])y$", "ie", noun)
    return f"{count:,} {plural}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def printed(value: object, digits: int = 3) -> str:
    """Format a number as papers do, without the zero before the point; a dash where unknown.

    >>> printed(0.8123, 3), printed(-0.25, 2), printed(-0.0001, 2), printed(None, 3)
    ('.812', '-.25', '.00', '-')
    """
    if not isinstance(value, Real):
        return "-"
    rounded = round(float(value), digits) + 0.0  # no minus before a zero
    text = f"{rounded:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(rounded) < 1 else text


def one_line(text: str) -> str:
    """A text as one line for a terminal: nothing in it acts, and it is not too long.

    Args:
        text: any text; in a long one, long paths lose their middle, and a longer one its own.
    """
    line = visible(" ".join(text.split()))
    if len(line) > MUCH:
        line = _PATH.sub(lambda path: f"{path[0][:20]}...{path[0][-40:]}", line)
    if len(line) <= MOST:
        return line
    half = MOST // 2 - 30
    return f"{line[:half]} ... ({len(line):,} characters) ... {line[-half:]}"


def brief(text: str, width: int = 40) -> str:
    """The beginning of a text in quotes, for the repr of an object."""
    quoted = repr(text[:width])
    return quoted if len(quoted) <= width and len(text) <= width else f"{quoted[: width - 3]}..."


class Brief:
    """Gives a dataclass a repr of one line: the beginning of each field."""

    def __repr__(self) -> str:
        this: Any = self
        values = (
            f"{field.name}={reprlib.repr(getattr(self, field.name))}" for field in fields(this)
        )
        line = visible(" ".join(f"{type(self).__name__}({', '.join(values)})".split()))
        return line if len(line) <= LINE else f"{line[: LINE - 4]}...)"


class InputError(ValueError):
    """The input cannot be used.

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


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, says that a disk is full."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    while error is not None:
        if isinstance(error, OSError) and error.errno in codes:
            return True
        if any(os.strerror(code) in str(error) for code in codes):  # a library's own error
            return True
        error = error.__cause__ or error.__context__
    return False


def surroundings(error: OSError) -> InputError:
    """The error where the machine is at fault: a full disk, a folder that is gone."""
    path = None if error.filename is None else os.fsdecode(error.filename)
    where = "" if path is None else f"{path!r}: "
    reason = error.strerror or str(error) or type(error).__name__
    again = "run the same command again to go on"
    if is_full(error):
        place = "there" if path else "(where results, temporary files and downloads go)"
        remedy = f"make room {place}, and {again}"
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        remedy = "expected a place that can be written: change its permissions, or name another"
    elif isinstance(error, FileNotFoundError):
        remedy = (
            "expected the folders of the results, of temporary files (TMPDIR) and of the cache, "
            f"and the one where you are, to stay: put it back or go to another, and {again}"
        )
    else:
        remedy = f"see that the place can be read and written, and {again}"
    return InputError(f"{where}{reason}; {remedy}")


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
