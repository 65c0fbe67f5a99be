"""Models that are broken as real ones are: each loads, scores, and is refused by the check."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import AttentionInterface
from transformers.models.bert.modeling_bert import BertSelfAttention

import matchlens
import tiny as tiny_models
from matchlens import InputError
from matchlens.models import attend
from matchlens.models.bert import Bert
from matchlens.models.check import CheckError
from matchlens.models.checks.item import WHAT
from matchlens.models.family import ATTENTION
from matchlens.models.load import Reranker
from matchlens.models.part_layout import PartLayout

LAYERS, HEADS = 3, 4
OTHER_ORDER = [2, 0, 3, 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.save(tmp_path_factory.mktemp("model"), layers=LAYERS, heads=HEADS, seed=5)


def attention_of_its_own(monkeypatch):
    """The module computes its attention itself, as code does that knows no attention interface."""

    def forward(self, hidden_states, attention_mask=None, **kwargs):
        shape = (*hidden_states.shape[:-1], self.num_attention_heads, self.attention_head_size)
        linears = (self.query, self.key, self.value)
        query, key, value = (one(hidden_states).view(shape).transpose(1, 2) for one in linears)
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask
        )
        return out.transpose(1, 2).flatten(2), None

    monkeypatch.setattr(BertSelfAttention, "forward", forward)


def registered(monkeypatch, function):
    """Another function under the name of ours."""
    monkeypatch.setitem(AttentionInterface._global_mapping, ATTENTION, function)


def heads_in_another_order(monkeypatch):
    """The function takes the heads in another order and gives them back in theirs: the scores are
    right, and every head goes by another head's number."""

    def function(module, query, key, value, mask, **kwargs):
        moved = (one[:, OTHER_ORDER] for one in (query, key, value))
        call = kwargs.pop("matchlens", None)
        if call is not None and call.memory is not None:
            call = replace(call, memory=tuple(one[:, OTHER_ORDER] for one in call.memory))
        if call is not None and call.asking is not None:
            call = replace(call, asking=call.asking[:, OTHER_ORDER])
        out, nothing = attend.attend(module, *moved, mask, matchlens=call, **kwargs)
        back = torch.empty_like(out)
        back[:, :, OTHER_ORDER] = out
        return back, nothing

    registered(monkeypatch, function)


def slices_in_another_order(monkeypatch):
    """W_O is cut into slices by the wrong axis: each head has another's, or a bit of each."""
    real = Bert.output_weight
    monkeypatch.setattr(Bert, "output_weight", lambda self, index: real(self, index)[OTHER_ORDER])


def cut_heads_in_another_order(monkeypatch):
    """The table of what is cut numbers the heads from the last to the first."""
    real = PartLayout._spread_tables

    def spread(self, tables, rows):
        return real(self, [table[::-1] for table in tables], rows)

    monkeypatch.setattr(PartLayout, "_spread_tables", spread)


def mask_on_the_other_axis(monkeypatch):
    """Rows are taken for columns where edges are cut."""
    real = PartLayout._spread_tables

    def spread(self, tables, rows):
        return real(self, [table.swapaxes(-1, -2) for table in tables], rows)

    monkeypatch.setattr(PartLayout, "_spread_tables", spread)


def padding_is_read(monkeypatch):
    """Nothing keeps attention off the padding."""
    real = PartLayout.__post_init__

    def forgetful(self):
        real(self)
        self.padding = None

    monkeypatch.setattr(PartLayout, "__post_init__", forgetful)


def token_types_dropped(monkeypatch):
    """Neither the library nor we feed them: both agree, on a model that nobody trained."""
    monkeypatch.setattr(Bert, "inputs", lambda self, batch: {"input_ids": batch.input_ids})


def token_types_denied(monkeypatch):
    """The family says that it knows none."""
    monkeypatch.setattr(Bert, "token_types", 0)


def token_types_dropped_by_us(monkeypatch):
    """The library is fed them, our way through the layers is not."""
    monkeypatch.setattr(
        Bert, "embed", lambda self, batch: self.body.embeddings(input_ids=batch.input_ids)
    )


def cached_scores(monkeypatch):
    """Scores are kept by the shape of what is scored."""
    kept, real = {}, Bert.score

    def score(self, states, parts):
        return kept.setdefault(tuple(states.shape), real(self, states, parts))

    monkeypatch.setattr(Bert, "score", score)


def cached_library(monkeypatch):
    """The library's scores are kept, and ours are taken for them."""
    real = Bert.library_score
    kept = {}

    def library_score(self, batch):
        key = tuple(batch.input_ids.flatten().tolist())
        if key not in kept:
            kept[key] = real(self, batch)
        return kept[key]

    monkeypatch.setattr(Bert, "library_score", library_score)


def one_layer_skipped(monkeypatch):
    """The walk passes a layer by."""
    real = Bert.layer

    def layer(self, index, states, call):
        return states if index == 1 else real(self, index, states, call)

    monkeypatch.setattr(Bert, "layer", layer)


def last_layer_forgotten(monkeypatch):
    """The family thinks that the model has a layer less."""
    real = Bert.__init__

    def init(self, module):
        real(self, module)
        self.n_layers -= 1

    monkeypatch.setattr(Bert, "__init__", init)


def one_layer_twice(monkeypatch):
    """The walk takes a layer in another's place."""
    real = Bert.layer
    monkeypatch.setattr(
        Bert, "layer", lambda self, index, states, call: real(self, index % 2, states, call)
    )


def logits_scaled_by_another_width(monkeypatch):
    """The function divides by the root of the model's width, not of the head's."""

    def function(module, query, key, value, mask, scaling=None, **kwargs):
        wrong = (query.shape[-1] * query.shape[1]) ** -0.5
        return attend.attend(module, query, key, value, mask, scaling=wrong, **kwargs)

    registered(monkeypatch, function)


SABOTEURS: list[tuple[Callable, set[str], str]] = [
    (
        attention_of_its_own,
        {"attention_calls", "maps", "maps_measured", "blind", "one_cut"},
        r"the attention function was called 0 times in 3 layers",
    ),
    (
        heads_in_another_order,
        {"maps", "maps_measured"},
        r"head \d\.\d attends otherwise than the library's by \d.*: as the library's head \d\.\d",
    ),
    (
        slices_in_another_order,
        {"head_output"},
        r"with head 1\.\d cut in layer 1, what its attention writes changes otherwise than by what "
        r"was cut: off by \d",
    ),
    (
        cut_heads_in_another_order,
        {"head_output"},
        r"with head 1\.(\d) cut in layer 1, .* as if head 1\.(?!\1)\d had been cut",
    ),
    (
        mask_on_the_other_axis,
        {"direction_output", "blind", "one_cut"},
        r"with [DQ]->[DQ] cut in layer 0, what its attention writes changes otherwise than by "
        r".*with CLS->All cut, two different pairs still differ by \d",
    ),
    (
        padding_is_read,
        {"scores_together", "maps", "maps_measured"},
        r"differ from the library's own by \d\S* logits with padding.*"
        r"head \d\.\d attends otherwise than the library's by \d\S*, with \d\S* of a row on padd",
    ),
    (
        token_types_dropped,
        {"token_types_felt"},
        r"flipping the passage's token types changes no score: they are not fed to the model",
    ),
    (
        token_types_denied,
        {"token_types_felt"},
        r"the model has 2 token types and is fed none",
    ),
    (
        token_types_dropped_by_us,
        {"scores_together", "scores_alone", "maps", "token_types_felt"},
        r"scores without a cut differ from the library's own by \d",
    ),
    (
        cached_scores,
        {"order", "blind", "one_cut", "token_types_felt"},
        r"in a batch turned round the same pairs score otherwise by \d.*: a score does not belong",
    ),
    (
        cached_library,
        {"token_types"},
        r"with the passage's token types flipped, scores differ from the library's by \d",
    ),
    (
        one_layer_skipped,
        {"attention_calls", "attention_shapes", "scores_together", "maps", "maps_measured"},
        r"differ from the library's own.*called 2 times in 3 layers.*"
        r"the attention of 2 layers was seen, the library shows that of 3",
    ),
    (
        last_layer_forgotten,
        {"scores_together", "maps", "maps_measured"},
        r"differ from the library's own.*the attention of 2 layers was seen, the library .* of 3",
    ),
    (
        one_layer_twice,
        {"scores_together", "maps", "maps_measured"},
        r"differ from the library's own.*head 2\.\d attends otherwise than the library's by",
    ),
    (
        logits_scaled_by_another_width,
        {"scores_together", "scores_alone", "maps", "maps_measured"},
        r"differ from the library's own.*head 0\.\d attends otherwise than the library's by",
    ),
]


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("sabotage", "caught", "says"), SABOTEURS, ids=[one[0].__name__ for one in SABOTEURS]
)
def test_a_saboteur_is_caught(sabotage, caught, says, dtype, folder, monkeypatch):
    sabotage(monkeypatch)
    with pytest.raises(CheckError) as refused:
        matchlens.load(folder, dtype=dtype, device="cpu")
    message = str(refused.value)
    assert re.search(says, message), message
    assert re.match(r"model '.*' fails the check at load: .*it is refused \(all .*\)$", message)
    assert isinstance(refused.value, InputError)
    assert "\n" not in message
    wrong = {name for name, one in refused.value.checks.items() if not one["ok"]}
    assert caught <= wrong, wrong


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("sabotage", "caught"),
    [
        (attention_of_its_own, "attention_calls"),
        (heads_in_another_order, "maps"),
        (slices_in_another_order, "head_output"),
        (mask_on_the_other_axis, "direction_output"),
        (one_layer_skipped, "maps"),
        (token_types_dropped, "token_types_felt"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_half_precision_hides_no_saboteur(sabotage, caught, dtype, folder, monkeypatch):
    sabotage(monkeypatch)
    with pytest.raises(CheckError) as refused:
        matchlens.load(folder, dtype=dtype, device="cpu")
    assert not refused.value.checks[caught]["ok"]


def test_scores_alone_do_not_tell(folder, monkeypatch):
    """The heads' order is seen in the maps and nowhere else: every score is right."""
    heads_in_another_order(monkeypatch)
    with pytest.raises(CheckError) as refused:
        matchlens.load(folder, device="cpu")
    checks = refused.value.checks
    for name in ("scores_together", "scores_alone", "order", "attention_calls", "blind", "one_cut"):
        assert checks[name]["ok"], name


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_a_healthy_model_passes(dtype, folder):
    model = matchlens.load(folder, dtype=dtype, device="cpu")
    assert isinstance(model, Reranker)
    others = ("predict", "prompt", "answers", "adapter")  # of objects, decoders and adapters
    assert list(model.checks) == [name for name in WHAT if name not in others]
    for name, one in model.checks.items():
        assert one["ok"], name
        assert one["what"] == WHAT[name]
        if name == "relevant_above":  # those pairs have more than 64 tokens for this tokenizer
            assert (one["seen"], one["expected"]) == (None, "")
            continue
        assert isinstance(one["seen"], int | float), name
        assert math.isfinite(one["seen"])
        assert one["expected"] or name == "marked"


def test_the_check_leaves_the_model_as_it_was(folder):
    model = matchlens.load(folder, device="cpu")
    module = model.family.module
    assert module.config._attn_implementation == ATTENTION
    hooks = [
        hook
        for one in module.modules()
        for hook in (*one._forward_hooks.values(), *one._forward_pre_hooks.values())
    ]
    assert [hook for hook in hooks if hook.__module__.startswith("matchlens")] == []
    assert not getattr(module.config, "output_attentions", False)


def test_two_loads_see_the_same(folder):
    first, second = (matchlens.load(folder, device="cpu").checks for _ in range(2))
    assert first == second


def test_the_cost_of_the_check(folder, monkeypatch):
    """Counted in calls of a layer, ours and the library's, however fast the machine is."""
    calls = []
    model = matchlens.load(folder, device="cpu")
    for layer in model.family.layers:
        layer.register_forward_pre_hook(lambda module, args: calls.append(args[0].shape[:2]))
    from matchlens.models.check import examine

    examine(model)
    assert len(calls) <= 19 * LAYERS
    assert sum(pairs * tokens for pairs, tokens in calls) < 43 * LAYERS * 64
