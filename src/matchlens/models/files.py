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
from typing import Any

from matchlens.errors import InputError
from matchlens.files import MOST_TEXT
from matchlens.models.diagnosis import (
    PICKLE,
    PICKLE_INDEX,
    TOKENIZERS,
    check_sentencepiece,
    is_safe,
    no_tokenizer,
    no_weights,
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
    """Open a file if it is a regular one, else raise OSError; a pipe or a device may never end."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    number = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(f"{path.name} is no regular file")
    return os.fdopen(number, "rb")


def mark(opened: int | Path) -> Mark:
    """What tells a file from another one, or from itself at another time; a link counts, too."""
    about = os.stat(opened)
    told = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    if isinstance(opened, int):
        return told
    link = os.lstat(opened)
    return (*told, link.st_dev, link.st_ino, link.st_ctime_ns)


def opened(path: Path, file: str, name: str) -> BufferedReader:
    """Open a file of weights; a link may lead to the folder itself or to its hub cache's blobs."""
    root, real = os.path.realpath(path), os.path.realpath(path / file)
    inside = [root]
    for above in (root, os.path.dirname(root)):  # the folder of a module lies in the model's
        if os.path.basename(os.path.dirname(above)) == "snapshots":
            inside.append(os.path.join(os.path.dirname(os.path.dirname(above)), "blobs"))
    if os.path.dirname(real) not in inside:
        raise InputError(
            f"model {name!r}: {file} is a link out of the folder; expected the file itself (copy "
            "the folder with `cp -rL`)"
        )
    try:
        return open_regular(Path(real), follow=False)
    except OSError as error:
        raise unreadable(name, file, error) from None


def read_json(path: Path, file: str, name: str, limit: int = MOST_TEXT, kind: type = dict) -> Any:
    """A JSON object, or a list by ``kind``, of a model's folder."""
    try:
        with open_regular(path / file) as stream:
            content = _parsed(stream, limit)
    except FileNotFoundError:
        raise InputError(
            f"model {name!r} has no {file}; expected a folder as save_pretrained writes it: copy "
            "or download that file, too"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"model {name!r}: cannot read {file}: {error}; expected it as it was saved: copy or "
            "download it again"
        ) from None
    if not isinstance(content, kind):
        what = "object" if kind is dict else "list"
        raise InputError(
            f"model {name!r}: {file} is not a JSON {what}; expected it as it was saved: copy or "
            "download it again"
        )
    return content


def _parsed(stream: BufferedReader, limit: int = MOST_TEXT) -> object:
    size = os.fstat(stream.fileno()).st_size  # a read sets aside what it is asked for
    text = stream.read(min(size, limit) + 1)
    if len(text) > limit:
        raise OSError(f"it has more than {limit:,} bytes")
    return json.loads(text.decode("utf-8"))


def shards_of(path: Path, index: str, name: str) -> tuple[list[str], Mark]:
    """The files of weights that an index names, in order, and the index's mark when it was read."""
    ending = index.split(".")[1]
    with opened(path, index, name) as stream:
        marked = mark(stream.fileno())
        try:
            content = _parsed(stream)
        except (OSError, ValueError, RecursionError):
            content = None
    placed = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(placed, dict) or not placed:
        raise InputError(
            f"model {name!r}: {index} has no weight_map; expected it as it was saved, with the "
            "file of each weight: copy or download it again"
        )
    shards = sorted({str(file) for file in placed.values()})
    for shard in shards:
        if not re.fullmatch(rf"\w[\w.-]*\.{ending}", shard):
            raise InputError(
                f"model {name!r}: {index} names {shard[:80]!r}; expected .{ending} files in the "
                "model's own folder, as save_pretrained writes them"
            )
        if not os.path.lexists(path / shard):
            raise InputError(
                f"model {name!r} has no {shard[:80]}, which {index} names; expected all of its "
                f"{len(shards)} files: copy the missing ones into the folder"
            )
    return shards, marked


def pickled_files(path: Path, name: str) -> list[str]:
    """The pickled weights that the library would load from a folder; none beside safetensors."""
    if is_safe(path):
        return []
    if (path / PICKLE).exists():
        return [PICKLE]
    return shards_of(path, PICKLE_INDEX, name)[0] if (path / PICKLE_INDEX).exists() else []


def check_files(path: Path, name: str, scores: bool = True) -> None:
    """See that a folder has weights, and a tokenizer where it must score pairs."""
    if not is_safe(path) and not pickled_files(path, name):
        raise no_weights(path, name)
    if not scores:
        return
    if not any(all((path / file).exists() for file in files) for files in TOKENIZERS):
        raise no_tokenizer(path, name)
    check_sentencepiece(path, name)
    settings = "tokenizer_config.json"
    if (path / settings).exists() and read_json(path, settings, name).get("auto_map"):
        raise InputError(
            f"model {name!r}: its tokenizer wants to run code of its own (auto_map in {settings}), "
            "which matchlens does not do; expected a tokenizer of the library's own: save one "
            "there (tokenizer.save_pretrained(folder))"
        )


def marks_of(path: Path, files: Sequence[str], name: str) -> dict[str, Mark]:
    """What marks pickled weights, and their index, before they are read."""
    marks = {}
    for file in [*files, *([PICKLE_INDEX] if files and (path / PICKLE_INDEX).exists() else [])]:
        with opened(path, file, name) as stream:
            marks[file] = mark(stream.fileno())
    return marks


def digest(path: Path, name: str, weights: Mapping[str, Mark]) -> tuple[str, dict[str, Mark]]:
    """One digest over every file that can change a score, and each file's mark when it was read.

    Those are the weights that are loaded, and all other files, also in the folders that
    modules.json names, but texts for people, other libraries' exports and states of a training.
    """
    total, marks = hashlib.sha256(), {}
    for file in sorted({*_settings(path, name), *weights}):
        try:
            with open_regular(path / file) as stream:
                before = mark(stream.fileno())
                if file not in weights and before[2] > MOST_TEXT:
                    raise InputError(
                        f"model {name!r}: {file} has {before[2]:,} bytes; expected at most "
                        f"{MOST_TEXT:,}: take it out of the folder"
                    )
                each = hashlib.file_digest(stream, "sha256").hexdigest()
                same = before == mark(stream.fileno()) == weights.get(file, before)
            marks[file] = mark(path / file)
        except OSError as error:
            raise unreadable(name, file, error) from None
        if not same or marks[file][:5] != before:
            raise changed(name, file)
        total.update(f"{file}\0{each}\n".encode())
    return total.hexdigest(), marks


def check_unchanged(path: Path, name: str, marks: Mapping[str, Mark]) -> None:
    """See that the files of a folder are those that were digested."""
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


def unreadable(name: str, file: str, error: OSError) -> InputError:
    """The error of a file that is missing, or a pipe, a device or a folder."""
    return InputError(
        f"model {name!r}: {file} cannot be read ({error.strerror or error}); expected a regular "
        "file: put it there, or take out what is there"
    )


def _settings(path: Path, name: str) -> list[str]:
    """Every file beside the weights that a score may depend on."""
    files_found = [file for file in os.listdir(path) if _counts(path / file)]
    for folder in ("additional_chat_templates", *module_folders(path, name)):
        for place, inner, files in os.walk(path / folder):
            inner.sort()
            inside = Path(place).relative_to(path).as_posix()
            files_found += [
                f"{inside}/{file}" for file in files if _counts(Path(place) / file, weights=True)
            ]
            if len(files_found) > MOST_FILES:
                break
    if len(files_found) > MOST_FILES:
        raise InputError(
            f"model {name!r} has more than {MOST_FILES:,} files; expected a folder that holds one "
            "model: put what belongs to it into a folder of its own"
        )
    return files_found


def _counts(file: Path, weights: bool = False) -> bool:
    """Whether a score may depend on a file; links to nothing and folders do not count."""
    if weights and file.suffix in (".safetensors", ".bin"):
        return True
    return not _SAYS_NOTHING.fullmatch(file.name) and file.exists() and not file.is_dir()


def module_folders(path: Path, name: str) -> Iterator[str]:
    """The folders of sentence-transformers' modules, as modules.json names them."""
    if not (path / "modules.json").is_file():
        return
    try:
        with open_regular(path / "modules.json") as stream:
            modules = _parsed(stream)
    except (OSError, ValueError, RecursionError):
        return  # who reads it for more than a digest says what is wrong with it
    for module in modules if isinstance(modules, Sequence) else ():
        inner = str(module.get("path") or "") if isinstance(module, Mapping) else ""
        if Path(inner).is_absolute() or ".." in Path(inner).parts:
            raise InputError(
                f"model {name!r}: modules.json names the folder {inner[:80]!r}; expected one "
                "inside the model's own: take the module out of modules.json"
            )
        if inner not in ("", "."):
            yield inner
