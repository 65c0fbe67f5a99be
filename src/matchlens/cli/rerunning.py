"""``matchlens rerun``: a results folder made again, and compared."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from matchlens.cli import options as o
from matchlens.cli.recording import REPORT, RUNNER, options_of, values, words_of
from matchlens.cli.where import Where
from matchlens.errors import InputError, MatchlensWarning, visible

HELP = """Run the commands of a results folder's manifest again, and compare the tables.

The manifest may be a stranger's, so the commands are shown first, with the files, models and
collections that they name, and you are asked; --yes answers beforehand. Nothing else is opened or
downloaded before. Where it runs is yours to say: --runner, --workers, --ray-address and --device
are never taken from a manifest, but for a plain --device such as cpu or cuda:0.

Model, files and versions must be those of the manifest; where they are not, it says what differs
and stops, unless --anyway. The same studies go into a new folder, in the same order. Then every
table and array is compared: the same bytes, the same printed digits, or where they first differ.

The status is 0 where print shows no difference, else 1.

\b
Examples:
  matchlens rerun out/demo
  matchlens rerun out/dl19 --out out/check --yes --anyway
"""
COMMANDS = ("demo", "ablation", "sweep", "attention", "circuits", "look", "study", "reproduce")
"""Commands that take --out and write studies there."""
FILES = ("topics", "qrels", "passages", "run", "prompt")
"""Options that name files."""
COLLECTIONS = ("topics", "qrels", "passages", "demo", "dataset")
"""Options that name a collection."""
VERSIONED = ("torch", "transformers", "tokenizers", "numpy", "ir_measures")
MOST_COMMANDS = 100
"""Commands of a manifest that are shown and run."""
DEVICE = re.compile(r"cpu|mps|cuda(:[0-9]{1,3})?")
"""Devices that a manifest may name."""

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.")]
Out = Annotated[
    Path | None, typer.Option(metavar="NEW", help="Where it is made again [DIR-again].")
]
Anyway = Annotated[
    bool,
    typer.Option("--anyway", help="Also where model, files, versions or threads differ."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Run the commands without asking.")]


def rerun(
    folder: Folder,
    out: Out = None,
    anyway: Anyway = False,
    yes: Yes = False,
    device: o.Device = None,
    workers: o.Workers = None,
    runner: o.RunnerName = "local",
    ray_address: o.RayAddress = None,
    quiet: o.Quiet = False,
) -> None:
    """A results folder, made again."""
    from matchlens.reading import MANIFEST, read_back, read_manifest
    from matchlens.results import check_folder
    from matchlens.studies.compare_runs import check_new, file_diffs, said

    where = Where(runner, workers, ray_address)
    where.check()
    manifest = read_manifest(folder)  # once: what is shown is what is run
    new = Path(f"{os.path.abspath(folder)}-again") if out is None else out
    check_new(folder, new)
    commands = commands_of(manifest, folder, device)
    goes_on = (new / MANIFEST).exists() and not anyway
    check_folder(new, manifest["identity"] if goes_on else None)
    lines = [words_of(str(one["command"]), one["asked"], new) for one in commands]
    _judge(folder, [*_versions(manifest["identity"].get("versions")), *_machines(commands)], anyway)
    _allow(folder, commands, lines, yes)
    _judge(folder, list(differences(commands)), anyway)
    for one in commands:
        _set_threads(one, quiet)
    from matchlens.cli import app

    for line in lines:
        o.say(f"matchlens: running: {typed(line)}", quiet)
        name, *rest = line
        own = {**where.options, "device": device, "quiet": quiet, "yes": yes}
        app(
            [name, *_own_words(name, own), *rest],
            prog_name="matchlens",
            standalone_mode=False,
        )
    with read_back(folder):
        found = file_diffs(folder, new)
    o.show("\n".join([*said(found), ""]))
    if not all(one.same for one in found):
        raise typer.Exit(1)


def _judge(folder: Path, differs: Sequence[str], anyway: bool) -> None:
    """Refuse what is not as it was, or say it where a person wants it anyway.

    Raises:
        InputError: if something differs, unless ``anyway``.
    """
    if differs and not anyway:
        raise InputError(
            f"{str(folder)!r} was made of something else: {listed(differs)}; make it the same, or "
            "give --anyway"
        )
    for one in differs:
        warnings.warn(f"not as it was: {one}", MatchlensWarning, stacklevel=2)


def _own_words(name: str, given: Mapping[str, Any]) -> list[str]:
    """This command line's own options, as far as the command that is run has them."""
    words: list[str] = []
    for key, option in options_of(name).items():
        value = given.get(key)
        if value is True:
            words.append(option.opts[0])
        elif value is not None and value is not False:
            words.append(f"{option.opts[0]}={value}")
    return words


def _allow(
    folder: Path,
    commands: Sequence[Mapping[str, Any]],
    lines: Sequence[Sequence[str]],
    yes: bool,
) -> None:
    """Show what would be run and what it would reach, and ask.

    Raises:
        InputError: if a person says no, or nobody is there to say yes.
    """
    if yes:
        return
    reached = list(dict.fromkeys(one for command in commands for one in reaches(command)))
    shown = [typed(line) for line in lines]
    what = [f"{str(folder)!r} would run:", *(f"  {line}" for line in shown), "and reach:"]
    o.say("\n".join([*what, *(f"  {visible(one)}" for one in reached)]), quiet=False)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError("nobody is there to be asked, so nothing was run: add --yes to run it")
    if not typer.confirm("run it?", err=True):
        raise InputError("nothing was run: answer y to run it")


def typed(line: Sequence[str]) -> str:
    """A command as a person would type it; what cannot be printed is written as an escape.

    >>> typed(["sweep", "--cut=Q->D", "--measure=a" + chr(10) + chr(27)])
    "matchlens sweep '--cut=Q->D' '--measure=a\\\\n\\\\x1b'"
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in f"matchlens {shlex.join(line)}"
    )


def reaches(record: Mapping[str, Any]) -> Iterator[str]:
    """The files, folders and places on the network that a command names, in words.

    Args:
        record: a command of :func:`commands_of`.
    """
    asked = record["asked"]
    models, datasets = _models_named(record), asked.get("dataset", [])
    if record["command"] == "reproduce" and not any(asked.get(key) for key in COLLECTIONS):
        from matchlens.studies import wexir25

        datasets = wexir25.DATASETS
    for key, name in models.items():
        if name == "demo":
            yield "the built-in model"
        elif os.path.isabs(name) or (".." not in Path(name).parts and Path(name).is_dir()):
            yield f"model folder {str(name)!r}"
        else:
            revision = asked.get("revision") if key == "model" else None
            at = f" at {revision!r}" if revision else ""
            yield f"model {name!r}{at} of the Hugging Face hub (downloaded if it is not here)"
    for name in datasets:
        yield f"collection {name!r} of ir_datasets (downloaded if it is not here)"
    for key in FILES:
        yield from (f"file {str(one)!r}" for one in values(asked.get(key, [])))


def commands_of(
    manifest: Mapping[str, Any], folder: Path, device: str | None = None
) -> list[Mapping[str, Any]]:
    """The commands of a manifest, checked, with paths as they are used here.

    Only the folder where this command runs is looked at.

    Args:
        manifest: as it was read.
        folder: where it lies.
        device: takes the place of the commands' own.

    Raises:
        InputError: if there is none, or one that cannot be run again.
    """
    held = manifest.get("commands", [])
    if not held:
        raise InputError(
            f"{str(folder)!r} holds no command: its studies were made from Python, or compare "
            "wrote it; expected a folder that a command of matchlens wrote"
        )
    if len(held) > MOST_COMMANDS:
        raise InputError(
            f"{str(folder)!r} holds {len(held):,} commands; expected at most {MOST_COMMANDS}: run "
            "the study anew"
        )
    found = []
    for one in held:
        record = checked(one, folder)
        left = sorted(key for key in record["asked"] if key in RUNNER)
        if left:
            warnings.warn(
                f"{str(folder)!r} asks for {', '.join(left)}, which is left out: where it runs is "
                "yours to say (--runner, --workers, --ray-address)",
                MatchlensWarning,
                stacklevel=2,
            )
        asked = {key: value for key, value in record["asked"].items() if key not in RUNNER}
        if device is not None:
            asked.pop("device", None)
        elif not DEVICE.fullmatch(str(asked.get("device", "cpu"))):
            raise InputError(
                f"{str(folder)!r} asks for the device {str(asked['device'])[:60]!r}; expected cpu, "
                "cuda or mps: say where it runs by --device"
            )
        placed = {key: _placed(record, key, value) for key, value in asked.items()}
        found.append({**record, "asked": placed})
    return found


def checked(record: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """A command from a manifest, its shape checked: a stranger may have written it.

    Raises:
        InputError: if it is none that can be run again.
    """
    shape = {"command": str, "asked": dict, "folder": str, "files": dict, "models": dict}
    wrong = [key for key, kind in shape.items() if not isinstance(record.get(key), kind)]
    name = record.get("command")
    if not wrong and name not in (*COMMANDS, REPORT):
        wrong = ["command"]
    for key in ("files", "models"):
        kind = list if key == "files" else dict
        if key not in wrong and not all(isinstance(one, kind) for one in record[key].values()):
            wrong.append(key)
    if wrong:
        raise InputError(
            f"the manifest of {str(folder)!r} has a command whose {wrong[0]} cannot be used; "
            "expected it as matchlens writes it: run the study anew"
        )
    return record


def _placed(record: Mapping[str, Any], key: str, value: Any) -> Any:
    """A value; a relative path from here where that is there, else from where it was typed."""
    about = record["models"].get(key)
    if key not in FILES and not (about is not None and about.get("local") is True):
        return value
    if isinstance(value, list):
        return [_placed(record, key, one) for one in value]
    if not isinstance(value, str) or "\0" in value or value == "demo":
        return value
    inside = not os.path.isabs(value) and ".." not in Path(value).parts
    if inside and os.path.exists(value):
        return os.path.abspath(value)
    return os.path.join(record["folder"], value)


def differences(commands: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is not as it was: files and models. They are read, and a model may be downloaded.

    Args:
        commands: of :func:`commands_of`, which a person has allowed.
    """
    for place, one in enumerate(commands):
        if one not in commands[:place]:
            yield from _files(one)
            yield from _models(one)


def _machines(commands: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in commands:
        yield from () if one["asked"].get("device") else _machine(one.get("machine"))


def _versions(held: Any) -> Iterator[str]:
    from matchlens import __version__

    now = {"matchlens": __version__, "python": platform.python_version()}
    now |= {name: importlib.metadata.version(name) for name in VERSIONED}
    held = held if isinstance(held, Mapping) else {}
    for name, version in now.items():
        if held.get(name) != version:
            yield f"{name} was {held.get(name)}, is {version}"


def _files(record: Mapping[str, Any]) -> Iterator[str]:
    from matchlens.corpora.lines import digest

    for key in FILES:
        paths = values(record["asked"].get(key, []))
        sums = record["files"].get(key, [])
        if len(paths) != len(sums):
            yield f"{key} were {len(sums)} files, are {len(paths)}"
            continue
        for path, before in zip(paths, sums, strict=True):
            if (now := digest(Path(str(path)))) != before:
                yield f"{path} had sha256 {str(before)[:12]}, has {now[:12]}"


def _models_named(record: Mapping[str, Any]) -> dict[str, str]:
    """The models that a command names or takes by default, by option."""
    known, asked = options_of(record["command"]), record["asked"]
    named = {key: asked[key] for key in ("model", "base") if asked.get(key)}
    if "model" in known and "model" not in named:
        from matchlens.studies import wexir25

        named["model"] = wexir25.MODEL if record["command"] == "reproduce" else "demo"
    return named


def _models(record: Mapping[str, Any]) -> Iterator[str]:
    from matchlens.models.folder import find

    for key, name in _models_named(record).items():
        revision = record["asked"].get("revision") if key == "model" else None
        now = find(name, revision, scores=key == "model").sha256
        before = record["models"].get(key, {}).get("sha256")
        if now != before:
            yield f"{key} {name} had sha256 {str(before)[:12]}, has {now[:12]}"


def _machine(held: Any) -> Iterator[str]:
    """Where it ran: another device is refused, another processor may change a last digit."""
    import torch

    device = held.get("device") if isinstance(held, Mapping) else None
    now = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and now != "cuda":
        yield "it ran on a CUDA device, and there is none here"
    if device == "cpu" and now == "cuda":
        yield "it ran on the CPU, and CUDA is present here (CUDA_VISIBLE_DEVICES= hides it)"


def _set_threads(record: Mapping[str, Any], quiet: bool) -> None:
    """As many threads as before: sums over another number of threads differ in the last digit."""
    import torch

    held = record.get("machine")
    threads = held.get("threads") if isinstance(held, Mapping) else None
    if isinstance(threads, int) and 1 <= threads <= 1024 and threads != torch.get_num_threads():
        o.say(f"matchlens: {threads} threads, as before", quiet)
        torch.set_num_threads(threads)


def listed(differs: Sequence[str]) -> str:
    """The first differences in one line.

    >>> listed(["a", "b"])
    'a; b'
    """
    more = [f"and {len(differs) - 4} more"] if len(differs) > 4 else []
    return "; ".join([*differs[:4], *more])
