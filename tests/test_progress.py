"""How far a command is: over all its parts, never backwards, and done only at the end."""

from __future__ import annotations

import os
import pty
import random
import re
import sys
from contextlib import suppress

import pytest

import matchlens
from matchlens.cli.terminal import Course
from matchlens.directions import Cut
from matchlens.models.folder import find
from matchlens.runners import ShardedRunner, runner
from matchlens.studies import sizes
from matchlens.studies.cost import WholeWork
from test_cli import collection_options, write_collection
from test_looking import graded


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_left_is_that_of_all_parts_and_falls_with_even_work():
    clock = Clock()
    course = Course([("a", 10.0), ("b", 30.0), ("a", 60.0)], clock)
    assert (course.left, course.left_in_words) == (None, "-:--:--")
    lefts = []
    for name, work in (("a", 10), ("b", 30), ("a", 60)):
        for done in range(work + 1):
            course.report(done, work, name)
            lefts.append(course.left)
            clock.now += done < work
    assert lefts[1:-1] == sorted(lefts[1:-1], reverse=True)
    assert lefts[10] == pytest.approx(90)
    assert lefts[-2] == pytest.approx(1)
    assert (course.share, course.left, course.left_in_words) == (1, None, "results are written")


def test_what_an_earlier_run_has_done_took_no_time():
    clock = Clock()
    course = Course([("a", 1.0)], clock)
    course.report(80, 100, "a")
    clock.now = 10
    course.report(90, 100, "a")
    assert course.left == pytest.approx(10)


def test_the_time_left_falls_between_reports_and_starts_from_the_estimate():
    clock = Clock()
    course = Course([("a", 100.0)], clock, seconds=200.0)
    assert course.left == pytest.approx(200)
    course.report(0, 100, "a")
    assert course.left == pytest.approx(200)
    clock.now = 30
    assert course.left == pytest.approx(170)
    course.report(10, 100, "a")  # three times as slow as estimated, nearly
    assert course.left == pytest.approx(90 * 3, rel=0.05)
    clock.now = 40
    assert course.left == pytest.approx(90 * 3 - 10, rel=0.05)
    clock.now = 4000
    assert course.left == 0
    assert course.left_in_words == "0:00:01"


@pytest.mark.parametrize("seed", range(20))
def test_the_share_never_falls_whatever_is_reported(seed):
    draw = random.Random(seed)
    course = Course([("a", draw.random()), ("b", 0.0), ("a", draw.random())], Clock())
    shares = []
    for _ in range(60):
        total = draw.choice([0, 1, 10])
        course.report(draw.randint(0, 12), total, draw.choice("abc"))
        shares.append(course.share)
        assert course.left is None or course.left >= 0
    assert shares == sorted(shares)
    assert shares[0] >= 0
    assert shares[-1] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("size", ["quick", "default"])
def test_a_whole_study_is_done_only_when_its_last_part_is(size, tiny32, tiny_folder):
    pairs = graded(queries=6, each=2)
    how_much = sizes.size(size)
    names = sizes.chosen_studies(None, how_much)
    parts = WholeWork(names, how_much, "default", find(str(tiny_folder)), pairs).progress_parts()
    course, heard = Course(parts, Clock()), []

    def stage(what, done, total) -> None:
        course.report(done, total, what)
        heard.append((what, course.share))

    matchlens.study(tiny32, pairs, size=size, progress=stage)
    announced = [name for name, _ in parts]
    assert {what for what, _ in heard} <= set(announced)
    last = heard[-1][0]
    assert all(share < 1 for what, share in heard if what != last)
    assert heard[-1][1] == (1 if announced[-1] == last else pytest.approx(heard[-1][1]))
    assert [share for _, share in heard] == sorted(share for _, share in heard)


def test_the_pass_for_the_means_is_part_of_a_run(tiny32, tiny_pairs, monkeypatch):
    monkeypatch.setattr(runner, "LEAST_WORK", 500)
    calls = []
    conditions = {"": [], "D->D~mean": [Cut.parse("D->D~mean")]}
    ShardedRunner()(tiny32, tiny_pairs, conditions, progress=lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert done[0] == 0  # at once, so that the total is known
    assert 0 < min(filter(None, done)) < len(tiny_pairs) / 2
    assert calls[-1] == (len(tiny_pairs), len(tiny_pairs))


@pytest.mark.slow
def test_the_bar_on_a_terminal_says_what_is_left(tiny_folder, tmp_path):
    write_collection(tmp_path, seed=1)
    words = ["attention", "--model", tiny_folder, "--device", "cpu", *collection_options(tmp_path)]
    words += ["--easy", "2", "--out", tmp_path / "out"]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "matchlens", *map(str, words)])
    text = ""
    with suppress(OSError):
        while piece := os.read(terminal, 4096):
            text += piece.decode("utf-8", "replace")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, text
    assert "pairs" in text
    shown = [int(one) for one in re.findall(r"(\d+)%", text)]
    assert shown
    assert shown == sorted(shown)
    assert "left 0:00:00" not in text
