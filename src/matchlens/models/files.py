"""A model folder's files: read, counted as whole, digested; nothing is loaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path

from matchlens.errors import InputError
from matchlens.files import MOST_TEXT
from matchlens.models.diagnosis import (
    INDEX,
    ONE,
    PICKLE_INDEX,
    TOKENIZERS,
    check_sentencepiece,
    no_tokenizer,
    no_weights,
    pickled_files,
)

MOST_LAYERS = 1024
MOST_FILES = 1000
"""Files of a model's folder that are read into the digest, at most."""


Mark = tuple[int, ...]
"""What tells a file from another one, or from itself at another time."""

_SAYS_NOTHING = re.compile(
    r"\..*|.*\.(md|rst|pdf|png|jpe?g|gif|svg|webp|ipynb|log|csv|tsv|onnx|onnx_data|h5|msgpack|ot|gguf"
    r"|mlmodel|tflite|pb|xml|pth?|ckpt|bin|npz?|py)|(readme|licen[cs]e|notice|copying|citation|makefile)"
    r"(\..*)?|flax_model.*|tf_model.*|rust_model.*|(trainer_state|training_args|generation_config"
    r"|(all|eval|train|test|predict)_results)\.json|events\.out\..*|[^/]*\.safetensors(\.index\.json)?",
    re.IGNORECASE,
)
"""Names of files that no score depends on; weights are listed apart."""


def open_regular(path: Path, *, follow: bool = True) -> BufferedReader:
    """Open a file for reading, if it is a regular one; a pipe or a device may never end.

    Args:
        path: the file.
        follow: whether the path may be a link.

    Raises:
        OSError: if there is none, or it is something else.
    """
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    number = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(f"{path.name} is no regular file")
    return os.fdopen(number, "rb")


def mark(opened: int | Path) -> Mark:
    """What tells a file from another one, or from itself at another time; a link counts, too.

    Args:
        opened: the number of an open file, or a path.
    """
    about = os.stat(opened)
    told = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    if isinstance(opened, int):
        return told
    link = os.lstat(opened)
    return (*told, link.st_dev, link.st_ino, link.st_ctime_ns)


def read_json(path: Path, name: str, most: int = MOST_TEXT) -> dict[str, object]:
    """A JSON object of a model's folder.

    Args:
        path: the file.
        name: the model's name, for the error.
        most: bytes of the file at most.

    Raises:
        InputError: if it cannot be read or is no object.
    """
    content = _json(path, name, most)
    if not isinstance(content, dict):
        raise InputError(f"model {name!r}: {path.name} is not a JSON object")
    return content


def read_list(path: Path, name: str) -> list[object]:
    """A JSON list of a model's folder.

    Args:
        path: the file.
        name: the model's name, for the error.

    Raises:
        InputError: if it cannot be read or is no list.
    """
    content = _json(path, name)
    if not isinstance(content, list):
        raise InputError(f"model {name!r}: {path.name} is not a JSON list")
    return content


def _json(path: Path, name: str, most: int = MOST_TEXT) -> object:
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size  # a read sets aside what it is asked for
            text = stream.read(min(size, most) + 1)
        if len(text) > most:
            raise OSError(f"it has more than {most:,} bytes")
        return json.loads(text.decode("utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"model {name!r} has no {path.name}; expected a folder as save_pretrained writes it"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"model {name!r}: cannot read {path.name}: {error}") from None


def check_files(path: Path, name: str, scores: bool = True) -> None:
    """See that a folder has weights, and a tokenizer where it must score pairs.

    Args:
        path: the folder.
        name: the model's name, for the error.
        scores: whether it must be able to score pairs.

    Raises:
        InputError: if something is missing.
    """
    if not any((path / file).exists() for file in (ONE, INDEX)) and not pickled_files(path, name):
        raise no_weights(path, name)
    if not scores:
        return
    if not any(all((path / file).exists() for file in files) for files in TOKENIZERS):
        raise no_tokenizer(path, name)
    check_sentencepiece(path, name)
    settings = path / "tokenizer_config.json"
    if settings.exists() and read_json(settings, name).get("auto_map"):
        raise InputError(
            f"model {name!r}: its tokenizer wants to run code of its own (auto_map in "
            "tokenizer_config.json), which matchlens does not do"
        )


def marks_of(path: Path, files: Sequence[str], name: str) -> dict[str, Mark]:
    """What marks pickled weights, and their index, before they are read.

    Args:
        path: the folder.
        files: their names.
        name: the model's name, for the error.

    Raises:
        InputError: if one is no regular file.
    """
    found = {}
    every = [*files, *([PICKLE_INDEX] if files and (path / PICKLE_INDEX).exists() else [])]
    for file in every:
        try:
            with open_regular(path / file) as stream:
                found[file] = mark(stream.fileno())
        except OSError as error:
            raise _unreadable(name, file, error) from None
    return found


def digest(path: Path, name: str, weights: Mapping[str, Mark]) -> tuple[str, dict[str, Mark]]:
    """One digest over every file of a folder that can change a score.

    These are all files but those that are known to change none (texts for people, exports for
    other libraries, states of a training), the weights that are loaded, and the folders that
    modules.json names.

    Args:
        path: the folder.
        name: the model's name, for the error.
        weights: the files of the weights, with their marks.

    Returns:
        The digest, and what marked each file when it was read.

    Raises:
        InputError: if a file is no regular one, is too large, or changes meanwhile.
    """
    total, marks = hashlib.sha256(), {}
    for file in sorted({*_settings(path, name), *weights}):
        try:
            with open_regular(path / file) as stream:
                before = mark(stream.fileno())
                if file not in weights and before[2] > MOST_TEXT:
                    raise InputError(
                        f"model {name!r}: {file} has {before[2]:,} bytes; expected at most "
                        f"{MOST_TEXT:,}"
                    )
                each = hashlib.file_digest(stream, "sha256").hexdigest()
                same = before == mark(stream.fileno()) == weights.get(file, before)
            marks[file] = mark(path / file)
        except OSError as error:
            raise _unreadable(name, file, error) from None
        if not same or marks[file][:5] != before:
            raise changed(name, file)
        total.update(f"{file}\0{each}\n".encode())
    return total.hexdigest(), marks


def check_unchanged(path: Path, name: str, marks: Mapping[str, Mark]) -> None:
    """See that the files of a folder are those that were digested.

    Args:
        path: the folder.
        name: the model's name, for the error.
        marks: what marked each file.

    Raises:
        InputError: it names the first file that is another one now, or is new.
    """
    for file in sorted({*marks, *_settings(path, name)}):
        try:
            same = mark(path / file) == marks.get(file)
        except OSError:
            same = False
        if not same:
            raise changed(name, file)


def changed(name: str, file: str) -> InputError:
    """The error of a file that was another one when it was checked."""
    return InputError(
        f"model {name!r}: {file} changed while the model was loaded; expected files that nobody "
        "writes to meanwhile: wait until they are written, and run the same command again"
    )


def _unreadable(name: str, file: str, error: OSError) -> InputError:
    return InputError(
        f"model {name!r}: {file} cannot be read ({error.strerror or error}); expected a regular "
        "file"
    )


def _settings(path: Path, name: str) -> list[str]:
    """Every file beside the weights that a score may depend on."""
    found = [one for one in os.listdir(path) if _counts(path / one)]
    for folder in ("additional_chat_templates", *_modules(path, name)):
        for place, inner, files in os.walk(path / folder):
            inner.sort()
            inside = Path(place).relative_to(path).as_posix()
            found += [
                f"{inside}/{one}" for one in files if _counts(Path(place) / one, weights=True)
            ]
            if len(found) > MOST_FILES:
                break
    if len(found) > MOST_FILES:
        raise InputError(
            f"model {name!r} has more than {MOST_FILES:,} files; expected a folder that holds one "
            "model"
        )
    return found


def _counts(file: Path, weights: bool = False) -> bool:
    """Whether a score may depend on a file; links to nothing and folders do not count."""
    if weights and file.suffix in (".safetensors", ".bin"):
        return True
    return not _SAYS_NOTHING.fullmatch(file.name) and file.exists() and not file.is_dir()


def _modules(path: Path, name: str) -> Iterator[str]:
    """The folders of sentence-transformers' modules, as modules.json names them."""
    if not (path / "modules.json").is_file():
        return
    try:
        with open_regular(path / "modules.json") as stream:
            modules: object = json.loads(
                stream.read(min(os.fstat(stream.fileno()).st_size, MOST_TEXT))
            )
    except (OSError, ValueError, RecursionError):
        return  # who reads it for more than a digest says what is wrong with it
    for module in modules if isinstance(modules, Sequence) else ():
        inner = str(module.get("path") or "") if isinstance(module, Mapping) else ""
        if Path(inner).is_absolute() or ".." in Path(inner).parts:
            raise InputError(
                f"model {name!r}: modules.json names the folder {inner[:80]!r}; expected one "
                "inside the model's own"
            )
        if inner not in ("", "."):
            yield inner
