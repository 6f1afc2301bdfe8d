"""A server's encoders: one copy a puller, bounded in number and in memory, those used least recently go first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.codec import CODECS
from p2pdl.protocol.encoders import Encoders
from tests.stores import dense_spec, random_vector

SPEC = dense_spec(1600)
NBYTES = 2 * SPEC.nbytes
"""A copy of the model and room to work in, which is as large for a model below one shard."""

DELTA = "top-k:0.1:int8"
PLENTY = 1 << 30


def test_stateless_codec_has_one_encoder_for_everybody_and_no_copy() -> None:
    encoders = Encoders(8, PLENTY)
    for codec in CODECS:
        assert encoders.get("a", codec, SPEC) is encoders.get("b", codec, SPEC)
    assert (encoders.copies, encoders.nbytes, encoders.evictions) == (0, 0, 0)


def test_each_puller_keeps_its_own_copy() -> None:
    encoders = Encoders(8, PLENTY)
    first, second = encoders.get("a", DELTA, SPEC), encoders.get("b", DELTA, SPEC)
    assert first is not second
    assert (encoders.get("a", DELTA, SPEC), encoders.get("b", DELTA, SPEC)) == (first, second)
    assert (encoders.copies, encoders.nbytes) == (2, 2 * NBYTES)


def test_copy_used_least_recently_makes_room() -> None:
    encoders = Encoders(2, PLENTY)
    first, second = encoders.get("a", DELTA, SPEC), encoders.get("b", DELTA, SPEC)
    assert encoders.get("a", DELTA, SPEC) is first
    encoders.get("c", DELTA, SPEC)
    assert (encoders.copies, encoders.evictions) == (2, 1)
    assert encoders.get("a", DELTA, SPEC) is first
    assert encoders.get("b", DELTA, SPEC) is not second
    assert encoders.evictions == 2


@pytest.mark.parametrize("nbytes, kept", [(0, 0), (NBYTES - 1, 0), (NBYTES, 1), (3 * NBYTES - 1, 2), (3 * NBYTES, 3)])
def test_copies_take_no_more_memory_than_they_may(nbytes: int, kept: int) -> None:
    encoders = Encoders(100, nbytes)
    for number in range(5):
        encoders.get(f"puller{number}", DELTA, SPEC)
        assert encoders.nbytes <= nbytes
    assert encoders.copies == kept
    assert encoders.nbytes == kept * NBYTES


def test_without_copies_every_delta_is_a_whole_shard() -> None:
    encoders = Encoders(0, PLENTY)
    vector = random_vector(SPEC.size)
    known = 0
    for version in range(3):
        payload, known = encoders.get("a", DELTA, SPEC).encode(0, vector + np.float32(version), version, known, 0)
        assert payload[0] == 1 and known != 0
    assert (encoders.copies, encoders.nbytes, encoders.evictions) == (0, 0, 0)


def test_another_delta_codec_replaces_the_pullers_copy() -> None:
    encoders = Encoders(2, PLENTY)
    first, other = encoders.get("a", DELTA, SPEC), encoders.get("b", DELTA, SPEC)
    changed = encoders.get("a", "mean-threshold", SPEC)
    assert changed is not first
    assert (encoders.copies, encoders.evictions) == (2, 0)
    assert encoders.get("a", "mean-threshold", SPEC) is changed
    assert encoders.get("b", DELTA, SPEC) is other
    assert encoders.get("a", DELTA, SPEC) is not first


def test_stateless_pull_in_between_leaves_the_copy() -> None:
    encoders = Encoders(1, PLENTY)
    first = encoders.get("a", DELTA, SPEC)
    for codec in CODECS:
        encoders.get("a", codec, SPEC)
        encoders.get("b", codec, SPEC)
    assert encoders.get("a", DELTA, SPEC) is first


@pytest.mark.parametrize("codec", ["", "zip", "top-k", "top-k:0:int8", "top-k:nan", "top-k:0.10", "auto", "x" * 64])
def test_unknown_codec_is_refused_and_changes_nothing(codec: str) -> None:
    encoders = Encoders(1, PLENTY)
    first = encoders.get("a", DELTA, SPEC)
    for puller in "ab":
        with pytest.raises(ValueError, match="there is no|is written"):
            encoders.get(puller, codec, SPEC)
    assert encoders.get("a", DELTA, SPEC) is first


def test_forget_drops_every_encoder() -> None:
    encoders = Encoders(8, PLENTY)
    delta, plain = encoders.get("a", DELTA, SPEC), encoders.get("a", "int8", SPEC)
    encoders.forget()
    assert (encoders.copies, encoders.nbytes) == (0, 0)
    assert encoders.get("a", DELTA, SPEC) is not delta
    assert encoders.get("a", "int8", SPEC) is not plain


@given(
    copies=st.integers(0, 4),
    room=st.integers(0, 5 * NBYTES),
    asked=st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from([DELTA, "mean-threshold", "int8"])), max_size=20
    ),
)
def test_bounds_hold_and_the_most_recent_copies_are_kept(copies: int, room: int, asked: list[tuple[str, str]]) -> None:
    encoders = Encoders(copies, room)
    kept: dict[str, tuple[str, object]] = {}
    for puller, codec in asked:
        found = encoders.get(puller, codec, SPEC)
        if codec == "int8":
            continue
        name, before = kept.pop(puller, ("", None))
        assert (found is before) == (name == codec)
        kept[puller] = codec, found
        most = min(copies, room // NBYTES)
        kept = dict(list(kept.items())[-most:]) if most else {}
        assert (encoders.copies, encoders.nbytes) == (len(kept), len(kept) * NBYTES)
