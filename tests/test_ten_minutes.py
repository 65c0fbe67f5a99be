"""The page on the code follows one pair through it, step by step."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path

import matchlens
import tiny as tiny_models
from matchlens import cli
from pages import DOCS

SOURCE = Path(matchlens.__file__).parent
PAGE = (DOCS / "extend" / "ten-minutes.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^\| `([\w.]+)` \| `([\w/]+\.py)` \|", PAGE, re.MULTILINE)


def test_the_page_names_the_way_from_the_command_to_the_arithmetic(tmp_path, monkeypatch):
    """The stack at the first attention that a study computes, against the page's table."""
    import matchlens.models.shared_layer as shared

    stacks: list[list[tuple[str, str]]] = []
    real = shared.attend

    def watched(*given, **options):
        frames = [frame.f_code for frame, _ in traceback.walk_stack(sys._getframe(1))]
        stacks.append(
            [
                (Path(code.co_filename).relative_to(SOURCE).as_posix(), code.co_qualname)
                for code in reversed(frames)
                if Path(code.co_filename).is_relative_to(SOURCE)
            ]
        )
        return real(*given, **options)

    monkeypatch.setattr(shared, "attend", watched)
    tiny_models.save(tmp_path / "model", "bert", layers=2, heads=2)
    words = ["ablation", "--demo", "--queries", "2", "--per-grade", "1", "--cut", "Q->D", "-q"]
    words += ["--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    stack = next(one for one in stacks if any(name == "run_shard" for _, name in one))
    stack.append(("models/attend.py", real.__name__))
    places = []
    for name, file in STEPS:
        places.append(
            next(
                place
                for place, (where, function) in enumerate(stack)
                if where == file and (function == name or function.startswith(f"{name}."))
            )
        )
    assert len(STEPS) == 8
    assert len({file for _, file in STEPS}) == 6
    assert places == sorted(places)


def test_the_files_and_folders_that_the_page_names_are_there():
    named = set(re.findall(r"`((?:[\w-]+/)*[\w-]+(?:\.py|/))`", PAGE))
    assert len(named) >= 12
    for name in named:
        assert (SOURCE / name).exists() or (DOCS.parent / name).exists(), name
