"""The command line: options in, one study, tables and a results folder out."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

import typer

from matchlens import signals
from matchlens.cli import (
    ablation,
    attention,
    checking,
    circuits,
    comparing,
    explaining,
    families,
    looking,
    reproduce,
    rerunning,
    scoring,
    study,
    sweep,
)
from matchlens.errors import (
    InputError,
    Interrupted,
    MatchlensWarning,
    is_full,
    one_line,
    surroundings,
)

HELP = """Shows how cross-encoder rerankers match a query with a document.

matchlens cuts attention between the parts of the input (CLS, query, SEP, document, SEP) and
measures what that does to the ranking. "Q->D" reads: the query's tokens attend to (read) the
document's.

First look, on built-in data: matchlens demo
"""

STOPPED = 130

app = typer.Typer(
    name="matchlens",
    help=HELP,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> bool:
    if wanted:
        from matchlens import __version__

        typer.echo(f"matchlens {__version__}")
        raise typer.Exit
    return wanted


@app.callback(help=HELP)
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Options that stand before the command."""


app.command("demo", help=ablation.DEMO_HELP)(ablation.demo)
app.command("ablation", help=ablation.HELP)(ablation.ablation)
app.command("sweep", help=sweep.HELP)(sweep.sweep)
app.command("attention", help=attention.HELP)(attention.attention)
app.command("circuits", help=circuits.HELP)(circuits.circuits)
app.command("check", help=checking.HELP)(checking.check)
app.command("families", help=families.HELP)(families.families)
app.command("compare", help=comparing.HELP)(comparing.compare)
app.command("look", help=looking.HELP)(looking.look)
app.command("explain", help=explaining.HELP)(explaining.explain)
app.command("study", help=study.HELP)(study.study)
app.command("reproduce", help=reproduce.HELP)(reproduce.reproduce)
app.command("rerun", help=rerunning.HELP)(rerunning.rerun)
app.command("report", help=study.REPORT_HELP)(study.report)
app.command("score", help=scoring.HELP)(scoring.score)


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
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            status = app(words, prog_name="matchlens", standalone_mode=False)
    except BaseException as error:
        status = _ended(error, words)
        if status is None:
            raise
        return status
    if status == STOPPED:  # typer's own answer to Ctrl-C, by its version
        return _say_stopped()
    return status if isinstance(status, int) else 0


def _ended(error: BaseException, words: Sequence[str]) -> int | None:
    """The status after an error, which is said in one line; None: it is the program's own."""
    if isinstance(error, Interrupted):
        return _say_stopped(str(error))
    if isinstance(error, typer.Abort | KeyboardInterrupt) or signals.heard():
        return _say_stopped()
    broken = error.__context__ if isinstance(error, SystemExit) else error
    if isinstance(broken, BrokenPipeError):  # nobody reads standard output any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    line = _line_of(error, words) if isinstance(error, Exception) else None
    return None if line is None else _complain(line)


def _line_of(error: Exception, words: Sequence[str]) -> str | None:
    """What a person reads of an error that is not the program's own; None: it is."""
    if isinstance(error, OSError):
        return str(surroundings(error))
    message = getattr(error, "format_message", None)  # typer's own errors of usage have it
    if message is not None:
        return f"{' '.join(message().split())} (see: matchlens {_command(words)}--help)"
    again = "run the same command again"
    if is_full(error):
        return str(error) if again in str(error) else f"{error}; make room and {again} to go on"
    return str(error) if isinstance(error, InputError) else None


def _say_stopped(how: str = "stopped before the end; nothing half-written was left") -> int:
    print(f"matchlens: {how}", file=sys.stderr)  # noqa: T201
    return STOPPED


def _command(words: Sequence[str]) -> str:
    known = {command.name for command in app.registered_commands}
    return f"{words[0]} " if words[0] in known else ""


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


def _complain(line: str) -> int:
    print(f"matchlens: {one_line(line)}", file=sys.stderr)  # noqa: T201
    return 2


def run() -> None:
    """Run and exit with the status."""
    signals.listen()
    sys.exit(main())
