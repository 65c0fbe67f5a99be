"""What a manifest says of the command that was run: enough to run it again."""

from __future__ import annotations

import inspect
import os
import platform
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import typer

from matchlens.errors import InputError

if TYPE_CHECKING:
    from matchlens.models.folder import ModelFolder
    from matchlens.models.load import Reranker

PLACE = ("out", "folder")
"""Options that say where the results are: another place is no other command."""
RUNNER = ("runner", "workers", "ray_address")
"""Options that say where a command runs: a manifest does not keep them, and cannot give them."""
UNSAID = ("quiet", "explain", "yes", *RUNNER)
"""Options that change no result and are not repeated; a download is asked for anew."""
LONGEST, MOST_VALUES = 4096, 1000
"""Characters of a value, and values of an option, that a manifest may hold."""
REPORT = "report"
"""It takes the folder itself, and changes its claims by its --margin."""
ENVIRONMENT = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "MATCHLENS_MAX_UNPACKED",
)
"""Variables that can change a number, or whether there is one."""


def record(
    name: str,
    declared: Callable[..., Any] | inspect.Signature,
    given: Mapping[str, Any],
    resolved: Mapping[str, Any] | None = None,
    model: ModelFolder | None = None,
) -> dict[str, object]:
    """A command as a manifest keeps it.

    Paths are kept as they were given, with the folder that they start from; nothing that is hashed
    or compared hangs on them.

    Args:
        name: the command's name, such as ``sweep``.
        declared: the command, whose defaults tell what was asked for.
        given: the value of every option.
        resolved: values that took the place of None, by option.
        model: the model's folder, where the command takes a model.

    Returns:
        ``command``; ``asked``: the options that are not at their default; ``line``: as it can be
        typed into a shell, the results going to DIR and paths without their folders, which is what
        the page shows; ``options``: all of the options; ``folder``:
        where paths start; ``files``: the SHA-256 of every file that an option names, by option;
        ``models``: the digest of every model; ``environment``.

    >>> def demo(out=None, seed=0, quiet=False): ...
    >>> record("demo", demo, {"out": Path("x"), "seed": 3, "quiet": True})["asked"]
    {'seed': 3}
    """
    declared = declared if isinstance(declared, inspect.Signature) else inspect.signature(declared)
    defaults = {one.name: one.default for one in declared.parameters.values()}
    kept = {key: value for key, value in given.items() if key not in (*PLACE, *UNSAID)}
    asked = {key: plain(value) for key, value in kept.items() if value != defaults.get(key)}
    models = dict(_models(model, kept.get("base")))
    public = {key: plain(value, _short) for key, value in kept.items() if key in asked}
    public |= {key: _short(Path(public[key])) for key in models if models[key]["local"] is True}
    return {
        "command": name,
        "asked": asked,
        "line": shlex.join(["matchlens", *words_of(name, public, Path("DIR"))]),
        "options": {key: plain(value) for key, value in {**kept, **(resolved or {})}.items()},
        "folder": os.getcwd(),
        "files": {key: sums for key, value in kept.items() if (sums := list(_digests(value)))},
        "models": models,
        "environment": {key: os.environ[key] for key in ENVIRONMENT if key in os.environ},
    }


def words_of(name: str, asked: Mapping[str, Any], out: Path) -> list[str]:
    """The command line of a command: what a person could type, and nothing else.

    Args:
        name: the command's name.
        asked: its options that are not at their default.
        out: where the results go.

    Raises:
        InputError: if there is no such command or option, or a value is none that can be typed.

    >>> words_of("sweep", {"kind": "only", "direction": ["Q->D"], "seed": 3}, Path("x"))
    ['sweep', '--direction=Q->D', '--seed=3', '--out=x', '--', 'only']
    """
    known, kinds = options_of(name), kinds_of(name)
    words, places = [name], []
    for key, value in asked.items():
        if key not in known or key in (*PLACE, *UNSAID):
            raise InputError(
                f"matchlens {name[:60]!r} with an option {str(key)[:60]!r} cannot be run again; "
                "expected a command and options that matchlens has: run the study anew"
            )
        option = known[key]
        typed = _typed(key, value, *kinds[key])
        if not option.opts[0].startswith("-"):
            places += typed
        elif kinds[key] == (bool, False):
            words.append((option.opts if value else option.secondary_opts or option.opts)[0])
        else:
            words += [f"{option.opts[0]}={one}" for one in typed]
    if name == REPORT:
        return [*words, "--", str(out)]
    return [*words, f"--out={out}", *(["--", *places] if places else [])]


def options_of(name: str) -> Mapping[str, Any]:
    """The options of a command, as the command line declares them, by name.

    >>> sorted(options_of("report"))
    ['folder', 'margin', 'quiet']
    """
    from matchlens.cli import app

    group: Any = typer.main.get_command(app)
    command = group.commands.get(name)
    return {} if command is None else {one.name: one for one in command.params}


def values(value: Any) -> list[Any]:
    """An option's values, one or several, as a list.

    >>> values(["a", "b"]), values("a")
    (['a', 'b'], ['a'])
    """
    return value if isinstance(value, list) else [value]


def kinds_of(name: str) -> Mapping[str, tuple[type, bool]]:
    """The type of every option of a command, and whether it may be given several times.

    >>> kinds_of("report")["margin"], kinds_of("sweep")["how"]
    ((<class 'float'>, False), (<class 'str'>, True))
    """
    from matchlens.cli import app

    (callback,) = (one.callback for one in app.registered_commands if one.name == name)
    assert callback is not None  # noqa: S101
    out = {}
    for key, one in inspect.signature(callback, eval_str=True).parameters.items():
        kinds = [one.annotation]
        several = False
        while get_args(kinds[0]):
            several |= get_origin(kinds[0]) is list
            inner = get_args(kinds[0])
            kinds = [kind for kind in inner[:1] if kind is not type(None)]
        out[key] = kinds[0], several
    return out


def _typed(key: str, value: Any, kind: type, several: bool) -> list[str]:
    """The values of an option as they are typed; each must be of the option's own type.

    Raises:
        InputError: if one is not. A flag with a text, say, would take the next word for its own.
    """
    wanted = {int: int, float: (int, float), bool: bool}.get(kind, str)
    listed = values(value)
    fits = isinstance(value, list) == several and len(listed) <= MOST_VALUES
    for one in listed:
        fits = fits and isinstance(one, wanted) and isinstance(one, bool) == (kind is bool)
        fits = fits and not (isinstance(one, str) and (len(one) > LONGEST or "\0" in one))
        fits = fits and not (isinstance(one, int) and abs(one) >= 2**63)
    if not fits:
        name = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a text")
        raise InputError(
            f"the option {key!r} has the value {str(value)[:60]!r}; expected "
            f"{'a list, each ' * several}{name} (numbers below 2**63, texts of at most {LONGEST} "
            "characters): give another value, or run the study anew"
        )
    return [str(one) for one in listed]


def machine(model: Reranker) -> dict[str, object]:
    """The machine as far as it can change a last digit.

    Args:
        model: the loaded model.
    """
    import torch

    cuda = model.device.type == "cuda"
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": model.device.type,
        "device_name": torch.cuda.get_device_name(model.device) if cuda else "",
    }


def plain(value: Any, of_path: Callable[[Path], str] = str) -> Any:
    """An option's value as JSON has it.

    Args:
        value: the value.
        of_path: how a path is put.

    >>> plain([Path("a/b")]), plain(None), plain(2)
    (['a/b'], None, 2)
    """
    if isinstance(value, list | tuple):
        return [plain(one, of_path) for one in value]
    return of_path(value) if isinstance(value, Path) else value


def _short(path: Path) -> str:
    return path.name or str(path)


def _digests(value: Any) -> Iterator[str]:
    """The SHA-256 of each file that an option names."""
    from matchlens.corpora.lines import digest

    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, Path):
            yield digest(one)


def _models(model: ModelFolder | None, base: object) -> Iterator[tuple[str, dict[str, object]]]:
    """Each model's digest, and whether it is a folder here, by option."""
    if model is not None:
        yield "model", _about(model)
    if base:
        from matchlens.models.folder import find

        yield "base", _about(find(str(base), scores=False))


def _about(model: ModelFolder) -> dict[str, object]:
    return {"sha256": model.sha256, "local": model.path == Path(model.name)}
