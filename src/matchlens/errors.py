"""The errors that a person meets."""

from __future__ import annotations


class InputError(ValueError):
    """What a person gave cannot be used.

    Its one line says what came, what was expected and what to do.

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
        super().__init__(" ".join(message.split()))


class MatchlensWarning(UserWarning):
    """Something to know before believing a number: printed and recorded, not fatal.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as seen:
    ...     warnings.warn("3 pairs were cut to 512 tokens", MatchlensWarning)
    >>> print(seen[0].message)
    3 pairs were cut to 512 tokens
    """
