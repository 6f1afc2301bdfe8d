"""What is published is what is loaded; what cannot be published is skipped for a reason."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2pdl.clock import VirtualClock
from p2pdl.errors import StoreError
from p2pdl.spec import SHARD_ELEMENTS, shard_digests, vector_digest
from p2pdl.store.buffers import VectorBuffers
from p2pdl.store.layout import SLOTS, Word
from p2pdl.store.reader import BUFFERS, StoreReader
from p2pdl.store.writer import StoreWriter
from p2pdl.types import Float32Vector
from tests.stores import dense_spec, new_store, publish, random_vector, writing


@pytest.mark.parametrize("elements", [1, 16, 1000, SHARD_ELEMENTS, SHARD_ELEMENTS + 1, 3 * SHARD_ELEMENTS + 500])
def test_load_equals_published_vector_with_its_digests(elements: int) -> None:
    spec = dense_spec(elements)
    vector = random_vector(spec.size)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = StoreReader(descriptor)
        assert publish(writer, vector) == 1
        snapshot = reader.load()
        assert snapshot is not None
        np.testing.assert_array_equal(snapshot.vector, vector)
        assert snapshot.shard_digests == shard_digests(vector)
        assert snapshot.info.digest == vector_digest(vector)
        reader.close()


def test_load_describes_the_publication() -> None:
    clock = VirtualClock(12.25)
    with new_store() as descriptor:
        writer, reader = StoreWriter(descriptor, dense_spec(4), clock), StoreReader(descriptor)
        for loss in (0.125, math.nan):
            writer.publish(lambda target: target.fill(2), step=7, samples=448, loss=loss, final=loss == 0.125)
            snapshot = reader.load()
            assert snapshot is not None
            info = snapshot.info
            assert (info.step, info.samples, info.published, info.final) == (7, 448, 12.25, loss == 0.125)
            assert info.loss == loss or (math.isnan(info.loss) and math.isnan(loss))
        assert info.version == reader.newest_version() == 2
        writer.close()
        reader.close()


def test_load_before_the_first_publication_is_none() -> None:
    with new_store() as descriptor:
        reader = StoreReader(descriptor)
        assert not reader.is_ready
        assert (reader.load(), reader.newest_version(), reader.spec_rows(), reader.incarnation) == (None, None, b"", "")
        with writing(descriptor, dense_spec(4)) as writer:
            assert reader.is_ready
            assert reader.incarnation == writer.incarnation != ""
            assert (reader.load(), reader.newest_version()) == (None, None)
        reader.close()


def test_load_is_a_private_copy_that_cannot_be_written() -> None:
    spec = dense_spec(40)
    first = random_vector(spec.size, seed=1)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = StoreReader(descriptor)
        publish(writer, first)
        snapshot = reader.load()
        assert snapshot is not None
        for seed in range(2, 9):
            publish(writer, random_vector(spec.size, seed))
        np.testing.assert_array_equal(snapshot.vector, first)
        with pytest.raises(ValueError, match="read-only"):
            snapshot.vector[0] = 1
        reader.close()


def test_spec_rows_are_readable_byte_for_byte() -> None:
    spec = dense_spec(40, name="schicht/größe" * 500)
    with new_store() as descriptor, writing(descriptor, spec):
        reader = StoreReader(descriptor)
        assert reader.spec_rows() == "\n".join(spec.rows()).encode()
        reader.close()


def test_publish_while_newest_is_read_uses_the_other_slots_and_pinning_blocks_the_last() -> None:
    spec = dense_spec(16)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = StoreReader(descriptor)
        first = random_vector(spec.size, 1)
        publish(writer, first)
        pinned = writer.pin_newest()
        publish(writer, random_vector(spec.size, 2))
        reader._header[Word.READING] = 1 + reader._header[Word.NEWEST] % SLOTS
        assert publish(writer, random_vector(spec.size, 3)) == 3
        assert publish(writer, random_vector(spec.size, 4)) is None
        np.testing.assert_array_equal(pinned, first)
        assert reader.newest_version() == 3
        writer.unpin()
        assert publish(writer, random_vector(spec.size, 5)) == 4
        del pinned
        reader.close()


def test_pin_newest_is_readable_only_and_needs_a_publication() -> None:
    with new_store() as descriptor, writing(descriptor, dense_spec(16)) as writer:
        with pytest.raises(StoreError, match="nothing has been published"):
            writer.pin_newest()
        publish(writer, random_vector(16))
        with pytest.raises(ValueError, match="read-only"):
            writer.pin_newest()[0] = 1
        assert writer.pin_newest().ctypes.data % 64 == 0


def test_newest_was_read_follows_the_reader() -> None:
    with new_store() as descriptor, writing(descriptor, dense_spec(16)) as writer:
        reader = StoreReader(descriptor)
        assert writer.newest_was_read
        publish(writer, random_vector(16))
        assert not writer.newest_was_read
        reader.load()
        assert writer.newest_was_read
        publish(writer, random_vector(16))
        assert not writer.newest_was_read
        reader.close()


def test_publish_fill_that_raises_leaves_the_newest_version_served() -> None:
    spec = dense_spec(16)
    first = random_vector(spec.size)

    def fail(target: Float32Vector) -> None:
        target[:8] = 99
        raise MemoryError("in the middle")

    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = StoreReader(descriptor)
        publish(writer, first)
        for _ in range(4):
            with pytest.raises(MemoryError):
                writer.publish(fail, step=2, samples=2, loss=0.0)
            snapshot = reader.load()
            assert snapshot is not None
            np.testing.assert_array_equal(snapshot.vector, first)
        assert publish(writer, first + 1) == 2
        snapshot = reader.load()
        assert snapshot is not None and snapshot.info.version == 2
        reader.close()


def test_take_over_frees_the_slot_that_a_dead_reader_held() -> None:
    spec = dense_spec(16)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        publish(writer, random_vector(spec.size))
        dead = StoreReader(descriptor)
        dead._header[Word.READING] = 1 + dead._header[Word.NEWEST] % SLOTS
        onlooker = StoreReader(descriptor)
        assert onlooker.counter(Word.READING) == 1
        reader = StoreReader(descriptor)
        reader.take_over()
        assert (writer.counter(Word.READING), writer.counter(Word.SERVER_STARTS)) == (0, 1)
        for each in (dead, onlooker, reader):
            each.close()


def test_counters_of_the_server_are_seen_by_the_trainer() -> None:
    with new_store() as descriptor, writing(descriptor, dense_spec(16)) as writer:
        reader = StoreReader(descriptor)
        reader.count(Word.REQUESTS)
        reader.count(Word.BYTES_SENT, 2**40)
        reader.count(Word.BYTES_SENT, 5)
        assert (writer.counter(Word.REQUESTS), writer.counter(Word.BYTES_SENT)) == (1, 2**40 + 5)
        assert reader.counter(Word.BYTES_SENT) == 2**40 + 5
        reader.close()


def test_buffers_are_used_again_only_when_no_slice_is_left() -> None:
    buffers = VectorBuffers(8, 2)
    first, second = buffers.take(), buffers.take()
    assert first is not None and second is not None and buffers.take() is None and buffers.is_exhausted
    piece = first[2:4]
    address = first.ctypes.data
    del first
    assert buffers.take() is None
    frame = memoryview(piece)
    del piece
    assert buffers.take() is None
    del frame
    again = buffers.take()
    assert again is not None and again.ctypes.data == address and buffers.take() is None


def test_reader_whose_buffers_are_all_in_use_waits_for_one() -> None:
    spec = dense_spec(40)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = StoreReader(descriptor)
        held = []
        for number in range(BUFFERS):
            publish(writer, random_vector(spec.size, seed=number))
            held.append(reader.load())
        publish(writer, random_vector(spec.size, seed=99))
        assert None not in held and reader.load() is None and reader.is_starved
        np.testing.assert_array_equal(held[0].vector, random_vector(spec.size, seed=0))
        held.pop(0)
        assert not reader.is_starved
        snapshot = reader.load()
        assert snapshot is not None and snapshot.info.version == BUFFERS + 1
        np.testing.assert_array_equal(snapshot.vector, random_vector(spec.size, seed=99))
        reader.close()
