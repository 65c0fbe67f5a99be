"""A folder's weights: safetensors files that matchlens opens itself.

The library is handed tensors, not the folder, so that nothing else in it is loaded with them,
whatever is installed: no adapter, no sharded checkpoint, no file that an index names elsewhere.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matchlens.errors import InputError
from matchlens.models.diagnosis import INDEX, ONE
from matchlens.models.files import Mark, changed, mark, opened, shards_of

if TYPE_CHECKING:
    import torch

MOST_HEADER = 64 * 2**20
"""Bytes of a safetensors header, at most."""
_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
"""What a safetensors header calls a type, to torch's name for it."""
_OTHER_TYPES = ("C64", "F4", "F6_E2M3", "F6_E3M2", "F8_E8M0")
"""Types of safetensors' own that no weight of a supported model has."""
_WIDTHS = {"float8_e4m3fn": 1, "float8_e5m2": 1, "bfloat16": 2, "bool": 1}
_SPREAD = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_HEADS = ("classifier.", "score.")
"""How the weights of a classifier's head begin, in every family."""


@dataclass(frozen=True)
class Stored:
    """One tensor of a safetensors file, by its header; ``end`` is behind its last byte."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def numbers(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Weights:
    """The weights of a folder before any is loaded: the files' marks, and every tensor by name."""

    path: Path
    name: str
    files: Mapping[str, Mark]
    tensors: Mapping[str, Stored]

    @classmethod
    def find(cls, path: Path, name: str, file: str = ONE) -> Weights:
        """Read the headers of the weights that the library would load, whole or in shards."""
        files: dict[str, Mark] = {}
        tensors: dict[str, Stored] = {}
        if spread := [other for other in os.listdir(path) if _SPREAD.fullmatch(other)]:
            raise InputError(
                f"model {name!r}: {spread[0]} is of a distributed checkpoint, which the library "
                "loads before other weights; expected one kind: take it out, or the others"
            )
        if (path / file).exists():
            shards = [file]
        else:
            shards, files[INDEX] = shards_of(path, INDEX, name)
        for shard in shards:
            with opened(path, shard, name) as stream:
                files[shard] = mark(stream.fileno())
                for key, stored in _header(stream, shard, name):
                    if key in tensors:
                        raise InputError(
                            f"model {name!r}: {tensors[key].file} and {shard} both hold {key}; "
                            "expected every weight once, as save_pretrained writes a folder"
                        )
                    tensors[key] = stored
        for key, stored in tensors.items():
            if key.endswith(".weight") and "int" in stored.dtype:
                raise InputError(
                    f"model {name!r}: its weight {key[:100]} is of type {stored.dtype}, as a "
                    "quantized model's, and its files do not say by which scale; expected weights "
                    "in float32, bfloat16 or float16: save the model before it is quantized"
                )
        return cls(path, name, files, tensors)

    @property
    def numbers(self) -> int:
        """How many numbers they hold in all."""
        return sum(stored.numbers for stored in self.tensors.values())

    @property
    def classifies(self) -> bool:
        """Whether they hold the head of a classifier."""
        return any(key.startswith(_HEADS) for key in self.tensors)

    def read(
        self, dtype: torch.dtype, only: Collection[str] | None = None
    ) -> dict[str, torch.Tensor]:
        """Load every tensor, or ``only`` some; floats narrower than ``dtype`` are widened."""
        import torch

        loaded = {}
        wanted = {key: e for key, e in self.tensors.items() if only is None or key in only}
        for file in dict.fromkeys(entry.file for entry in wanted.values()):
            with opened(self.path, file, self.name) as stream:
                stored = [(key, entry) for key, entry in wanted.items() if entry.file == file]
                for key, entry in sorted(stored, key=lambda pair: pair[1].begin):
                    kind = getattr(torch, entry.dtype)
                    raw = torch.empty(entry.end - entry.begin, dtype=torch.uint8)
                    stream.seek(entry.begin)
                    if stream.readinto(raw.numpy().data) != len(raw):
                        raise changed(self.name, file)
                    tensor = raw.view(kind).reshape(entry.shape)
                    widens = kind.is_floating_point and kind.itemsize < dtype.itemsize
                    loaded[key] = tensor.to(dtype) if widens else tensor
                if mark(stream.fileno()) != self.files[file]:
                    raise changed(self.name, file)
        return loaded


def check_depth(config: Any, weights: Weights) -> None:
    """See that a config asks for no more layers than there are weights, before any is made."""
    groups = getattr(config, "num_hidden_groups", None)
    shared = groups is not None  # layers that share their weights
    number: Any = groups * config.inner_group_num if shared else config.num_hidden_layers
    if isinstance(number, int) and number > len(weights.tensors):
        what = "num_hidden_groups x inner_group_num" if shared else "num_hidden_layers"
        raise InputError(
            f"model {weights.name!r}: {what} in config.json is {number:,}, its weights are "
            f"{len(weights.tensors):,}; expected the config that belongs to the weights"
        )


def check_room(skeleton: Any, weights: Weights) -> None:
    """See that a config asks for no more than the weights hold, before anything is allocated."""
    limit = 2 * weights.numbers + 2**20  # a head and buffers may be missing: the library names them
    every = [*skeleton.named_parameters(), *skeleton.named_buffers()]
    if sum(tensor.numel() for _, tensor in every) <= limit:
        return
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for key, stored in weights.tensors.items():
        shapes.setdefault(_end(key), []).append(stored.shape)
    odd = [entry for entry in every if tuple(entry[1].shape) not in shapes.get(_end(entry[0]), [])]
    key, tensor = max(odd or every, key=lambda entry: entry[1].numel())
    known_shapes = shapes.get(_end(key))
    in_files = "no such weight" if known_shapes is None else " x ".join(map(str, known_shapes[0]))
    wanted = set(tensor.shape).difference(*(known_shapes or ()))
    config = skeleton.config.to_dict()
    sizes = {name: entry for name, entry in config.items() if type(entry) is int and entry}
    blamed = [name for name, entry in sizes.items() if {entry, 2 * entry} & wanted]
    blamed = blamed or [max(sizes, key=lambda name: sizes[name])]
    raise InputError(
        f"model {weights.name!r}: by {' or '.join(blamed)} in config.json {key} is "
        f"{' x '.join(map(str, tensor.shape))}, its weights have {in_files}; expected the config "
        "that belongs to the weights"
    )


def _end(key: str) -> str:
    """The last two words of a weight's name: prefixes may be missing in the files."""
    return ".".join(key.split(".")[-2:])


def leftover(module: Any, unexpected: Iterable[str]) -> tuple[list[str], list[str], list[str]]:
    """Sort the weights that were not used: of the body, of heads for pretraining, others."""
    parts = [*module.base_model.named_children(), *module.named_children()]  # body and own head
    children = [name for name, _ in parts if "pool" not in name]
    prefix = f"{module.base_model_prefix}."
    computed = {name.rpartition(".")[2] for name, _ in module.named_buffers()}
    body, spare, other = [], [], []
    for key in sorted(unexpected):
        first = key.removeprefix(prefix).split(".")[0]
        if key.rpartition(".")[2] in computed:  # old versions saved what every version computes
            continue
        if first in children:
            body.append(key)
        elif _SPARE.match(key.removeprefix(prefix)):
            spare.append(key)
        else:
            other.append(key)
    return body, spare, other


_SPARE = re.compile(
    r"(cls\.(predictions|seq_relationship)|lm_head|predictions|sop_classifier|vocab_transform"
    r"|vocab_layer_norm|vocab_projector|lm_predictions|mask_predictions|generator_predictions"
    r"|generator_lm_head|discriminator_predictions|pooler|head(?=\.(dense|norm)\.)"
    r"|decoder(?=\.(weight|bias)$))(\.|$)"
)
"""How the weights of a pretraining head begin; a pooler is one where the classifier has none."""


def few(keys: Sequence[str], count: int = 3) -> str:
    """The first few of some names.

    >>> few(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    return ", ".join(key[:100] for key in keys[:count]) + (", ..." if len(keys) > count else "")


def _header(stream: BufferedReader, file: str, name: str) -> Iterable[tuple[str, Stored]]:
    """Every tensor that a safetensors file says it holds, its place checked."""
    size = os.fstat(stream.fileno()).st_size

    def wrong(what: str) -> InputError:
        return InputError(
            f"model {name!r}: {file} is no whole safetensors file ({what}); expected the file as "
            "it was saved: copy or download it again"
        )

    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or not 2 <= length <= min(size - 8, MOST_HEADER):
        raise wrong(f"a header of {length:,} bytes in {size:,}")
    try:
        entries = json.loads(stream.read(length))
    except (ValueError, RecursionError):
        raise wrong("its header is no JSON") from None
    if not isinstance(entries, dict):
        raise wrong("its header is no object")
    entries.pop("__metadata__", None)
    place = 0
    placed = []
    for key, entry in entries.items():
        try:
            kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            dtype = kind if kind in _OTHER_TYPES else _TYPES[kind]
            sound = all(type(number) is int and number >= 0 for number in (begin, end, *shape))
        except (TypeError, KeyError, ValueError):
            raise wrong(f"its entry {key[:60]!r}") from None
        if dtype in _OTHER_TYPES:
            raise InputError(
                f"model {name!r}: its weight {key[:100]} is of type {dtype} in {file}, which no "
                "supported model has; expected float32, bfloat16 or float16: save the model as it "
                "was before it was quantized, or without that weight"
            )
        width = _WIDTHS.get(dtype) or int(re.sub(r"\D", "", dtype)) // 8
        if not sound or end - begin != math.prod(shape) * width:
            raise wrong(f"its entry {key[:60]!r}")
        placed.append((begin, end, key, dtype, tuple(shape)))
    for begin, end, key, dtype, shape in sorted(placed):
        if begin != place:
            raise wrong(f"its entry {key[:60]!r} overlaps another or leaves a gap")
        place = end
        yield key, Stored(file, dtype, shape, 8 + length + begin, 8 + length + end)
    if 8 + length + place != size:
        raise wrong(f"{size:,} bytes, {8 + length + place:,} by its header")
