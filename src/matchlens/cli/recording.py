"""What a manifest records of a command: enough to run it again."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matchlens.settings import Effect, Settings, options_of, plain

if TYPE_CHECKING:
    from matchlens.models.folder import ModelFolder
    from matchlens.models.load import Reranker


@dataclass(frozen=True)
class Command:
    """A command: its options, its help, and what runs it and returns its exit status."""

    settings: type[Settings]
    help: str
    run: Callable[[Any], int | None]


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
    settings: Settings,
    resolved: Mapping[str, Any] | None = None,
    model: ModelFolder | None = None,
) -> dict[str, object]:
    """A command as a manifest records it.

    Paths are recorded as they were typed, with the folder that they start from; no hash and no
    comparison depends on them.

    Args:
        resolved: values that took the place of None, by option.
        model: the model's folder, where the command takes a model.

    Returns:
        ``command``; ``asked``: the options that are not at their default; ``line``: the command as
        it can be typed in a shell, with DIR for the results and paths without their folders, which
        is what the page shows; ``options``: all options; ``folder``: where paths start; ``files``:
        the SHA-256 of every file that an option names, by option; ``folders``: those of the files
        of every BEIR folder, by the name that ``--dataset`` gives it, where there is one;
        ``models``: the digest of every model; ``environment``.

    >>> from matchlens.cli.commands import DemoSettings
    >>> record("demo", DemoSettings(out=Path("x"), seed=3, quiet=True))["asked"]
    {'seed': 3}
    """
    from matchlens.corpora.beir import _files as beir_files

    known = [option for option in options_of(type(settings)) if option.recorded]
    datasets: list[str] = getattr(settings, "dataset", None) or []
    models = dict(_models(model, getattr(settings, "base", None)))
    paths = {each.name: getattr(settings, each.name) for each in known if each.kind is Path}
    short: dict[str, Any] = {key: _short(value) for key, value in paths.items()}
    local = [key for key, about in models.items() if about["local"] is True]
    short |= {key: str(_short(Path(getattr(settings, key) or "demo"))) for key in local}
    folders = {name: _digests(beir_files(name)) for name in datasets if Path(name).is_dir()}
    if folders:
        short["dataset"] = [str(_short(Path(n))) if n in folders else n for n in datasets]
    line = [name, *place_in(replace(settings, **short), Path("DIR")).words()]
    return {
        "command": name,
        "asked": settings.as_json(),
        "line": shlex.join(["matchlens", *line]),
        "options": {**settings.recorded(), **{k: plain(v) for k, v in (resolved or {}).items()}},
        "folder": os.getcwd(),
        "files": {key: sums for key, value in paths.items() if (sums := list(_digests(value)))},
        **({"folders": {key: list(sums) for key, sums in folders.items()}} if folders else {}),
        "models": models,
        "environment": {key: os.environ[key] for key in ENVIRONMENT if key in os.environ},
    }


def place_in(settings: Settings, folder: Path, **own: Any) -> Any:
    """The same command with its results in another folder."""
    known = options_of(type(settings))
    run = {option.name: option for option in known if option.effect is Effect.RUN}
    changed = {name: own.get(name, option.default) for name, option in run.items()}
    changed |= {name: folder for name in ("out", "folder") if name in run}
    device = {"device": own["device"]} if own.get("device") and hasattr(settings, "device") else {}
    return replace(settings, **changed, **device)


def machine(model: Reranker) -> dict[str, object]:
    """What can change a last digit: the machine on which a loaded model runs."""
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


def _short(value: Any) -> Any:
    """Paths without their folders."""
    if isinstance(value, list):
        return [_short(path) for path in value]
    return Path(value.name or str(value)) if isinstance(value, Path) else value


def _digests(value: Any) -> Iterator[str]:
    """The SHA-256 of each file that an option names."""
    from matchlens.corpora.lines import digest

    for path in value if isinstance(value, list) else [value]:
        if isinstance(path, Path):
            yield digest(path)


def _models(model: ModelFolder | None, base: object) -> Iterator[tuple[str, dict[str, object]]]:
    """Each model's digest, and whether it is a local folder, by option."""
    if model is not None:
        yield "model", _about(model)
    if base:
        from matchlens.models.folder import find

        yield "base", _about(find(str(base), scores=False))


def _about(model: ModelFolder) -> dict[str, object]:
    return {"sha256": model.sha256, "local": model.path == Path(model.name)}
