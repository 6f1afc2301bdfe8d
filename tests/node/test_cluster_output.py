"""Messages out of what a node writes to standard error, however it comes through the pipe."""

from __future__ import annotations

import os

import pytest

from p2pdl.node.node_output import Message, parse, read_messages


def read(*pieces: bytes) -> list[Message]:
    reading, writing = os.pipe()
    found: list[Message] = []
    thread = read_messages("node1", reading, found.append)
    for piece in pieces:
        os.write(writing, piece)
    os.close(writing)
    thread.join(10.0)
    assert not thread.is_alive()
    return found


@pytest.mark.parametrize(
    ("written", "level", "text"),
    [
        ("node1: listening", "info", "listening"),
        ("node1: warning: slow", "warning", "slow"),
        ("node1: error: gone\n  -> see the log", "error", "gone\n  -> see the log"),
        ("p2pdl: no such file", "error", "no such file"),
        ("Traceback (most recent call last):", "other", "Traceback (most recent call last):"),
        ("node11: listening", "other", "node11: listening"),
    ],
)
def test_level_is_read_from_the_beginning_of_a_line(written: str, level: str, text: str) -> None:
    message = parse("node1", written)
    assert (message.level, message.text) == (level, text)


def test_message_reads_as_it_was_written() -> None:
    for written in ("node1: listening", "node1: warning: slow", "node1: error: gone\n  -> see the log"):
        assert str(parse("node1", written)) == written


def test_indented_lines_belong_to_the_message_before() -> None:
    found = read(b"node1: error: gone\n  -> see the log\nnode1: warning: slow\n")
    assert [message.text for message in found] == ["gone\n  -> see the log", "slow"]


def test_line_in_pieces_is_put_together() -> None:
    found = read(b"node1: warn", b"ing: sl", b"ow\nnode1: bye")
    assert [(message.level, message.text) for message in found] == [("warning", "slow"), ("info", "bye")]


def test_bytes_that_are_not_text_do_not_end_the_reading() -> None:
    found = read(b"node1: \xff\xfe\n\n\n", b"node1: still here\n")
    assert [message.text for message in found] == ["\ufffd\ufffd", "still here"]
