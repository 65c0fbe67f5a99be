"""The examples in docstrings run, and every public thing has one."""

import doctest
import importlib
import inspect

import pytest

import matchlens.corpora

MODULES = ["collection", "lines", "pairs", "formats", "sampling", "trec", "irds", "demo"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    module = importlib.import_module(f"matchlens.corpora.{name}")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_every_public_function_has_an_example_and_says_its_arguments():
    for name in ("choose", "trec.load", "irds.load", "demo.load", "PairSet.join"):
        function = matchlens.corpora
        for part in name.split("."):
            function = getattr(function, part)
        text = inspect.getdoc(function) or ""
        assert ">>>" in text, name
        for argument in inspect.signature(function).parameters:
            assert f"    {argument}: " in text, (name, argument)


def test_all_public_names_exist():
    for name in matchlens.corpora.__all__:
        assert hasattr(matchlens.corpora, name)
