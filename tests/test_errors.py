"""The tree of errors: as drawn, with its exit codes and texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import p2pdl
from p2pdl import errors
from p2pdl.errors import ConfigurationError, P2pdlError, PeerError, Problem, ProtocolError

BRANCH = re.compile(r"^(?P<indent>[│ ]*)[├└]── (?P<name>\w+) +(?P<text>.*?)(?: +exit (?P<code>\d))?$")


def drawn() -> dict[str, tuple[str, int | None]]:
    """Name of each error in the drawing, with its parent and the exit code that stands beside it."""
    tree: dict[str, tuple[str, int | None]] = {}
    above = ["P2pdlError"]
    for line in (errors.__doc__ or "").splitlines():
        if branch := BRANCH.match(line):
            depth = len(branch["indent"]) // 4
            del above[depth + 1 :]
            tree[branch["name"]] = (above[depth], int(branch["code"]) if branch["code"] else None)
            above.append(branch["name"])
    return tree


def actual() -> dict[str, type[P2pdlError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, P2pdlError) and value is not P2pdlError
    }


def test_drawing_equals_class_tree_in_order() -> None:
    assert list(drawn()) == list(actual())
    assert {name: parent for name, (parent, _) in drawn().items()} == {
        name: error.__bases__[0].__name__ for name, error in actual().items()
    }


def test_exit_codes_are_as_drawn_and_inherited() -> None:
    assert (errors.EXIT_DONE, errors.EXIT_FAILED, errors.EXIT_USAGE) == (0, 1, 2)
    for name, (parent, code) in drawn().items():
        expected = code if code is not None else getattr(errors, parent).exit_code
        assert actual()[name].exit_code == expected


def test_peer_errors_are_counted_under_distinct_codes() -> None:
    codes = [error.code for error in actual().values() if issubclass(error, PeerError)]
    assert len(codes) == len(set(codes)) == 6
    assert ProtocolError("x").code == "protocol-error"
    assert ProtocolError("x", code="digest").code == "digest"
    assert ProtocolError.code == "protocol-error"


def test_text_has_message_and_remedy() -> None:
    assert str(P2pdlError("it broke")) == "it broke"
    assert str(P2pdlError("it broke", "mend it")) == "it broke\n  -> mend it"


@pytest.mark.parametrize(
    "problem, text",
    [
        (Problem("train.seed", "is a word"), "--set: train.seed: is a word"),
        (
            Problem("train.seed", "is a word", "write 0", Path("a.yaml"), 7),
            "a.yaml:7: train.seed: is a word\n  -> write 0",
        ),
        (Problem("", "is empty", file=Path("a.yaml")), "a.yaml: is empty"),
    ],
)
def test_problem_names_place_key_and_remedy(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_configuration_error_carries_every_problem_in_order() -> None:
    problems = [Problem("a", "one"), Problem("b", "two", "write 2")]
    error = ConfigurationError(problems)
    assert error.problems == tuple(problems)
    assert str(error) == "--set: a: one\n--set: b: two\n  -> write 2"
    assert error.exit_code == 2


def test_package_offers_these_names_only() -> None:
    assert p2pdl.__all__ == ["Gossip", "MeanThreshold", "__version__"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", p2pdl.__version__)
    with pytest.raises(AttributeError, match="no attribute 'gossip'"):
        p2pdl.gossip  # noqa: B018
