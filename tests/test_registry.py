"""A study is added by one file and one line; options stand once, for every command."""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap
from pathlib import Path

import pytest

import matchlens.cli
from matchlens.cli.commands import commands
from matchlens.errors import InputError
from matchlens.settings import PANELS, Effect, from_json, options_of
from matchlens.studies.registry import STUDIES
from test_cli import call, write_collection

TOY = '''
"""A toy study: how much longer passages would score, by a meter of its own."""

from __future__ import annotations

from matchlens.errors import InputError
from matchlens.settings import option, settings
from matchlens.options import StudySettings
from matchlens.studies.spec import StudySpec


@settings
class ToySettings(StudySettings):
    """Options of ``toy``."""

    factor: float = option(default=2.0, help="Factor of the lengths.")
    of: list[str] | None = option("--of", default=None, metavar="PART", help="query or text.")


class Toy(StudySpec[ToySettings]):
    """The toy."""

    help = "Measure lengths."
    settings = ToySettings
    function = "toy_package.toy:toy"

    def check(self, settings: ToySettings) -> None:
        if settings.factor <= 0:
            raise InputError(f"--factor is {settings.factor}; expected a number above 0")

    def arguments(self, inputs):
        settings = inputs.settings
        return {"factor": settings.factor, "of": settings.of, **inputs.common}


def toy(model, pairs, *, factor, of, **options):
    import pandas as pd

    import matchlens

    base = matchlens.ablation(model, pairs, cuts=["Q->D"], **options)
    rows = [
        {"part": part, "length": factor * sum(map(length_of(part), pairs.pairs))}
        for part in of or ["query", "text"]
    ]
    tables = {"lengths": pd.DataFrame(rows)}
    about = {"factor": factor, "digits": 3}
    return matchlens.Result("toy", base.identity, about, (), base.pairs, base.scores, tables)


def length_of(part):
    """The toy meter."""
    return lambda pair: len(getattr(pair, part).split())
'''


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Path:
    """A study in a package of its own, registered by one line."""
    package = tmp_path / "toy_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "toy.py").write_text(textwrap.dedent(TOY))
    monkeypatch.syspath_prepend(str(tmp_path))
    from toy_package.toy import Toy  # type: ignore[import-not-found]

    monkeypatch.setitem(STUDIES, "toy", Toy())
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("toy_package")]:
        del sys.modules[name]


def test_a_study_of_another_package_gets_command_table_costs_and_rerun(toy, tiny_folder):
    words = ["-m", tiny_folder, "--device", "cpu", *write_collection(toy, 1), "-q"]
    shown = call("toy", "--help").out
    assert "Factor of the lengths.  [default: 2.0]" in shown
    assert "--topics FILE" in shown
    assert "  toy " in call("--help").out
    assert "layer passes a pair" in call("toy", *words, "--dry-run").out
    done = call("toy", *words, "--factor", "0", "--out", "out")
    assert done == (2, "", "matchlens: --factor is 0.0; expected a number above 0\n")
    done = call("toy", *words, "--of", "query", "--factor", "3", "--out", "out")
    assert (done.status, done.err) == (0, "")
    table = matchlens.Result.load("out", "toy").to_frame("lengths")
    assert table["part"].tolist() == ["query"]
    assert str(table["length"][0]) in done.out
    (made,) = json.loads(Path("out/manifest.json").read_text())["commands"]
    assert made["line"].startswith("matchlens toy --factor=3.0 --of=query --model=")
    again = call("rerun", "out", "--yes", "-q")
    assert (again.status, again.err) == (0, "")
    assert again.out.splitlines()[-1].endswith("the same bytes")


def test_the_old_name_of_dry_run_works_and_says_so(toy, tiny_folder):
    words = ["-m", tiny_folder, "--device", "cpu", *write_collection(toy, 1), "-q"]
    new, old = (call("ablation", *words, flag) for flag in ("--dry-run", "--explain"))
    assert new.err == ""
    assert old.err == "matchlens: --explain is now called --dry-run\n"
    assert "TFLOP" in old.out
    assert "--explain" not in call("ablation", "--help").out


def test_an_option_means_the_same_in_every_command():
    seen: dict[tuple[str, str], object] = {}
    own = {"contrast", "direction", "pairs", "out", "model", "device"}
    """Options whose meaning or default depends on the command."""
    for name, command in commands().items():
        for one in options_of(command.settings):
            assert one.panel in PANELS
            assert one.help.endswith((".", "]")) or "," in one.help, (name, one.name)
            if one.flags and one.name not in own:
                about = (one.help, one.kind, one.several, one.default, one.effect)
                assert seen.setdefault((one.name, one.flag), about) == about, (name, one.name)


@pytest.mark.parametrize("name", sorted(commands()))
def test_settings_come_back_from_json(name, tmp_path):
    """Every option of every command, at a value that is not its default."""
    cls = commands()[name].settings
    sets = tmp_path / "sets.json"
    sets.write_text('[{"name": "sinks", "cuts": ["CLS->D"]}]')
    values = {"runner": "ray", "aggregate": "median", "kind": "only", "paper": "wexir25"}
    values |= {"cut_file": sets, "cut_set": '{"name": "sinks", "cuts": ["CLS->D"]}'}
    more = {}
    for one in options_of(cls):
        if one.panel == "" or one.name in ("quick", "full"):
            continue
        value = {int: 7, float: 0.5, bool: not one.default}.get(one.kind, "x")
        value = values.get(one.name, one.kind(value))
        more[one.name] = [value] * (1 if one.name == "cut_set" else 2) if one.several else value
    given = cls(**more)
    run = {one.name for one in options_of(cls) if one.effect is Effect.RUN}
    asked = json.loads(json.dumps(given.as_json()))
    assert not run & set(asked)
    back = from_json(cls, asked, **{key: value for key, value in more.items() if key in run})
    assert back == given
    typed = call_parsed([name, *given.words()])
    assert typed == given


def call_parsed(words: list[str]):
    """What the command line makes of some words."""
    from matchlens.cli.commands import application

    return application()(words, prog_name="matchlens", standalone_mode=False)


def test_a_manifest_cannot_set_what_it_never_contains():
    cls = commands()["ablation"].settings
    for name in ("out", "yes", "workers", "runner", "quiet", "dry_run", "nothing"):
        with pytest.raises(InputError, match="cannot be run again"):
            from_json(cls, {name: "x"})


def test_settings_are_frozen():
    given = commands()["ablation"].settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.seed = 1
