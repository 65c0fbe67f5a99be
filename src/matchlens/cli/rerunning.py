"""``matchlens rerun``: a results folder made again, and compared."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from matchlens.cli import options as o
from matchlens.cli.recording import REPORT, values, words_of
from matchlens.errors import InputError, MatchlensWarning

HELP = """Run the commands of a results folder's manifest again, and compare the tables.

Model, files and versions must be those of the manifest; where they are not, it says what differs
and stops, unless --anyway. The same studies go into a new folder, in the same order. Then every
table and array is compared: the same bytes, the same printed digits, or where they first differ.

The status is 0 where print shows no difference, else 1.

\b
Examples:
  matchlens rerun out/demo
  matchlens rerun out/dl19 --out out/check --anyway
"""
COMMANDS = ("demo", "ablation", "sweep", "attention", "circuits", "look", "study", "reproduce")
"""Commands that take --out and write studies there."""
PATHS = ("topics", "qrels", "passages", "run", "prompt")
"""Options that name files."""
VERSIONED = ("torch", "transformers", "tokenizers", "numpy", "ir_measures")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A results folder.")]
Out = Annotated[
    Path | None, typer.Option(metavar="NEW", help="Where it is made again [DIR-again].")
]
Anyway = Annotated[
    bool,
    typer.Option("--anyway", help="Also where model, files, versions or threads differ."),
]


def rerun(folder: Folder, out: Out = None, anyway: Anyway = False, quiet: o.Quiet = False) -> None:
    """A results folder, made again."""
    from matchlens.reading import MANIFEST, read_back, read_manifest
    from matchlens.results import check_folder
    from matchlens.studies.again import check_new, likenesses, said

    manifest = read_manifest(folder)
    new = Path(f"{os.path.abspath(folder)}-again") if out is None else out
    check_new(folder, new)
    commands = [checked(one, folder) for one in manifest.get("commands", [])]
    if not commands:
        raise InputError(
            f"{str(folder)!r} holds no command: its studies were made from Python, or compare "
            "wrote it; expected a folder that a command of matchlens wrote"
        )
    goes_on = (new / MANIFEST).exists() and not anyway
    check_folder(new, manifest["identity"] if goes_on else None)
    words = [words_of(str(one["command"]), _here(one), new) for one in commands]
    differs = list(differences(manifest["identity"], commands))
    if differs and not anyway:
        raise InputError(
            f"{str(folder)!r} was made of something else: {listed(differs)}; make it the same, or "
            "give --anyway"
        )
    for one in differs:
        warnings.warn(f"not as it was: {one}", MatchlensWarning, stacklevel=2)
    for one in commands:
        _set_threads(one, quiet)
    from matchlens.cli import app

    hush = ["--quiet"] if quiet else []
    for command in words:
        o.say(f"matchlens: running: matchlens {shlex.join(command)}", quiet)
        name, *rest = command
        app([name, *hush, *rest], prog_name="matchlens", standalone_mode=False)
    with read_back(folder):
        found = likenesses(folder, new)
    o.show("\n".join([*said(found), ""]))
    if not all(one.same for one in found):
        raise typer.Exit(1)


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


def _here(record: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, with the paths as they can be used here."""
    return {
        key: [_placed(record, key, one) for one in value]
        if isinstance(value, list)
        else _placed(record, key, value)
        for key, value in record["asked"].items()
    }


def _placed(record: Mapping[str, Any], key: str, value: Any) -> Any:
    """A value; a path from the folder where it was typed before, else from here."""
    about = record["models"].get(key)
    if key not in PATHS and not (about is not None and about.get("local") is True):
        return value
    before = Path(record["folder"]) / str(value)
    try:
        there = before.exists()
    except (OSError, ValueError):
        there = False
    return str(before) if there else value


def differences(
    identity: Mapping[str, Any], commands: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """What is not as it was: versions, files, models, device and threads.

    Args:
        identity: the manifest's.
        commands: its commands.
    """
    yield from _versions(identity.get("versions"))
    for place, one in enumerate(commands):
        if one not in commands[:place]:
            yield from _files(one)
            yield from _models(one)
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

    for key, sums in record["files"].items():
        paths = values(_here(record).get(key, []))
        if len(paths) != len(sums):
            yield f"{key} were {len(sums)} files, are {len(paths)}"
            continue
        for path, before in zip(paths, sums, strict=True):
            if (now := digest(Path(str(path)))) != before:
                yield f"{path} had sha256 {str(before)[:12]}, has {now[:12]}"


def _models(record: Mapping[str, Any]) -> Iterator[str]:
    from matchlens.models.folder import find

    asked = record["asked"]
    for key, about in record["models"].items():
        revision = asked.get("revision") if key == "model" else None
        name = asked.get(key) or record.get("options", {}).get(key) or "demo"
        now = find(str(_placed(record, key, name)), revision, scores=key == "model").sha256
        if now != about.get("sha256"):
            yield f"{key} {name} had sha256 {str(about.get('sha256'))[:12]}, has {now[:12]}"


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
