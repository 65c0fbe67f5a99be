"""A model's folder, looked at before any weight is loaded: what it is, whether it can be used."""

from __future__ import annotations

import hashlib
import importlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matchlens.errors import InputError, MatchlensWarning
from matchlens.models.adapters import HEADS, Adapted, Adapter
from matchlens.models.config import check_config, load_config
from matchlens.models.convert import safetensors_of
from matchlens.models.diagnosis import ADAPTER, ONE, check_folder, has_tokenizer
from matchlens.models.files import (
    Mark,
    check_files,
    check_unchanged,
    digest,
    marks_of,
    pickled_files,
    read_json,
)
from matchlens.models.hub import HUB_ID, download, snapshot, unproved
from matchlens.models.labels import Label, choose, no_labels
from matchlens.models.serving import PLAIN, Serving, serving_of
from matchlens.models.weights import Weights
from matchlens.prompts import Prompt, known_prompt, shipped_from


@dataclass(frozen=True)
class FamilyEntry:
    """What is known of a model type before its weights are loaded.

    Args:
        family_class: module and name of the family's class, as "module:Class".
        after_padding: whether positions start behind the padding's place in the position table.
        padding: that place, where the library has it fixed; the config names it where None.
        prompted: whether causal models of the type are supported, too, which are asked in a prompt.
        inner: what its config calls the number of layers inside each of its layers, if it has any.
        head: how the library's class for its models that are asked in a prompt ends.
        decoder: what its config calls the number of layers of a decoder beside the encoder.
        table: whether it looks positions up in a table, or what its config calls that.
        trained: tokens of the longest inputs that it was trained with, where no config says so.
    """

    family_class: str
    after_padding: bool = False
    padding: int | None = None
    inner: str | None = None
    prompted: bool = False
    head: str = "ForCausalLM"
    decoder: str | None = None
    table: bool | str = True
    trained: int | None = None


_T5 = {
    "prompted": True,
    "head": "ForConditionalGeneration",
    "decoder": "num_decoder_layers",
    "table": False,
    "trained": 512,
}
_CAUSAL: Mapping[str, Any] = {"prompted": True, "table": False}
FAMILIES: Mapping[str, FamilyEntry] = {
    "albert": FamilyEntry("matchlens.models.bert:Albert", inner="inner_group_num"),
    "bert": FamilyEntry("matchlens.models.bert:Bert"),
    "camembert": FamilyEntry("matchlens.models.bert:Camembert", after_padding=True),
    "deberta-v2": FamilyEntry("matchlens.models.biased:DebertaV2", table="position_biased_input"),
    "distilbert": FamilyEntry("matchlens.models.bert:DistilBert"),
    "electra": FamilyEntry("matchlens.models.bert:Electra"),
    "gemma": FamilyEntry("matchlens.models.decoder:Gemma", **_CAUSAL),
    "gemma2": FamilyEntry("matchlens.models.decoder:Gemma2", **_CAUSAL),
    "gemma3_text": FamilyEntry("matchlens.models.decoder:Gemma3", **_CAUSAL),
    "llama": FamilyEntry("matchlens.models.decoder:Llama", **_CAUSAL),
    "mistral": FamilyEntry("matchlens.models.decoder:Mistral", **_CAUSAL),
    "modernbert": FamilyEntry("matchlens.models.rotary:ModernBert", table=False),
    "mpnet": FamilyEntry("matchlens.models.biased:MPNet", after_padding=True, padding=1),
    "mt5": FamilyEntry("matchlens.models.t5:MT5", **_T5),
    "qwen2": FamilyEntry("matchlens.models.decoder:Qwen2", **_CAUSAL),
    "qwen3": FamilyEntry("matchlens.models.decoder:Qwen3", **_CAUSAL),
    "roberta": FamilyEntry("matchlens.models.bert:Roberta", after_padding=True),
    "t5": FamilyEntry("matchlens.models.t5:T5", **_T5),
    "xlm-roberta": FamilyEntry("matchlens.models.bert:XlmRoberta", after_padding=True),
}
"""Model type, as the model's config.json names it, to its family."""

RELEVANCE: Mapping[tuple[int, bool], str] = {
    (1, False): "z",
    (1, True): "-z",
    (2, False): "z1 - z0",
    (2, True): "z0 - z1",
}
"""The score that is made of the logits, by their number and whether it is negated."""

TEMPLATE = "the folder's chat template"
"""What the manifest says of a prompt that the folder itself writes."""

READ_SAFELY = "pytorch_model.bin, read without running code"
"""What the manifest says of pickled weights."""

DTYPES = ("float32", "float64", "bfloat16", "float16", "auto")


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model's config says of it.

    Args:
        label: the label that was chosen for relevance, where one was.
        origin: where its config.json says that it comes from.
        prompt: how the model is asked, where it is asked in a prompt.
        chosen: whether a person chose the prompt.
        prompt_from: where the prompt comes from, in words.
    """

    name: str
    config: Any
    architecture: str
    label: Label | None = None
    origin: str = ""
    prompt: Prompt | None = None
    chosen: bool = False
    prompt_from: str = ""
    serving: Serving = PLAIN

    @property
    def model_type(self) -> str:
        """The model type, a key of :data:`FAMILIES`."""
        return str(self.config.model_type)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of layers and of heads a layer."""
        entry = FAMILIES[self.model_type]
        layers = self._count("num_hidden_layers")
        layers *= 1 if entry.inner is None else self._count(entry.inner)
        layers += 0 if entry.decoder is None else self._count(entry.decoder)
        return layers, self._count("num_attention_heads")

    @property
    def decodes(self) -> bool:
        """Whether it is an encoder-decoder, whose decoder's row is ``DEC``."""
        return FAMILIES[self.model_type].decoder is not None

    @property
    def classifies(self) -> bool:
        """Whether it is a classifier, whose labels have logits; otherwise it is asked in words."""
        return not self.architecture.endswith(FAMILIES[self.model_type].head)

    def limits(self, stated: tuple[int | None, str], max_length: int | None) -> dict[str, int]:
        """Each limit of a pair's tokens by what sets it; ``stated`` is the folder's, if any."""
        check_length(max_length)
        entry = FAMILIES[self.model_type]
        limits = {} if stated[0] is None else {stated[1]: stated[0]}
        table = entry.table
        if getattr(self.config, table, True) if isinstance(table, str) else table:
            limits["the position table"] = self.places
        elif self.serving.capped and entry.trained is None:
            limits["max_position_embeddings, as sentence-transformers cuts"] = self.places
        elif not limits and max_length is None:
            limits["a default, since its files state no limit"] = self.places
        return limits if max_length is None else {**limits, "--max-length": max_length}

    def relevance(self, negate: bool) -> str | None:
        """The score that is made of its logits, or of the logits of its prompt's answers."""
        if self.prompt is not None and not self.classifies:
            text = self.prompt.relevance
        elif self.label is not None:
            text = self.label.text
        else:
            return RELEVANCE.get((self.config.num_labels, negate))
        return f"-({text})" if negate else text

    def record(
        self, files: Mapping[str, object], dtype: str, limit: tuple[int, str], negate: bool
    ) -> dict[str, object]:
        """What a manifest says of the model; ``limit``: the most tokens of a pair, its source."""
        prompts: dict[str, object] = {}
        if self.prompt is not None:
            prompts |= {"prompt": self.prompt.record(), "prompt_from": self.prompt_from}
        if self.serving.prompt:
            prompts["query_prompt"] = self.serving.prompt
        return {
            **prompts,
            **files,
            "dtype": dtype,
            "max_length": limit[0],
            "max_length_from": limit[1],
            "relevance": self.relevance(negate),
        }

    @property
    def places(self) -> int:
        """Tokens that the position table has places for, or that config or training name."""
        entry = FAMILIES[self.model_type]
        if entry.trained is not None:
            return entry.trained
        places = self._count("max_position_embeddings")
        if not entry.after_padding:
            return places
        padding = entry.padding
        if padding is None:
            padding = self.config.pad_token_id
        if not isinstance(padding, int) or not 0 <= padding < places - 1:
            raise InputError(
                f"model {self.name!r}: pad_token_id in config.json is {padding!r}; expected a "
                f"number below {places - 1}, since the {places} positions start behind it"
            )
        return places - padding - 1

    def _count(self, key: str) -> int:
        value = getattr(self.config, key, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(
                f"model {self.name!r}: {key} in config.json is {value!r}; expected a whole number "
                "above 0"
            )
        return value


@dataclass(frozen=True, kw_only=True)
class ModelFolder(ModelFacts):
    """A local folder that holds a usable sequence classifier.

    Args:
        sha256: one digest over every file that can change a score.
        marks: what marked each digested file when it was read.
        base: the base's folder and its files' marks, where the weights are an adapter's.
        converted: the cache's folder with its weights as safetensors, where its own are pickled.
        stated: the length limit that its tokenizer states, and what states it, once known; copies
            of the folder share it, so that the tokenizer is loaded once.
        asked: the most tokens of a pair that the options ask for, which costs are estimated by.
    """

    path: Path
    sha256: str
    weights: Weights = field(repr=False)
    marks: Mapping[str, Mark] = field(repr=False)
    revision: str | None = None
    converted: Path | None = None
    base: tuple[Path, Mapping[str, Mark]] | None = None
    stated: list[tuple[int | None, str]] = field(default_factory=list, repr=False, compare=False)
    asked: int | None = field(default=None, compare=False)

    def check_unchanged(self) -> None:
        """See that its files are still those that were digested."""
        check_unchanged(self.path, self.name, self.marks)
        if self.base is not None:
            check_unchanged(self.base[0], self.name, self.base[1])

    def labelled(self, label: str | int | None = None, *, negate: bool = False) -> ModelFolder:
        """The model, with the label whose logit is relevance."""
        if not self.classifies:
            if label is not None:
                raise no_labels(self.name)
            return self
        if label is None and self.label is not None:
            return self
        return replace(self, label=choose(self.config, self.name, label, negate))

    def with_prompt(self, prompt: Prompt | Path | None) -> ModelFolder:
        """The model with its prompt: the person's, its chat template's, or the shipped one."""
        if prompt is not None:
            own = asked_prompt(self, prompt)
            return replace(self, prompt=own, prompt_from="given", chosen=True)
        if self.chosen or self.prompt_from == TEMPLATE:
            return self
        if self.serving.embeds and not self.classifies:
            raise InputError(
                f"model {self.name!r} makes embeddings: modules.json pools the states of each text "
                "separately, so that the model was not trained to answer a prompt; expected a "
                "reranker, or the prompt that it answers (--prompt FILE)"
            )
        if self.serving.chat and FAMILIES[self.model_type].prompted:
            from matchlens.models.tokenizer import template_of

            if (written := template_of(self.path, self.name, self.serving)) is not None:
                return replace(self, prompt=written, prompt_from=TEMPLATE)
        if self.prompt is None and not self.classifies:
            raise no_prompt(self)
        return self

    def limit(self, max_length: int | None = None) -> tuple[int, str]:
        """Most tokens of a pair, as the loaded tokenizer states it, and what sets it."""
        check_length(max_length)
        from matchlens.models.tokenizer import stated_limit  # which imports torch

        if not self.stated:
            self.stated.append(stated_limit(self.path, self.name, self.serving))
        return smallest(self.limits(self.stated[0], max_length))

    def files(self) -> dict[str, object]:
        """What a manifest says of the model's files."""
        about = {
            "name": self._shown(),
            "sha256": self.sha256,
            "revision": self.revision,
            "type": self.model_type,
        }
        if isinstance(self.weights, Adapted):
            adapter = self.weights.adapter
            about["adapter_of"] = Path(adapter.base).name
            if adapter.revision is not None and not os.path.isdir(adapter.base):
                about["adapter_of_revision"] = adapter.revision
        return about

    def _shown(self) -> str:
        """The name in a manifest, which holds no path of this machine."""
        path = self.weights.adapter.path if isinstance(self.weights, Adapted) else self.path
        if path != Path(self.name):
            return self.name
        name = path.resolve().name
        return "./demo" if name == "demo" else name  # not the built-in one

    def say_files(self) -> None:
        """Warn where the weights were pickled, which the manifest has, too, and where the hub's
        cache may lack files.
        """
        folders = (self.path, *(() if self.base is None else self.base[:1]))
        for lacking in filter(None, map(unproved, folders)):
            warnings.warn(f"model {self.name!r}: {lacking}", MatchlensWarning, stacklevel=3)
        if self.converted is not None:
            warnings.warn(
                f"model {self.name!r}: weights from {READ_SAFELY}; converted once to "
                f"{str(self.converted / ONE)!r}",
                MatchlensWarning,
                stacklevel=3,
            )

    def identity(
        self, dtype: str, max_length: int | None, negate: bool = False
    ) -> dict[str, object]:
        """What a manifest says of the model, known before its weights are loaded."""
        files = {} if self.converted is None else {"weights": READ_SAFELY}
        limit = self.limit(max_length)
        return self.record({**files, **self.files()}, check_dtype(dtype), limit, negate)


def find(name: str | Path, revision: str | None = None, *, scores: bool = True) -> ModelFolder:
    """Find a model and check all that can be checked without loading its weights.

    Args:
        name: ``demo``, a local folder (a ``Path`` always is one) or a Hugging Face id
            (only then is the network used).
        scores: whether it must be able to score pairs; else any with weights will do.

    Warns:
        MatchlensWarning: if there is a model folder ``demo``, and the built-in model is meant.
    """
    path = _place(name, revision)
    if isinstance(name, Path):
        name = "./demo" if str(name) == "demo" else str(name)
    check_folder(path, name)
    adapter = Adapter.find(path, name) if (path / ADAPTER).exists() else None
    own = path
    if adapter is not None:
        path = _base(adapter, path)
        check_folder(path, name)
    config = load_config(path, name, FAMILIES)
    check_config(config, name, FAMILIES)
    check_files(path, name, scores)
    pickles = pickled_files(path, name)
    before = marks_of(path, pickles, name)
    converted = safetensors_of(path, pickles, name) if pickles else None
    weights = Weights.find(converted or path, name)
    sha256, marks = digest(path, name, before or weights.files)
    base = None
    if adapter is not None:
        ties = adapter.head != HEADS["SEQ_CLS"] and bool(config.tie_word_embeddings)
        weights, base = adapter.onto(weights, ties), (path, marks)
        changes, marks = digest(own, name, adapter.weights.files)
        sha256 = hashlib.sha256(f"{sha256}\n{changes}\n".encode()).hexdigest()
        _adapt(config, adapter)
    raw = read_json(path, "config.json", name)  # keys of sentence-transformers, as it reads them
    if adapter is not None and has_tokenizer(own):
        path = own
    elif adapter is not None:
        base, marks = (own, marks), base[1] if base is not None else marks
    serving = serving_of(path, raw, name) if scores else PLAIN
    if serving.head is not None:
        config.num_labels = serving.head.labels
    folder = ModelFolder(
        name=name,
        config=config,
        architecture="ForSequenceClassification"  # of modules, where its own head is none
        if serving.head
        else _architecture(config, weights, name, scores),
        path=path,
        sha256=sha256,
        weights=weights,
        marks=marks,
        revision=revision,
        converted=converted,
        base=base,
        origin=str(raw.get("_name_or_path") or "") if adapter is None else adapter.base,
        serving=serving,
    )
    _ = folder.shape, folder.places
    if (prompt := asked_prompt(folder, None)) is None:
        return folder
    source = shipped_from(folder.model_type, folder.name, folder.origin)
    return replace(folder, prompt=prompt, prompt_from=source)


def _base(adapter: Adapter, path: Path) -> Path:
    """The folder of an adapter's base: local, or of the hub's cache."""
    name = adapter.base
    if os.path.isdir(name):
        if (Path(name) / ADAPTER).exists():
            raise InputError(
                f"model {adapter.name!r} is an adapter of {name[:80]!r}, which is an adapter "
                "itself; expected a whole model: merge that one first"
            )
        return Path(name)
    on_hub = bool(HUB_ID.fullmatch(name)) and ".." not in name
    if on_hub and path.parent.name == "snapshots":  # it came from the hub: so does its base
        return download(name, adapter.revision)
    cached = snapshot(name, adapter.revision) if on_hub else None
    if cached is None:
        pinned = "" if adapter.revision is None else f" --revision {adapter.revision[:60]}"
        raise InputError(
            f"model {adapter.name!r} is an adapter of {name[:80]!r}, which is neither a folder "
            "here nor in the cache of the Hugging Face hub; expected the base: download it (hf "
            f"download {name[:80]}{pinned}), or correct base_model_name_or_path in {ADAPTER}"
        )
    return cached


def _adapt(config: Any, adapter: Adapter) -> None:
    """Let a base's config say what the adapter makes of it, in place."""
    head = adapter.head
    if head is not None:
        config.architectures = [head]
    if head == HEADS["SEQ_CLS"]:
        if adapter.labels is not None and adapter.labels != config.num_labels:
            config.num_labels = adapter.labels
        if config.pad_token_id is None:
            # The library's classifier finds the last token by the padding's id. No pair ends in
            # the token that begins a text, so that this names none of its tokens.
            config.pad_token_id = config.bos_token_id


def _place(name: str | Path, revision: str | None) -> Path:
    """The folder that a name means; a model of the hub is downloaded into one."""
    built_in = name == "demo"
    if revision is not None and (built_in or isinstance(name, Path) or Path(name).is_dir()):
        what = "built in" if built_in else "a folder"
        raise InputError(
            f"--revision {revision!r} goes with a Hugging Face id; {str(name)!r} is {what}: leave "
            "it out"
        )
    if built_in:
        from matchlens.models.convert import demo_folder

        if Path("demo", "config.json").exists():
            warnings.warn(
                "'demo' is the built-in model; the folder demo that is here is './demo'",
                MatchlensWarning,
                stacklevel=3,
            )
        return demo_folder()
    path = Path(name)
    if path.is_dir():
        return path
    if os.path.lexists(path):
        also = f": {str(path.parent)!r}" if (path.parent / "config.json").exists() else ""
        raise InputError(
            f"model {str(name)!r} is a file; expected the folder that holds config.json{also}"
        )
    if isinstance(name, str) and HUB_ID.fullmatch(name) and ".." not in name:
        return download(name, revision)
    if isinstance(name, Path):
        raise InputError(
            f"no model folder {str(name)!r}; expected an existing folder (a Hugging Face id is "
            "given as a str, not as a Path)"
        )
    raise InputError(
        f"no model folder {name!r}; expected an existing folder, a Hugging Face id "
        "such as 'cross-encoder/ms-marco-MiniLM-L-12-v2', or 'demo'"
    )


def _architecture(config: Any, weights: Weights, name: str, scores: bool) -> str:
    """The library's class for the weights: the one that the config names, or else their head's."""
    named = [str(class_name) for class_name in config.architectures or ()]
    entry = FAMILIES[str(config.model_type)]
    prompted, classifier = entry.prompted, "ForSequenceClassification"
    if named and (named[0].endswith(entry.head) and prompted):
        return named[0]
    if entry.decoder is not None and (named or weights.classifies) and scores:
        raise InputError(
            f"model {name!r} is an encoder-decoder, but no {entry.head} (architectures: {named}); "
            "expected one whose first decoded word is the answer, as monoT5: a classifier on its "
            "decoder reads the passage twice"
        )
    for each in named:  # sentence-transformers looks at all
        if each.endswith(classifier):
            return each
    if named and scores:
        raise InputError(
            f"model {name!r} is no sequence classifier (architectures: {', '.join(named)[:100]}; "
            f"model_type: {config.model_type}); expected a cross-encoder saved as ...{classifier}"
        )
    if prompted and not weights.classifies:
        return entry.head
    if scores and not weights.classifies:
        raise InputError(
            f"model {name!r} is no sequence classifier (its weights have no classifier); expected "
            f"a cross-encoder saved as ...{classifier}"
        )
    return classifier


def asked_prompt(model: ModelFacts, prompt: Prompt | Path | None) -> Prompt | None:
    """The prompt that a person gives, or a causal model's own; none for a classifier.

    A file is JSON and names what differs from the model type's own prompt.
    """
    known = known_prompt(model.model_type, model.name, model.origin)
    own = None if known is None else known.prompt
    if prompt is None:
        return None if model.classifies else own
    if not FAMILIES[model.model_type].prompted:
        raise InputError(
            f"model {model.name!r} is of type {model.model_type!r}, which takes no prompt; leave "
            "it out (--prompt)"
        )
    return Prompt.read(prompt, own) if isinstance(prompt, Path) else prompt


def no_prompt(model: ModelFacts) -> InputError:
    """The error of a causal model without a known prompt."""
    why = "its files do not say which prompt it answers and which word's logit is the score"
    files = ", ".join(model.serving.files) or "the object"
    if model.serving.chat:
        why = f"its chat template ({files}) writes no prompt around query and passage"
    elif model.serving.answers is not None:
        why = f"it pairs texts without a prompt ({files}), as matchlens runs classifiers alone"
    return InputError(
        f"model {model.name!r} is a causal model of type {model.model_type!r}, and {why}; give the "
        "prompt that it was trained with (--prompt FILE, with pieces and yes)"
    )


def smallest(limits: Mapping[str, int]) -> tuple[int, str]:
    """The smallest limit, and what sets it.

    >>> smallest({"the position table": 512, "--max-length": 64})
    (64, '--max-length')
    """
    source = min(limits, key=lambda name: limits[name])
    return limits[source], source


def check_length(max_length: int | None) -> None:
    """Refuse a length limit that holds no pair."""
    if max_length is not None and max_length < 5:  # CLS, a query token, SEP, a passage token, SEP
        raise InputError(f"--max-length is {max_length}; expected at least 5 tokens")


def check_dtype(dtype: str) -> str:
    """The type of the weights; ``auto`` is float32."""
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype!r} is not known; expected one of {', '.join(DTYPES)}")
    return "float32" if dtype == "auto" else dtype


def class_of_family(model_type: str) -> Any:
    """The family class of a model type."""
    module, name = FAMILIES[model_type].family_class.split(":")
    return getattr(importlib.import_module(module), name)


def check_positions(folder: ModelFolder) -> None:
    """Check that a model before fine-tuning has no rotary positions, by its type."""
    if class_of_family(folder.model_type).rotary:
        raise InputError(
            f"model {folder.name!r} uses rotary position embeddings, with which a query-key matrix "
            "depends on the distance of the two tokens; expected a model without: leave the base "
            "out (--base)"
        )


def library_of(family: Any, classifies: bool) -> Any:
    """The library's class that holds the weights: a classifier's or a causal model's."""
    return (getattr(family, "classifier", None) if classifies else None) or family.library
