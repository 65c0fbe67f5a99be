"""Models in another form than safetensors, converted once and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from matchlens.errors import InputError
from matchlens.models import pickled
from matchlens.models.files import changed, opened

WEIGHTS = "model.safetensors"
_WORK = ".making-"
_DAY = 24 * 3600


def cache_folder() -> Path:
    """Where matchlens keeps what it makes: MATCHLENS_CACHE, else the user's cache folder."""
    if set_by_hand := os.environ.get("MATCHLENS_CACHE"):
        return Path(set_by_hand)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "matchlens"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def made_once(
    target: Path, what: str, make: Callable[[Path], None], whole: Callable[[Path], bool]
) -> Path:
    """A folder of the cache, made on first use and whole at any moment.

    Several processes may make it at once: each makes its own, and the first to end wins. One that
    is damaged is made again.

    Args:
        target: the folder.
        what: what it holds, for the error.
        make: fills an empty folder.
        whole: whether a folder has all that it should.

    Raises:
        InputError: if the cache cannot be written.
    """
    if whole(target):
        return target
    cache = target.parent
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        work = Path(tempfile.mkdtemp(prefix=_WORK, dir=cache))
    except OSError as error:
        raise _unwritable(what, cache, error) from None
    try:
        made = work / "made"
        made.mkdir()
        try:
            make(made)
        except OSError as error:
            raise _unwritable(what, cache, error) from None
        while not whole(target):
            try:
                made.rename(target)
            except OSError:  # another run was faster, or what is there is damaged
                if not target.exists():
                    raise
                if not whole(target):
                    target.rename(tempfile.mkdtemp(dir=work))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _sweep(cache: Path) -> None:
    """Delete what runs left behind that were killed more than a day ago."""
    for left in cache.glob(f"{_WORK}*"):
        with suppress(FileNotFoundError):  # its run has ended
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left, ignore_errors=True)


def _unwritable(what: str, cache: Path, error: OSError) -> InputError:
    return InputError(
        f"cannot write {what} to {str(cache)!r}: {error.strerror or error}; make room there, or "
        "set MATCHLENS_CACHE to a folder that can be written"
    )


def safetensors_of(path: Path, files: Sequence[str], name: str) -> Path:
    """A folder that holds the tensors of pickled weights as model.safetensors.

    Its name comes from the SHA-256 of the files, so other files make another folder, and the same
    files in another place do not.

    Args:
        path: the model's folder; nothing is written there.
        files: the names of its pickled files.
        name: the model's name, for the error.

    Raises:
        InputError: if a file holds anything but named tensors, or the cache cannot be written.
    """
    sums = _sums(path, files, name)
    key = hashlib.sha256("\n".join(sums).encode()).hexdigest()[:32]

    def make(folder: Path) -> None:
        _convert([path / file for file in files], folder / WEIGHTS, name)
        if _sums(path, files, name) != sums:
            raise changed(name, files[0])
        (folder / "sha256").write_text(file_sha256(folder / WEIGHTS), encoding="utf-8")

    return made_once(cache_folder() / f"weights-{key}", "converted weights", make, _whole)


def _sums(path: Path, files: Sequence[str], name: str) -> list[str]:
    sums = []
    for file in files:
        with opened(path, file, name) as stream:
            sums.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return sums


def _whole(folder: Path) -> bool:
    """Whether the converted weights are those that were written."""
    try:
        said = (folder / "sha256").read_text(encoding="utf-8")
        return said == file_sha256(folder / WEIGHTS)
    except (OSError, ValueError):
        return False


def _convert(files: Sequence[Path], target: Path, name: str) -> None:
    """Write the tensors of all files into one file of safetensors, in the types they have."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors, seen = {}, set()
    for file in files:
        try:
            found = pickled.read(file)
        except pickled.RefusedError as error:
            raise InputError(
                f"model {name!r}: {file.name} {error}. Expected weights alone, as save_pretrained "
                "or torch.save(model.state_dict(), file) writes them: ask whoever made it for that"
            ) from None
        if twice := tensors.keys() & found.keys():
            raise InputError(
                f"model {name!r}: two of its files hold the weight {min(twice)[:80]!r}; expected "
                "every weight once, as save_pretrained writes a folder"
            )
        for key, tensor in found.items():
            memory = tensor.untyped_storage().data_ptr()
            shared = memory in seen and tensor.numel()
            tensors[key] = tensor.contiguous().clone() if shared else tensor.contiguous()
            seen.add(memory)
    try:
        save_file(tensors, target, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from None
