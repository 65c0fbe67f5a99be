"""Ready objects: the same scores as from a folder, their owner's object left as it was."""

from __future__ import annotations

import numpy as np
import peft
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
)

import matchlens
import tiny as tiny_models
from matchlens import InputError, MatchlensWarning
from matchlens.corpora import choose, demo


@pytest.fixture(scope="module", params=tiny_models.FAMILIES)
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param)
    return tiny_models.save(place, request.param, layers=2, heads=2, seed=3)


def objects(folder, **options):
    model = AutoModelForSequenceClassification.from_pretrained(folder, **options)
    return model, AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def bert(tiny_folder):
    return objects(tiny_folder)


class CrossEncoder:
    """What sentence-transformers' class is and does, as far as anything here asks."""

    def __init__(self, folder, max_length=None, before="", **settings) -> None:
        self.model, self.tokenizer = objects(folder)
        self.max_length, self.before = max_length, before
        vars(self).update(settings)

    def predict(self, texts, show_progress_bar=None, convert_to_numpy=True, activation_fn=None):
        self.model.eval()
        queries = [self.before + query for query, _ in texts]
        fed = self.tokenizer(
            queries,
            [text for _, text in texts],
            padding=True,
            truncation="longest_first",
            max_length=self.max_length,
            return_tensors="pt",
        )
        with torch.inference_mode():
            logits = self.model(**fed).logits
        activation = activation_fn or torch.nn.Sigmoid()
        out = activation(logits)
        return (out[:, 0] if out.shape[1] == 1 else out).numpy()


def test_an_object_scores_as_its_folder_does(folder, tiny_pairs):
    model, tokenizer = objects(folder)
    cuts = ["Q->D", "CLS->All~mask", "D->Q#1.0~mean"]
    wrapped = matchlens.score(matchlens.wrap(model, tokenizer), tiny_pairs, cuts)
    loaded = matchlens.load(folder, device="cpu")
    expected = matchlens.score(loaded, tiny_pairs, cuts)
    np.testing.assert_allclose(wrapped.to_numpy(), expected.to_numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda ce, _: ce.model.load_state_dict(ce.model.state_dict()), "its weight"),
        (lambda ce, _: ce.model.half(), "its weight"),
        (lambda ce, other: ce.model.load_state_dict(other.state_dict(), assign=True), "its weight"),
        (lambda ce, _: ce.model.classifier.weight.data.mul_(2), "a weight"),
        (lambda ce, _: vars(ce).update(max_length=20), "max_length, which was 24 and is 20,"),
    ],
)
def test_what_changes_after_it_was_wrapped_is_refused(tiny_folder, tiny_pairs, change, what):
    """Else every manifest of a loop over checkpoints would name the first one's weights."""
    owner = CrossEncoder(tiny_folder, max_length=24)
    mine = matchlens.wrap(owner)
    matchlens.score(mine, tiny_pairs[:2], ["Q->D"])
    matchlens.explain(mine, "cat sat", ["the dog ran", "a cat"], points=1, swap=False)
    mine.check_unchanged()
    change(owner, objects(tiny_folder)[0])
    for run in (
        lambda: matchlens.score(mine, tiny_pairs[:2]),
        lambda: matchlens.runners.ShardedRunner()(mine, tiny_pairs[:2], {"": []}),
        lambda: matchlens.explain(mine, "cat sat", ["the dog ran", "a cat"], points=1),
    ):
        with pytest.raises(InputError, match=f"{what}.* has changed since .*: wrap it again"):
            run()
    assert len(matchlens.score(matchlens.wrap(owner), tiny_pairs[:2])) == 2


@pytest.mark.parametrize("mode", [True, False])
def test_the_owner_s_object_is_left_as_it_was(folder, tiny_pairs, mode):
    model, tokenizer = objects(folder, attn_implementation="eager")
    next(model.parameters()).requires_grad_(False)
    model.train(mode)
    before = {
        name: (value.data_ptr(), value.requires_grad) for name, value in model.named_parameters()
    }
    config, state = model.config.to_dict(), vars(model).keys()
    fed = tokenizer("cat sat", "dog ran", return_tensors="pt")
    tokenizer.backend_tokenizer.enable_truncation(9)
    wrapped = matchlens.wrap(model, tokenizer)
    matchlens.score(wrapped, tiny_pairs[:4], ["Q->D"])
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 9
    assert all(module.training is mode for module in model.modules())
    assert model.config.to_dict() == config
    assert model.config._attn_implementation == "eager"
    assert vars(model).keys() == state
    assert before == {
        name: (value.data_ptr(), value.requires_grad) for name, value in model.named_parameters()
    }
    own = {value.data_ptr() for value in wrapped.family.module.parameters()}
    assert own == {pointer for pointer, _ in before.values()}  # no second copy of the weights
    assert not any(module.training for module in wrapped.family.module.modules())
    out = model(**fed, output_attentions=True)
    assert len(out.attentions) == 2
    assert out.attentions[0].shape[1] == 2
    out.logits.sum().backward()
    assert any(value.grad is not None for value in model.parameters())


def test_the_digest_hangs_on_what_is_computed_and_on_nothing_else(tiny_folder, bert, tmp_path):
    def sha(model, tokenizer, **options):
        return matchlens.wrap(model, tokenizer, **options).identity["sha256"]

    model, tokenizer = bert
    first = sha(model, tokenizer)
    assert first == sha(*objects(tiny_folder), name="another", max_length=20)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert first == sha(*objects(tmp_path))
    with torch.no_grad():
        model.classifier.bias[0] += 1e-6
    second = sha(model, tokenizer)
    model.config.layer_norm_eps *= 2
    third = sha(model, tokenizer)
    tokenizer.add_tokens(["walrus"])
    with pytest.warns(MatchlensWarning, match="1 added tokens that its weights do not know"):
        fourth = sha(model, tokenizer)
    model, tokenizer = objects(tiny_folder)
    tokenizer.backend_tokenizer.normalizer = None
    assert len({first, second, third, fourth, sha(model, tokenizer)}) == 5


def test_its_name_and_limit(bert, tiny_folder, tmp_path):
    model, tokenizer = bert
    assert matchlens.wrap(model, tokenizer).name == tiny_folder.name
    wrapped = matchlens.wrap(model, tokenizer, name="mine", max_length=12)
    assert wrapped.identity == {
        **wrapped.identity,
        **{"name": "mine", "max_length": 12, "type": "bert", "dtype": "float32", "revision": None},
        "object": "BertForSequenceClassification",
    }
    tokenizer.model_max_length = 30
    assert matchlens.wrap(model, tokenizer).max_length == 30
    assert tiny_models.model(heads=2).name_or_path == ""
    bare = matchlens.wrap(tiny_models.model(heads=2), tokenizer)
    assert bare.name == "BertForSequenceClassification"
    pairs = choose(demo.load(), queries=2)
    matchlens.ablation(bare, pairs, cuts=["Q->D"]).save(tmp_path / "out")
    back = matchlens.Result.load(tmp_path / "out", "ablation")
    assert back.identity["model"] == dict(bare.identity)


# --- CrossEncoders


@pytest.mark.parametrize("labels", [1, 2])
def test_a_cross_encoder_s_logits(labels, tmp_path, tiny_pairs):
    owner = CrossEncoder(tiny_models.save(tmp_path, labels=labels))
    owner.model.train()
    wrapped = matchlens.wrap(owner)
    assert owner.model.training
    assert owner.model.classifier.training
    texts = [[pair.query, pair.text] for pair in tiny_pairs]
    said = owner.predict(texts, activation_fn=torch.nn.Identity())
    logits = said if labels == 1 else said[:, 1] - said[:, 0]
    got = matchlens.score(wrapped, tiny_pairs)[""].to_numpy()
    np.testing.assert_allclose(got, logits, atol=1e-5)
    if labels == 1:
        np.testing.assert_allclose(1 / (1 + np.exp(-got)), owner.predict(texts), atol=1e-5)
    assert wrapped.checks["predict"]["seen"] < 1e-5
    assert wrapped.identity["object"] == "CrossEncoder"


def test_a_cross_encoder_s_own_limit(tiny_folder):
    assert matchlens.wrap(CrossEncoder(tiny_folder, max_length=40)).max_length == 40
    assert matchlens.wrap(CrossEncoder(tiny_folder, max_length=40), max_length=35).max_length == 35
    assert matchlens.wrap(CrossEncoder(tiny_folder, max_seq_length=50)).max_length == 50
    assert matchlens.wrap(CrossEncoder(tiny_folder)).max_length == 64


def test_the_older_name_of_the_activation(tiny_folder):
    class Older(CrossEncoder):
        def predict(
            self, texts, show_progress_bar=None, activation_fct=None, convert_to_numpy=True
        ):
            return super().predict(texts, activation_fn=activation_fct)

    assert matchlens.wrap(Older(tiny_folder)).identity["object"] == "Older"


def test_prompts_and_templates_are_not_passed_over(tiny_folder):
    told = {"prompts": {"q": "find: ", "none": ""}}
    asked = CrossEncoder(tiny_folder, default_prompt_name="q", before="find: ", **told)
    assert matchlens.wrap(asked).identity["query_prompt"] == "find: "
    with pytest.raises(InputError, match="it does something beside them"):
        matchlens.wrap(CrossEncoder(tiny_folder, default_prompt_name="q", **told))
    for name in ("none", None):
        matchlens.wrap(CrossEncoder(tiny_folder, default_prompt_name=name, **told))
    with pytest.raises(InputError, match=r"predict gives .* alone give .* it does something"):
        matchlens.wrap(CrossEncoder(tiny_folder, before="find "))

    class Broken(CrossEncoder):
        def predict(self, *_, **__):
            raise KeyError("no such\nthing")

    with pytest.raises(InputError, match="Broken's predict fails on two built-in pairs: 'no such"):
        matchlens.wrap(Broken(tiny_folder))

    class Wide(CrossEncoder):
        def predict(self, texts, **_):
            return np.zeros((len(texts), 3))

    with pytest.raises(InputError, match="it does something beside them"):
        matchlens.wrap(Wide(tiny_folder))


def test_sentence_transformers_itself(tiny_folder, tiny_pairs):
    library = pytest.importorskip("sentence_transformers", reason="it is no dependency")
    owner = library.CrossEncoder(str(tiny_folder), device="cpu")
    got = matchlens.score(matchlens.wrap(owner), tiny_pairs)[""].to_numpy()
    texts = [[pair.query, pair.text] for pair in tiny_pairs]
    said = owner.predict(texts, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    np.testing.assert_allclose(got, said, atol=1e-5)


# --- refusals


class SlowTokenizer:
    is_fast = False


def hooked(model):
    """A model that somebody steers or watches."""
    model.bert.encoder.layer[1].register_forward_hook(lambda module, args, out: out)
    return model


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda model, own: ("demo", None), "cannot wrap a str; .* goes to matchlens.load"),
        (lambda model, own: (model.bert, own), "is a BertModel|is no sequence classifier"),
        (lambda model, own: (torch.nn.Linear(2, 2), own), "cannot wrap a Linear"),
        (lambda model, own: (model, None), "came without a tokenizer"),
        (lambda model, own: (model, SlowTokenizer()), "has a slow tokenizer"),
        (
            lambda model, own: (BertForTokenClassification(model.config), own),
            "is a BertForTokenClass",
        ),
        (lambda model, own: (tiny_models.model(labels=3), own), "has 3 labels"),
        (
            lambda model, own: (GPT2ForSequenceClassification(GPT2Config(n_layer=1)), own),
            "is of type 'gpt2'",
        ),
        (lambda model, own: (model.to("meta"), own), "lies on meta; expected one device"),
        (lambda model, own: (hooked(model), own), "has a forward hook at 'bert.encoder.layer.1'"),
    ],
)
def test_what_cannot_be_wrapped(bert, change, says):
    with pytest.raises(InputError, match=says):
        matchlens.wrap(*change(*bert))


def test_weights_of_two_types_or_of_none(bert):
    model, tokenizer = bert
    model.classifier.double()
    with pytest.raises(InputError, match="weights of type float32, float64; expected all of one"):
        matchlens.wrap(model, tokenizer)


def test_an_adapter_is_to_be_merged_first(bert):
    model, tokenizer = bert
    model.bert.encoder.layer[0].attention.self.query.adapter = torch.nn.Linear(32, 2)
    with pytest.raises(InputError, match=r"has other weights than a plain .*merge an adapter"):
        matchlens.wrap(model, tokenizer)


def adapted(model):
    """The model with a LoRA adapter that changes its scores."""
    torch.manual_seed(0)
    about = {"r": 2, "target_modules": ["query"], "init_lora_weights": False}
    return peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", **about))


@pytest.mark.parametrize("wrapper", [adapted, torch.compile, torch.nn.DataParallel])
def test_a_wrapper_is_refused_and_the_model_inside_is_taken(bert, wrapper):
    """What the message says to give is wrapped, and scores as the wrapper does."""
    outer, tokenizer = wrapper(bert[0]), bert[1]
    with pytest.raises(InputError, match="itself a wrapper") as refused:
        matchlens.wrap(outer, tokenizer)
    pair = tiny_models.pairs(1, 0)[0]
    fed = tokenizer(pair.query, pair.text, return_tensors="pt")
    eager = outer if wrapper is not torch.compile else bert[0]  # compiling would take a minute
    expected = eager.eval()(**fed).logits.item()
    inner = eval(str(refused.value).partition("give ")[2], {}, {"model": outer})
    scores = matchlens.score(matchlens.wrap(inner, tokenizer), [pair])
    assert scores[""].item() == pytest.approx(expected, abs=1e-5)


def test_a_forward_that_is_not_the_model_s_is_refused(bert):
    """What the walk does not see, the check at load does: here scores out of a cache."""
    model, tokenizer = bert
    real = model.forward

    def cached(*args, **kwargs):
        out = real(*args, **kwargs)
        out.logits = torch.zeros_like(out.logits)
        return out

    model.forward = cached
    with pytest.raises(InputError, match="scores without a cut differ from the library's own"):
        matchlens.wrap(model, tokenizer)


def test_a_cross_encoder_brings_its_tokenizer(tiny_folder, bert):
    with pytest.raises(InputError, match="brings its own tokenizer"):
        matchlens.wrap(CrossEncoder(tiny_folder), bert[1])
