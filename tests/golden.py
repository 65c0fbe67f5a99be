"""What must not move while the code does: record a fixed set of commands, and compare two records.

``python tests/golden.py record FOLDER`` runs every command below with the matchlens that Python
imports and keeps what it printed and wrote. ``compare OLD NEW`` lists what differs and ends with
status 1 where a number moved or a file is missing; wording that differs is listed for review.
``make golden BASE=COMMIT`` records that commit and the working tree side by side and compares them.

``store`` keeps what :func:`sums` finds in ``golden.json``, which tests/test_golden.py holds on any
processor. Store anew only numbers that are meant to move, and say which in the changelog.

Times, versions, folders and the commands themselves are left out. Pages are kept, to be looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

import matchlens
import test_config_keys
import tiny

FEW = "--demo --queries 12 --per-grade 2 --quiet"
EASY = f"{FEW} --easy 2"
OF_EVERY_FAMILY = {
    "ablation": f"ablation {FEW}",
    "up-to": f"sweep up-to {FEW} --direction Q->D --direction D->D",
    "attention": f"attention {EASY} --no-cut",
}
"""Name of a command to its words, for the tiny model of every family."""
OF_BERT = {
    "check": "check",
    "score": "score --cut Q->D --cut CLS->All#0.1 --pairs PAIRS",
    "paper": f"ablation {FEW} --preset paper --runs",
    "hows": f"ablation {FEW} --cut Q->D --cut Q->D~mask --cut Q->D~mean --cut Q->D~resample "
    "--cut Q->D~sink",
    "precision": f"ablation {FEW} --measure P@1 --rel 2",
    "heads": f"sweep heads {FEW} --direction Q->D",
    "head-sets": f"sweep head-sets {FEW} --direction Q->D --set two=0.1,1.2 --random 100",
    "controls": f"sweep controls {FEW} --direction D->D",
    "only": f"sweep only {FEW} --direction Q->D",
    "window": f"sweep window {FEW} --direction Q->D --window 2",
    "authors": f"attention {EASY} --preset authors --no-cut",
    "matching": f"attention {EASY} --q 1 --auc 0.4 --pairs 20",
    "circuits": f"circuits {EASY} --base BASE --same-token",
    "look": f"look {FEW} --looks 3",
    "study": f"study {EASY}",
}
"""The same, for one tiny BERT only."""
AFTER = {
    "report": "report study",
    "compare": "compare ablation paper",
    "rerun": "rerun look --yes",
}
"""Commands on the folders that those of :data:`OF_BERT` made: [command] -> words."""
REAL = {
    "demo": "demo --queries 12",
    "demo-study": f"study {EASY} --quick",
}
"""Commands with the demo model's real weights."""
COMMANDS = ["demo", "ablation", "sweep", "attention", "circuits", "check", "families", "compare"]
COMMANDS += ["look", "study", "reproduce", "rerun", "report", "score"]
VOLATILE = {"versions", "commands", "seconds", "started", "files", "matchlens"}
"""Keys of JSON files that change from run to run, or from version to version."""
NUMBER = re.compile(r"\d+(?:\.\d+)?(?: ?(?:s|ms|min|MiB|GiB)\b)")
CLOSE = 1e-6
STORED = Path(__file__).with_name("golden.json")


def record(out: Path, quick: bool) -> None:
    """Run the commands and keep what they printed and wrote.

    Args:
        out: a new folder.
        quick: only the tiny BERT.
    """
    out.mkdir(parents=True)
    families = ("bert",) if quick else test_config_keys.FAMILIES
    for family in families:
        model = test_config_keys.build(family, out / "models" / family)
        for name, words in OF_EVERY_FAMILY.items():
            run(out / family / name, [*words.split(), "--model", str(model)])
    bert = out / "models" / "bert"
    base = tiny.save(out / "models" / "base", layers=2, heads=4, seed=1)
    pairs = out / "pairs.jsonl"
    pairs.write_text(
        "".join(json.dumps({"query": one.query, "text": one.text}) + "\n" for one in tiny.pairs(8))
    )
    for name, words in OF_BERT.items():
        filled = words.replace("BASE", str(base)).replace("PAIRS", str(pairs))
        run(out / "bert" / name, [*filled.split(), "--model", str(bert)])
    for name, words in AFTER.items():
        given = [str(out / "bert" / w / "out") if w in OF_BERT or w in OF_EVERY_FAMILY else w
                 for w in words.split()]  # fmt: skip
        given[0] = words.split()[0]
        run(out / "bert" / name, given)
    for name, words in ({} if quick else REAL).items():
        run(out / "real" / name, words.split())
    for name in ("", *COMMANDS):
        run(out / "help" / (name or "matchlens"), [*name.split(), "--help"])


def run(folder: Path, words: list[str]) -> None:
    """Run one command; keep its status, both streams and its results folder."""
    folder.mkdir(parents=True)
    if words[0] not in ("check", "score", "report") and "--help" not in words:
        words = [*words, "--out", str(folder / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "matchlens", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    place = str(folder.parent.parent)
    for name, said in (("stdout", done.stdout), ("stderr", done.stderr)):
        (folder / f"{name}.txt").write_text(said.replace(place, "HERE"))
    (folder / "status.txt").write_text(f"{done.returncode}\n")
    print(f"{folder.parent.name}/{folder.name}: {done.returncode}", flush=True)


def compare(old: Path, new: Path) -> int:
    """List what differs between two records.

    Returns:
        The number of files whose numbers moved, or that are in one record only.
    """
    names = [{str(path) for path in files(one)} for one in (old, new)]
    moved, worded, equal = 0, 0, 0
    for name in sorted(names[0] | names[1]):
        if name not in names[0] or name not in names[1]:
            moved += 1
            print(f"{name}: only in the {'new' if name in names[1] else 'old'} record")
            continue
        numbers, words = difference(old / name, new / name)
        moved, worded = moved + bool(numbers), worded + bool(words and not numbers)
        equal += not (numbers or words)
        if numbers or words:
            print(f"{name}: {numbers or words}")
    print(f"{equal} equal, {worded} with other wording, {moved} with other numbers or missing")
    return moved


def files(folder: Path) -> Iterator[Path]:
    """The files that are compared, relative to the record."""
    kept = (".parquet", ".npy", ".json", ".txt", ".tex", ".csv", ".run")
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix in kept and inside.parts[0] != "models" and path.is_file():
            yield inside


def difference(old: Path, new: Path) -> tuple[str, str]:
    """What differs in one file: (numbers, wording), each empty where nothing does."""
    if old.read_bytes() == new.read_bytes():
        return "", ""
    if old.suffix == ".npy":
        return of_arrays(np.load(old), np.load(new)), ""
    if old.suffix == ".parquet":
        return of_tables(pd.read_parquet(old), pd.read_parquet(new))
    if old.suffix == ".json":
        before, after = (
            json.dumps(steady(json.loads(p.read_text())), indent=1) for p in (old, new)
        )
    else:
        before, after = (NUMBER.sub("N", path.read_text()) for path in (old, new))
    if before == after:
        return "", ""
    pairs = zip([*before.splitlines(), ""], [*after.splitlines(), ""], strict=False)
    line = next((f"{a.strip()!r}, now {b.strip()!r}" for a, b in pairs if a != b), "its length")
    figures = [re.findall(r"-?\d*\.\d+(?:e-?\d+)?", text) for text in (before, after)]
    return (f"numbers: {line}", "") if figures[0] != figures[1] else ("", line)


def of_arrays(old: np.ndarray, new: np.ndarray) -> str:
    """How two arrays differ."""
    if old.shape != new.shape:
        return f"shape {old.shape}, now {new.shape}"
    if np.array_equal(old, new, equal_nan=old.dtype.kind == "f"):
        return ""
    return f"moved by up to {np.nanmax(np.abs(old.astype(float) - new.astype(float))):.2g}"


def of_tables(old: pd.DataFrame, new: pd.DataFrame) -> tuple[str, str]:
    """How two tables differ: (numbers, wording)."""
    shared = [name for name in old.columns if name in new.columns]
    if len(old) != len(new):
        return f"{len(old)} rows, now {len(new)}", ""
    for name in shared:
        a, b = old[name], new[name]
        if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
            if said := of_arrays(a.to_numpy(float), b.to_numpy(float)):
                return f"column {name}: {said}", ""
        elif a.map(repr).tolist() != b.map(repr).tolist():
            return "", f"column {name}: other texts"
    other = sorted(set(old.columns) ^ set(new.columns))
    return "", f"columns {', '.join(other)}" if other else ""


def steady(value: Any) -> Any:
    """JSON without what changes from run to run."""
    if isinstance(value, dict):
        return {key: steady(one) for key, one in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [steady(one) for one in value]
    return NUMBER.sub("N", value) if isinstance(value, str) else value


def sums(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Two sums over the rows of each column of numbers in all studies of a tiny model, by table.

    The second is weighted, so that rows that change places show. Weights are drawn by NumPy and
    computed with in float64, so that processors differ in the last digits alone.
    """
    weights = load_file(tiny.save(folder) / "model.safetensors")
    draw = np.random.default_rng(0)
    for name, tensor in sorted(weights.items()):
        if tensor.ndim == 2:
            weights[name] = torch.from_numpy(draw.normal(0, 0.4, tensor.shape)).to(tensor.dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = matchlens.load(folder, dtype="float64", device="cpu")
    pairs = matchlens.choose(matchlens.demo.load(), queries=8, per_grade=1, easy=1)
    out = {}
    for study, result in matchlens.study(model, pairs).results.items():
        tables = {name: table.select_dtypes("number") for name, table in result.tables.items()}
        columns = {name: {str(key): table[key] for key in table} for name, table in tables.items()}
        columns["arrays"] = {name: result.array(name).ravel() for name in result.arrays}
        for name, values in columns.items():
            out[f"{study}/{name}"] = {
                key: _sums(np.asarray(of, float)) for key, of in values.items()
            }
    return out


def _sums(values: np.ndarray) -> list[float]:
    known = np.where(np.isfinite(values), values, -1.0)
    return [float(known.sum()), float(known @ np.cos(np.arange(len(known))))]


def main() -> int:
    """Record or compare."""
    parser = argparse.ArgumentParser(
        description="Record a fixed set of commands, or compare two records."
    )
    todo = parser.add_subparsers(dest="todo", required=True)
    one = todo.add_parser("record")
    one.add_argument("out", type=Path)
    one.add_argument("--quick", action="store_true")
    two = todo.add_parser("compare")
    two.add_argument("old", type=Path)
    two.add_argument("new", type=Path)
    todo.add_parser("store")
    given = parser.parse_args()
    if given.todo == "store":
        with tempfile.TemporaryDirectory() as place:
            lines = (
                f" {json.dumps(name)}: {json.dumps(of)}" for name, of in sums(Path(place)).items()
            )
            STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        return 0
    if given.todo == "compare":
        return int(compare(given.old, given.new) > 0)
    shutil.rmtree(given.out, ignore_errors=True)
    record(given.out, given.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
