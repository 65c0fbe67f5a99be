"""The errors that a person meets."""

from __future__ import annotations


class InputError(ValueError):
    """What a person gave cannot be used.

    Its one line says what came, what was expected and what to do.

    The command line prints the line and exits with status 2. Anything else that is raised is an
    error of the program and exits with status 1 and its traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Interrupted(Exception):  # noqa: N818 - it is no error
    """A person stopped a run; its one line says how to go on, and the status is 130."""


class MatchlensWarning(UserWarning):
    """Something to know before believing a number: printed and recorded, not fatal."""
