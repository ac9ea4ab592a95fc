"""What is public is documented, and its examples are real."""

import doctest
import inspect

import pytest

import drawlib

DOCUMENTED = [
    name
    for name in drawlib.__all__
    if inspect.isclass(getattr(drawlib, name))
    or inspect.isfunction(getattr(drawlib, name))
]


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_name_has_a_docstring_with_an_example_that_runs(name):
    text = inspect.getdoc(getattr(drawlib, name)) or ""
    examples = doctest.DocTestParser().get_examples(text)
    assert examples, f"drawlib.{name} has no example"
    skipped = [e for e in examples if doctest.SKIP in e.options]
    assert not skipped, f"drawlib.{name} has an example that never runs"


def test_public_names_are_sorted_unique_and_there():
    assert list(drawlib.__all__) == sorted(set(drawlib.__all__), key=sort_key)
    assert all(hasattr(drawlib, name) for name in drawlib.__all__)


def sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts them."""
    if name.isupper():
        return 0, name
    return (1, name) if name[0].isupper() else (2, name)
