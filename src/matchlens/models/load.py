"""Loading: from a folder to a reranker that has proved that its attention can be cut."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, PreTrainedTokenizerFast

from matchlens.arguments import typed
from matchlens.batching import (
    PLAIN,
    Encoded,
    Pairing,
    Row,
    Spans,
    encode,
    gathered,
    long_query,
    spans,
    spans_of,
)
from matchlens.corpora.pair import Pair
from matchlens.errors import InputError, MatchlensWarning, brief, counted
from matchlens.models import check
from matchlens.models.adapters import Adapted
from matchlens.models.checks import tokens
from matchlens.models.checks.scores import labels_differ
from matchlens.models.config import quiet_library, refusing
from matchlens.models.families import unsure_texts
from matchlens.models.family import Family
from matchlens.models.folder import (
    ModelFacts,
    ModelFolder,
    check_dtype,
    check_length,
    class_of_family,
    find,
    library_of,
    smallest,
)
from matchlens.models.labels import doubt
from matchlens.models.modules import check_body, modular, modular_family
from matchlens.models.packed import (
    glance,
    multiplies_bfloat16,
    pack,
    round_products,
    rounds_products,
)
from matchlens.models.prompted import check_written, prompted_rows
from matchlens.models.serving import PLAIN as PLAINLY
from matchlens.models.serving import Serving
from matchlens.models.tokenizer import tokenizer_of
from matchlens.models.weights import check_depth, check_room, few, leftover
from matchlens.parts import Part
from matchlens.prompts import Prompt
from matchlens.showing import drawing
from matchlens.tokenizing import named


@dataclass(frozen=True, eq=False, repr=False)
class Seen:
    """What a model's weights were when its identity was taken.

    Args:
        modules: whose weights are watched.
        limit: the length limit of the object that was wrapped, as it is at the moment.
        marks: by number and name of a tensor what changes where torch knows of a change.
        glances: a row and a column of each weight, for changes that torch knows nothing of.
        limited: the limit as it was.
    """

    modules: tuple[nn.Module, ...]
    limit: Callable[[], object]
    marks: Mapping[tuple[int, str], object]
    glances: Tensor
    limited: object

    @classmethod
    def of(cls, modules: Sequence[nn.Module], limit: Callable[[], object]) -> Seen:
        """What they are now."""
        return cls(tuple(modules), limit, _marks(modules), _glances(modules), limit())

    def changed(self) -> str:
        """What differs now, in words; empty where nothing does."""
        now = _marks(self.modules)
        for (number, name), mark in now.items():
            if self.marks.get((number, name)) != mark:
                return f"its weight {name}"
        if len(now) < len(self.marks) or not torch.equal(_glances(self.modules), self.glances):
            return "a weight"
        if (limit := self.limit()) != self.limited:
            return f"max_length, which was {self.limited} and is {limit},"
        return ""


def _marks(modules: Sequence[nn.Module]) -> dict[tuple[int, str], object]:
    marks: dict[tuple[int, str], object] = {}
    for number, module in enumerate(modules):
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            # Tensors that were made in inference mode count no changes.
            version = 0 if tensor.is_inference() else tensor._version
            marks[number, name] = (tensor.data_ptr(), version, tensor.dtype, tensor.device)
    return marks


def _glances(modules: Sequence[nn.Module]) -> Tensor:
    weights = {id(weight): weight for module in modules for weight in module.parameters()}
    kept = [glance(each.detach()).view(torch.uint8) for each in weights.values() if each.numel()]
    return torch.cat(kept) if kept else torch.empty(0)


MAY_CHANGE = ("checks", "told_of_long_queries", "told_of_control")
"""What of a model may change after it has proved itself: what no result is named by."""


@dataclass(repr=False)
class Reranker:
    """A cross-encoder, ready to be run under cuts; made by :func:`load`.

    Args:
        family: walks the model layer by layer.
        tokenizer: its fast tokenizer.
        name: what the person asked for.
        max_length: most tokens of a pair, special ones included.
        dtype: name of the weights' type, such as ``float32``.
        device: where it runs.
        identity: what the manifest says of the model: name, digest, shape, type.
        checks: what the check at load caused and saw.
        negate: whether a score is the negated logit (of two labels, z0 - z1).
        prompt: what stands around query and passage, for a decoder that is asked in a prompt.
        pairing: how query and passage are paired where no prompt stands around them.
        serving: what sentence-transformers does beside its model and tokenizer.
        said: what every study says of how the texts become tokens.
        chosen: whether a person chose the prompt, so that it is not held against the folder's own.
        limits: each limit of a pair's tokens, by what sets it.
        adapted: the weights in the files, where an adapter was merged into them.
        told_of_long_queries: whether a warning said that a library cuts long queries otherwise.
        told_of_control: whether a warning said that a text holds a control token.
        auto: whether the person left the type of the weights open.
        seen: what the weights were that ``identity`` names.

    Settings stay as they are, since results are named by them: load the model again with others.

    >>> model = load("demo")
    >>> model.max_length, model.family.n_layers, model.family.n_heads
    (512, 12, 12)
    """

    family: Family
    tokenizer: PreTrainedTokenizerFast
    name: str
    max_length: int
    dtype: str
    device: torch.device
    identity: Mapping[str, object]
    checks: check.Checks = field(default_factory=dict)
    negate: bool = False
    prompt: Prompt | None = None
    pairing: Pairing = PLAIN
    serving: Serving = PLAINLY
    said: tuple[str, ...] = ()
    chosen: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    adapted: Adapted | None = None
    told_of_long_queries: bool = False
    told_of_control: bool = False
    auto: bool = False
    seen: Seen | None = None  # the last one: what stands above is fixed once it is there

    def __setattr__(self, name: str, value: object) -> None:
        if getattr(self, "seen", None) is not None and name not in MAY_CHANGE:
            raise InputError(
                f"{name} of model {self.name!r:.80} cannot be set once it is loaded, since results "
                f"are named by it; expected it as it is: load or wrap the model again, with {name}"
                "=... where that is an option of it"
            )
        object.__setattr__(self, name, value)

    def check_unchanged(self) -> None:
        """Check that the weights are those that :attr:`identity` names, before they are run.

        Raises:
            InputError: if a weight, its type or its device, or the length limit of the wrapped
                object has changed since the model was loaded or wrapped.
        """
        if self.seen is not None and (what := self.seen.changed()):
            raise InputError(
                f"model {self.name!r:.80}: {what} has changed since it was loaded or wrapped, and "
                "results would be recorded as those of the old weights; expected them as they "
                "were: wrap it again, matchlens.wrap(model, tokenizer) (what was loaded has its "
                "model in .family.module)"
            )

    def __repr__(self) -> str:
        shape = f"{self.family.n_layers} layers of {self.family.n_heads} heads"
        return f"<Reranker {brief(self.name, 80)}: {shape}, {self.dtype} on {self.device}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: escaped and self-contained."""
        return drawing().model_html(self)

    @typed
    def encode(self, pairs: Sequence[Pair]) -> Encoded:
        """Encode pairs as the model takes them, every token labelled with its part.

        Raises:
            InputError: if a pair cannot be encoded; it names the pair by its ids.
        """
        if self.prompt is None:
            encoded = encode(self.tokenizer, pairs, self.max_length, self.pairing)
            self._warn_of_long_queries(pairs, encoded)
        else:
            prompt = self.prompt
            encoded = gathered(pairs, self._prompted(pairs, prompt), self.pairing.last)
            if self.checks and self.serving.chat and not self.chosen:
                self._warn_of_control(check_written(self.tokenizer, self.serving, prompt, pairs))
        known = self.family.module.config.vocab_size
        for pair, ids in zip(pairs, encoded.ids, strict=True):
            if len(ids) and (largest := int(ids.max())) >= known:
                token = self.tokenizer.convert_ids_to_tokens(largest)
                with named(pair):
                    raise InputError(
                        f"a word becomes the token {token!r:.40} (id {largest}), the model's "
                        f"weights know {known} tokens; expected a text without it: leave it out"
                    )
        return encoded

    def _warn_of_long_queries(self, pairs: Sequence[Pair], encoded: Encoded) -> None:
        if self.told_of_long_queries or self.serving.call.get("truncation") == "only_second":
            return
        if note := long_query(encoded, pairs, self.max_length, self.serving.library):
            self.told_of_long_queries = True
            warnings.warn(f"model {self.name!r}: {note}", MatchlensWarning, stacklevel=3)

    def _warn_of_control(self, token: str | None) -> None:
        if token is not None and not self.told_of_control:
            self.told_of_control = True
            warnings.warn(
                f"model {self.name!r}: a query or passage holds {token!r}, which "
                f"{self.serving.library} reads as a control token inside its chat template and "
                "matchlens as text, so that their scores differ",
                MatchlensWarning,
                stacklevel=3,
            )

    @typed
    def spans(self, pair: Pair) -> Spans:
        """The tokens of one pair as :meth:`encode` makes them, with their places in the texts.

        Raises:
            InputError: if the pair cannot be encoded.
        """
        if self.prompt is None:
            return spans(self.tokenizer, pair, self.max_length, self.pairing)
        (row,) = self._prompted([pair], self.prompt)
        return spans_of(self.tokenizer, row)

    def _prompted(self, pairs: Sequence[Pair], prompt: Prompt) -> Iterator[Row]:
        start, most = self.family.start, self.max_length
        return prompted_rows(self.tokenizer, pairs, most, prompt, start, self.pairing)

    @property
    def template(self) -> str:
        """How a pair is encoded, with the tokens that are neither query nor passage.

        >>> load("demo", device="cpu").template
        '[CLS] query [SEP] passage [SEP]'
        """
        spans, shown = self.spans(Pair("check", "check", "a", "a b", 0)), []
        for token, part, end in zip(spans.tokens, spans.parts, spans.ends, strict=True):
            words = {Part.Q: "query", Part.D: "passage"}.get(Part(int(part)), token)
            if part == Part.CLS and end >= 0:  # a decoder's last token, where it is the passage's
                words = "passage"
            if not shown or shown[-1] != words or words == token:
                shown.append(words)
        return " ".join(shown)

    @property
    def notes(self) -> tuple[str, ...]:
        """What every study says of the model."""
        return tuple(filter(None, (self.family.beside, *self.said)))

    @property
    def decodes(self) -> bool:
        """Whether it is an encoder-decoder, whose decoder's row is ``DEC``."""
        return self.family.start is not None

    @property
    def cls_note(self) -> str:
        """What CLS stands for where it is no token of that name; empty where it is one."""
        if self.decodes:
            return "CLS stands for DEC, the decoder's one token, whose state the score reads"
        last = "CLS stands for the input's last token, whose state the score reads"
        return last if self.reads_last else ""

    @property
    def reads_last(self) -> bool:
        """Whether the score reads the last token, which is CLS then."""
        return self.pairing.last

    @property
    def rounded_layers(self) -> list[Any]:
        """The layers whose products are rounded, the weights being float32; else none."""
        if self.dtype != "bfloat16" or self.family.output(0).weight.dtype != torch.float32:
            return []
        return list(self.family.layers)

    @property
    def pad_id(self) -> int:
        """Token id of padding; 0 where the weights do not know the tokenizer's own."""
        token = int(str(self.tokenizer.pad_token_id or 0))
        return token if token < self.family.module.config.vocab_size else 0

    @property
    def batch_tokens(self) -> int:
        """Default budget of a layer call: about what a CPU's caches like, more on a GPU."""
        return 1024 if self.device.type == "cpu" else 32768

    @property
    def batch_overhead(self) -> int | None:
        """How many token rows take as long as starting one more batch; None: calls should be full.

        On a CPU a batch costs Python and small products, for a narrow model more than its rows.
        """
        # 44 rows for MiniLM (384 wide), where 25 to 40 were measured; a row costs as width squared.
        width = self.family.output(0).weight.shape[0]
        return 16 + 2**22 // width**2 if self.device.type == "cpu" else None

    @property
    def score_dtype(self) -> str:
        """NumPy type that scores are kept in."""
        return "float64" if self.dtype == "float64" else "float32"


def reranker_of(
    facts: ModelFacts,
    family: Family,
    tokenizer: PreTrainedTokenizerFast,
    limits: Mapping[str, int],
    identity: Mapping[str, object],
    negate: bool,
) -> Reranker:
    """A model of which a folder or a wrapped object gave the facts, before it is checked."""
    most, source = smallest(limits)
    if (asked := limits.get("--max-length", most)) > most:
        warnings.warn(
            f"model {facts.name!r}: a limit of {asked} tokens (--max-length, or a preset's) has no "
            f"effect: a pair has at most {most} ({source}); leave it out, or give less",
            MatchlensWarning,
            stacklevel=3,
        )
    return Reranker(
        family,
        tokenizer,
        facts.name,
        most,
        str(identity["dtype"]),
        family.output(0).weight.device,
        identity,
        negate=negate,
        prompt=facts.prompt,
        pairing=pairing_of(family, tokenizer, facts.serving),
        serving=facts.serving,
        chosen=facts.chosen,
        limits=limits,
    )


@typed
def load(
    model: str | Path | ModelFolder = "demo",
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str = "float32",
    max_length: int | None = None,
    prompt: Prompt | Path | None = None,
    negate: bool = False,
    label: str | int | None = None,
) -> Reranker:
    """Load a cross-encoder and check that cutting its attention bites.

    Args:
        model: ``demo``, a local folder, or a Hugging Face id (only then is the network used); a
            ``Path`` is always a local folder.
        revision: branch, tag or commit on the hub.
        device: a torch device such as ``cpu`` or ``cuda:0``; CUDA if present where None.
        dtype: ``float32``, ``float64``, ``bfloat16`` or ``float16``; ``auto`` is float32, and
            studies of cuts say what bfloat16 would gain and cost. On a CPU, bfloat16 rounds the
            products of the layers; sums, norms, attention and the head stay in float32.
        max_length: most tokens of a pair; never more than the position table has places for, and
            than the folder's files state.
        prompt: how a decoder is asked, or a JSON file that names what differs from its type's own
            prompt, such as ``{"instruction": "..."}``; the type's own where None.
        negate: take the negated relevance logit for the score (of two labels, z0 - z1), for a
            model whose lower logit means more relevant.
        label: name or number of the label that means relevance, for a classifier with several.
            The score is then the log-odds of that label against the others, or its logit alone
            where the labels are independent (multi-label, regression).

    Raises:
        InputError: if the model cannot be found, is no cross-encoder of a supported type, or
            fails the check.

    Warns:
        MatchlensWarning: if built-in pairs are all the wrong way round, or ``max_length`` has no
            effect.

    >>> reranker = load("demo")
    >>> reranker.family.n_layers, reranker.family.n_heads, reranker.max_length
    (12, 12, 512)
    """
    folder = model if isinstance(model, ModelFolder) else find(model, revision)
    folder = folder.with_prompt(prompt).labelled(label, negate=negate)
    check_length(max_length)
    dtype, auto = check_dtype(dtype), dtype == "auto"
    folder.say_files()
    place = _device(device)
    with quiet_library():
        tokenizer = tokenizer_of(folder.path, folder.name, folder.serving)
        stated = folder.serving.stated(tokenizer, folder.name)
        folder.stated[:] = [stated]
        family_class = class_of_family(folder.model_type)
        if dtype == "float64" and family_class.rounded:
            raise InputError(
                f"--dtype float64: inside {folder.model_type} the library rounds to float32, "
                "whatever the type of the weights; expected float32, which is as exact"
            )
        library = library_of(family_class, folder.classifies)
        if (head := folder.serving.head) is not None:
            check_body(folder.model_type, folder.name)
            library = MODEL_MAPPING[type(folder.config)]
            family_class = modular_family(family_class, head, folder.name)
        rounded = dtype == "bfloat16" and rounds_products(place, folder.weights.numbers)
        kept = torch.float32 if rounded else getattr(torch, dtype)
        module: Any = _module(folder, library, kept)
        if head is not None:
            module = modular(module, head, folder.path, folder.name, kept)
        module = module.to(place)
    folder.check_unchanged()
    if kept == torch.float32 and place.type == "cpu":
        pack(module)
    if place.type == "cuda":
        from matchlens.models.decoder import fuse_norms

        fuse_norms(module)  # here, not in the family: wrap leaves its owner's module as it is
    with refusing(folder.name, "its config cannot be followed"):
        family: Family = family_class(module)
    products = round_products(family.layers) if rounded else 0
    family.label = folder.label
    limits, identity = folder.limits(stated, max_length), folder.identity(dtype, max_length, negate)
    reranker = reranker_of(folder, family, tokenizer, limits, identity, negate)
    reranker.adapted = folder.weights if isinstance(folder.weights, Adapted) else None
    reranker.auto, reranker.device = auto, place
    note = ""
    if rounded and not products:
        note = "none of its layers' products can be rounded to bfloat16: it is run in float32"
    elif rounded and not multiplies_bfloat16():
        note = "this processor has no instructions for bfloat16, which is slower here than float32"
    reranker.said += (note,) if note else ()
    return proved(reranker)


def pairing_of(family: Family, tokenizer: Any, serving: Serving) -> Pairing:
    """How the folder's own library pairs query and passage where no prompt stands around them."""
    prefix, start = "" if serving.chat else serving.prompt, tokenizer.truncation_side == "left"
    last = family.score_rows.start == -1
    # Classifiers on a decoder find the last token by the padding's id.
    pad = family.module.config.pad_token_id if last and family.classifies else None
    return Pairing(prefix, serving.options, start, last, pad, getattr(family, "causal", False))


def proved(
    reranker: Reranker,
    modules: Sequence[nn.Module] = (),
    limit: Callable[[], object] = lambda: None,
) -> Reranker:
    """The reranker, once it has passed the check at load; warns of an order that looks reversed.

    ``modules`` are the owner's, and ``limit`` their owner's limit: a change of them is refused.
    """
    with refusing(reranker.name, "it cannot score two built-in pairs"):
        reranker.told_of_long_queries = True  # the built-in pairs are nobody's queries
        tokens.check_tokenizer(reranker)
        reranker.checks = check.check(reranker)
        reranker.told_of_long_queries = False
    if reranker.prompt is None and reranker.family.label is None and not reranker.negate:
        note = doubt(reranker.family.module.config)
        reranker.said += (note,) if note else ()
    config = reranker.family.module.config
    source = str(reranker.identity.get("prompt_from", ""))
    reranker.said += tuple(
        unsure_texts(config.model_type, reranker.name, source, prompted=reranker.prompt is not None)
    )
    labels = config.id2label
    order = check.reversed_order(reranker.checks, reranker.negate, labels)
    for note in filter(None, (*reranker.said, order)):
        warnings.warn(f"model {reranker.name!r}: {note}", MatchlensWarning, stacklevel=3)
    reranker.seen = Seen.of((reranker.family.module, *modules), limit)
    return reranker


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"device {name!r} cannot be used ({reason}); expected, for example, 'cpu' or 'cuda'"
        ) from None
    return device


def _module(folder: ModelFolder, library: Any, dtype: torch.dtype) -> Any:
    """The library's model, with every weight that it needs and none that it does not know."""
    module, report = assembled(folder, library, dtype)
    mismatched: Any = report.get("mismatched_keys") or ()
    for name, stored, wanted in sorted(mismatched):
        head = "classifier" in name or name.startswith("score.")
        if head and stored[1:] == wanted[1:] and len(wanted) in (1, 2):
            text = labels_differ(wanted[0], stored[0])
            raise InputError(f"model {folder.name!r}: its weights do not fit ({name}): {text}")
    unexpected = {str(key) for key in report.get("unexpected_keys") or ()}
    missing = {str(key) for key in report.get("missing_keys") or ()}
    body, spare, other = leftover(module, unexpected)
    ends, left = f".{min(missing, default='')}", sorted(unexpected.difference(spare))
    wrapper = next((key.removesuffix(ends) for key in left if key.endswith(ends)), "")
    if missing and {f"{wrapper}.{key}" for key in missing} <= unexpected:
        raise InputError(
            f"model {folder.name!r}: the names of its weights begin with '{wrapper[:40]}.', as "
            "where a wrapper around the model was saved; expected the model inside it: save that "
            "(save_pretrained)"
        )
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if wrong := sorted(map(_shown, report.get(what) or ())):
            raise InputError(
                f"model {folder.name!r}: {len(wrong)} weights do not fit ({what}: {few(wrong)}), "
                "so its scores would be random; expected the weights of a fine-tuned cross-encoder"
            )
    if wrong := body + other:
        raise InputError(
            f"model {folder.name!r}: {len(wrong)} of its weights are not used ({few(wrong)}), so "
            "half a model would be studied as a whole; expected the config.json that belongs to "
            "them (more layers, another type), or the model saved without them"
        )
    if spare:
        warnings.warn(
            f"model {folder.name!r}: {counted(len(spare), 'weight')} of a head that does not score "
            f"left out, as the library does ({few(spare)})",
            MatchlensWarning,
            stacklevel=3,
        )
    return module


def assembled(
    folder: ModelFolder, library: Any, dtype: torch.dtype
) -> tuple[Any, Mapping[str, Any]]:
    """The library's model with the folder's weights, and what the library says of them."""
    check_depth(folder.config, folder.weights)
    with refusing(folder.name, "the library cannot make a model of its config.json"):
        with torch.device("meta"):
            skeleton = library(copy.deepcopy(folder.config))
        check_room(skeleton, folder.weights)
    with refusing(folder.name, "cannot load its weights"):
        module, report = library.from_pretrained(
            None,  # the library is handed tensors: it opens nothing of the folder
            config=folder.config,
            state_dict=folder.weights.read(dtype),
            dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # it reports them, and they are refused
        )
    module.config.name_or_path = module.name_or_path = str(folder.path)
    return module.eval().requires_grad_(False), report


def _shown(key: object) -> str:
    """A weight's name, and its shapes where they differ."""
    if not isinstance(key, tuple):
        return str(key)
    name, stored, wanted = key
    return f"{name}: {' x '.join(map(str, stored))} instead of {' x '.join(map(str, wanted))}"
