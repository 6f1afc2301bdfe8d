"""A block: replaced by one process, read whole or not at all by others."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.errors import StoreError
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import HEADER_BYTES, PAGE, SPEC_OFFSET, STATUS, VIEW


@pytest.fixture
def store() -> Iterator[int]:
    descriptor = memory.create()
    yield descriptor
    os.close(descriptor)


def test_blocks_stand_one_behind_the_other() -> None:
    assert (STATUS.offset, STATUS.stop, VIEW.stop) == (PAGE, VIEW.offset, SPEC_OFFSET)
    assert HEADER_BYTES == SPEC_OFFSET


def test_two_blocks_of_one_store_do_not_touch(store: int) -> None:
    status, view = Block(store, STATUS), Block(store, VIEW)
    status.write(b"s" * STATUS.limit)
    view.write(b"v" * VIEW.limit)
    assert Block(store, STATUS).read() == b"s" * STATUS.limit
    assert Block(store, VIEW).read() == b"v" * VIEW.limit


def test_block_never_written_and_block_too_large(store: int) -> None:
    block = Block(store, VIEW)
    assert block.read() is None
    with pytest.raises(StoreError, match=f"over the limit of {VIEW.limit}"):
        block.write(b"x" * (VIEW.limit + 1))
    assert block.read() is None


@given(contents=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5))
def test_block_gives_what_was_written_last_and_its_sequence_tells(contents: list[bytes]) -> None:
    store = memory.create()
    try:
        writer, reader = Block(store, VIEW), Block(store, VIEW)
        seen = {reader.sequence}
        for content in contents:
            writer.write(content)
            assert reader.read() == content
            assert reader.sequence not in seen
            seen.add(reader.sequence)
    finally:
        os.close(store)


def test_writer_that_died_in_the_midst_leaves_nothing_to_read_until_the_next_one(store: int) -> None:
    Block(store, VIEW).write(b"whole")
    words = Block(store, VIEW)
    odd = words.sequence | 1
    os.pwrite(store, odd.to_bytes(8, "little"), VIEW.offset)
    assert words.read() is None
    Block(store, VIEW).write(b"again")
    assert words.read() == b"again" and words.sequence % 2 == 0


def test_damaged_content_is_not_given_out(store: int) -> None:
    block = Block(store, VIEW)
    block.write(b"content")
    os.pwrite(store, b"X", VIEW.offset + 24)
    assert block.read() is None
