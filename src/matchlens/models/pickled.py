"""Weights in the files of ``torch.save``, read without running code and within their own size.

``torch.load(weights_only=True)`` runs no code of a file. It does what a file says, though, with
functions that are known to be harmless, and some of those fill the memory on a few bytes (a tensor
of 4 TB over a storage of 4 bytes). So the pickle inside a file is walked first, with stand-ins for
everything that it names: what is no plain table of named tensors is refused by name, and so is a
tensor that the file's own bytes do not hold. ``torch.load`` then reads what is left.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MOST_PICKLE = 16 * 2**20
"""Bytes of the pickle that names the tensors, at most; a model of 400 tensors has 0.1 MB."""

MOST_COPIES = 4
"""How many times a file's bytes its tensors may take; tied weights share them."""

_MAGIC = 0x1950A86A20F9469CFC6C
"""What files of torch.save before 1.6 begin with."""

_ITEM_BYTES: Mapping[str, int] = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}

_UNWANTED = (
    pickle.PERSID,
    pickle.DICT,
    pickle.EMPTY_SET,
    pickle.FROZENSET,
    pickle.BYTEARRAY8,
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
)
"""Instructions that no file of weights has, and that take much memory or lead elsewhere."""


class RefusedError(ValueError):
    """A file holds something else than named tensors; the text goes after the file's name."""


def read(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file of ``torch.save``, on the CPU, as they were saved.

    Raises:
        RefusedError: if it holds anything else, or is damaged.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\3\4"  # as torch decides it
    names = (_walk_zip if zipped else _walk_legacy)(path)
    import torch

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # it raises anything where a file is damaged
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RefusedError(f"cannot be read by torch.load: {reason[:120]}") from None
    if not isinstance(tensors, dict) or sorted(tensors) != sorted(names):
        raise RefusedError("does not hold what its pickle says")
    return {name: tensor.detach() for name, tensor in tensors.items()}


# --- the two formats


def _walk_zip(path: Path) -> Iterable[str]:
    """See that a zip file of torch.save holds named tensors and all of their bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = {record.filename.split("/", 1)[-1]: record for record in archive.infolist()}
            if len({name.lower() for name in records}) < len(archive.infolist()):
                raise RefusedError("is a zip file that holds two records of one name")
            if "constants.pkl" in records:
                raise RefusedError(
                    "is a TorchScript program, which is code, and no file of weights"
                )
            if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
                raise RefusedError("is a compressed zip file; torch.save compresses nothing")
            if "data.pkl" not in records:
                raise RefusedError("is a zip file without data.pkl, and not of torch.save")
            if (size := records["data.pkl"].file_size) > MOST_PICKLE:
                raise RefusedError(
                    f"names its tensors in {size:,} bytes; at most {MOST_PICKLE:,} are read"
                )
            walker = _Walker(io.BytesIO(archive.read(records["data.pkl"])))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, KeyError, EOFError) as error:
        raise RefusedError(f"is a damaged zip file ({error}); fetch it again") from None
    tensors = walker.tensors(os.path.getsize(path))
    for key, expected in walker.storages.items():
        record = records.get(f"data/{key}")
        if record is None or record.file_size != expected:
            raise RefusedError(
                f"is damaged: storage {key!r} has no {expected:,} bytes; fetch it again"
            )
    return tensors


def _walk_legacy(path: Path) -> Iterable[str]:
    """The same for the format before torch 1.6: five pickles, then the storages' bytes."""
    size = os.path.getsize(path)
    if tarfile.is_tarfile(path):
        raise RefusedError("is in the tar format of 2016, which torch reads by running code only")
    with path.open("rb") as file:
        start = io.BytesIO(file.read(MOST_PICKLE))
    magic = _Walker(start).value()
    if magic != _MAGIC:
        raise RefusedError("is no file of torch.save")
    for _ in ("protocol", "system"):
        _Walker(start).value()
    walker = _Walker(start)
    tensors = walker.tensors(size)
    keys = _Walker(start).value()
    if not isinstance(keys, list) or set(map(str, keys)) != set(walker.storages):
        raise RefusedError("is damaged: it does not list its storages; fetch it again")
    needed = start.tell() + sum(8 + length for length in walker.storages.values())
    if needed > size:
        raise RefusedError(f"is cut short: it has {size:,} of {needed:,} bytes; fetch it again")
    return tensors


# --- what the pickle says


@dataclass(frozen=True)
class _Kind:
    """Stands in for a class of storage."""

    item_bytes: int


@dataclass(frozen=True)
class _Storage:
    """Stands in for a storage: how many items it has, and of how many bytes each."""

    items: int
    item_bytes: int


@dataclass(frozen=True)
class _Tensor:
    """Stands in for a tensor."""

    size: int


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise RefusedError("holds a tensor whose size is no number")
    return int(value)


def _tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> _Tensor:
    """Stands in for the functions that rebuild a tensor over a storage."""
    if not isinstance(storage, _Storage):
        raise RefusedError("holds a tensor without a storage")
    if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
        raise RefusedError("holds a tensor whose size is no number")
    sizes, strides = [_count(extent) for extent in shape], [_count(extent) for extent in stride]
    items = math.prod(sizes)
    last = _count(offset) + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if items and (items > storage.items or last >= storage.items):
        raise RefusedError(f"holds a tensor of {items:,} items over a storage of {storage.items:,}")
    return _Tensor(items * storage.item_bytes)


def _parameter(data: object, *_: object) -> object:
    return data


def _dictionary(*given: object) -> dict[object, object]:
    if given:
        raise RefusedError("makes a dictionary out of another")
    return {}


_STAND_INS: Mapping[str, Callable[..., object]] = {
    "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
}


_Unpickler: Any = vars(pickle)["_Unpickler"]
"""The unpickler written in Python; the memo of the one in C takes 34 GB for one high number."""


class _Walker(_Unpickler):
    """Walks a pickle; nothing that it names is imported, looked up or called."""

    dispatch = {  # noqa: RUF012
        code: step
        for code, step in _Unpickler.dispatch.items()
        if code not in {one[0] for one in _UNWANTED}
    }

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, int] = {}
        self.proto = 0

    def find_class(self, module: str, name: str) -> object:
        """The stand-in of what a pickle names."""
        named = f"{module}.{name}"
        if module == "torch" and name in _ITEM_BYTES:
            return _Kind(_ITEM_BYTES[name])
        if named not in _STAND_INS:
            torch_s = module in ("torch", "torch._utils", "torch._tensor")
            what = "is no dense tensor" if torch_s else "would run code"
            raise RefusedError(f"asks for {named[:80]}, which {what}; nothing of it was run")
        return _STAND_INS[named]

    def persistent_load(self, pid: Any) -> object:
        """The stand-in of a storage."""
        match pid:
            case ("storage", _Kind() as kind, str() | int() as key, _, items, *view):
                if view not in ([], [None]):
                    raise RefusedError("holds a view of a storage, as torch before 0.4 saved it")
                size = _count(items) * kind.item_bytes
                if self.storages.setdefault(str(key), size) != size:
                    raise RefusedError(f"holds storage {key!r} in two sizes")
                return _Storage(_count(items), kind.item_bytes)
        raise RefusedError("names something that is no storage")

    def load_build(self) -> None:
        """Drop the attributes of a dictionary (a state dict has its modules' versions there)."""
        state, owner = self.stack.pop(), self.stack[-1]
        if not isinstance(owner, dict) or not isinstance(state, dict) or len(state) > 1:
            raise RefusedError("sets attributes, which weights do not need")

    def load_setitems(self) -> None:
        """Keys are names: the hash of a tuple in a million tuples ends in a crash."""
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(key, value)

    def load_setitem(self) -> None:
        """The same, of one entry."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(key, value)

    def _set(self, key: object, value: object) -> None:
        if not isinstance(key, str | int) or not isinstance(self.stack[-1], dict):
            raise RefusedError("holds a dictionary whose keys are no names")
        self.stack[-1][key] = value

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems

    def value(self) -> object:
        """The whole pickle, with stand-ins."""
        try:
            return self.load()
        except RefusedError:
            raise
        except Exception as error:  # a damaged pickle makes it raise anything
            raise RefusedError(
                f"is damaged, or no file of weights ({type(error).__name__}); fetch it again"
            ) from None

    def tensors(self, size: int) -> list[str]:
        """The names of the pickle's tensors."""
        content = self.value()
        if (needed := sum(self.storages.values())) > size:
            raise RefusedError(f"asks for {needed:,} bytes and has {size:,}")
        if not isinstance(content, dict) or not content:
            raise RefusedError("holds no tensors by name")
        if self.proto > 2:
            raise RefusedError(
                f"is in pickle protocol {self.proto}, and torch reads 2 without running code: save "
                "it without pickle_protocol"
            )
        for name, value in content.items():
            if not isinstance(name, str) or not isinstance(value, _Tensor):
                raise RefusedError(f"holds something else than a tensor under {str(name)[:40]!r}")
        if sum(tensor.size for tensor in content.values()) > MOST_COPIES * size:
            raise RefusedError("holds the same bytes under many names")
        return list(content)
