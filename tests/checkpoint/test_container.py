"""A checkpoint's bytes: what comes back is what went in, and any damage to any byte is noticed."""

from __future__ import annotations

import io
import json
import math
import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.checkpoint.container import DTYPES, MAGIC
from p2pdl.checkpoint.reading import read
from p2pdl.checkpoint.writing import write
from p2pdl.errors import CheckpointDamaged, CheckpointError
from p2pdl.types import JsonObject
from tests.checkpoint.samples import arrays_of, assert_same

SMALL = {
    "kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "half": np.array([1.5, -0.0, np.nan], ml_dtypes.bfloat16),
    "empty": np.zeros((0, 7), np.int64),
    "iterations": np.array(11, np.int64),
}
HEADER = {"step": 11, "loss": 0.25}

names = st.text(max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@st.composite
def any_arrays(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Arrays of any dtype, shape, order in memory and content, by any name."""
    arrays = {}
    for name in draw(st.lists(names, max_size=5, unique=True)):
        dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
        shape = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        raw = rng.integers(0, 2 if dtype.name == "bool" else 256, math.prod(shape) * dtype.itemsize, np.uint8)
        array = raw.view(dtype).reshape(shape)
        match draw(st.sampled_from(("as it is", "Fortran", "reversed", "every second"))):
            case "Fortran":
                array = np.asfortranarray(array)
            case "reversed" if array.ndim:
                array = array[::-1]
            case "every second" if array.ndim:
                array = array[..., ::2]
        arrays[name] = array
    return arrays


def written(arrays: dict[str, np.ndarray], header: JsonObject = HEADER) -> bytes:
    file = io.BytesIO()
    assert write(file, header, arrays) == len(file.getvalue())
    return file.getvalue()


def read_back(content: bytes) -> tuple[JsonObject, dict[str, np.ndarray]]:
    return read(io.BytesIO(content), len(content))


def made_by_hand(rows: Any, data: bytes = b"", header: Any = None) -> bytes:
    """A file with the right digests around whatever its header says."""
    text = json.dumps({"header": {} if header is None else header, "arrays": rows}).encode()
    return framed(text) + data


def framed(text: bytes) -> bytes:
    head = struct.pack("<8sQQ", MAGIC, len(text), xxhash.xxh3_64_intdigest(text)) + text
    return head + bytes(-len(head) % 64)


def row(**changes: Any) -> dict[str, Any]:
    digest = xxhash.xxh3_64_hexdigest(bytes(64))
    return {"name": "x", "dtype": "float32", "shape": [16], "offset": 0, "digest": digest, **changes}


@given(arrays=any_arrays(), header=st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_read_any_arrays_and_header_are_what_was_written(arrays: dict[str, np.ndarray], header: JsonObject) -> None:
    content = written(arrays, header)
    header_back, arrays_back = read_back(content)
    assert header_back == header
    assert_same(arrays_back, arrays)
    assert len(content) % 64 == 0
    assert content == written(arrays_back, header_back)


def test_read_header_keeps_nan_infinity_and_large_numbers() -> None:
    header = {"loss": math.nan, "best": math.inf, "state": 2**127 + 1, "text": "größer\ud800", "third": 1 / 3}
    back, _ = read_back(written({}, header))
    assert math.isnan(back.pop("loss"))
    assert math.isnan(header.pop("loss")) and back == header  # type: ignore[arg-type]


def test_read_arrays_of_many_pieces_are_what_was_written() -> None:
    rng = np.random.default_rng(0)
    large = rng.standard_normal((700, 1501), np.float32)
    arrays = {"large": large, "turned": large.T, "half": large.astype(ml_dtypes.bfloat16)[:, ::3]}
    _, back = read_back(written(arrays))
    assert_same(back, arrays)


def test_write_big_endian_array_comes_back_as_the_same_numbers() -> None:
    numbers = np.arange(5, dtype=">f4")
    _, back = read_back(written({"x": numbers}))
    np.testing.assert_array_equal(back["x"], numbers)
    assert back["x"].dtype == np.dtype("<f4")


def test_bytes_are_laid_out_as_documented() -> None:
    content = written(SMALL)
    magic, length, digest = struct.unpack_from("<8sQQ", content)
    text = content[24 : 24 + length]
    assert (magic, digest) == (b"p2pdl-c1", xxhash.xxh3_64_intdigest(text))
    start = -(-(24 + length) // 64) * 64
    fields = json.loads(text)
    assert fields["header"] == HEADER
    assert [entry["offset"] for entry in fields["arrays"]] == [0, 64, 128, 128]
    for entry, array in zip(fields["arrays"], SMALL.values(), strict=True):
        raw = content[start + entry["offset"] :][: array.nbytes]
        assert raw == array.tobytes() and entry["digest"] == xxhash.xxh3_64_hexdigest(raw)
    assert len(content) == start + 192


def test_write_in_small_parts_gives_the_same_bytes() -> None:
    class Reluctant(io.BytesIO):
        def write(self, content: Any) -> int:
            return super().write(content[:7])

    file = Reluctant()
    write(file, HEADER, SMALL)
    assert file.getvalue() == written(SMALL)


def test_read_in_small_parts_gives_the_same_arrays() -> None:
    class Reluctant(io.BytesIO):
        def readinto(self, target: Any) -> int:
            return super().readinto(memoryview(target)[:5])

    content = written(SMALL)
    header, arrays = read(Reluctant(content), len(content))
    assert header == HEADER
    assert_same(arrays, SMALL)


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([None]), np.zeros(2, complex), np.zeros(2, "M8[s]")])
def test_write_dtype_that_no_checkpoint_holds_is_refused_by_name(array: np.ndarray) -> None:
    with pytest.raises(CheckpointError, match="'model/odd' is made of") as caught:
        written({"fine": np.zeros(1), "model/odd": array})
    assert "float32" in caught.value.remedy


def test_write_header_that_is_not_json_is_the_callers_mistake() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        written({}, {"loss": np.float32(1)})


def test_read_any_truncation_is_noticed() -> None:
    content = written(SMALL)
    for length in range(len(content)):
        with pytest.raises(CheckpointDamaged):
            read_back(content[:length])


def test_read_any_flipped_bit_is_noticed() -> None:
    content = bytearray(written(SMALL))
    for place in range(8 * len(content)):
        content[place // 8] ^= 1 << place % 8
        with pytest.raises(CheckpointDamaged):
            read_back(bytes(content))
        content[place // 8] ^= 1 << place % 8
    assert_same(read_back(bytes(content))[1], SMALL)


@given(
    place=st.integers(0, 10**6),
    cut=st.integers(0, 300),
    piece=st.binary(max_size=300),
)
def test_read_any_stretch_replaced_is_noticed(place: int, cut: int, piece: bytes) -> None:
    content = written(arrays_of(3, 200))
    place %= len(content) + 1
    damaged = content[:place] + piece + content[place + cut :]
    if damaged != content:
        with pytest.raises(CheckpointDamaged):
            read_back(damaged)


@given(content=st.binary(max_size=200))
def test_read_any_bytes_are_refused(content: bytes) -> None:
    for damaged in (content, MAGIC + content, framed(content)):
        with pytest.raises(CheckpointDamaged):
            read_back(damaged)


def test_read_file_that_shrinks_meanwhile_is_noticed() -> None:
    content = written(SMALL)
    for length in range(0, len(content), 8):
        with pytest.raises(CheckpointDamaged):
            read(io.BytesIO(content[:length]), len(content))


@pytest.mark.parametrize(
    "rows",
    [
        [row(shape=[2**60])],
        [row(shape=[2**60, 2**60])],
        [row(shape=[10**400])],
        [row(shape=[-16])],
        [row(shape=[-4, -4])],
        [row(shape=[16.0])],
        [row(shape=[True] * 16)],
        [row(shape="16")],
        [row(shape=16)],
        [row(shape=[16] + [1] * 100)],
        [row(shape=[0, 2**62, 2**62]), row(name="y")],
        [row(shape=[0, 2**70]), row(name="y")],
        [row(shape=[[16]])],
        [row(dtype="object")],
        [row(dtype="float64")],
        [row(dtype=["float32"])],
        [row(dtype="<f4")],
        [row(offset=64)],
        [row(offset=-64)],
        [row(offset=False)],
        [row(offset=None)],
        [row(name=1)],
        [row(name=None)],
        [row(digest=0)],
        [row(digest="0" * 16)],
        [row(digest=row()["digest"].upper() + " ")],
        [row(), row(name="y")],
        [row(), row(name="y", offset=64)],
        [row(shape=[0]), row(shape=[16])],
        [{}],
        [[]],
        [None],
        {},
        None,
        7,
        "rows",
        [],
    ],
)
def test_read_impossible_rows_with_right_digests_are_refused(rows: Any) -> None:
    with pytest.raises(CheckpointDamaged):
        read_back(made_by_hand(rows, bytes(64)))


def test_read_row_made_by_hand_is_accepted_where_it_is_right() -> None:
    _, arrays = read_back(made_by_hand([row()], bytes(64)))
    assert_same(arrays, {"x": np.zeros(16, np.float32)})


@pytest.mark.parametrize("header", [[], 1, "text", [1, 2]])
def test_read_header_that_is_no_object_is_refused(header: Any) -> None:
    with pytest.raises(CheckpointDamaged):
        read_back(made_by_hand([], header=header))


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"null", b"[" * 100_000, b'{"header":{},"arrays":', b"\xff" * 40, b"1" * 10_000]
)
def test_read_header_that_is_no_json_of_ours_is_refused(text: bytes) -> None:
    with pytest.raises(CheckpointDamaged):
        read_back(framed(text))


def test_read_claims_no_memory_for_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(np, "empty", lambda size, dtype: taken.append(size))
    for rows in ([row(shape=[2**60])], [row(shape=[2**40]), row(name="y")]):
        with pytest.raises(CheckpointDamaged):
            read_back(made_by_hand(rows, bytes(64)))
    prefix = struct.pack("<8sQQ", MAGIC, 2**60, 0)
    with pytest.raises(CheckpointDamaged, match="does not fit"):
        read_back(prefix + bytes(40))
    assert taken == []
