"""The memory of the store: without a name, of fixed size, refused cleanly when the machine has too little."""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p2pdl.errors import StoreError, StoreTooLarge
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import HEADER_BYTES, PAGE, SLOTS, STATUS, Layout, SlotWord, Word, padded
from p2pdl.store.reader import StoreReader
from p2pdl.store.writer import StoreWriter
from tests.stores import dense_spec, new_store, open_stores, publish, random_vector, writing

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="memfd and seals are Linux")

SMALL = dense_spec(100)
OTHERS = {
    "larger": dense_spec(100_000),
    "smaller": dense_spec(10),
    "renamed": dense_spec(100, name="other/kernel"),
    "longer": WeightSpec.layout([("dense/kernel", (100,), "float32", True), ("more", (0,), "float32", True)]),
    "shorter": WeightSpec.layout([]),
}


@linux_only
def test_size_of_a_laid_out_store_is_sealed() -> None:
    with new_store() as descriptor, writing(descriptor, SMALL):
        size = os.fstat(descriptor).st_size
        assert size == Layout(SMALL.size, len("\n".join(SMALL.rows()))).total_bytes
        for other in (0, size - 1, size + PAGE):
            with pytest.raises(PermissionError):
                os.ftruncate(descriptor, other)
        assert os.fstat(descriptor).st_size == size


@linux_only
def test_store_leaves_no_name_anywhere() -> None:
    places = (Path("/dev/shm"), Path(tempfile.gettempdir()))
    before = {place: {entry.name for entry in place.iterdir()} for place in places}
    with new_store() as descriptor, writing(descriptor, SMALL) as writer:
        publish(writer, random_vector(SMALL.size))
        for place in places:
            new = {entry.name for entry in place.iterdir()} - before[place]
            assert not [name for name in new if "p2pdl-weights" in name]
        assert "(deleted)" in os.readlink(f"/proc/self/fd/{descriptor}")
        assert not os.get_inheritable(descriptor)


def test_store_without_memfd_is_a_private_unlinked_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    vector = random_vector(SMALL.size)
    with new_store() as descriptor, writing(descriptor, SMALL) as writer:
        assert list(tmp_path.iterdir()) == []
        reader = StoreReader(descriptor)
        publish(writer, vector)
        snapshot = reader.load()
        assert snapshot is not None
        np.testing.assert_array_equal(snapshot.vector, vector)
        reader.close()


def test_store_without_fallocate_has_its_size_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with new_store() as descriptor:
        assert os.fstat(descriptor).st_size == HEADER_BYTES
        with writing(descriptor, SMALL) as writer:
            assert publish(writer, random_vector(SMALL.size)) == 1


def refuse(code: int) -> Callable[[int, int, int], None]:
    def posix_fallocate(descriptor: int, offset: int, length: int) -> None:
        raise OSError(code, os.strerror(code))

    return posix_fallocate


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM, errno.EFBIG])
def test_writer_memory_too_small_is_an_error_with_the_size(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with new_store() as descriptor:
        monkeypatch.setattr(os, "posix_fallocate", refuse(code), raising=False)
        spec = dense_spec(20_000_000)
        with pytest.raises(StoreTooLarge, match=f"needs 382 MiB.*{re.escape(os.strerror(code))}") as caught:
            StoreWriter(descriptor, spec)
        assert "smaller model" in caught.value.remedy
        monkeypatch.undo()
        with writing(descriptor, SMALL) as writer:
            assert publish(writer, random_vector(SMALL.size)) == 1


def test_create_memory_too_small_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_stores()
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC), raising=False)
    with pytest.raises(StoreTooLarge):
        memory.create()
    assert open_stores() == before


def test_grow_other_fault_is_not_taken_for_missing_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    with new_store() as descriptor:
        monkeypatch.setattr(os, "posix_fallocate", refuse(errno.EBADF), raising=False)
        with pytest.raises(OSError, match="Bad file descriptor"):
            StoreWriter(descriptor, SMALL)


def test_second_writer_of_the_same_model_goes_on_where_the_first_stopped() -> None:
    vector = random_vector(SMALL.size)
    with new_store() as descriptor:
        reader = StoreReader(descriptor)
        with writing(descriptor, SMALL) as first:
            publish(first, vector)
            publish(first, vector + 1)
            life = reader.incarnation
        with writing(descriptor, SMALL) as second:
            assert reader.incarnation == second.incarnation != life
            snapshot = reader.load()
            assert snapshot is not None and snapshot.info.version == 2
            np.testing.assert_array_equal(snapshot.vector, vector + 1)
            assert publish(second, vector + 2) == 3
        reader.close()


@pytest.mark.parametrize("other", OTHERS)
def test_second_writer_of_another_model_is_refused_and_changes_nothing(other: str) -> None:
    vector = random_vector(SMALL.size)
    with new_store() as descriptor, writing(descriptor, SMALL) as writer:
        publish(writer, vector)
        with pytest.raises(StoreError, match="another model"):
            StoreWriter(descriptor, OTHERS[other])
        reader = StoreReader(descriptor)
        snapshot = reader.load()
        assert snapshot is not None
        np.testing.assert_array_equal(snapshot.vector, vector)
        assert reader.incarnation == writer.incarnation
        reader.close()


def test_second_writer_after_one_that_died_while_laying_out_begins_anew() -> None:
    with new_store() as descriptor:
        with writing(descriptor, SMALL) as first:
            first._header[Word.READY] = 0
        reader = StoreReader(descriptor)
        assert not reader.is_ready
        with pytest.raises(StoreError, match="another model"):
            StoreWriter(descriptor, OTHERS["larger"])
        with writing(descriptor, OTHERS["renamed"]) as second:
            assert publish(second, random_vector(SMALL.size)) == 1
        reader.close()


def test_layout_parts_lie_apart_and_fit_the_words() -> None:
    layout = Layout(1000, 5000)
    assert layout.slot_offset(0) == HEADER_BYTES + 8192
    assert [layout.slot_offset(slot) % PAGE for slot in range(SLOTS)] == [0] * SLOTS
    assert layout.digests_offset(1) == layout.slot_offset(1) + 4096 == layout.slot_offset(2) - 4096
    assert layout.total_bytes == layout.slot_offset(SLOTS - 1) + 8192
    assert [Layout(elements, 0).shards for elements in (1, SHARD_ELEMENTS, SHARD_ELEMENTS + 1)] == [1, 1, 2]
    assert [padded(nbytes) for nbytes in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]
    assert 8 * (max(Word) + SLOTS) <= 1024 and 8 * max(SlotWord) < 128


def test_status_is_read_as_written_and_the_last_one_counts() -> None:
    with new_store() as descriptor:
        status, reader = Block(descriptor, STATUS), StoreReader(descriptor)
        assert reader.status() is None
        for text in (b"{}", b"x" * STATUS.limit, b"short"):
            status.write(text)
            assert reader.status() == text
        with pytest.raises(StoreError, match=f"over the limit of {STATUS.limit}"):
            status.write(b"x" * (STATUS.limit + 1))
        assert reader.status() == b"short"
        status.close()
        reader.close()


def test_status_survives_the_layout_of_the_model_and_another_writer() -> None:
    with new_store() as descriptor:
        supervisor, reader = Block(descriptor, STATUS), StoreReader(descriptor)
        supervisor.write(b"starting")
        with writing(descriptor, SMALL) as writer:
            publish(writer, random_vector(SMALL.size))
            assert reader.status() == b"starting"
            trainer = Block(descriptor, STATUS)
            trainer.write(b"training")
            assert reader.status() == b"training"
            trainer.close()
        supervisor.close()
        reader.close()


def test_status_torn_by_a_killed_writer_is_not_read_until_written_again() -> None:
    with new_store() as descriptor:
        status, reader = Block(descriptor, STATUS), StoreReader(descriptor)
        status.write(b"whole")
        status._words[PAGE // 8] |= 1
        assert reader.status() is None
        status.write(b"again")
        assert reader.status() == b"again"
        status._map[PAGE + 24] ^= 1
        assert reader.status() is None
        status.close()
        reader.close()
