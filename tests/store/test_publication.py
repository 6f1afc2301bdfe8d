"""What is published is what is loaded; what cannot be published is skipped for a reason."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator

import numpy as np
import pytest

from p2pdl.clock import VirtualClock
from p2pdl.errors import DivergedError, StoreError
from p2pdl.spec import SHARD_ELEMENTS, shard_digests, vector_digest
from p2pdl.store.layout import LEASES, SLOTS, Word
from p2pdl.store.reader import StoreReader
from p2pdl.store.writer import StoreWriter
from p2pdl.types import Float32Vector
from tests.processes import no_descriptor_left
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


@pytest.mark.parametrize("pieces", [[1], [SHARD_ELEMENTS], [5, SHARD_ELEMENTS + 3, 2 * SHARD_ELEMENTS], []])
def test_load_of_a_vector_written_in_pieces_has_its_digests(pieces: list[int]) -> None:
    spec = dense_spec(2 * SHARD_ELEMENTS + 500)
    vector = random_vector(spec.size)

    def fill(target: Float32Vector) -> Iterator[int]:
        for start, stop in itertools.pairwise([0, *pieces, spec.size]):
            target[start:stop] = vector[start:stop]
            yield stop

    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = StoreReader(descriptor)
        writer.publish(fill, step=1, samples=1, loss=0.5)
        snapshot = reader.load()
        assert snapshot is not None
        np.testing.assert_array_equal(snapshot.vector, vector)
        assert snapshot.shard_digests == shard_digests(vector)
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


def test_load_stays_as_it_is_and_cannot_be_written() -> None:
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


def test_publish_finds_a_slot_whatever_is_leased_and_pinned() -> None:
    spec = dense_spec(16)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = StoreReader(descriptor)
        vectors = [random_vector(spec.size, seed) for seed in range(12)]
        publish(writer, vectors[0])
        pinned = writer.pin_newest()
        leased = []
        for number in range(1, 1 + LEASES):
            publish(writer, vectors[number])
            leased.append(reader.load())
        for number in range(1 + LEASES, 12):
            assert publish(writer, vectors[number]) == number + 1
            assert reader.load() is None
        np.testing.assert_array_equal(pinned, vectors[0])
        for number, snapshot in enumerate(leased, start=1):
            assert snapshot is not None
            np.testing.assert_array_equal(snapshot.vector, vectors[number])
        assert reader.newest_version() == 12
        writer.unpin()
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


def test_take_over_ends_the_leases_of_a_dead_reader() -> None:
    spec = dense_spec(16)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        publish(writer, random_vector(spec.size))
        dead = StoreReader(descriptor)
        leased = dead.load()
        onlooker = StoreReader(descriptor)
        assert sum(onlooker.counter(Word.LEASED + slot) for slot in range(SLOTS)) == 1
        reader = StoreReader(descriptor)
        reader.take_over()
        assert [writer.counter(Word.LEASED + slot) for slot in range(SLOTS)] == [0] * SLOTS
        assert writer.counter(Word.SERVER_STARTS) == 1
        del leased
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


def test_lease_lasts_until_no_slice_and_no_frame_is_left() -> None:
    spec = dense_spec(40)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = StoreReader(descriptor)
        held = []
        for number in range(LEASES):
            publish(writer, random_vector(spec.size, seed=number))
            held.append(reader.load())
        publish(writer, random_vector(spec.size, seed=99))
        assert None not in held and reader.load() is None and reader.is_starved
        piece = held.pop(0).vector[2:4]
        assert reader.load() is None and reader.is_starved
        frame = memoryview(piece)
        del piece
        assert reader.load() is None and reader.is_starved
        np.testing.assert_array_equal(frame, random_vector(spec.size, seed=0)[2:4])
        del frame
        assert not reader.is_starved
        snapshot = reader.load()
        assert snapshot is not None and snapshot.info.version == LEASES + 1
        np.testing.assert_array_equal(snapshot.vector, random_vector(spec.size, seed=99))
        reader.close()


def test_load_twice_is_one_lease() -> None:
    with new_store() as descriptor, writing(descriptor, dense_spec(40)) as writer:
        reader = StoreReader(descriptor)
        publish(writer, random_vector(48))
        first, second = reader.load(), reader.load()
        assert first is not None and second is not None and first.vector is second.vector
        del first
        publish(writer, random_vector(48, seed=1))
        third = reader.load()
        assert third is not None and third.info.version == 2
        np.testing.assert_array_equal(second.vector[:40], random_vector(48)[:40])
        reader.close()


def test_load_refuses_digests_that_are_not_the_version_s() -> None:
    with new_store() as descriptor, writing(descriptor, dense_spec(40)) as writer:
        reader = StoreReader(descriptor)
        publish(writer, random_vector(48))
        for digests in writer._digests:
            digests[0] ^= np.uint64(1)
        del digests
        assert reader.load() is None
        publish(writer, random_vector(48))
        assert reader.load() is not None
        reader.close()


def test_store_of_another_version_of_the_program_is_refused() -> None:
    with new_store() as descriptor:
        os.pwrite(descriptor, b"p2pdl\0\0\1", 8 * Word.MAGIC)
        with pytest.raises(StoreError, match="no store of this version"):
            StoreWriter(descriptor, dense_spec(40))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, SHARD_ELEMENTS - 1, SHARD_ELEMENTS + 499])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_publish_of_weights_that_are_not_finite_leaves_the_newest_version_served(
    value: float, place: int, in_pieces: bool
) -> None:
    spec = dense_spec(SHARD_ELEMENTS + 500)
    first = random_vector(spec.size)
    second = first.copy()
    second[place] = value

    def fill(target: Float32Vector) -> Iterator[int]:
        for start in range(0, spec.size, 1000):
            target[start : start + 1000] = second[start : start + 1000]
            yield min(start + 1000, spec.size)

    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = StoreReader(descriptor)
        publish(writer, first)
        for _ in range(SLOTS + 1):
            with pytest.raises(
                DivergedError, match="the weights of step 7 are not finite.* nothing of it was published"
            ):
                writer.publish(
                    fill if in_pieces else lambda target: np.copyto(target, second), step=7, samples=7, loss=0.5
                )
            assert reader.newest_version() == 1
            snapshot = reader.load()
            assert snapshot is not None
            np.testing.assert_array_equal(snapshot.vector, first)
        assert publish(writer, first + 1) == 2
        snapshot = reader.load()
        assert snapshot is not None
        np.testing.assert_array_equal(snapshot.vector, first + 1)
        reader.close()


def test_publish_of_finite_weights_whose_sum_is_not_is_no_divergence() -> None:
    spec = dense_spec(1000)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        assert publish(writer, np.full(spec.size, 3e38, np.float32)) == 1


def test_load_finds_nothing_while_there_is_no_descriptor_to_map_the_weights_with() -> None:
    spec = dense_spec(1000)
    vector = random_vector(spec.size)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = StoreReader(descriptor)
        publish(writer, vector)
        with no_descriptor_left():
            assert reader.load() is None
        snapshot = reader.load()
        assert snapshot is not None
        np.testing.assert_array_equal(snapshot.vector, vector)
        reader.close()
