"""A strict reader of YAML: no duplicate keys, no tags, no anchors, no surprising numbers, a line for every key.

A mistake of form stops nothing: it is noted in the document, so that every other mistake is found as well. Only
what is not YAML at all, or holds no sections, ends the reading.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from p2pdl.config.scalars import KINDS, NULL, PATTERNS, TEXT, Deceptive, has_control_character, scalar
from p2pdl.config.source import Document, Location, dotted, shown
from p2pdl.errors import ConfigurationError, Problem

DEEPEST = 20
"""Levels of nesting that a file may have; the configuration itself has four."""

_QUOTING = 'text that contains ": " or " #", or starts with one of [ ] { } & * ! | > % @ `, must be in quotes'
_NOTICED_LATE = ("end of stream", "could not find expected ':'")
"""What PyYAML notices only after the line that is wrong, and then names that line as the context."""

_REMEDIES = {
    r"'\t'": "indent with spaces; YAML does not allow tabs there",
    "found unexpected end of stream": "close the quotes that are opened on this line",
    "unknown escape": "in double quotes write \\\\ for a backslash, or use single quotes",
    "expected ',' or": "close the bracket; between its items belongs a comma",
    "mapping values are not allowed": "indent a key like its neighbours, end the key of the line before with a colon, "
    'or put a value that contains ": " in quotes',
    "expected <block end>": "start all keys of one section in the same column, one key on a line",
    "could not find expected ':'": "write a colon and a space after every key: `key: value`",
    "another document": "write one document only, without a second ---",
    "the node content": "put the value in quotes: text that starts with a bracket must have them",
    "nested": "no setting needs so many levels",
}


def read_file(path: Path) -> Document:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigurationError: It cannot be read, is not UTF-8, is not YAML, or holds no mapping.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _whole_file(path, "there is no such file", "`p2pdl init` writes a commented peers.yaml") from None
    except IsADirectoryError:
        raise _whole_file(path, "is a folder", f"name the file in it, such as {path / 'peers.yaml'}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _whole_file(path, f"cannot be read: {reason}", "check the path and its permissions") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        message = f"is not UTF-8 text: byte 0x{content[error.start]:02x} at offset {error.start}"
        raise _whole_file(path, message, "save the file as UTF-8", line) from None
    document = read_text(text, path)
    if document.value is None:
        raise _whole_file(path, "the file is empty", "`p2pdl init` writes a commented peers.yaml", 1)
    if not isinstance(document.value, dict):
        kind = "a list" if isinstance(document.value, list) else f"one value, {document.found(())}"
        remedy = "write sections at the left margin, such as `cluster:` and `nodes:`"
        raise _whole_file(path, f"the file holds {kind}, not sections", remedy, document.lines[()])
    return document


def read_text(text: str, file: Path | None, root: Location = ()) -> Document:
    """Read YAML.

    Args:
        text: The YAML text.
        file: Where it comes from; None for a `--set` flag.
        root: Location that the text's value will have.

    Raises:
        ConfigurationError: It is not YAML at all. Smaller mistakes are left in `problems`.
    """
    document = Document(file)
    loader: StrictLoader | None = None
    try:
        loader = StrictLoader(text)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if file is not None else None
        message = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        raise ConfigurationError([Problem(dotted(root), message, "remove it", file, line)]) from None
    except (yaml.MarkedYAMLError, ValueError, OverflowError) as error:
        raise ConfigurationError([_syntax_problem(error, loader, text, file, root)]) from None
    for mark_line, message, remedy in loader.oddities:
        document.problems.append(Problem(dotted(root), message, remedy, file, mark_line if file else None))
    if node is not None:
        document.lines[root] = node.start_mark.line + 1
        document.value = _value(node, root, document)
    return document


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader without anchors, aliases and tags, and with decimal numbers only."""

    yaml_implicit_resolvers: dict[Any, Any] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.oddities: list[tuple[int, str, str]] = []
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node after taking from its event what a configuration has no use for."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        start, end = event.start_mark, event.end_mark
        line = start.line + 1
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self._odd(line, f"found the alias *{event.anchor}", "write the value out; aliases are not supported")
            return yaml.ScalarNode(NULL, "", start, end)
        if event.anchor is not None:
            self._odd(line, f"found the anchor &{event.anchor}", "remove it; anchors are not supported")
            event.anchor = None
        if event.tag is not None:
            self._odd(line, f"found the tag {event.tag}", "remove it; put text in quotes instead")
            event.tag = None
            event.implicit = (event.style is None, True) if isinstance(event, yaml.ScalarEvent) else True
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"nested more than {DEEPEST} deep", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _odd(self, line: int, message: str, remedy: str) -> None:
        self.oddities.append((line, shown(message, 100), remedy))


for _tag, _pattern in PATTERNS.items():
    StrictLoader.add_implicit_resolver(_tag, _pattern, None)


def _value(node: yaml.Node, location: Location, document: Document) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, location, document)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            document.lines[(*location, index)] = item.start_mark.line + 1
        return [_value(item, (*location, index), document) for index, item in enumerate(node.value)]
    return _scalar(node, location, document)


def _mapping(node: yaml.MappingNode, location: Location, document: Document) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
        inner = (*location, key)
        first = document.lines.get(inner)
        document.lines[inner] = line
        if key_node.tag != TEXT:
            kind = KINDS.get(key_node.tag, "not text")
            what = f"the key {shown(key)}, which is {kind}" if key else "a key that is not text"
            remedy = f'quote it: `"{shown(key)}"`' if key else "write a name before the colon"
            document.refuse(inner, f"found {what}", remedy)
        elif first is not None:
            again = "" if document.file is None else f", first in line {first}"
            document.refuse(inner, f"is written twice{again}", "keep one of the two")
        elif has_control_character(key):
            document.refuse(inner, "the key contains a control character", "remove it")
            continue
        result[key] = _value(value_node, inner, document)
    return result


def _scalar(node: yaml.Node, location: Location, document: Document) -> Any:
    word = str(node.value)
    document.written[location] = word if getattr(node, "style", None) is None else f'"{word}"'
    try:
        return scalar(word, node.tag)
    except Deceptive as error:
        document.refuse(location, f"found {document.spelling(location)}, which {error.message}", error.remedy)
        return word


def _whole_file(path: Path, message: str, remedy: str, line: int | None = None) -> ConfigurationError:
    return ConfigurationError([Problem("", message, remedy, path, line)])


def _syntax_problem(
    error: Exception, loader: StrictLoader | None, text: str, file: Path | None, root: Location
) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or "a character or escape that does not exist"
    if what.endswith(_NOTICED_LATE):
        mark = getattr(error, "context_mark", None) or mark
    number = mark.line if mark is not None else loader.line if loader is not None else 0
    lines = text.splitlines()
    source = shown(lines[number].strip()) if number < len(lines) else ""
    message = f"not YAML: {shown(what, 100)}" + (f", at `{source}`" if source else "")
    remedy = next((advice for sign, advice in _REMEDIES.items() if sign in what), _QUOTING)
    return Problem(dotted(root), message, remedy, file, number + 1 if file is not None else None)
