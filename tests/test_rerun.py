"""A results folder made again: the same bytes, what is refused, and what a stranger may ask for."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import socket
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import matchlens.cli
from corpora_files import GOOD
from hostile_files import resealed
from matchlens.cli import job
from matchlens.cli.commands import commands
from matchlens.cli.recording import record
from matchlens.cli.rerunning import commands_of, differences, reaches
from matchlens.report.conclusions import conclude
from matchlens.studies.compare_runs import (
    BYTES,
    DIFFERS,
    DIGITS,
    MISSING,
    FileDiff,
    file_diffs,
    lines,
    tables,
)  # fmt: skip
from matchlens.studies.compare_runs import _arrays as array_difference
from matchlens.studies.registry import AblationSettings

CUTS = ("--cut", "Q->D", "--cut", "D->Q@0:1")


@pytest.fixture(scope="module")
def place(tiny_folder, tmp_path_factory) -> Path:
    """A collection, a model, and what two commands made of them in ``out``."""
    folder = tmp_path_factory.mktemp("rerun")
    for name, content in GOOD.items():
        (folder / name).write_bytes(content)
    shutil.copytree(tiny_folder, folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["-m", "model", "--topics", "t.tsv", "--qrels", "qrels", "--passages", "p.jsonl"]
        for own in (
            ["ablation", *CUTS],
            ["sweep", "window", "--direction", "Q->D", "--window", "2"],
        ):
            assert matchlens.cli.main([*own, *words, "--device", "cpu", "--out", "out", "-q"]) == 0
    return folder


@pytest.fixture
def copy(place, tmp_path, monkeypatch, capfd) -> Path:
    """A copy of the place, as its own."""
    folder = tmp_path / "place"
    shutil.copytree(place, folder)
    change(folder, lambda manifest: [one.update(folder=str(folder)) for one in manifest])
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    return folder


def change(folder: Path, edit, whole: bool = False) -> None:
    """Edit the manifest's commands, or all of it."""
    path = folder / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.pop("manifest_sha256", None)  # who reads it is not warned of an edit
    edit(manifest if whole else manifest["commands"])
    path.write_text(json.dumps(manifest))


def rerun(folder: Path, *more: str, yes: bool = True) -> int:
    return matchlens.cli.main(["rerun", str(folder / "out"), *more, *(["--yes"] if yes else [])])


def refusal(folder: Path, capfd, *more: str, yes: bool = True) -> str:
    assert rerun(folder, *more, yes=yes) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert not (folder / "out-again").exists()
    *shown, line = err.splitlines()
    assert bool(shown) == ("nothing was run" in line)  # what would be, in full
    return "".join([*shown, line])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(copy, capfd):
    assert rerun(copy) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[-1] == "6 files of numbers: 6 the same bytes"
    assert err.count("matchlens: running: ") == 2
    old, new = (json.loads((copy / name / "manifest.json").read_text()) for name in AGAIN)
    assert old["identity"] == new["identity"]
    assert old["studies"] == new["studies"]
    for one, two in zip(old["commands"], new["commands"], strict=True):
        assert (one["files"], one["models"]) == (two["files"], two["models"])
    assert rerun(copy, "--quiet") == 0  # it goes on with what it has made
    assert capfd.readouterr().err == ""
    assert rerun(copy) == 0
    assert "has been run already; delete it" in (err := capfd.readouterr().err)
    assert "running" not in err  # a command would read what later ones have written
    made = copy / "out-again" / "manifest.json"
    manifest = json.loads(made.read_text())
    made.write_text(json.dumps({**manifest, "commands": manifest["commands"][:1]}))
    rerun(copy)  # stopped after the first command, whose figures may be missing
    assert capfd.readouterr().err.count("matchlens: running: ") == 2


def stopped(*_, **__):
    raise KeyboardInterrupt


FIGURE = "sweep-window/points.json"


@pytest.mark.parametrize(
    ("made", "shards_of", "lost", "left"),
    [
        (2, None, None, []),
        (2, None, FIGURE, ["sweep"]),  # stopped while it drew, and its shards are gone
        (2, "sweep", None, ["sweep"]),
        (1, "sweep", None, ["sweep"]),
        (1, "ablation", None, ["ablation", "sweep"]),
        (1, None, None, ["ablation", "sweep"]),
        (1, "screen", None, ["ablation", "sweep"]),
        (0, "ablation", None, ["ablation", "sweep"]),
    ],
)
def test_what_is_left_of_a_stopped_rerun(made, shards_of, lost, left, copy, monkeypatch):
    again = copy / "out-again"
    shutil.copytree(copy / "out", again)
    manifest = json.loads((again / "manifest.json").read_text())
    manifest.pop("manifest_sha256", None)
    recorded = commands_of(manifest, copy / "out", commands())  # with paths that are absolute
    for entry, one in zip(manifest["commands"], recorded, strict=True):
        entry["asked"] = one.settings.as_json()
    manifest["commands"] = manifest["commands"][:made]
    manifest["files"].pop(lost, None)
    (again / "manifest.json").write_text(json.dumps(manifest))
    if shards_of is not None:
        kept = again / ".matchlens-work" / "shards" / ("0" * 32)
        kept.mkdir(parents=True)
        (kept / "000000.shard").write_bytes(b"")
        options = {"seed": 0, "rel": 2}  # of both
        about = {"command": shards_of, "options": options}
        (again / ".matchlens-work" / "about.json").write_text(json.dumps(about))
    run = []
    monkeypatch.setattr("matchlens.cli.job.run_study", lambda name, _: run.append(name))
    rerun(copy, "-q")
    assert run == left


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "step"), [("ablation", "_draw"), ("sweep", "_save_tables"), ("sweep", "_draw")]
)
def test_a_stopped_rerun_goes_on_where_it_was_stopped(command, step, copy, capfd, monkeypatch):
    own = job.run_study
    with monkeypatch.context() as patch:

        def run(study, *more, **options):
            if study == command:
                patch.setattr(f"matchlens.cli.job.Job.{step}", stopped)
            return own(study, *more, **options)

        patch.setattr("matchlens.cli.job.run_study", run)
        assert rerun(copy, "-q") == 130
    assert "run the same command again to go on" in capfd.readouterr().err
    assert rerun(copy) == 0
    out, err = capfd.readouterr()
    left = ["ablation", "sweep"] if command == "ablation" else ["sweep"]
    assert [line.split()[3] for line in err.splitlines() if ": running: " in line] == left
    assert out.splitlines()[-1] == "6 files of numbers: 6 the same bytes"
    names = [set(json.loads((copy / it / "manifest.json").read_text())["files"]) for it in AGAIN]
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.parametrize("shards", [True, False])
def test_a_stopped_rerun_of_a_whole_study_goes_on(shards, place, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(place)
    words = ["-m", "model", "--topics", "t.tsv", "--qrels", "qrels", "--passages", "p.jsonl"]
    own = ["study", "--studies", "ablation", "--easy", "0", "--device", "cpu", "-q"]
    assert matchlens.cli.main([*own, *words, "--out", str(tmp_path / "out")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("matchlens.report.conclusions.conclude", stopped)
        assert rerun(tmp_path, "-q") == 130
    if not shards:
        shutil.rmtree(tmp_path / "out-again" / ".matchlens-work")
    capfd.readouterr()
    for times in (1, 0):
        assert rerun(tmp_path) == 0
        assert capfd.readouterr().err.count("matchlens: running: ") == times
    assert (tmp_path / "out-again" / "report.html").exists()


@pytest.mark.slow
def test_explain_is_made_again_from_its_file_wherever_it_is_run(copy, capfd, monkeypatch):
    place, away = copy / "here", copy / "away"
    rows = [{"query": "a cat", "text": text} for text in ("the cat sat", "rain " * 2000)]
    for folder in (place, away):
        folder.mkdir()
    (place / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(place)
    own = ["explain", "-m", str(copy / "model"), "--device", "cpu", "-q", "--points", "2"]
    assert matchlens.cli.main([*own, "--no-swap", "--pairs", "p.jsonl", "--out", "why"]) == 0
    content = (place / "p.jsonl").read_bytes()
    typed = type("Typed", (), {"buffer": io.BytesIO(content)})
    monkeypatch.setattr(sys, "stdin", typed)
    assert matchlens.cli.main([*own, "--no-swap", "--pairs", "-", "--out", "typed"]) == 0
    (made,) = json.loads((place / "why" / "manifest.json").read_text())["commands"]
    assert "--pairs=p.jsonl" in made["line"]
    assert made["machine"]["device"] == "cpu"
    monkeypatch.chdir(away)
    capfd.readouterr()
    for name in ("why", "typed"):
        assert matchlens.cli.main(["rerun", str(place / name), "--yes", "-q"]) == 0
        assert "the same bytes" in capfd.readouterr().out
    (place / "p.jsonl").write_bytes(content.replace(b"sat", b"ran"))
    monkeypatch.setattr("matchlens.studies.explaining.explain", lambda *_, **__: 1 / 0)
    assert matchlens.cli.main(["rerun", str(place / "why"), "--out", "new", "--yes"]) == 2
    assert "had sha256" in capfd.readouterr().err
    monkeypatch.setattr("matchlens.models.load.load", lambda *_, **__: 1 / 0)
    monkeypatch.chdir(place)  # refused before the model is loaded
    assert matchlens.cli.main([*own, "--no-swap", "--pairs", "p.jsonl", "--out", "why"]) == 2
    assert "holds other results" in capfd.readouterr().err


AGAIN = ("out", "out-again")


def test_the_manifest_holds_what_a_command_needs(place):
    manifest = json.loads((place / "out" / "manifest.json").read_text())
    first, second = manifest["commands"]
    assert first["command"] == "ablation"
    assert first["asked"] == {
        "cut": ["Q->D", "D->Q@0:1"],
        "model": "model",
        "topics": ["t.tsv"],
        "qrels": ["qrels"],
        "passages": ["p.jsonl"],
        "device": "cpu",
    }
    assert second["line"] == (
        "matchlens sweep '--direction=Q->D' --window=2 --model=model --topics=t.tsv "
        "--qrels=qrels --passages=p.jsonl --out=DIR --device=cpu -- window"
    )
    options = first["options"]
    assert (options["per_grade"], options["easy"], options["max_length"]) == (10, 0, 64)
    assert (options["batch_tokens"], options["dtype"], options["seed"]) == (1024, "float32", 0)
    assert first["models"]["model"]["sha256"] == manifest["identity"]["model"]["sha256"]
    assert set(first["files"]) == {"topics", "qrels", "passages"}
    assert first["machine"]["threads"] == 1
    assert first["folder"] == str(place)


def spoil_topics(folder: Path) -> None:
    (folder / "t.tsv").write_bytes(GOOD["t.tsv"].replace(b"rice", b"mice"))


def spoil_model(folder: Path) -> None:
    path = folder / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "extra": 1}))


def spoil_version(folder: Path) -> None:
    change(folder, lambda all_: all_["identity"]["versions"].update(numpy="1.0"), whole=True)


def spoil_device(folder: Path) -> None:
    def edit(commands) -> None:
        for one in commands:
            del one["asked"]["device"]
            one["machine"]["device"] = "cuda"

    change(folder, edit)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_topics, "t.tsv had sha256"),
        (spoil_model, "place/model had sha256"),
        (spoil_version, "numpy was 1.0, is"),
        (spoil_device, "it ran on a CUDA device, and there is none here"),
    ],
)
def test_what_is_not_as_it_was_is_refused_by_name(spoil, says, copy, capfd):
    spoil(copy)
    line = refusal(copy, capfd)
    assert says in line
    assert "--anyway" in line


@pytest.mark.slow
def test_anyway_says_what_differs_and_where_the_tables_do(copy, capfd):
    path = copy / "out" / "ablation" / "table1.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "mean"] += 0.25
    table.to_parquet(path, index=False)
    spoil_version(copy)
    for _ in range(2):
        assert rerun(copy, "--anyway", "--out", str(copy / "new"), "-q") == 1
        assert "warning: not as it was: numpy was 1.0, is" in capfd.readouterr().err


@pytest.mark.slow
def test_a_changed_table_gives_status_1_and_its_place(copy, capfd):
    path = copy / "out" / "ablation" / "table1.parquet"
    table = pd.read_parquet(path)
    before = table.loc[1, "mean"]
    table.loc[1, "mean"] = before + 0.25
    table.to_parquet(path, index=False)
    assert rerun(copy, "--anyway", "-q") == 1
    out, _ = capfd.readouterr()
    line = next(line for line in out.splitlines() if line.startswith("ablation/table1.parquet"))
    assert f"differs, first in row 2, mean: {before + 0.25}, now {before}" in line
    assert "largest difference 0.25" in line


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda one: one.update(command="rm"), "whose command cannot be used"),
        (lambda one: one.update(command=["ablation"]), "whose command cannot be used"),
        (lambda one: one.pop("asked"), "whose asked cannot be used"),
        (lambda one: one.update(files={"topics": 3}), "whose files cannot be used"),
        (lambda one: one.update(folders={"x": 3}), "whose folders cannot be used"),
        (lambda one: one["asked"].update(out="/tmp/elsewhere"), "an option 'out'"),
        (lambda one: one["asked"].update(yes=True), "an option 'yes'"),
        (lambda one: one["asked"].update(nothing=1), "an option 'nothing'"),
        (lambda one: one["asked"].update(seed={"a": 1}), "the option 'seed' has the value"),
        (lambda one: one["asked"].update(topics=["no.tsv"]), "no.tsv' does not exist"),
        (lambda one: one["asked"].update(model="./nowhere"), "/./nowhere'; expected an existing"),
        (lambda one: one["asked"].update(measure="-x"), "measure '-x'"),
        (lambda one: one["asked"].update(seed="\x1b[31mred"), "the option 'seed' has the value"),
        (lambda one: one["asked"].update(seed=True), "expected a whole number"),
        (lambda one: one["asked"].update(seed=[1, 2]), "expected a whole number"),
        (lambda one: one["asked"].update(seed=10**4000), "a whole number has 4,001 digits"),
        (lambda one: one["asked"].update(seed=10**200), "expected a whole number"),
        (lambda one: one["asked"].update(batch_tokens=10**18), "--batch-tokens is 1000"),
        (lambda one: one["asked"].update(rel=10**30), "expected a whole number"),
        (lambda one: one["asked"].update(runs="yes"), "expected true or false"),
        (lambda one: one["asked"].update(cut="Q->D"), "expected a list, each a text"),
        (lambda one: one["asked"].update(measure=3.5), "expected a list, each a text"),
        (lambda one: one["asked"].update(measure="P@5\0"), "texts of at most 131072"),
        (lambda one: one["asked"].update(query_prefix="x" * 140_000), "texts of at most 131072"),
        (lambda one: one["asked"].update(device="meta"), "asks for the device 'meta'"),
        (lambda one: one["asked"].update(dtype="--out=x"), "--dtype '--out=x' is not known"),
        (lambda one: one["asked"].update(passages=["/dev/zero"]), "is no regular file"),
        (lambda one: one["asked"].update(qrels=["/proc"]), "is a folder"),
    ],
)
def test_a_stranger_s_command_can_ask_for_nothing_a_person_could_not_type(
    edit, says, copy, capfd, monkeypatch
):
    change(copy, lambda commands: edit(commands[0]))
    monkeypatch.setattr("matchlens.models.load.load", lambda *_, **__: pytest.fail("loaded"))
    line = refusal(copy, capfd, "--quiet", *(["--anyway"] if "sha" not in says else []))
    assert says in line
    assert line.isprintable()


@pytest.mark.slow
def test_where_it_runs_is_not_taken_from_a_manifest(copy, capfd):
    """Nothing connects to the address, and the study runs here."""
    with socket.create_server(("127.0.0.1", 0)) as cluster:
        cluster.setblocking(False)
        address = f"127.0.0.1:{cluster.getsockname()[1]}"
        own = {"runner": "ray", "ray_address": address, "workers": 10**6}
        change(copy, lambda commands: [one["asked"].update(own) for one in commands])
        assert rerun(copy) == 0
        with pytest.raises(BlockingIOError):
            cluster.accept()
    err = capfd.readouterr().err
    assert "asks for ray_address, runner, workers, which is left out" in err
    assert address not in (copy / "out-again" / "manifest.json").read_text()


def test_a_command_with_workers_leaves_them_out_of_the_manifest(copy, monkeypatch):
    monkeypatch.chdir(copy)
    words = ["-m", "model", "--topics", "t.tsv", "--qrels", "qrels", "--passages", "p.jsonl"]
    own = ["ablation", *CUTS, "--device", "cpu", "--workers", "1", "--out", "new", "-q"]
    assert matchlens.cli.main([*own, *words]) == 0
    (made,) = json.loads((copy / "new" / "manifest.json").read_text())["commands"]
    assert not {"workers", "runner", "ray_address"} & {*made["asked"], *made["options"]}
    assert "--workers" not in made["line"]


@pytest.mark.parametrize("more", [[], ["-q"], ["--anyway"]])
@pytest.mark.parametrize(
    ("edit", "names"),
    [
        ({"model": "a-stranger/model", "revision": "x"}, "model 'a-stranger/model' at 'x'"),
        ({"base": "a-stranger/base"}, "with an option 'base'"),
        ({"dataset": ["msmarco-passage/dev"]}, "collection 'msmarco-passage/dev' of ir_datasets"),
        ({"topics": ["/etc/passwd"]}, "file '/etc/passwd'"),
        ({"measure": "x\n\x1b[31mmatchlens: nothing to see"}, r"--measure=x\n\x1b[31mmatchlens"),
        ({"query_prefix": "\u202ex"}, r"\u202ex"),
    ],
)
def test_nothing_is_reached_before_a_person_has_said_yes(
    edit, names, more, copy, capfd, monkeypatch
):
    def edited(commands) -> None:
        commands[0]["asked"].update(edit)
        commands[0]["models"]["model"]["local"] = "model" not in edit

    change(copy, edited)
    for reaching in ("matchlens.models.folder.find", "matchlens.corpora.lines._digest"):
        monkeypatch.setattr(reaching, lambda *_, **__: pytest.fail("reached before a yes"))
    text = refusal(copy, capfd, *more, yes=False)
    assert names in text
    assert text.isprintable()
    assert ("add --yes to run it" in text) == ("base" not in edit)


def test_a_folder_in_beir_s_form_is_recorded_as_a_path(tmp_path, monkeypatch, capfd):
    there = tmp_path / "there"
    (there / "data/tea/qrels").mkdir(parents=True)
    tea = {
        "corpus.jsonl": '{"_id": "d1", "title": "Tea", "text": "hot"}',
        "queries.jsonl": '{"_id": "q1", "text": "warm tea"}',
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t1",
    }
    for name, text in tea.items():
        (there / "data/tea" / name).write_text(text)
    monkeypatch.chdir(there)
    made = record("ablation", AblationSettings(dataset=["data/tea", "a/id"]))
    assert "--dataset=tea --dataset=a/id" in str(made["line"])
    monkeypatch.chdir(tmp_path)
    manifest = {"commands": [json.loads(json.dumps(made))]}
    (again,) = commands_of(manifest, there, commands())
    folder = there / "data/tea"
    assert again.value("dataset") == [str(folder), "a/id"]
    reached = [*reaches(again)]
    assert f"collection in folder '{folder}'" in reached
    assert "collection 'a/id' of ir_datasets (downloaded if it is not here)" in reached
    assert not [*differences([again])][:-1]  # the built-in model has no digest here
    (folder / "corpus.jsonl").write_text(tea["corpus.jsonl"].replace("hot", "cold"))
    assert f"{folder}/corpus.jsonl had sha256" in next(differences([again]))
    manifest["commands"][0]["folders"]["data/tea"] = []
    (again,) = commands_of(manifest, there, commands())
    assert f"the files of {folder} were 0 files, are 3" in next(differences([again]))


def test_a_model_that_only_the_options_of_a_manifest_name_is_not_looked_for(copy, monkeypatch):
    def edit(commands) -> None:
        for one in commands:
            one["options"]["model"] = one["options"]["base"] = "a-stranger/model"
            one["models"]["base"] = {"sha256": "0", "local": False}

    change(copy, edit)
    monkeypatch.setattr("matchlens.models.folder.download", lambda *_: pytest.fail("downloaded"))
    assert rerun(copy, "-q") == 0


def at_a_terminal(folder: Path, answer: str, before=lambda: None) -> tuple[int, str]:
    """Run the command at a terminal of its own, and answer its question."""
    child, terminal = pty.fork()
    if child == 0:
        words = [sys.executable, "-m", "matchlens", "rerun", str(folder / "out"), "-q"]
        os.execv(sys.executable, words)
    text = ""
    with suppress(OSError):  # the terminal ends with the command
        while piece := os.read(terminal, 4096):
            text += piece.decode()
            if "run it? [y/N]:" in text and answer:
                before()
                os.write(terminal, answer.encode())
                answer = ""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def test_no_is_the_answer_that_runs_nothing(copy):
    change(copy, lambda all_: all_[0]["asked"].update(measure="P@5"))
    status, text = at_a_terminal(copy, "n\n")
    assert status == 2
    assert "matchlens ablation '--cut=Q->D' '--cut=D->Q@0:1'" in text
    assert f"model folder '{copy}/model'" in text
    assert "nothing was run" in text
    assert not (copy / "out-again").exists()


@pytest.mark.slow
def test_the_command_that_was_shown_is_the_one_that_is_run(copy):
    """The manifest is another one by the time of the answer."""
    change(copy, lambda all_: all_.pop(1))

    def swapped() -> None:
        change(copy, lambda all_: all_[0]["asked"].update(measure="P@5", seed=7))

    _, text = at_a_terminal(copy, "y\n", swapped)
    assert "--measure" not in text
    (made,) = json.loads((copy / "out-again" / "manifest.json").read_text())["commands"]
    assert made["options"]["measure"] == ["nDCG@10"]
    assert made["options"]["seed"] == 0


def test_a_folder_made_from_python_has_no_command(copy, capfd):
    change(copy, lambda all_: all_.pop("commands"), whole=True)
    assert "holds no command" in refusal(copy, capfd)


def test_the_folder_itself_is_not_written_over(copy, capfd):
    for name in ("out", "out/inside"):
        assert "give another --out" in refusal(copy, capfd, "--out", str(copy / name))


@pytest.mark.slow
def test_a_command_that_goes_on_stands_once_and_another_in_between_tells(copy, monkeypatch):
    monkeypatch.chdir(copy)
    words = ["-m", "model", "--topics", "t.tsv", "--qrels", "qrels", "--passages", "p.jsonl"]
    own = ["ablation", *CUTS, "--device", "cpu", "--out", "out"]
    for _ in range(2):
        assert matchlens.cli.main([*own, *words, "-q"]) == 0
    manifest = json.loads((copy / "out" / "manifest.json").read_text())
    assert [one["command"] for one in manifest["commands"]] == ["ablation", "sweep", "ablation"]
    assert rerun(copy, "-q") == 0


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--margin", "0.3"], []], ids=["margin", "plain"])
def test_what_report_decides_is_made_again(copy, words):
    assert matchlens.cli.main(["report", str(copy / "out"), *words]) == 0
    assert rerun(copy, "-q") == 0
    assert "study/claims.parquet" in {one.file for one in file_diffs(copy / "out", copy / AGAIN[1])}


def test_the_folder_s_margin_holds_until_another_is_given(copy):
    conclude(copy / "out", margin=0.3).save(copy / "out")
    about = {"size": "default"}  # as a further study says it
    assert conclude(copy / "out", about=about).options == {"size": "default", "margin": 0.3}
    assert conclude(copy / "out", margin=0.1, about=about).options["margin"] == 0.1


def test_report_is_a_command_to_run_again_where_there_are_others(copy):
    for recorded in (True, False):
        if not recorded:
            change(copy, lambda all_: all_.pop("commands"), whole=True)
        assert matchlens.cli.main(["report", str(copy / "out"), "-q"]) == 0
        manifest = json.loads((copy / "out" / "manifest.json").read_text())
        names = [one["command"] for one in manifest["commands"]]
        assert names == (["ablation", "sweep", "report"] if recorded else [])


def test_the_page_shows_the_commands_and_nothing_in_them_acts(copy):
    change(copy, lambda all_: all_[0].update(line="x</bdi><script>alert(1)</script>\u202e\x1b[2J"))
    assert matchlens.cli.main(["report", str(copy / "out"), "-q"]) == 0
    text = (copy / "out" / "report.html").read_text()
    assert "matchlens sweep &#39;--direction=Q-&gt;D&#39; --window=2" in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not {"\u202e", "\x1b"} & set(text)


def test_likenesses_of_arrays_tables_and_missing_files(copy):
    shutil.copytree(copy / "out", copy / "two")
    for folder, more in (("out", 0.0), ("two", 1e-7)):
        (copy / folder / "meters").mkdir()
        np.save(copy / folder / "meters" / "close.npy", np.ones((3, 2), np.float64) + more)
        np.save(copy / folder / "meters" / "far.npy", np.ones((3, 2)) + more * 10**6)
        resealed(copy / folder, "meters/close.npy", "meters/far.npy")
    (copy / "two" / "sweep-window" / "points.parquet").unlink()
    found = {one.file: one for one in file_diffs(copy / "out", copy / "two")}
    assert found["meters/close.npy"].verdict == DIGITS
    assert found["meters/far.npy"].verdict == DIFFERS
    assert found["meters/far.npy"].where.startswith("[0, 0]: 1, now 1.1")
    assert found["sweep-window/points.parquet"].verdict == MISSING
    assert found["scores.parquet"].verdict == BYTES
    assert [one.file for one in found.values() if not one.same] == [
        "meters/far.npy",
        "sweep-window/points.parquet",
    ]


def test_the_largest_difference_is_of_the_whole_array(monkeypatch):
    """The first place where arrays differ need not hold the largest difference."""
    monkeypatch.setattr("matchlens.studies.compare_runs.BLOCK", 2)
    old, new = np.zeros((6, 2)), np.zeros((6, 2))
    new[1, 0], new[5, 1] = 0.25, 7
    assert array_difference(old, new) == ("[1, 0]: 0, now 0.25", 7.0)


def test_no_largest_difference_where_no_numbers_were_compared():
    (line, _) = lines([FileDiff("a/b.parquet", DIFFERS, "4 rows, now 2")])
    assert line == "a/b.parquet: differs, first in 4 rows, now 2"
    (line, _) = lines([FileDiff("a/b.parquet", DIGITS)])
    assert line == "a/b.parquet: the same printed digits (largest difference 0)"


def test_tables_are_compared_in_print():
    old = pd.DataFrame({"x": [0.1234, np.nan, np.inf, 5e6], "t": ["a", "b", None, "d"]})
    assert tables(old, old.assign(x=[0.1230, np.nan, np.inf, 5e6 + 1]), 3)[0] == ""
    assert tables(old, old.assign(x=[0.1234, 0.0, np.inf, 5e6]), 3)[0] == "row 2, x: nan, now 0.0"
    assert tables(old, old.assign(x=[0.1254, np.nan, np.inf, 5e6]), 3)[0].startswith("row 1, x")
    assert tables(old, old.assign(x=[0.1234, np.nan, -np.inf, 5e6]), 3)[0].startswith("row 3")
    assert tables(old, old.assign(t=["a", "b", None, "e"]), 3)[0] == "row 4, t: d, now e"
    assert tables(old, old.iloc[:2], 3)[0] == "4 rows, now 2"
    assert tables(old, old.rename(columns={"t": "u"}), 3)[0] == "columns: t, u"
