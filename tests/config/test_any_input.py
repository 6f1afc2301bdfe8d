"""Whatever a file or a flag says: it loads, or a ConfigurationError says why."""

from __future__ import annotations

from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.config import Configuration
from p2pdl.config.loader import read_text
from p2pdl.config.model import Settings
from p2pdl.config.overrides import apply
from p2pdl.config.presets import template
from p2pdl.config.reading import validate
from p2pdl.config.setting import setting_paths
from p2pdl.errors import ConfigurationError

FILE = Path("peers.yaml")
PATHS = [".".join(map(str, location)) for location, _ in setting_paths(Settings)]
WORDS = st.sampled_from(
    [
        '{"\\uD800": 1}',
        "1",
        "0",
        "-1",
        "1e-3",
        "0123",
        "1:30",
        "NO",
        "yes",
        "null",
        "~",
        "[]",
        "{}",
        "[1, 2]",
        "{a: b}",
        "node1",
        "x:y",
    ]
    + [
        "127.0.0.1:7101",
        "127.0.0.1:0",
        "[::1]:1",
        '"a"',
        "''",
        "&a 1",
        "*a",
        "!t 1",
        "ring",
        "static",
        "random",
        "9" * 30,
    ]
    + ["{node1: [node2, node1], node9: 3}", ".inf", "|", "- 1", "? a", "\t", "1" * 5000, "{a: {b: {c: [1, {d: e}]}}}"]
)


def check(text: str, flags: list[str]) -> None:
    try:
        document = read_text(text, FILE)
        if not isinstance(document.value, dict):
            return
        for flag in flags:
            apply(document, flag)
        found = validate(document)
    except ConfigurationError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.message and problem.remedy
            assert "\n" not in problem.message and str(problem).isprintable() is False
            assert (problem.file is None) == (problem.line is None and str(problem).startswith("--set"))
    else:
        configuration = Configuration(
            file=Path("/x/peers.yaml"), **{name: getattr(found, name) for name in Settings.model_fields}
        )
        assert Configuration.from_json(configuration.to_json()) == configuration


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    check(text, [])


@given(st.text(alphabet="abno:-[]{},&*!|>'\"%@`#? \n\t01e.~<=\\xuU\x00\u2028", max_size=60))
def test_any_text_of_the_signs_that_yaml_knows(text: str) -> None:
    check(text, [])
    check("cluster: {name: " + text, [])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(PATHS) | st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(list(Settings.model_fields)), VALUES))
def test_any_values_in_the_known_sections(value: dict[str, object]) -> None:
    check(yaml.safe_dump(value, allow_unicode=True), [])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_template_with_any_lines_changed(data: st.DataObject) -> None:
    lines = [line for line in template().splitlines() if line.strip() and not line.strip().startswith("#")]
    for place in data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=4)):
        key = lines[place].partition(":")[0]
        lines[place] = data.draw(st.sampled_from([f"{key}: ", f"  {key}: ", f"{key}x: ", ""])) + data.draw(WORDS)
    check("\n".join(lines) + "\n", [])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS) | st.text(max_size=8), WORDS | st.text(max_size=8)), max_size=4))
def test_template_with_any_flags(flags: list[tuple[str, str]]) -> None:
    check(template(), [f"{path}={word}" for path, word in flags])
    check(template(), [f"{path.replace('nodes.', 'nodes.0.')}={word}" for path, word in flags])
