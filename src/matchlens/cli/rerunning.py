"""``matchlens rerun``: run a results folder's commands again, and compare the results."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from matchlens.cli.candidates import COLLECTIONS
from matchlens.cli.job import check_placement
from matchlens.cli.recording import Command, place_in
from matchlens.cli.terminal import say, show
from matchlens.errors import InputError, MatchlensWarning, counted, visible
from matchlens.options import PLACEMENT, Out, Placement, Quiet, Yes
from matchlens.settings import (
    RESULTS,
    RUNNING,
    Effect,
    Settings,
    argument,
    files_of,
    from_json,
    option,
    settings,
)

HELP = """Run the commands of a results folder's manifest again, and compare the tables.

The manifest may come from a stranger, so the commands are shown first, with the files, models and
collections that they name, and you are asked; --yes answers beforehand. Nothing else is opened or
downloaded before. You decide where they run: --runner, --workers and --ray-address are never taken
from a manifest, and --device only if it is plain, such as cpu or cuda:0.

Model, files and versions must be those of the manifest; where they are not, the differences are
printed and nothing runs, unless --anyway. The same studies are written into a new folder, in the
same order. Then every table and array is compared: the same bytes, the same printed digits, or
where they first differ.

The status is 0 where print shows no difference, else 1.

\b
Examples:
  matchlens rerun out/demo
  matchlens rerun out/dl19 --out out/check --yes --anyway
"""
NOT_RERUN = ("compare", "rerun", "score", "check", "families")
"""Commands that write no studies."""
REPORT = "report"
"""It takes the results folder as its argument, and changes its claims by --margin."""
Commands = Callable[[], Mapping[str, Command]]
"""Makes all commands by name; `rerun` is one of them."""
MOST_COMMANDS = 100
"""Commands of a manifest, at most."""
DEVICE = re.compile(r"cpu|mps|cuda(:[0-9]{1,3})?")
"""Devices that a manifest may name."""


@settings(panel=RUNNING, effect=Effect.RUN)
class RerunSettings(Placement, Out, Quiet, Yes):
    """Options of ``rerun``."""

    folder: Path = argument("DIR", help="A results folder.")
    out: Path | None = option(
        default=None, metavar="DIR", help="Folder of the new results [DIR-again].", panel=RESULTS
    )
    anyway: bool = option(default=False, help="Also where model, files or versions differ.")
    device: str | None = option(
        default=None, help="Torch device, such as cpu or cuda:0 [the manifest's]."
    )


@dataclass(frozen=True)
class Recorded:
    """A command of a manifest, with paths as they are used here, and the manifest's entry."""

    name: str
    settings: Settings
    record: Mapping[str, Any]

    def value(self, option: str) -> Any:
        """The value of an option; None where the command does not have it."""
        return getattr(self.settings, option, None)


def rerun(commands: Commands, settings: RerunSettings) -> int:
    """Run the commands of a results folder again, and compare; ``commands``: all there are."""
    from matchlens.reading import MANIFEST, read_back, read_manifest
    from matchlens.results import check_folder
    from matchlens.studies.compare_runs import check_new, file_diffs, lines

    check_placement(settings)
    folder, quiet, anyway = settings.folder, settings.quiet, settings.anyway
    manifest = read_manifest(folder)  # once: the commands that are shown are those that run
    new = Path(f"{os.path.abspath(folder)}-again") if settings.out is None else settings.out
    check_new(folder, new)
    recorded = commands_of(manifest, folder, commands(), settings.device)
    goes_on = (new / MANIFEST).exists() and not anyway
    check_folder(new, manifest["identity"] if goes_on else None)
    own = {name: getattr(settings, name) for name in (*PLACEMENT, "device", "quiet", "yes")}
    placed = [replace(command, settings=place_in(command.settings, new)) for command in recorded]
    before = [command for command in recorded if not command.value("device")]
    machines = [line for command in before for line in _machine(command.record.get("machine"))]
    _judge(folder, [*_versions(manifest["identity"].get("versions")), *machines], anyway)
    _allow(folder, placed, settings.yes)
    _judge(folder, list(differences(recorded)), anyway)
    runs = [(command, place_in(command.settings, new, **own)) for command in placed]
    left = _left(runs, manifest, new, goes_on)
    if not left:
        say(f"matchlens: {str(new)!r} has been run already; delete it to run it anew", quiet)
    for command, here in left:
        _set_threads(command.record, quiet)
        say(f"matchlens: running: {typed(command)}", quiet)
        commands()[command.name].run(here)
    with read_back(folder):
        diffs = file_diffs(folder, new)
    show("\n".join([*lines(diffs), ""]))
    return 0 if all(diff.same for diff in diffs) else 1


Runs = Sequence[tuple[Recorded, Settings]]


def _left(runs: Runs, manifest: Mapping[str, Any], new: Path, goes_on: bool) -> Runs:
    """The commands that are still to be run, those that were stopped among them.

    A command stands in the manifest with the first tables that it saves; its shards are kept until
    its last figure is drawn.
    """
    from matchlens.reading import MANIFEST, read_manifest
    from matchlens.runners.store import unfinished

    there = read_manifest(new) if (new / MANIFEST).exists() else {}
    made = [(one.get("command"), one.get("asked")) for one in there.get("commands", [])]
    asked = [(command.name, json.loads(json.dumps(here.as_json()))) for command, here in runs]
    done = len(made) if made == asked[: len(made)] else 0
    about = unfinished(new)
    for number in (done - 1, done):
        if 0 <= number < len(runs) and _is_of(about, *runs[number]):
            return runs[number:]
    if not goes_on:
        return runs
    # The last one's figures may be missing; an earlier one would see what later ones have written.
    names = manifest.get("files", {}), there.get("files", {})
    complete = done == len(runs) and set(names[0]) <= set(names[1])
    return [] if complete else runs[max(0, done - 1) :]


def _is_of(about: Mapping[str, Any], command: Recorded, here: Settings) -> bool:
    """Whether an unfinished run is of a command, whose defaults the run has filled in."""
    options = about.get("options")
    if about.get("command") != command.name or not isinstance(options, Mapping):
        return False
    asked = {name: value for name, value in here.recorded().items() if name in options}
    return all(value in (None, options[name]) for name, value in asked.items())


def _judge(folder: Path, differs: Sequence[str], anyway: bool) -> None:
    """Refuse differences from the manifest, or warn of them where a person runs it anyway."""
    if differs and not anyway:
        raise InputError(
            f"{str(folder)!r} was made of something else: {listed(differs)}; make it the same, or "
            "give --anyway"
        )
    for difference in differs:
        warnings.warn(f"not as it was: {difference}", MatchlensWarning, stacklevel=2)


def _allow(folder: Path, commands: Sequence[Recorded], yes: bool) -> None:
    """Show what would be run and what it would reach, and ask."""
    if yes:
        return
    reached = list(dict.fromkeys(place for command in commands for place in reaches(command)))
    lines = [f"{str(folder)!r} would run:", *(f"  {typed(each)}" for each in commands)]
    lines += ["and reach:", *(f"  {visible(place)}" for place in reached)]
    say("\n".join(lines), quiet=False)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(
            "rerun asks before it runs, and this is no terminal; nothing was run: "
            "add --yes to run it"
        )
    if not typer.confirm("run it?", err=True):
        raise InputError("nothing was run: answer y to run it")


def typed(command: Recorded) -> str:
    """A command as a person would type it; what cannot be printed is written as an escape.

    >>> from matchlens.studies.registry import SweepSettings
    >>> odd = SweepSettings(kind="only", measure=["a" + chr(10) + chr(27)])
    >>> typed(Recorded("sweep", odd, {}))
    "matchlens sweep '--measure=a\\\\n\\\\x1b' -- only"
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in f"matchlens {shlex.join([command.name, *command.settings.words()])}"
    )


def reaches(command: Recorded) -> Iterator[str]:
    """The files, folders and places on the network that a command names, in words."""
    datasets = command.value("dataset") or []
    if command.name == "reproduce" and not any(command.value(key) for key in COLLECTIONS):
        from matchlens.studies import wexir25

        datasets = wexir25.DATASETS
    for key, name in _models_named(command).items():
        if name == "demo":
            yield "the built-in model"
        elif _is_folder(name):
            yield f"model folder {str(name)!r}"
        else:
            revision = command.value("revision") if key == "model" else None
            at = f" at {revision!r}" if revision else ""
            yield f"model {name!r}{at} of the Hugging Face hub (downloaded if it is not here)"
    for name in datasets:
        if _is_folder(name):
            yield f"collection in folder {name!r}"
        else:
            yield f"collection {name!r} of ir_datasets (downloaded if it is not here)"
    for key in files_of(type(command.settings)):
        yield from (f"file {str(path)!r}" for path in _paths(command, key))


def _is_folder(name: str) -> bool:
    """Whether a model or a collection is a local folder; none outside this one is looked at."""
    return os.path.isabs(name) or (".." not in Path(name).parts and Path(name).is_dir())


def _paths(command: Recorded, option: str) -> list[Path]:
    value = command.value(option)
    return value if isinstance(value, list) else [] if value is None else [value]


def commands_of(
    manifest: Mapping[str, Any],
    folder: Path,
    commands: Mapping[str, Command],
    device: str | None = None,
) -> list[Recorded]:
    """The commands of a manifest, checked, with paths as they are used here.

    Nothing is read but the names in the folder where this command runs.
    """
    records = manifest.get("commands", [])
    if not records:
        raise InputError(
            f"{str(folder)!r} holds no command: its studies were made from Python, or compare "
            "wrote it; expected a folder that a command of matchlens wrote"
        )
    if len(records) > MOST_COMMANDS:
        raise InputError(
            f"{str(folder)!r} holds {len(records):,} commands; expected at most {MOST_COMMANDS}: "
            "run the study anew"
        )
    recorded = []
    for entry in records:
        record = checked(entry, folder, commands)
        ignored = sorted(key for key in record["asked"] if key in PLACEMENT)
        if ignored:
            warnings.warn(
                f"{str(folder)!r} asks for {', '.join(ignored)}, which is left out: where it runs "
                "is yours to say (--runner, --workers, --ray-address)",
                MatchlensWarning,
                stacklevel=2,
            )
        values = {key: value for key, value in record["asked"].items() if key not in PLACEMENT}
        if device is not None:
            values.pop("device", None)
        elif not DEVICE.fullmatch(str(values.get("device", "cpu"))):
            raise InputError(
                f"{str(folder)!r} asks for the device {str(values['device'])[:60]!r}; expected "
                "cpu, cuda or mps: say where it runs by --device"
            )
        name, kind = record["command"], commands[record["command"]].settings
        placed = {key: _placed(record, kind, key, value) for key, value in values.items()}
        required = {"folder": folder} if name == REPORT else {}
        recorded.append(Recorded(name, from_json(kind, placed, **required), record))
    return recorded


def checked(
    record: Mapping[str, Any], folder: Path, commands: Mapping[str, Command]
) -> Mapping[str, Any]:
    """A manifest's entry for a command, checked: a stranger may have written it."""
    shape = {"command": str, "asked": dict, "folder": str, "files": dict, "models": dict}
    shape |= {"folders": dict} if "folders" in record else {}
    wrong = [key for key, kind in shape.items() if not isinstance(record.get(key), kind)]
    name = record.get("command")
    if not wrong and (name not in commands or name in NOT_RERUN):
        wrong = ["command"]
    for key in {"files", "folders", "models"} & {*shape}:
        kind = dict if key == "models" else list
        if key not in wrong and not all(isinstance(item, kind) for item in record[key].values()):
            wrong.append(key)
    if wrong:
        raise InputError(
            f"the manifest of {str(folder)!r} has a command whose {wrong[0]} cannot be used; "
            "expected it as matchlens writes it: run the study anew"
        )
    return record


def _placed(record: Mapping[str, Any], kind: type[Settings], key: str, value: Any) -> Any:
    """A value; a relative path starts here if it exists here, else where it was typed."""
    if isinstance(value, list):
        return [_placed(record, kind, key, item) for item in value]
    if not isinstance(value, str) or "\0" in value:
        return value
    is_path = key in files_of(kind) or (key == "dataset" and value in record.get("folders", {}))
    local = record["models"].get(key, {}).get("local") is True and value != "demo"
    if not (is_path or local):
        return value
    inside = not os.path.isabs(value) and ".." not in Path(value).parts
    if inside and os.path.exists(value):
        return os.path.abspath(value)
    return os.path.join(record["folder"], value)


def differences(commands: Sequence[Recorded]) -> Iterator[str]:
    """What differs from the manifest: files and models. A model may be downloaded to compare it."""
    for place, command in enumerate(commands):
        if command not in commands[:place]:
            yield from _files(command)
            yield from _models(command)


def _versions(recorded: Any) -> Iterator[str]:
    from matchlens.studies.common import versions

    recorded = recorded if isinstance(recorded, Mapping) else {}
    for name, version in versions().items():
        if recorded.get(name) != version:
            yield f"{name} was {recorded.get(name)}, is {version}"


def _files(command: Recorded) -> Iterator[str]:
    from matchlens.corpora import beir

    record = command.record
    named = [
        (key, _paths(command, key), record["files"].get(key, []))
        for key in files_of(type(command.settings))
    ]
    folders = record.get("folders", {})
    asked = record["asked"].get("dataset", ())
    for name, here in zip(asked, command.value("dataset") or (), strict=True):
        if name in folders or Path(here).is_dir():
            named.append((f"the files of {here}", beir._files(here), folders.get(name, [])))
    for what, paths, sums in named:
        if len(paths) != len(sums):
            yield f"{what} were {counted(len(sums), 'file')}, are {len(paths)}"
            continue
        yield from _changed(paths, sums)


def _changed(paths: Sequence[Path], sums: Sequence[object]) -> Iterator[str]:
    from matchlens.corpora.lines import digest

    for path, before in zip(paths, sums, strict=True):
        if (now := digest(path)) != before:
            yield f"{path} had sha256 {str(before)[:12]}, has {now[:12]}"


def _models_named(command: Recorded) -> dict[str, str]:
    """The models that a command names or takes by default, by option."""
    from matchlens.studies import wexir25

    default = {"reproduce": wexir25.MODEL}.get(command.name, "demo")
    model, base = command.value("model"), command.value("base")
    named = {"model": model or default} if hasattr(command.settings, "model") else {}
    return {**named, **({"base": base} if base else {})}


def _models(command: Recorded) -> Iterator[str]:
    from matchlens.models.folder import find

    for key, name in _models_named(command).items():
        revision = command.value("revision") if key == "model" else None
        now = find(name, revision, scores=key == "model").sha256
        before = command.record["models"].get(key, {}).get("sha256")
        if now != before:
            yield f"{key} {name} had sha256 {str(before)[:12]}, has {now[:12]}"


def _machine(machine: Any) -> Iterator[str]:
    """Another device is refused; another processor may change a last digit."""
    import torch

    device = machine.get("device") if isinstance(machine, Mapping) else None
    now = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and now != "cuda":
        yield "it ran on a CUDA device, and there is none here"
    if device == "cpu" and now == "cuda":
        yield "it ran on the CPU, and CUDA is present here (CUDA_VISIBLE_DEVICES= hides it)"


def _set_threads(record: Mapping[str, Any], quiet: bool) -> None:
    """Use as many threads as before: sums over another number differ in the last digit."""
    import torch

    machine = record.get("machine")
    threads = machine.get("threads") if isinstance(machine, Mapping) else None
    if isinstance(threads, int) and 1 <= threads <= 1024 and threads != torch.get_num_threads():
        say(f"matchlens: {threads} threads, as before", quiet)
        torch.set_num_threads(threads)


def listed(differs: Sequence[str]) -> str:
    """The first differences in one line.

    >>> listed(["a", "b"])
    'a; b'
    """
    more = [f"and {len(differs) - 4} more"] if len(differs) > 4 else []
    return "; ".join([*differs[:4], *more])
