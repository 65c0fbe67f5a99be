"""CrossEncoders in modules: every pooling, head and prompt scores as sentence-transformers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from transformers import AutoModel, T5EncoderModel

import matchlens
import tiny
import tiny_decoders
import tiny_t5
from matchlens import InputError, Pair
from matchlens.models.check import CheckError
from matchlens.models.checks import tokens
from test_cli import call

TEXTS = [
    ("cat sat", "sun rain cold"),
    (" Warm tea? ", " a ship of TEA and more "),
    ("dog ran", " ".join(tiny.WORDS * 12)),
]
PAIRS = [Pair(f"q{n}", f"d{n}", query, text, 0) for n, (query, text) in enumerate(TEXTS)]
WIDE = 32


def head(activation: torch.nn.Module, *, deep: bool = True) -> list[torch.nn.Module]:
    """The modules behind the pooling, as ettin-reranker has them, or one Dense alone."""
    torch.manual_seed(3)
    last = Dense(WIDE, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
    if not deep:
        return [last]
    norm = LayerNorm(WIDE)
    torch.nn.init.normal_(norm.norm.weight, mean=1.0, std=0.3)
    torch.nn.init.normal_(norm.norm.bias, std=0.3)
    return [Dense(WIDE, WIDE, bias=False, activation_function=activation), norm, last]


def served(
    tmp_path: Path, family="modernbert", pooling="cls", modules=None, template="", **about
) -> Path:
    """A tiny body with modules behind it, saved by sentence-transformers."""
    makes = tiny_decoders if family in tiny_decoders.FAMILIES else tiny
    plain = makes.save(tmp_path / "plain", family, labels=1, seed=4, **about.pop("config", {}))
    body = AutoModel.from_pretrained(plain)
    body.save_pretrained(tmp_path / "body")
    makes.tokenizer(family).save_pretrained(tmp_path / "body")
    if template:
        (tmp_path / "body/chat_template.jinja").write_text(template)
    first = Transformer(str(tmp_path / "body"), transformer_task="feature-extraction")
    rest = head(torch.nn.GELU()) if modules is None else modules
    encoder = CrossEncoder(modules=[first, Pooling(WIDE, pooling), *rest], device="cpu", **about)
    encoder.save_pretrained(str(tmp_path / "served"))
    return tmp_path / "served"


def predicted(folder: Path, texts=TEXTS) -> np.ndarray:
    encoder = CrossEncoder(str(folder), device="cpu")
    return encoder.predict(texts, activation_fn=torch.nn.Identity(), show_progress_bar=False)


def exact(folder: Path, pairs=PAIRS) -> matchlens.models.load.Reranker:
    expected = predicted(folder, [(pair.query, pair.text) for pair in pairs])
    assert np.ptp(expected) > 1e-3
    model = matchlens.load(folder, device="cpu")
    found = matchlens.score(model, pairs)[""]
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))
    owner = CrossEncoder(str(folder), device="cpu")
    wrapped = matchlens.wrap(owner)
    np.testing.assert_allclose(matchlens.score(wrapped, pairs)[""], found, atol=1e-5)
    again = owner.predict(
        [(pair.query, pair.text) for pair in pairs],
        activation_fn=torch.nn.Identity(),
        show_progress_bar=False,
    )
    np.testing.assert_allclose(again, expected, atol=1e-6)  # the owner's object is as it was
    return model


SHAPES = list(itertools.product(("cls", "mean", "lasttoken"), (True, False), ("", "find: ")))
QUICK_SHAPES = [("cls", True, ""), ("mean", False, "find: "), ("lasttoken", True, "find: ")]


@pytest.mark.parametrize(
    ("pooling", "deep", "prompt"),
    [pytest.param(*one, marks=() if one in QUICK_SHAPES else pytest.mark.slow) for one in SHAPES],
)
def test_scores_are_predict_s(tmp_path, pooling, deep, prompt):
    about = {"prompts": {"web": prompt}, "default_prompt_name": "web"} if prompt else {}
    modules = head(torch.nn.GELU(), deep=deep)
    model = exact(served(tmp_path, pooling=pooling, modules=modules, **about))
    assert model.encode(PAIRS).truncated.tolist() == [False, False, True]
    table = matchlens.score(model, PAIRS, ("D->Q", "Q->D~mask"))
    assert np.abs(table["D->Q"] - table[""]).max() > 1e-5


@pytest.mark.parametrize(
    ("family", "saved", "target"),
    [("modernbert", "ForMaskedLM", "Wqkv"), ("bert", "ForPreTraining", "query")],
)
def test_an_adapter_of_a_base_with_a_head_of_its_pretraining(tmp_path, family, saved, target):
    """The modules stand behind a body, and nothing of that head is used."""
    folder = served(tmp_path, family)
    body = AutoModel.from_pretrained(tmp_path / "body")
    whole = getattr(transformers, type(body).__name__.removesuffix("Model") + saved)
    torch.manual_seed(7)
    tiny.put(tmp_path / "base", whole(body.config), tiny.tokenizer(family))
    tuned = peft.get_peft_model(
        AutoModel.from_pretrained(tmp_path / "base"), peft.LoraConfig(r=2, target_modules=[target])
    )
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    tuned.save_pretrained(folder)
    for file in ("model.safetensors", "config.json"):
        (folder / file).unlink()
    expected = predicted(folder)
    with pytest.warns(matchlens.MatchlensWarning, match="of a head that does not score left out"):
        model = matchlens.load(folder, device="cpu")
    assert model.checks["adapter"]["ok"]
    np.testing.assert_allclose(matchlens.score(model, PAIRS)[""], expected, atol=1e-4)


@pytest.mark.parametrize("activation", [torch.nn.Tanh(), torch.nn.SiLU(), torch.nn.Identity()])
def test_every_activation_of_torch_s(tmp_path, activation):
    exact(served(tmp_path, modules=head(activation)))


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["", "find: "], ids=["plain", "prompt"])
@pytest.mark.parametrize("activation", ["Tanh", "SiLU", "Identity", "ReLU", "Sigmoid", "Softplus"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "lasttoken"])
def test_every_pooling_with_every_activation_and_prompt(tmp_path, pooling, activation, prompt):
    about = {"prompts": {"web": prompt}, "default_prompt_name": "web"} if prompt else {}
    modules = head(getattr(torch.nn, activation)())
    exact(served(tmp_path, pooling=pooling, modules=modules, **about))


def test_a_residual_dense(tmp_path):
    torch.manual_seed(1)
    last = head(torch.nn.GELU(), deep=False)
    exact(served(tmp_path, modules=[Dense(WIDE, WIDE, use_residual=True), *last]))


def test_the_mean_of_a_chat_template_s_rows(tmp_path, monkeypatch):
    """No row is the score's alone, and no answer is read, whatever the tokenizer makes of one."""
    monkeypatch.setattr(tokens, "answer", None)
    template = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}Relevant:"
    model = exact(served(tmp_path, "qwen3", "mean", template=template))
    assert model.prompt is not None
    assert not model.reads_last
    assert model.cls_note == ""
    assert not (model.encode(PAIRS).parts[0] == matchlens.Part.CLS).any()


def legacy(folder: Path) -> None:
    modes = ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    about = {"word_embedding_dimension": WIDE, **{f"pooling_mode_{mode}": False for mode in modes}}
    (folder / "1_Pooling/config.json").write_text(json.dumps(about))


def without_prompt(folder: Path) -> None:
    edited(folder, "1_Pooling/config.json", include_prompt=False)


@pytest.mark.parametrize("change", [legacy, without_prompt])
def test_settings_that_change_nothing_are_followed(tmp_path, change):
    folder = served(tmp_path, pooling="mean")
    before = predicted(folder)
    change(folder)
    exact(folder)
    np.testing.assert_array_equal(predicted(folder), before)


def test_a_prompt_that_is_left_out_of_the_mean_is_refused(tmp_path):
    folder = served(tmp_path, prompts={"web": "find: "}, default_prompt_name="web")
    without_prompt(folder)
    for use in (matchlens.load, lambda where: matchlens.wrap(CrossEncoder(str(where)))):
        with pytest.raises(InputError, match=r"'include_prompt' in .* expected true"):
            use(folder)


def test_pickled_weights_of_modules(tmp_path, monkeypatch):
    monkeypatch.setenv("MATCHLENS_CACHE", str(tmp_path / "cache"))
    folder = served(tmp_path)
    for inner in ("2_Dense", "3_LayerNorm"):
        file = folder / inner / "model.safetensors"
        torch.save(load_file(file), file.with_name("pytorch_model.bin"))
        file.unlink()
    with pytest.warns(matchlens.MatchlensWarning, match="weights of 2_Dense from pytorch_model"):
        exact(folder)
    (folder / "2_Dense/pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="2_Dense' has no weights that can be read"):
        matchlens.load(folder, device="cpu")


BIDIRECTIONAL = {"is_causal": False}
QUICK = [("bert", "mean", {}), ("qwen3", "lasttoken", {}), ("llama", "mean", BIDIRECTIONAL)]
BODIES = [
    *((family, pooling, {}) for family in tiny.FAMILIES for pooling in ("cls", "mean")),
    *((family, how, {}) for family in tiny_decoders.FAMILIES for how in ("mean", "lasttoken")),
    *((family, "cls", BIDIRECTIONAL) for family in ("llama", "mistral")),
    *((family, "mean", BIDIRECTIONAL) for family in ("llama", "mistral", "qwen2", "qwen3")),
]


@pytest.mark.parametrize(
    ("family", "pooling", "config"),
    [pytest.param(*one, marks=() if one in QUICK else pytest.mark.slow) for one in BODIES],
)
def test_every_body(tmp_path, family, pooling, config):
    exact(served(tmp_path, family, pooling, config=config), PAIRS[:2])


def test_the_check_and_a_study_through_the_command_line(tmp_path):
    folder = served(tmp_path)
    assert call("check", "--model", folder, "--device", "cpu").status == 0


# --- saboteurs and refusals


def test_another_pooling_is_caught(tmp_path, monkeypatch):
    """The walk pools what the folder does not."""
    from matchlens.models import load, modules
    from matchlens.models.serving import Head

    folder, real = served(tmp_path, pooling="mean"), modules.modular_family
    monkeypatch.setattr(
        load, "modular_family", lambda kind, own, name: real(kind, Head("cls", own.behind), name)
    )
    with pytest.raises(CheckError, match="differ from the library's own"):
        matchlens.load(folder, device="cpu")


def edited(folder: Path, file: str, **change) -> Path:
    about = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**about, **change}))
    return folder


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        *(
            ("1_Pooling/config.json", {"pooling_mode": mode}, "pooling_mode.*cls, mean, lasttoken")
            for mode in ("max", "mean_sqrt_len_tokens", "weightedmean", ["cls", "mean"])
        ),
        (
            "sentence_bert_config.json",
            {"modality_config": {"text": {"method_output_name": ["hidden_states", 1]}}},
            "'method_output_name' in text in modality_config .*'last_hidden_state'",
        ),
        ("2_Dense/config.json", {"out_features": 31}, "weights in 2_Dense do not fit"),
        ("2_Dense/config.json", {"in_features": "x"}, "in_features.*a whole number above 0"),
        ("2_Dense/config.json", {"activation_function": "os.system"}, "expected one of torch's"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.Bilinear"}, "cannot be made"),
        ("2_Dense/config.json", {"more": 1}, "'more' in 2_Dense/config.json"),
        ("4_Dense/config.json", {"module_output_name": None}, "no module .* writes scores"),
    ],
)
def test_what_modules_cannot_do_is_refused(tmp_path, file, change, says):
    with pytest.raises(InputError, match=says):
        matchlens.load(edited(served(tmp_path), file, **change), device="cpu")


def test_a_module_of_another_package_goes_by_its_whole_name(tmp_path):
    folder = served(tmp_path)
    listed = json.loads((folder / "modules.json").read_text())
    listed[2]["type"] = "elsewhere.Dense"
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(InputError, match=r"elsewhere\.Dense"):
        matchlens.load(folder, device="cpu")


def test_an_encoder_with_position_embeddings_has_no_last_row(tmp_path):
    with pytest.raises(InputError, match="last token of an encoder with position embeddings"):
        matchlens.load(served(tmp_path, "bert", "lasttoken"), device="cpu")


def test_the_encoder_of_a_t5_is_refused_by_its_name(tmp_path):
    tiny_t5.save(tmp_path / "plain")
    body = T5EncoderModel.from_pretrained(tmp_path / "plain")
    body.save_pretrained(tmp_path / "body")
    tiny_t5.tokenizer().save_pretrained(tmp_path / "body")
    first = Transformer(str(tmp_path / "body"), transformer_task="feature-extraction")
    modules = [first, Pooling(WIDE, "mean"), *head(torch.nn.GELU())]
    encoder = CrossEncoder(modules=modules, device="cpu")
    encoder.save_pretrained(str(tmp_path / "served"))
    for use in (matchlens.wrap, lambda _: matchlens.load(tmp_path / "served", device="cpu")):
        with pytest.raises(InputError, match="its Transformer is the encoder of a t5"):
            use(encoder)


def test_other_weights_of_a_module_are_another_digest(tmp_path):
    folder = served(tmp_path)
    before = matchlens.models.folder.find(folder).sha256
    raw = bytearray((folder / "2_Dense/model.safetensors").read_bytes())
    raw[-1] ^= 1
    (folder / "2_Dense/model.safetensors").write_bytes(raw)
    assert matchlens.models.folder.find(folder).sha256 != before
