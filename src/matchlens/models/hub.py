"""The Hugging Face hub and its cache: what a model's folder is downloaded from."""

from __future__ import annotations

import glob
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from matchlens.errors import InputError
from matchlens.models.diagnosis import INDEX, ONE, is_safe
from matchlens.models.files import module_folders, pickled_files
from matchlens.models.serving import MODULES

WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin")
"""Files of a hub's model, in its folders, too (``*`` stands for ``/`` as well)."""
HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*(/[\w.-]+)?")
_REVISION = re.compile(r"\w[\w.-]*(/[\w.-]+)*")


def is_revision(value: object) -> bool:
    """Whether a stranger's value can be a branch, tag or commit, and is no path elsewhere."""
    named = isinstance(value, str) and len(value) <= 200 and _REVISION.fullmatch(value)
    return bool(named) and ".." not in str(value)


def download_size(name: str, revision: str | None = None) -> int:
    """Bytes that :func:`find` would download for a model; 0 where it is here."""
    if name == "demo" or Path(name).is_dir() or not HUB_ID.fullmatch(name):
        return 0
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    here = snapshot(name, revision)
    if (
        here is not None
        and (is_safe(here) or pickled_files(here, name))
        and all((here / folder).is_dir() for folder in module_folders(here, name))
    ):
        return 0
    try:
        about = HfApi().model_info(name, revision=revision, files_metadata=True)
    except Exception as error:  # the client raises anything here
        if here is not None:
            return 0  # nothing can be downloaded, and find says what is lacking
        raise _unreachable(name, error) from None
    files = {file.rfilename: file.size or 0 for file in about.siblings or []}
    wanted = WANTED if {ONE, INDEX} & files.keys() else (*WANTED, *_PICKLED)
    if MODULES in files:
        try:
            listed = Path(hf_hub_download(name, MODULES, revision=about.sha)).parent
        except Exception as error:  # the client raises anything here
            raise _unreachable(name, error) from None
        wanted = (*wanted, *_of_modules(listed, name))
    return sum(
        size
        for file, size in files.items()
        if any(fnmatchcase(file, pattern) for pattern in wanted)
        and not isinstance(try_to_load_from_cache(name, file, revision=about.sha), str)
    )


def _of_modules(path: Path, name: str) -> list[str]:
    """Patterns of all that lies in the folders of sentence-transformers' modules."""
    return [f"{glob.escape(folder)}/*" for folder in module_folders(path, name)]


def snapshot(name: str, revision: str | None) -> Path | None:
    """What the hub's cache has of a model."""
    from huggingface_hub import snapshot_download

    try:
        options: dict[str, Any] = {"allow_patterns": list(WANTED), "local_files_only": True}
        return Path(snapshot_download(name, revision=revision, **options))
    except (OSError, ValueError):  # it is not there, or not all of it
        return None


def download(name: str, revision: str | None) -> Path:
    """The folder of a model in the hub's cache; pickled weights only where there are no others."""
    from huggingface_hub import snapshot_download

    try:
        path = Path(snapshot_download(name, revision=revision, allow_patterns=list(WANTED)))
        more = [*(() if is_safe(path) else _PICKLED), *_of_modules(path, name)]
        if more:
            every = [*WANTED, *more]
            path = Path(snapshot_download(name, revision=revision, allow_patterns=every))
    except InputError:
        raise
    except Exception as error:  # the client raises anything here
        raise _unreachable(name, error) from None
    return path


def unproved(path: Path) -> str:
    """What to say of a folder in the hub's cache that may lack files; empty where it lacks none.

    A download by :func:`download` or ``hf download`` lists the repository's files there. Without
    that list, files that change scores may be missing, as where another program asked for some.
    """
    place = path.parents[1].name if path.parent.name == "snapshots" else ""
    if not place.startswith("models--"):
        return ""
    from huggingface_hub import get_cached_repo_tree

    name = place.removeprefix("models--").replace("--", "/")
    try:
        every = get_cached_repo_tree(name, revision=path.name, cache_dir=path.parents[2])
    except Exception:  # the client raises anything here
        why = "does not list the files"
    else:
        ends = tuple(one[1:] for one in WANTED if "safetensors" not in one)
        listed = [file.path for file in every if file.path.endswith(ends) and "/" not in file.path]
        lacking = [file for file in listed if not (path / file).exists()]
        if not lacking:
            return ""
        why = f"lacks {lacking[0][:80]!r}"
    return (
        f"the cache of the Hugging Face hub {why} of {name}, so that sentence-transformers' may be "
        f"missing, and scores be others than online; make it whole: hf download {name} --revision "
        f"{path.name}"
    )


def _unreachable(name: str, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(
        f"no folder {name!r} here, and the Hugging Face hub does not give a model of that "
        f"name ({reason}); give an existing folder, a hub id that can be reached, or 'demo'"
    )
