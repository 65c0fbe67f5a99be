"""The published models: one table for the command, the page and these tests, and its proof."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import fake_hub
import matchlens
import tiny
import tiny_decoders
import tiny_t5
from matchlens import InputError
from matchlens.cli.checking import prove
from matchlens.models import families
from matchlens.models.families import KnownModel, known_models
from matchlens.models.folder import FAMILIES
from matchlens.prompts import known_prompt
from test_cli import call

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
SUPPORTED = [model for model in known_models() if not model.refused]
REFUSED = [model for model in known_models() if model.refused]


def saved(model: KnownModel, folder: Path) -> Path:
    """A tiny model of a known one's type."""
    if model.type in tiny_t5.CLASSES:
        return tiny_t5.save(folder, model.type)
    if model.type in tiny_decoders.FAMILIES:
        return tiny_decoders.save(folder, model.type)
    return tiny.save(folder, model.type)


def test_the_table_names_thirty_models_once():
    names = [model.name for model in known_models()]
    assert len(names) == len(set(names)) >= 30
    assert len(REFUSED) >= 6
    assert [model.name for model in known_models() if model.real] == [
        "cross-encoder/ms-marco-MiniLM-L-12-v2"
    ]


@pytest.mark.parametrize("model", SUPPORTED, ids=lambda model: model.name)
def test_a_supported_model_is_of_a_supported_type(model):
    entry = FAMILIES[model.type]
    assert model.how
    shipped = known_prompt(model.type, model.name)
    prompted = "prompt" in model.how or "decoder step" in model.how
    if prompted:
        assert entry.prompted
        assert shipped is not None
        words = (shipped.prompt.yes, shipped.prompt.no or shipped.prompt.yes)
        named = re.findall(r"z\('(\w+)'\)", model.how)
        assert not named or tuple(named) == words
    assert bool(model.prompt) == (prompted or "LogitScore" in model.how)


@pytest.mark.parametrize("model", REFUSED, ids=lambda model: model.name)
def test_a_refused_model_has_a_supported_one_beside_it(model):
    assert model.nearest in {one.name for one in SUPPORTED}


CODE = {
    "Alibaba-NLP/gte-multilingual-reranker-base": {
        "model_type": "new",
        "auto_map": {"AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig"},
    },
    "jinaai/jina-reranker-v1-turbo-en": {
        "model_type": "bert",
        "auto_map": {
            "AutoConfig": "jinaai/jina-bert-implementation--configuration_bert.JinaBertConfig"
        },
    },
    "jinaai/jina-reranker-v2-base-multilingual": {
        "auto_map": {"AutoConfig": "configuration_xlm_roberta.XLMRobertaFlashConfig"},
    },
    "nvidia/llama-nemotron-rerank-1b-v2": {
        "model_type": "llama_bidirec",
        "auto_map": {"AutoConfig": "llama_bidirectional_model.LlamaBidirectionalConfig"},
    },
    "BAAI/bge-reranker-v2-minicpm-layerwise": {
        "model_type": "minicpm",
        "auto_map": {"AutoConfig": "configuration_minicpm_reranker.LayerWiseMiniCPMConfig"},
    },
    "BAAI/bge-reranker-v2.5-gemma2-lightweight": {
        "model_type": "cost_wise_gemma",
        "auto_map": {"AutoConfig": "gemma_config.CostWiseGemmaConfig"},
    },
    "jinaai/jina-reranker-v3": {
        "model_type": "qwen3",
        "auto_map": {"AutoModel": "modeling.JinaForRanking"},
    },
}
"""What config.json of the refused models says of their code."""


@pytest.mark.parametrize("model", REFUSED, ids=lambda model: model.name)
def test_the_message_names_the_model_that_the_table_names(model, tmp_path):
    """Under any name: what config.json says of the code decides."""
    if model.name == "castorini/rank_zephyr_7b_v1_full":  # it has no code: it lacks a prompt
        tiny_decoders.save(tmp_path, "mistral")
        with pytest.raises(InputError, match="its files do not say which prompt"):
            matchlens.load(tmp_path)
        return
    (tmp_path / "config.json").write_text(json.dumps(CODE[model.name]))
    with pytest.raises(InputError, match="wants to run code of its own") as refused:
        matchlens.load(tmp_path)
    assert f"nearest supported model is {model.nearest};" in str(refused.value)


def test_another_type_than_listed_is_wrong(hub, tmp_path):
    model = next(one for one in SUPPORTED if one.type == "bert")
    fake_hub.cached(hub, model.name, tiny.save(tmp_path / "other", "electra"))
    assert prove(model).outcome == "it is of type electra, not bert"


def test_the_page_has_the_table():
    page = PAGE.read_text(encoding="utf-8")
    heads = ("model", "type", "score", "prompt", "run here on", "note")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for model in known_models():
        name, *rest = model.cells
        cells = " | ".join(cell.replace("|", "\\|") for cell in rest)
        lines.append(f"| `{name}` | {cells} |")
    assert "\n".join(lines) in page
    assert " ".join(families.CHECKED.split()) in " ".join(page.split())


def test_the_command_lists_every_model():
    out = call("families").out
    for model in known_models():
        assert f"{model.name} ({model.type})" in out
        assert (model.refused or model.how) in out


@pytest.mark.slow
def test_without_a_hub_each_model_has_a_clear_line(hub):
    done = call("check", "--all-known", "-q")
    assert (done.status, done.err) == (0, "")
    *lines, blank, last = done.out.splitlines()
    assert (blank, last) == ("", f"{len(known_models())} models: {len(known_models())} not here")
    for line, model in zip(lines, known_models(), strict=True):
        assert line.split()[:3] == ["not", "here", model.name]
        assert line.endswith("nothing was checked")


def test_what_the_hub_has_is_proved(hub, tmp_path, monkeypatch):
    some = [one for one in SUPPORTED if one.name in (
        "cross-encoder/ms-marco-MiniLM-L-6-v2", "castorini/monot5-base-msmarco",
        "zeroentropy/zerank-1-small",
    )]  # fmt: skip
    assert len(some) == 3
    monkeypatch.setattr(families, "known_models", lambda: (*some, REFUSED[0]))
    for number, model in enumerate((*some, REFUSED[0])):
        folder = tmp_path / str(number)
        if model.refused:
            tiny.edit(tiny.save(folder), auto_map={"A": "b.C"})
        else:
            saved(model, folder)
        fake_hub.cached(hub, model.name, folder)
    done = call("check", "--all-known", "-q", "--device", "cpu", "--max-length", "9", "--negate")
    assert done.status == 0, done.err
    assert "listed, so that --max-length and --negate have no effect: leave them out" in done.err
    assert [line.split()[0] for line in done.out.splitlines()[:4]] == ["ok", "ok", "ok", "refused"]
    assert done.out.splitlines()[-1] == "4 models: 3 ok, 1 refused"


def test_what_is_not_as_listed_is_an_error(hub, tmp_path, monkeypatch):
    supported = next(one for one in SUPPORTED if one.type == "bert")
    monkeypatch.setattr(families, "known_models", lambda: (supported,))
    folder = tiny.save(tmp_path / "broken")
    shutil.copy(folder / "tokenizer_config.json", folder / "config.json")
    fake_hub.cached(hub, supported.name, folder)
    assert prove(supported).wrong
    done = call("check", "--all-known", "-q")
    assert done.status == 2
    assert f"not what the list says ({supported.name} the first)" in done.err


def test_a_refused_model_that_loads_is_wrong(hub, tmp_path):
    fake_hub.cached(hub, REFUSED[0].name, tiny.save(tmp_path / "whole"))
    assert prove(REFUSED[0]).status == "FAILED"
