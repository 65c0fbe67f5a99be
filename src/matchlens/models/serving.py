"""How a folder's own library turns a pair into tokens, beside what its tokenizer says of itself.

transformers calls the tokenizer with the two texts. sentence-transformers does more where its files
lie in the folder: another length limit, a prompt before the query, lower case, a chat template, or
other modules behind the model. Those files are read here; the package itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

from matchlens.errors import Brief, InputError
from matchlens.models.files import read_json

MODULES = "modules.json"
ABOUT = "config_sentence_transformers.json"
TRANSFORMER = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Names that sentence-transformers tries for its settings of the model and tokenizer, in order."""

_HUB = {"cache_dir", "local_files_only", "revision", "subfolder", "token", "trust_remote_code"}
_OLD = {
    "model_args": "model_kwargs",
    "tokenizer_args": "processor_kwargs",
    "config_args": "config_kwargs",
}
_SETTINGS = {
    *("transformer_task", "modality_config", "module_output_name", "processing_kwargs"),
    *("unpad_inputs", "query_length", "document_length", "query_expansion", "max_seq_length"),
    *("do_lower_case", "tokenizer_name_or_path", *_OLD, *_OLD.values()),
}
_MODEL = {"attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "torch_dtype"}
"""Arguments of the model's loading that say how it is stored or run, not what it computes."""
_TOKENIZER = {
    *("add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces"),
    *("do_lower_case", "max_len", "model_input_names", "model_max_length", "padding_side"),
    *("split_special_tokens", "strip_accents", "truncation_side", "use_fast"),
    *("bos_token", "cls_token", "eos_token", "mask_token", "pad_token", "sep_token", "unk_token"),
}
"""Arguments of the tokenizer's loading that are handed on; no path is among them."""
_CALL = {"add_special_tokens", "return_token_type_ids", "split_special_tokens"}
"""Arguments of the tokenizer's call that are handed on."""
_HARMLESS = {"pad_to_multiple_of", "padding", "padding_side", "return_tensors", "verbose"}
"""Arguments of the tokenizer's call that decide on padding only, which is masked."""
_WRITTEN = {
    *("add_special_tokens", "common_kwargs", "conversation", "max_length", "padding"),
    *("return_assistant_tokens_mask", "return_dict", "return_tensors", "sanitize_control_tokens"),
    *("tokenize", "tokenizer_kwargs", "truncation"),
}
"""Arguments of ``apply_chat_template`` that decide on more than the text; others are the text's."""
_WHOLE = (True, "longest_first", "only_second")
"""Ways to truncate that cut an over-long passage and nothing else where the query is short."""
_RISING = {
    *("CELU", "ELU", "Hardsigmoid", "Hardtanh", "Identity", "LeakyReLU", "LogSigmoid", "ReLU"),
    *("LogSoftmax", "ReLU6", "SELU", "Sigmoid", "Softmax", "Softplus", "Softsign", "Tanh"),
}
"""torch's activations that never turn an order of logits round."""


@dataclass(frozen=True, repr=False)
class Head(Brief):
    """The pooling (cls, mean or lasttoken) of a CrossEncoder in modules, and the modules behind it.

    Each of these is its kind, its folder and its config.
    """

    pooling: str
    behind: tuple[tuple[str, str, Mapping[str, Any]], ...]

    @property
    def labels(self) -> int:
        """Numbers that the last module returns."""
        return int(self.behind[-1][2]["out_features"])


@dataclass(frozen=True, repr=False)
class Serving(Brief):
    """What sentence-transformers does with a pair; the defaults are what transformers does.

    Args:
        sentence_transformers: whether its files lie in the folder, or the object is its own.
        loading: arguments with which it loads the tokenizer.
        lower: whether it turns texts to lower case before the tokenizer does anything.
        call: arguments with which it calls the tokenizer.
        prompt: the text that it puts before each query.
        chat: how it writes the messages of a chat template, "flat" or "structured", or "auto": as
            the template reads them; None where the tokenizer is called with the two texts.
        answers: the token ids whose logits a causal model's score is made of: of the answer that
            counts for relevance and of the one against it; None where nothing says so.
        head: the pooling and the modules behind a body without a head; None for other models.
        used: whether it uses what its files say; else it loads the model with its own defaults.
        embeds: whether its modules make an embedding of each text, as a bi-encoder's do.
    """

    sentence_transformers: bool = False
    loading: Mapping[str, Any] = field(default_factory=dict)
    lower: bool = False
    call: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    chat: str | None = None
    template: Mapping[str, Any] = field(default_factory=dict)
    answers: tuple[int, int | None] | None = None
    head: Head | None = None
    files: tuple[str, ...] = ()
    used: bool = True
    embeds: bool = False

    @property
    def library(self) -> str:
        """The library whose way this is."""
        return "sentence-transformers" if self.sentence_transformers else "transformers"

    @property
    def capped(self) -> bool:
        """Whether it cuts at max_position_embeddings, too, since no file of its own has a limit."""
        own = "max_length" in self.call or "model_max_length" in self.loading
        return bool(self.files) and not own

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the tokenizer's call that decide on more than length and padding."""
        return {key: value for key, value in self.call.items() if key in _CALL}

    def stated(self, tokenizer: Any, name: str) -> tuple[int | None, str]:
        """The length limit that the folder states, and what states it."""
        if "max_length" in self.call:
            limit, source = self.call["max_length"], "processing_kwargs of sentence-transformers"
        elif "model_max_length" in self.loading:
            limit, source = tokenizer.model_max_length, "max_seq_length of sentence-transformers"
        else:
            limit, source = tokenizer.model_max_length, "model_max_length of the tokenizer"
        usable = isinstance(limit, int | float) and not isinstance(limit, bool) and limit >= 2
        if not usable or (isinstance(limit, float) and limit < 10**20 and limit != int(limit)):
            raise InputError(
                f"model {name!r}: its length limit ({source}) is {limit!r:.60}; expected a whole "
                "number of tokens; correct it in the model's files"
            )
        return (int(limit) if limit < 10**9 else None), source  # 10^30 means no limit

    def lowered(self, tokenizer: Any) -> Any:
        """The tokenizer, turned to lower case as sentence-transformers does it, where it does."""
        if not self.lower:
            return tokenizer
        from tokenizers import normalizers

        backend = tokenizer.backend_tokenizer
        known: Any = backend.normalizer
        each = list(known) if isinstance(known, normalizers.Sequence) else [known]  # pyright: ignore
        if not any(isinstance(step, normalizers.Lowercase) for step in each):
            rest = [step for step in each if step is not None]
            backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])
        return tokenizer


PLAIN = Serving()
"""transformers' own way."""


def serving_of(path: Path, config: Mapping[str, Any], name: str) -> Serving:
    """What sentence-transformers' files say; it uses them where they mark a CrossEncoder."""
    _check_activations(config, "config.json", name)
    files = tuple(tried for tried in (MODULES, ABOUT, *TRANSFORMER) if (path / tried).exists())
    pooled = MODULES in files and any(kind == "Pooling" for kind, _ in _modules(path, name))
    unused = Serving(bool(files), files=files, used=False, embeds=pooled)
    if not {MODULES, ABOUT} <= set(files):
        return unused
    about = read_json(path, ABOUT, name)
    if about.get("model_type") != "CrossEncoder":
        return unused
    _check_activations({"sentence_transformers": about}, ABOUT, name)
    file_settings = transformer_settings(path, name)
    settings = file_settings.values
    task = settings.get("transformer_task", "feature-extraction")
    bare = task == "feature-extraction"
    chat = _message_format(file_settings, "last_hidden_state" if bare else "logits")
    prompt = _prompt(about, name)
    head = head_of(path, name, prompted=bool(prompt) and chat is None) if bare else None
    answers = None if head else _answers(path, task == "text-generation", name)
    file_settings.check(_SETTINGS, "settings")
    if head is None and task not in ("sequence-classification", "text-generation"):
        file_settings.refuse("transformer_task", "'sequence-classification' or 'text-generation'")
    if settings.get("tokenizer_name_or_path") is not None:
        file_settings.refuse(
            "tokenizer_name_or_path", "none, and the tokenizer in the folder itself"
        )
    file_settings.inner("model_kwargs").check(_MODEL | _HUB, "arguments of the model")
    own = file_settings.inner("config_kwargs")
    known = {"num_labels": len(config.get("id2label") or (0, 1)), **config}  # it is seldom saved
    for key, value in own.values.items():
        if key not in _HUB and (key not in known or known[key] != value):
            own.refuse(key, f"what config.json says ({known.get(key)!r:.40})")
    loading = file_settings.inner("processor_kwargs")
    loading.check(_TOKENIZER | _HUB, "arguments of the tokenizer")
    loads = {key: value for key, value in loading.values.items() if key in _TOKENIZER}
    longest = settings.get("max_seq_length")
    if longest is not None:
        loads.setdefault("model_max_length", longest)
    call, template = _call(file_settings.inner("processing_kwargs"), chat is not None)
    lower = settings.get("do_lower_case") is True
    return Serving(True, loads, lower, call, prompt, chat, template, answers, head, files)


def transformer_settings(path: Path, name: str) -> FileSettings:
    """The settings in sentence-transformers' file of its model and tokenizer; none without one."""
    file, settings = TRANSFORMER[0], {}
    for tried in TRANSFORMER:
        if (path / tried).exists() and (settings := read_json(path, tried, name)):
            file = tried
            break
    for old, new in _OLD.items():
        if old in settings:
            settings[new] = settings.pop(old)
    return FileSettings(settings, file, name)


def _message_format(of: FileSettings, output: str) -> str | None:
    """How messages are written, where a pair becomes some; refuses another outcome of the model."""
    modes, chat = of.inner("modality_config"), None
    for key in ("text", "message"):
        if modes.values.get(key) is None:
            continue
        entry = modes.inner(key)
        given = entry.values.get("method_output_name", output)
        given = given[0] if isinstance(given, list | tuple) and len(given) == 1 else given
        if given != output:
            entry.refuse("method_output_name", repr(output))
        if entry.values.get("method", "forward") != "forward":
            entry.refuse("method", "'forward'")
        if key == "message":
            chat = entry.values.get("format", "auto") or "structured"
            if chat not in ("auto", "flat", "structured"):
                entry.refuse("format", "'flat', 'structured' or 'auto'")
    return chat


def serving_object(owner: Any, name: str) -> Serving:
    """What a ``CrossEncoder`` object does with a pair; its tokenizer is loaded already."""
    kind = type(owner).__name__
    chosen = getattr(owner, "default_prompt_name", None)
    prompts = getattr(owner, "prompts", None)
    prompt = _prompt({"default_prompt_name": chosen, "prompts": prompts or {}}, name)
    named = _class(getattr(owner, "activation_fn", None))
    _check_activations({"sentence_transformers": {"activation_fn": named}}, f"the {kind}", name)
    first: Any
    try:
        first, *rest = owner
    except TypeError:  # before version 5 it was no row of modules
        first, rest = None, []
    own = {key: getattr(first, key, None) for key in ("processing_kwargs", "modality_config")}
    file_settings = FileSettings(own, kind, name)
    pools = bool(rest) and type(rest[0]).__name__ == "Pooling"
    chat = _message_format(file_settings, "last_hidden_state" if pools else "logits")
    if chat is not None:
        chat = first.input_formatter.message_format
    call, template = _call(file_settings.inner("processing_kwargs"), chat is not None)
    answers, head = None, None
    if pools:
        behind = [(_kind(_class(module)), f"{kind}[{n}]", _settings_of(module, name))
                  for n, module in enumerate(rest, 1)]  # fmt: skip
        head = _head(behind, name, prompted=bool(prompt) and chat is None)
        rest = []
    for module in rest:
        if type(module).__name__ != "LogitScore":
            raise InputError(
                f"model {name!r}: the {kind} has another module behind its model "
                f"({type(module).__name__}), which matchlens does not run; expected a LogitScore, "
                "or a Pooling with Dense and LayerNorm; or wrap its model with its tokenizer to "
                "look at them without it"
            )
        ids = {key: getattr(module, key) for key in ("true_token_id", "false_token_id")}
        answers = _answer_ids(FileSettings(ids, f"the {kind}", name))
    return Serving(True, {}, False, call, prompt, chat, template, answers, head)


def _class(value: object) -> str:
    """The dotted name of a value's class."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _kind(name: str) -> str:
    """A dotted class name, without its place where that is sentence-transformers' own."""
    return name.rpartition(".")[2] if name.startswith("sentence_transformers.") else name


def _settings_of(module: Any, name: str) -> Settled:
    """What gives the settings of a module that is loaded."""

    def settings(kind: str, place: str) -> FileSettings:
        keys = ("pooling_mode", "include_prompt") if kind == "Pooling" else _BEHIND[kind]
        values = {key: getattr(module, key) for key in keys if hasattr(module, key)}
        if "activation_function" in values:
            values["activation_function"] = _class(values["activation_function"])
        if isinstance(values.get("pooling_mode"), tuple):
            values["pooling_mode"] = list(values["pooling_mode"])
        return FileSettings(values, place, name)

    return settings


@dataclass(frozen=True)
class FileSettings:
    """Settings of one file, with what errors must say of them."""

    values: Mapping[str, Any]
    file: str
    name: str

    def inner(self, key: str) -> FileSettings:
        """The settings under one key; none where it is missing."""
        values = self.values.get(key) or {}
        if not isinstance(values, dict):
            self.refuse(key, "an object")
        return FileSettings(values, f"{key} in {self.file}", self.name)

    def check(self, known: set[str], what: str) -> None:
        """Refuse a setting that is not among those known."""
        for key in self.values:
            if key not in known:
                self.refuse(key, f"no other {what} than {', '.join(sorted(known - _HUB))}")

    def refuse(self, key: str, expected: str) -> None:
        """Refuse a setting by its name."""
        raise InputError(
            f"model {self.name!r}: {key!r:.40} in {self.file} is {self.values.get(key)!r:.60}, "
            f"which matchlens does not do; expected {expected:.160}; take it out to look at the "
            "model without it"
        )


def _call(file_settings: FileSettings, chat: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the tokenizer's call, and of the chat template where that writes the pair."""
    text, common = (file_settings.inner(key).values for key in ("text", "common"))
    call = {**common, **text} if chat else {**text, **common}  # as the library has it
    of = FileSettings(call, file_settings.file, file_settings.name)
    of.check(_CALL | _HARMLESS | {"max_length", "truncation", "return_attention_mask"}, "arguments")
    if call.get("truncation", True) not in _WHOLE:
        of.refuse("truncation", "true, which cuts the longer text")
    if call.get("return_attention_mask", True) is not True:
        of.refuse("return_attention_mask", "true, since padding must be masked")
    for key in _CALL & call.keys():
        if not isinstance(call[key], bool):
            of.refuse(key, "true or false")
    if call.get("max_length", 0) is None:
        del call["max_length"]
    if not chat:
        return call, {}
    for key in ("add_special_tokens", "split_special_tokens"):
        if call.get(key):
            of.refuse(key, "false, where a chat template writes the pair")
    template = file_settings.inner("chat_template")
    for key in sorted(_WRITTEN & template.values.keys()):
        template.refuse(key, "the template's own variables alone (a limit stands in text)")
    if template.values.get("restore_suffix", True) is not True:
        template.refuse("restore_suffix", "true: the template's end stays where a pair is cut")
    variables = {key: value for key, value in template.values.items() if key != "restore_suffix"}
    return {key: value for key, value in call.items() if key not in _CALL}, variables


def _prompt(about: Mapping[str, Any], name: str) -> str:
    """The text before each query; empty where there is none."""
    chosen, prompts = about.get("default_prompt_name"), about.get("prompts") or {}
    if chosen is None:
        return ""
    prompt = prompts.get(chosen) if isinstance(prompts, Mapping) else None
    if isinstance(prompts, Mapping) and prompts.get(chosen, "") is None:
        return ""  # as the library has it
    if not isinstance(prompt, str):
        raise InputError(
            f"model {name!r}: default_prompt_name is {chosen!r:.60} in {ABOUT}, and its prompts "
            "have no text of that name; expected one of them, or null for no prompt"
        )
    return prompt


def _check_activations(config: Mapping[str, Any], where: str, name: str) -> None:
    """Refuse an activation behind the logits under which another order would be ranked."""
    inner = config.get("sentence_transformers")
    named = inner.get("activation_fn") if isinstance(inner, Mapping) else None
    named = named or config.get("sbert_ce_default_activation_function")
    if not isinstance(named, str) or not named.startswith("torch."):
        return  # the library uses its default instead, unless it is told to trust the folder
    if named.rsplit(".", 1)[-1] not in _RISING:
        raise InputError(
            f"model {name!r}: the activation behind its logits ({where}) is {named!r:.80}, under "
            "which a higher logit need not be a higher score; expected one that rises with the "
            "logit, such as torch.nn.modules.activation.Sigmoid"
        )


def _answers(path: Path, causal: bool, name: str) -> tuple[int, int | None] | None:
    """The answers' token ids, where a causal model's score is made by a module of its own."""
    answers = None
    for number, (kind, folder) in enumerate(_modules(path, name)):
        if number == 0 and kind == "Transformer" and folder in ("", "."):
            continue
        if number == 1 and kind == "LogitScore" and causal and ".." not in Path(folder).parts:
            file = f"{folder}/config.json"
            answers = _answer_ids(FileSettings(read_json(path, file, name), file, name))
            continue
        raise InputError(
            f"model {name!r}: {MODULES} lists a module {kind!r:.40} in {folder!r:.40}, which "
            "matchlens does not run; expected one Transformer in the folder itself, behind it a "
            "LogitScore at most; take it out to look at the model without it"
        )
    return answers


def _answer_ids(of: FileSettings) -> tuple[int, int | None]:
    """The token ids of a LogitScore; an index of the library's may be -1 or a mask, no id is."""
    of.check({"true_token_id", "false_token_id", "module_input_name"}, "settings")
    yes: Any = of.values.get("true_token_id")
    no: Any = of.values.get("false_token_id")
    for key, token in (("true_token_id", yes), ("false_token_id", 0 if no is None else no)):
        if isinstance(token, bool) or not isinstance(token, Integral) or token < 0:
            raise InputError(
                f"model {of.name!r}: {key!r} of its LogitScore ({of.file}) is {token!r:.60}; "
                "expected the id of an answer's token, a whole number from 0: correct it there"
            )
    return int(yes), None if no is None else int(no)


_POOLINGS = ("cls", "mean", "lasttoken")
_LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Keys by which older configs of a Pooling name what it does."""
_BEHIND = {
    "Dense": {
        *("in_features", "out_features", "bias", "activation_function", "use_residual"),
        *("module_input_name", "module_output_name"),
    },
    "LayerNorm": {"dimension"},
}
"""Kinds of modules behind a pooling, and the keys of their configs."""


def head_of(path: Path, name: str, *, prompted: bool) -> Head | None:
    """The modules behind a body without a head; None where modules.json lists no Pooling.

    ``prompted``: whether a prompt stands before each query, whose tokens a pooling may leave out.
    """
    (body, root), *rest = [*_modules(path, name)] or [("", "")]
    if body != "Transformer" or root not in ("", ".") or not rest or rest[0][0] != "Pooling":
        return None

    def settings(kind: str, folder: str) -> FileSettings:
        file = folder if kind == "Pooling" else f"{folder}/config.json"
        return FileSettings(read_json(path, f"{folder}/config.json", name), file, name)

    modules = [(kind, folder, settings) for kind, folder in rest]
    return _head(modules, name, prompted=prompted)


Settled = Callable[[str, str], "FileSettings"]


def _head(rest: Sequence[tuple[str, str, Settled]], name: str, *, prompted: bool) -> Head:
    """The pooling and the modules behind it, each with what gives its settings."""
    kind, folder, settings = rest[0]
    pooling = settings(kind, folder)
    old = [key for key, value in pooling.values.items() if "pooling_mode_" in key and value]
    known = [_LEGACY.get(key, key) for key in old] or "mean"
    modes: Any = pooling.values.get("pooling_mode", known)
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in _POOLINGS:
        pooling.refuse("pooling_mode", f"one of {', '.join(_POOLINGS)}")
    left_out = pooling.values.get("include_prompt", True) is not True and modes[0] != "lasttoken"
    if left_out and prompted:
        pooling.refuse("include_prompt", "true")
    behind, place = [], "sentence_embedding"
    for kind, folder, settings in rest[1:]:
        if kind not in _BEHIND:
            raise InputError(
                f"model {name!r}: {MODULES} lists a module {kind!r:.40} behind a Pooling, which "
                f"matchlens does not run; expected {' or '.join(_BEHIND)}; save the model without "
                "it to look at it"
            )
        about = settings(kind, folder)
        about.check(_BEHIND[kind], "settings")
        sizes = ("in_features", "out_features") if kind == "Dense" else ("dimension",)
        for key in sizes:
            if type(about.values.get(key)) is not int or not 0 < about.values[key] < 2**20:
                about.refuse(key, "a whole number above 0")
        taken = about.values.get("module_input_name") or "sentence_embedding"
        if place == "scores" or taken != "sentence_embedding":
            about.refuse("module_input_name", "'sentence_embedding', and one module of scores")
        place = about.values.get("module_output_name") or "sentence_embedding"
        behind.append((kind, folder, about.values))
    if place != "scores":
        raise InputError(
            f"model {name!r}: no module of {MODULES} writes scores; expected a Dense at the end "
            "with module_output_name 'scores': save the CrossEncoder that was trained"
        )
    return Head(modes[0], tuple(behind))


def _modules(path: Path, name: str) -> Iterator[tuple[str, str]]:
    """Class and folder of each module."""
    for entry in read_json(path, MODULES, name, kind=list):
        known = entry if isinstance(entry, dict) else {}
        yield _kind(str(known.get("type"))), str(known.get("path"))
