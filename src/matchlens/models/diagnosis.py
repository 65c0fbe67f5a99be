"""What is wrong with a model's folder: the cause by its name, and a remedy that works."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from matchlens.errors import InputError
from matchlens.files import check_regular, read_text

ADAPTER = "adapter_config.json"
ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
SENTENCEPIECE = ("sentencepiece.bpe.model", "spm.model", "spiece.model", "tokenizer.model")
TOKENIZERS = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    *((file,) for file in SENTENCEPIECE),
)
_TOKENIZER_FILES = [file for files in TOKENIZERS for file in files]
SENTENCEPIECE_INSTALL = "pip install 'matchlens[sentencepiece]'"

_MERGES = {"CAUSAL_LM": "CausalLM", "SEQ_2_SEQ_LM": "Seq2SeqLM"}
"""How peft's class ends for tasks whose models have no labels."""
_HEAD = r"(^|\.)(classifier|score)(\.\w+)*\.weight$"
_LFS = b"version https://git-lfs.github.com/spec/"
_OTHERS = {
    "TensorFlow": r"tf_model.*\.h5|.*\.h5|.*\.ckpt(-\d+)?\.(index|meta|data.*)|saved_model\.pb",
    "Flax": r".*\.msgpack",
    "ONNX": r".*\.onnx",
    "GGUF": r".*\.gguf",
    "OpenVINO": r"openvino_model.*",
    "Rust": r"rust_model\.ot",
    "Core ML": r".*\.mlmodel|.*\.mlpackage",
}
"""Other libraries' weights, by their files' names."""
_TORCH = r".*\.(pt|pth|ckpt|bin)"
_NO_WEIGHTS = r"(training_args|optimizer|scheduler|rng_state.*|scaler)\.(bin|pt|pth)"


def check_folder(path: Path, name: str) -> None:
    """See that a folder holds a whole model, and that its files are what their names say."""
    if (path / ADAPTER).exists():
        pickled = any((path / file).exists() for file in (PICKLE, PICKLE_INDEX))
        if not (is_safe(path) or pickled) or not (path / "config.json").exists():
            return  # an adapter alone, which is looked at as one
        raise InputError(
            f"model {name!r} is a whole model with an adapter beside it ({ADAPTER}); whether the "
            f"library adds that depends on what is installed: remove {ADAPTER} to look at the "
            "model without it"
        )
    if not (path / "config.json").exists():
        raise _no_config(path, name)
    for file in ["config.json", "tokenizer_config.json", *_TOKENIZER_FILES, *_weights(path)]:
        if (path / file).is_file() and (text := _spoiled(path / file)):
            raise InputError(f"model {name!r}: {file} {text}")


def no_weights(path: Path, name: str) -> InputError:
    """The error of a folder whose weights the library does not find: what lies there instead."""
    files = sorted(file for file in os.listdir(path) if (path / file).is_file())
    wanted = f"expected {ONE} or {PICKLE}"
    safe = [file for file in files if file.endswith(".safetensors")]
    torch = [file for file in files if re.fullmatch(_TORCH, file)]
    torch = [file for file in torch if not re.fullmatch(_NO_WEIGHTS, file)]
    inner = _folders(path, ONE, PICKLE)
    shards = [file for file in safe if re.search(r"-\d+-of-\d+", file)]
    if path.parent.name == "snapshots" and not safe and not torch:
        text = (
            f"the cache of the Hugging Face hub has its config, and neither {ONE} nor {PICKLE}; "
            "run the same command where the hub can be reached (without HF_HUB_OFFLINE), which "
            "downloads what is lacking"
        )
    elif len(safe) == 1 and safe[0].startswith("adapter"):
        text = f"it has {safe[0]!r}, an adapter, without its {ADAPTER}; copy that, too"
    elif len(safe) == 1:
        text = f"its weights are called {safe[0]!r}; rename that file to {ONE}"
    elif shards:
        text = f"it has {_few(shards)} and no {INDEX}; copy the index, which lists them, too"
    elif safe:
        text = f"it has {_few(safe)}; rename the one that you mean to {ONE}"
    elif len(torch) == 1:
        text = (
            f"it has {torch[0]!r}; {wanted}: if that is the model's state_dict, rename it to "
            f"{PICKLE}"
        )
    elif torch:
        text = f"it has {_few(torch)}; {wanted} (shards of the latter need {PICKLE_INDEX}, too)"
    elif inner:
        text = f"they lie in {_few(inner)}; move them up, beside config.json"
    else:
        inside = {file.name for file in islice(path.glob("*/*"), 1000)}
        every = {*files, *inside}
        kinds = [
            k for k, form in _OTHERS.items() if any(re.fullmatch(form, file) for file in every)
        ]
        contents = f"it has weights for {' and '.join(kinds)} only" if kinds else "there are none"
        text = f"{contents}; {wanted} beside config.json, as PyTorch's save_pretrained writes it"
    return InputError(f"model {name!r} has no weights that can be read: {text}")


def is_safe(path: Path) -> bool:
    """Whether a folder has weights in safetensors."""
    return any((path / file).exists() for file in (ONE, INDEX))


def has_tokenizer(path: Path) -> bool:
    """Whether some file of a tokenizer lies in a folder."""
    return any((path / file).exists() for file in _TOKENIZER_FILES)


def no_tokenizer(path: Path, name: str) -> InputError:
    """The error of a folder without a tokenizer's files."""
    inner = _folders(path, *_TOKENIZER_FILES)
    where = f" (there is one in {_few(inner)}: move its files up)" if inner else ""
    return InputError(
        f"model {name!r} has no tokenizer{where}; expected tokenizer.json, vocab.txt, vocab.json "
        "with merges.txt, or a SentencePiece model beside the weights: save the model's tokenizer "
        "there (tokenizer.save_pretrained(folder))"
    )


def check_sentencepiece(path: Path, name: str) -> None:
    """Check that the packages that read a SentencePiece model are installed, where it is needed."""
    file = _sentencepiece(path)
    if file is None or (_installed("sentencepiece") and _installed("google.protobuf")):
        return
    raise InputError(
        f"model {name!r}: its tokenizer is a SentencePiece model ({file}), and the packages that "
        f"read it are not installed; install them with: {SENTENCEPIECE_INSTALL}"
    )


def unread_tokenizer(path: Path, name: str, reason: str) -> InputError:
    """The error of a tokenizer that the library could not load."""
    if (file := _sentencepiece(path)) and not _pieces(path / file):
        reason = f"{file} is no SentencePiece model, or damaged; copy or download it again"
    elif file and (unknown := _unknown_class(path)):
        reason = (
            f"the library has no {unknown[:40]!r}, as tokenizer_class in tokenizer_config.json "
            "names it; take tokenizer_class out, so that the library takes the model type's"
        )
    if _settings(path / "tokenizer_config.json").get("tokenizer_class") is None:
        reason += (
            "; no tokenizer_config.json names its tokenizer_class, so that the library takes the "
            "model type's: copy that file, too"
        )
    return InputError(f"model {name!r}: cannot load its tokenizer: {reason}")


def _unknown_class(path: Path) -> str:
    """The tokenizer's class that a folder names, where the library has none of that name."""
    import transformers

    known = str(_settings(path / "tokenizer_config.json").get("tokenizer_class") or "")
    return "" if hasattr(transformers, known) else known


def no_words(path: Path, name: str, kind: str, reads: Sequence[str]) -> InputError:
    """The error of a tokenizer that knows no words."""
    present = [file for file in _TOKENIZER_FILES if (path / file).exists()]
    wanted = [file for file in reads if file in SENTENCEPIECE]
    if len(present) == len(wanted) == 1 and present[0] in SENTENCEPIECE and present != wanted:
        text = f"rename {present[0]} to {wanted[0]}"
    else:
        text = "save the model's own tokenizer there (tokenizer.save_pretrained(folder))"
    return InputError(
        f"model {name!r}: its tokenizer makes an unknown token of every word: a {kind} reads "
        f"{_few(reads)}, the folder has {_few(present)}; {text}"
    )


def _sentencepiece(path: Path) -> str | None:
    """The SentencePiece model that is the only source of a folder's tokenizer."""
    if any(all((path / file).exists() for file in each) for each in TOKENIZERS[:3]):
        return None
    return next((file for file in SENTENCEPIECE if (path / file).exists()), None)


def _pieces(path: Path) -> int:
    """How many pieces a SentencePiece model has; 0 where it cannot be read."""
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_file=str(path)).get_piece_size()
    except (OSError, RuntimeError):
        return 0


def _no_config(path: Path, name: str) -> InputError:
    above = Path(os.path.abspath(path)).parent
    gguf = [file for file in os.listdir(path) if file.endswith(".gguf")]
    if inner := _folders(path, "config.json"):
        text = f"; there is one in {_few(inner)}: give that folder, {str(path / inner[0])!r}"
    elif (above / "config.json").exists():
        text = f"; there is one in the folder above: give that, {str(above)!r}"
    else:
        text = f" (it has {gguf[0]!r}, a model for llama.cpp)" if gguf else ""
        text += "; expected a folder as save_pretrained writes it: config, weights and tokenizer"
    return InputError(f"model {name!r} has no config.json{text}")


def adapter_refusal(path: Path, name: str, why: str) -> InputError:
    """The error of an adapter that is not merged at load; its lines are Python and work as such."""
    about = _settings(path / ADAPTER)
    kind, base = str(about.get("peft_type", "PEFT")), str(about.get("base_model_name_or_path", "?"))
    task = str(about.get("task_type"))
    merges = _MERGES.get(task, "SequenceClassification")
    labels = _adapter_labels(path) if task not in _MERGES else None
    count = f", num_labels={labels}" if labels else ""
    tokenizer, pinned = (name, None) if has_tokenizer(path) else (base[:200], about.get("revision"))
    pin = f", revision={pinned!r:.60}" if isinstance(pinned, str) and pinned else ""
    return InputError(
        f"model {name!r} is an adapter ({kind[:12]}) of {base[:40]!r}, and {why}. Merge it "
        "once, after pip install peft, in Python: "
        f"from peft import AutoPeftModelFor{merges} as M; "
        "from transformers import AutoTokenizer as T; "
        f"M.from_pretrained({name!r}{count}).merge_and_unload().save_pretrained('merged'); "
        f"T.from_pretrained({tokenizer!r}{pin}).save_pretrained('merged')"
    )


def _settings(path: Path) -> dict[str, Any]:
    """The settings in a JSON file; none where it cannot be read or holds no object."""
    try:
        settings = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def scoring_weight(names: Iterable[str]) -> str | None:
    """The weight of an adapter that writes a classifier's labels; None where it brings none."""
    heads = [name for name in names if re.search(_HEAD, name) and "lora_" not in name]
    return max(heads, key=lambda name: "out_proj" in name, default=None)


def _adapter_labels(path: Path) -> int | None:
    """How many labels the head has that an adapter's file brings, if it brings one."""
    try:
        with (path / "adapter_model.safetensors").open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), 2**24)))
        return int(header[scoring_weight(header)]["shape"][0])
    except (OSError, ValueError, RecursionError, KeyError, TypeError, IndexError):
        return None


def _installed(package: str) -> bool:
    """Whether a package is installed."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of the package that it lies in
        return False


def _spoiled(path: Path) -> str | None:
    """What a file is instead of what its name says, and what to do; None where it may be sound."""
    try:
        size = check_regular(path)
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return None  # whoever reads it says why it cannot be read
    page = start.lstrip()[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head"))
    saved = start.startswith((b"PK\3\4", b"\x80\2\x8a\x0al\xfc\x9c"))
    weights = path.suffix in (".safetensors", ".bin")
    causes = {
        "is a Git LFS pointer of a few lines, not the file itself; run `git lfs pull` in the "
        "folder, or download the file and put it in its place": start.startswith(_LFS),
        "is empty (0 bytes); copy or download it again": size == 0,
        "is a web page, not the file that it is called after; download the file itself": page,
        f"is a file of torch.save under another name; rename it to {PICKLE}": saved
        and path.name == ONE,
        f"is a safetensors file under another name; rename it to {ONE}": path.name == PICKLE
        and start[8:9] == b"{"
        and not saved,
        "is JSON text, not weights (perhaps a server's error message); download it again": weights
        and start[:1] == b"{",
    }
    return next((text for text, is_so in causes.items() if is_so), None)


def _weights(path: Path) -> list[str]:
    """The files of weights that may be used."""
    if (path / ONE).exists():
        return [ONE]
    if (path / INDEX).exists():
        return [INDEX, *sorted(file.name for file in path.glob("*.safetensors"))]
    return [PICKLE_INDEX, *sorted(file.name for file in path.glob(f"{Path(PICKLE).stem}*.bin"))]


def _folders(path: Path, *files: str) -> list[str]:
    """Folders one or two levels below that hold one of some files; the last checkpoint first."""
    folders = {
        str(hit.parent.relative_to(path))
        for file in files
        for depth in ("*", "*/*")
        for hit in islice(path.glob(f"{depth}/{file}"), 100)
    }
    numbers = {folder: int(f"0{re.sub('[^0-9]', '', folder)[:18]}") for folder in folders}
    return sorted(folders, key=lambda folder: (-numbers[folder], folder))


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
