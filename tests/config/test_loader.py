from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pdl.config.loader import DEEPEST, read_file, read_text
from p2pdl.config.source import Document
from p2pdl.errors import ConfigurationError

FILE = Path("peers.yaml")


def messages(document: Document) -> list[str]:
    return [str(problem) for problem in document.problems]


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("3", 3),
        ("-3", -3),
        ("1_000", 1000),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("-2.5e+2", -250.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e3x", "1e3x"),
        ("e3", "e3"),
        ("true", True),
        ("yes", True),
        ("OFF", False),
        ("NO", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("y", "y"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("127.0.0.1:7101", "127.0.0.1:7101"),
        ("node-1", "node-1"),
        ('"0123"', "0123"),
        ("'1:30'", "1:30"),
        ('"NO"', "NO"),
        ('""', ""),
        ("[1, 2e0, NO]", [1, 2.0, False]),
        ("{a: {b: 1e-3}}", {"a": {"b": 0.001}}),
    ],
)
def test_word_has_expected_value(word: str, value: Any) -> None:
    document = read_text(f"key: {word}\n", FILE)
    assert document.problems == []
    found = document.value["key"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("word", "message", "remedy"),
    [
        ("0123", "found `0123`, which YAML reads as 83", 'quote it if it is text: `"0123"`; as a number write `123`'),
        ("-010", "found `-010`, which YAML reads as -8", "as a number write `-10`"),
        ("09", "found `09`, which some readers of YAML take for a number", 'quote it if it is text: `"09"`'),
        ("1:30", "found `1:30`, which YAML reads as 90", 'quote it if it is text: `"1:30"`; as a number write `90`'),
        ("1:30.5", "found `1:30.5`, which YAML reads as 90.5", "as a number write `90.5`"),
        ("0x1F", "found `0x1F`, which YAML reads as 31", "as a number write `31`"),
        ("0xb0", "found `0xb0`, which YAML reads as 176", "as a number write `176`"),
        ("0b11", "found `0b11`, which YAML reads as 3", "as a number write `3`"),
        ("0o17", "found `0o17`, which YAML reads as 15", "as a number write `15`"),
        ("0x_", "found `0x_`, which some readers of YAML take for a number", "quote it"),
        (".inf", "found `.inf`, which is not a finite number", "write a finite number"),
        ("-.INF", "found `-.INF`, which is not a finite number", "write a finite number"),
        (".nan", "found `.nan`, which is not a finite number", "write a finite number"),
        ("1e999", "found `1e999`, which is not a finite number", "write a finite number"),
        ("9" * 5000, "found `99999", "write a finite number"),
        ('"\\e[31m"', 'found `"\\x1b[31m"`, which contains a control character', "remove it"),
        ('"\\uD800"', 'found `"\\ud800"`, which contains a control character', "remove it"),
    ],
)
def test_word_that_deceives_is_refused(word: str, message: str, remedy: str) -> None:
    document = read_text(f"a: 1\nkey: {word}\n", FILE)
    assert len(document.problems) == 1
    assert str(document.problems[0]).startswith(f"peers.yaml:2: key: {message}")
    assert remedy in document.problems[0].remedy
    assert ("key",) in document.refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "peers.yaml:3: a: is written twice, first in line 1\n  -> keep one of the two"),
        ("s:\n  a: 1\n  a: 1\n", "peers.yaml:3: s.a: is written twice, first in line 2"),
        ("NO: 1\n", 'peers.yaml:1: NO: found the key NO, which is true or false to YAML\n  -> quote it: `"NO"`'),
        ("s:\n  1: x\n", 'peers.yaml:2: s.1: found the key 1, which is a number\n  -> quote it: `"1"`'),
        ("? [a]\n: 1\n", "found a key that is not text\n  -> write a name before the colon"),
        ("~: 1\n", "peers.yaml:1: ~: found the key ~, which is null to YAML"),
        ('"\\uD800": 1\n', "peers.yaml:1: \\ud800: the key contains a control character\n  -> remove it"),
        ("a: &x 1\n", "peers.yaml:1: found the anchor &x\n  -> remove it; anchors are not supported"),
        ("a: 1\nb: *x\n", "peers.yaml:2: found the alias *x\n  -> write the value out; aliases are not supported"),
        ("a: !!str 1\n", "peers.yaml:1: found the tag tag:yaml.org,2002:str\n  -> remove it; put text in quotes"),
        ("a: !!python/object:os.system 1\n", "found the tag tag:yaml.org,2002:python/object:os.system"),
        ("a: ! 1\n", "found the tag !"),
    ],
)
def test_form_is_refused_with_line_and_remedy(text: str, expected: str) -> None:
    assert any(expected in message for message in messages(read_text(text, FILE)))


def test_form_every_mistake_is_found_at_once() -> None:
    document = read_text("a: &x 1\nb: *x\nc: 0123\nc: !t 4\nd: [*x, &y {e: 1:30}]\n", FILE)
    assert sorted(problem.line or 0 for problem in document.problems) == [1, 2, 3, 4, 4, 5, 5, 5]


def test_alias_bomb_is_not_expanded() -> None:
    layers = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert read_text("\n".join(layers), FILE).value["a29"] == [None] * 9


@pytest.mark.parametrize(
    ("text", "line", "remedy"),
    [
        ("a:\n\tb: 1\n", 2, "indent with spaces"),
        ("a: localhost: 7101\n", 1, 'or put a value that contains ": " in quotes'),
        ("a:\n  b: 1\n c: 2\n", 3, "start all keys of one section in the same column"),
        ("a: 1\nb: 'x\nc: 3\n", 2, "close the quotes"),
        ("a: [1, 2\nb: 3\n", 2, "close the bracket"),
        ("n:\n  - address: [::1]:7101\n", 2, "put the value in quotes"),
        ("a:\n  b: 1\n  c 2\n  d: 3\n", 3, "write a colon and a space after every key"),
        ("a: @x\n", 1, "must be in quotes"),
        ("a: 1\n---\nb: 2\n", 2, "write one document only"),
        ('a: "\\q"\n', 1, "use single quotes"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', 2, "must be in quotes"),
        ("a: 1\nb: \x01\n", 2, "remove it"),
        ("a: " + "[" * 200, 1, "no setting needs so many levels"),
    ],
)
def test_text_that_is_not_yaml_names_line_and_remedy(text: str, line: int, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_text(text, FILE)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (FILE, line)
    assert remedy in problem.remedy


def test_syntax_error_shows_the_line() -> None:
    with pytest.raises(ConfigurationError, match="not YAML: mapping values are not allowed here, at `a: b: c`"):
        read_text("x: 1\na: b: c\n", FILE)


def test_nesting_up_to_the_limit_is_read() -> None:
    inner = DEEPEST - 2
    assert read_text("a: " + "[" * inner + "]" * inner, FILE).problems == []


def test_lines_of_keys_and_items() -> None:
    document = read_text("# head\nnodes:\n  - name: a\n\n  - name: b\n    address:\n      x:1\n", FILE)
    assert document.lines[("nodes",)] == 2
    assert document.lines[("nodes", 1)] == 5
    assert document.lines[("nodes", 1, "address")] == 6
    assert document.line(("nodes", 1, "bind")) == 5
    assert document.line(("train", "seed")) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "peers.yaml:1: the file is empty\n  -> `p2pdl init` writes a commented peers.yaml"),
        (b"# nothing but a comment\n", "peers.yaml:1: the file is empty"),
        (b"\n- a\n- b\n", "peers.yaml:2: the file holds a list, not sections\n  -> write sections at the left margin"),
        (b"hello\n", "peers.yaml:1: the file holds one value, `hello`, not sections"),
        (b"a: 1\nb: \xff\n", "peers.yaml:2: is not UTF-8 text: byte 0xff at offset 8\n  -> save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), "peers.yaml:1: is not UTF-8 text: byte 0xff at offset 0"),
    ],
)
def test_file_without_sections(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "peers.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        read_file(file)
    assert expected in str(caught.value)


def test_file_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_file(file).value == {"a": 1}


def test_file_missing_folder_or_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file\n  -> `p2pdl init` writes"):
        read_file(tmp_path / "peers.yaml")
    with pytest.raises(ConfigurationError, match="is a folder\n  -> name the file in it"):
        read_file(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read: .*null"):
        read_file(Path("a\0b"))

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ConfigurationError, match="cannot be read: Permission denied\n  -> check the path"):
        read_file(tmp_path / "peers.yaml")
