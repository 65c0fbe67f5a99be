"""``matchlens check`` and ``matchlens families``: what they print, and with which status."""

from __future__ import annotations

import json
import re

import pytest

import matchlens.cli
import tiny as tiny_models
from matchlens.models.bert import Bert
from matchlens.models.checks.item import WHAT as ALL
from matchlens.models.checks.item import Item
from matchlens.models.families import supported
from matchlens.models.folder import FAMILIES
from matchlens.report.page.overview import provenance
from matchlens.report.results_folder import ResultsFolder
from test_cli import call, refused

OTHERS = ("predict", "answers", "prompt", "adapter")
WHAT = {name: what for name, what in ALL.items() if name not in OTHERS}
"""What is asked of a model in a folder that has no prompt."""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_passes(tiny_folder, dtype):
    done = call("check", "--model", tiny_folder, "--dtype", dtype, "--device", "cpu")
    said = f"loading and checking model {str(tiny_folder)!r} ...\n"
    assert (done.status, done.err) == (0, said)
    quiet = call("check", "--model", tiny_folder, "--dtype", dtype, "--device", "cpu", "-q")
    assert (quiet.out, quiet.err) == (done.out, "")
    head, blank, pair, _, columns, *lines = done.out.splitlines()
    assert pair == "pair: [CLS] query [SEP] passage [SEP] (no prompt)"
    assert head == (
        f"{tiny_folder.name}: bert, 3 layers of 4 heads, {dtype}, at most 64 tokens "
        "(model_max_length of the tokenizer), score z"
    )
    assert (blank, columns.split()) == ("", ["seen", "expected"])
    assert len(lines) == len(WHAT)
    for line, what in zip(lines, WHAT.values(), strict=False):
        assert what in line
        assert len(line) <= 100
        assert re.fullmatch(r"(ok|-) .*(\d|nothing)", line), line
    calls = next(line for line in lines if WHAT["attention_calls"] in line)
    assert calls.split()[-3:] == ["3", "exactly", "3"]


def test_a_model_that_fails(tiny_folder, monkeypatch):
    real = Bert.score
    monkeypatch.setattr(Bert, "score", lambda self, *given: real(self, *given) + 0.5)
    done = call("check", "--model", tiny_folder)
    assert done.status == 2
    _, line = done.err.splitlines()
    assert line.startswith(f"matchlens: model {str(tiny_folder)!r} fails the check at load: scores")
    failed = [line for line in done.out.splitlines() if line.startswith("FAILED")]
    assert [line.split("  ")[1].strip() for line in failed] == [
        WHAT[name] for name in ("scores_together", "scores_alone", "token_types")
    ]
    assert all(re.search(r" 0\.5 +at most ", line) for line in failed)
    assert done.out.count("\nok ") == len(WHAT) - 5


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "no such model"], "no model folder 'no such model'"),
        (["--dtype", "int8"], "--dtype 'int8' is not known"),
        (["--max-length", "3"], "--max-length is 3; expected at least 5"),
        (["--device", "nowhere"], "device 'nowhere' cannot be used"),
        (["--revision", "v1"], "--revision 'v1' goes with a Hugging Face id"),
    ],
)
def test_what_cannot_be_checked(words, says, tiny_folder):
    model = [] if "--model" in words else ["--model", tiny_folder]
    done = call("check", *model, *words)
    assert done.status == 2
    assert says in done.err
    assert "FAILED" not in done.out


def test_options_reach_the_model(tmp_path):
    folder = tiny_models.save(tmp_path / "two", labels=2)
    done = call("check", "--model", folder, "--max-length", 20, "--negate", "--quiet")
    assert (done.status, done.err) == (0, "")
    head = "two: bert, 3 layers of 4 heads, float32, at most 20 tokens (--max-length), score "
    assert done.out.startswith(head)
    assert done.out.splitlines()[0].endswith("score z0 - z1")
    labels = next(line for line in done.out.splitlines() if WHAT["labels"] in line)
    assert labels.split()[-3:] == ["2", "exactly", "2"]


def test_a_hostile_name_is_shown_not_obeyed(tmp_path):
    folder = tiny_models.save(tmp_path / "\x1b[31mred", layers=1)
    done = call("check", "--model", folder)
    assert done.status == 0
    assert "\x1b" not in done.out
    assert done.out.startswith(r"'\x1b[31mred': bert")


def test_a_reversed_order_stands_out(tiny_folder, monkeypatch):
    monkeypatch.setattr(
        "matchlens.models.check.relevant_above", lambda model: [Item("relevant_above", 0)]
    )
    done = call("check", "--model", tiny_folder)
    assert done.status == 0
    assert re.search("matchlens: warning: model '.*': .*order looks reversed", done.err)
    (line,) = [line for line in done.out.splitlines() if line.startswith("LOOK")]
    assert line.split()[-1] == "0"


def test_negated_runs_do_not_mix(tiny_folder, tmp_path):
    """The sign of the score stands in the model's identity."""
    words = ["--model", tiny_folder, "--demo", "--queries", 2, "--per-grade", 1, "--cut", "Q->D"]
    words += ["--out", tmp_path / "out", "--quiet"]
    assert call("ablation", *words, "--negate").status == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["identity"]["model"]["relevance"] == "-z"
    check = manifest["studies"]["ablation"]["options"]["check"]
    assert set(check) == set(WHAT)
    assert all(one["ok"] for one in check.values())
    (shown,) = provenance(ResultsFolder.load(tmp_path / "out"), [])[
        "checks"
    ]  # the page's last section
    rows = {what: rest for what, *rest in shown["rows"]}
    assert len(rows) == len(WHAT)
    assert rows[WHAT["attention_calls"]] == ["3", "exactly 3", "right"]
    assert "relevance" in refused("ablation", *words)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"query": "a cat", "text": "the cat sat"}\n')
    plain, turned = (
        json.loads(call("score", "--model", tiny_folder, "--pairs", pairs, *more).out)["scores"][""]
        for more in ((), ("--negate",))
    )
    assert plain == -turned != 0


def test_families_are_listed_from_their_classes():
    done = call("families")
    assert (done.status, done.err) == (0, "")
    blocks = done.out.split("\n\n")
    assert len(blocks) == len(FAMILIES) + 3
    for block, name, one in zip(blocks, FAMILIES, supported(), strict=False):
        first, *rest = block.splitlines()
        assert first == f"{name} ({one.library})"
        assert [line.split()[0] for line in rest] == ["pair", "score", "read", "token", "attention"]
        for words in (one.template, one.reads, one.relevance, one.token_types, one.attention):
            assert words in block
    assert all(what in blocks[-1] for what in ALL.values())
    assert max(len(line) for line in done.out.splitlines()) <= 100


def test_the_list_follows_the_table(monkeypatch):
    monkeypatch.setitem(FAMILIES, "another", FAMILIES["roberta"])
    assert "\nanother (RobertaForSequenceClassification)\n" in call("families").out
    assert call("families", "--nonsense").status == 2


@pytest.mark.parametrize("command", ["check", "families"])
def test_help_and_the_first_page(command):
    assert call(command, "--help").status == 0
    assert re.search(rf"^ *{command} ", call("--help").out, re.MULTILINE)
    assert command in matchlens.cli.commands()
