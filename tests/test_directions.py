"""Directions and cuts: the grammar, the text form, the errors."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matchlens import InputError
from matchlens.directions import Cut, Direction, How
from matchlens.parts import NAMED, Part, label

sides = st.sets(st.sampled_from(NAMED), min_size=1).map(tuple)
directions = st.builds(Direction, sides, st.none() | sides)
layers = st.none() | st.lists(st.integers(0, 30), max_size=5).map(tuple)
heads = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=1, max_size=5)
many = st.lists(directions, min_size=1, max_size=4).map(tuple)


def make(directions, layers, heads, how) -> Cut:
    if how is How.SINK and any(Part.SEP2 in direction.columns for direction in directions):
        how = How.MASK
    return Cut(directions, layers, heads, how)


cuts = st.one_of(
    st.just(Cut()),
    st.builds(make, many, layers, st.none(), st.sampled_from(How)),
    st.builds(make, many, st.none(), heads.map(tuple), st.sampled_from(How)),
)


@given(cuts)
def test_text_parses_back(cut):
    assert Cut.parse(str(cut)) == cut
    assert str(Cut.parse(str(cut))) == str(cut)


@given(cuts, st.lists(st.integers(0, 2), min_size=7, max_size=7))
def test_spaces_are_ignored(cut, gaps):
    tokens = re.findall(r"[A-Za-z]+[12]?|\d+|->|\S", str(cut))
    spaced = "".join(token + " " * gaps[i % 7] for i, token in enumerate(tokens))
    assert Cut.parse(spaced) == cut


@given(st.text(alphabet="CLSQED12Aldl->{},+@#~:.0346 zeromask\x00é", max_size=24))
def test_any_text_parses_or_is_refused_in_one_line(text):
    try:
        cut = Cut.parse(text)
    except InputError as error:
        line = str(error)
        assert "\n" not in line and "expected" in line  # noqa: PT018
    else:
        assert Cut.parse(str(cut)) == cut


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        ("Q->D", "Q->D"),
        ("{D,Q}->{D,Q}", "{Q,D}->{Q,D}"),
        ("CLS->All", "CLS->All"),
        ("D->Q+Q->D@0:8", "Q->D+D->Q@0:8"),
        ("Q->D+Q->D", "Q->D"),
        ("D->Q@3", "D->Q@3"),
        ("D->Q@3:4", "D->Q@3"),
        ("D->Q@5,3,4", "D->Q@3:6"),
        ("D->Q@5,1", "D->Q@1,5"),
        ("D->Q@4:4", "D->Q@0:0"),
        ("Q->D#8.1,4.9,8.1", "Q->D#4.9,8.1"),
        ("Q->D#10.2,9.3", "Q->D#9.3,10.2"),
        ("Q->Q~zero", "Q->Q"),
        ("Q->Q ~ mask", "Q->Q~mask"),
    ],
)
def test_canonical_text(text, canonical):
    assert str(Cut.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "character", "expected"),
    [
        ("Q->X", 4, "a part or All"),
        ("q->D", 1, "a part"),
        ("All->Q", 1, "a part"),
        ("Q-D", 2, "'->'"),
        ("{Q}->D", 3, "another part"),
        ("{Q,D->D", 5, "',' or '}'"),
        ("Q->D@x", 6, "a layer number"),
        ("Q->D@5:2", 8, "at least 5"),
        ("Q->D@1#2.3", 7, "exclude each other"),
        ("Q->D#2.3@1", 9, "exclude each other"),
        ("Q->D#3,1.2", 7, "layer.head"),
        ("Q->D~sever", 6, "one of zero"),
        ("Q->D@1 2", 8, "no space inside a number"),
        ("Q->D@0:8Q->Q", 9, "the end"),
        ("Q->D@99999", 6, "a layer number"),
    ],
)
def test_syntax_errors_point_at_the_character(text, character, expected):
    with pytest.raises(InputError) as caught:
        Cut.parse(text)
    assert f"at character {character}," in str(caught.value)
    assert expected in str(caught.value)
    assert "for example 'Q->D@0:8'" in str(caught.value)


def test_a_tail_lost_to_the_shell_is_explained():
    with pytest.raises(InputError, match=r"quotes.*redirection"):
        Cut.parse("Q-")
    with pytest.raises(InputError, match="redirection"):
        Cut.parse("Q->D+D-")
    with pytest.raises(InputError) as caught:
        Cut.parse("Q->D-")
    assert "redirection" not in str(caught.value)


@pytest.mark.parametrize("text", ["Q->SEP2~sink", "Q->All~sink", "Q->D+D->{D,SEP2}@3~sink"])
def test_sink_refuses_to_sink_into_what_it_cuts(text):
    with pytest.raises(InputError, match="moves the removed mass to SEP2"):
        Cut.parse(text)


def test_both_ways_round_in_words():
    assert "the query reads the document" in Cut.parse("Q->D").words
    assert "the document reads the query" in Cut.parse("D->Q").words
    assert Direction.parse("CLS->All").words == "CLS reads everything"


def test_labels_come_from_the_tokenizers_record():
    two_separators = label([None, 0, None, None, 1, 1, None])
    assert [str(Part(p)) for p in two_separators] == [
        "CLS", "Q", "SEP1", "SEP1", "D", "D", "SEP2"
    ]  # fmt: skip
    assert [str(Part(p)) for p in label([0, 1])] == ["Q", "D"]
    with pytest.raises(InputError, match="passage gives no token"):
        label([None, 0, None, None])
    with pytest.raises(InputError, match="before the query"):
        label([None, 1, None, 0, None])
