"""The command line: options in, one study, tables and a results folder out."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TextIO

import typer

from matchlens import signals
from matchlens.cli.commands import application, commands
from matchlens.cli.terminal import say
from matchlens.errors import (
    InputError,
    Interrupted,
    MatchlensWarning,
    is_full,
    one_line,
    surroundings,
)
from matchlens.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        arguments: the words after ``matchlens``; the process's own where None.

    Returns:
        0 where all went well, 2 for bad input and for what the machine refuses, such as a full disk
        (one line on stderr), 130 after Ctrl-C or SIGTERM. Any other error is the program's own: its
        traceback is printed and the status is 1.
    """
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    # A terminal that is not UTF-8 lacks letters of tables and passages: they are shown as escapes.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            status = _run(application()(words, prog_name="matchlens", standalone_mode=False))
    except BaseException as error:
        status = _status_after(error, words)
        if status is None:
            raise
        return status
    return _say_stopped() if status == signals.STOPPED else status  # typer's own answer to Ctrl-C


def _run(parsed: Any) -> int:
    """Run the command of the parsed settings; typer's own status is passed on."""
    if not isinstance(parsed, Settings):
        return parsed if isinstance(parsed, int) else 0
    if getattr(parsed, "explain", False):
        say("matchlens: --explain is now called --dry-run", quiet=False)
        parsed = replace(parsed, dry_run=True, explain=False)  # type: ignore[call-arg]
    by_settings = {command.settings: command for command in commands().values()}
    return by_settings[type(parsed)].run(parsed) or 0


def _status_after(error: BaseException, words: Sequence[str]) -> int | None:
    """Print an error in one line and return the status; None for an error of the program."""
    if isinstance(error, Interrupted):
        return _say_stopped(str(error))
    if isinstance(error, typer.Abort | KeyboardInterrupt) or signals.heard():
        return _say_stopped()
    broken = error.__context__ if isinstance(error, SystemExit) else error
    if isinstance(broken, BrokenPipeError):  # nobody reads standard output any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    line = _line_of(error, words) if isinstance(error, Exception) else None
    if line is None:
        return None
    print(f"matchlens: {one_line(line)}", file=sys.stderr)  # noqa: T201
    return 2


def _line_of(error: Exception, words: Sequence[str]) -> str | None:
    """The message of an error that is not the program's own, else None."""
    if isinstance(error, OSError):
        return str(surroundings(error))
    message = getattr(error, "format_message", None)  # typer's own errors of usage have it
    if message is not None:
        command = f"{words[0]} " if words[0] in commands() else ""
        return f"{' '.join(message().split())} (see: matchlens {command}--help)"
    again = "run the same command again"
    if is_full(error):
        return str(error) if again in str(error) else f"{error}; make room and {again} to go on"
    return str(error) if isinstance(error, InputError) else None


def _say_stopped(how: str = signals.NOTHING_LEFT) -> int:
    print(f"matchlens: {how}", file=sys.stderr)  # noqa: T201
    return signals.STOPPED


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    ours = issubclass(category, MatchlensWarning)
    if issubclass(category, DeprecationWarning) and not ours:
        return  # a library tells its own developers; a reader of results cannot act on it
    where = "" if ours else f" ({filename}, line {lineno})"
    print(f"matchlens: warning: {one_line(str(message))}{where}", file=file or sys.stderr)
