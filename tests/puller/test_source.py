"""One peer as a source: which part comes next, which end of the codec is used, and what it learns from a pull."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.errors import PeerError, PeerTimeout
from p2pdl.protocol.link import LADDER, Link, LinkSettings, density
from p2pdl.protocol.messages import SnapshotReply
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.puller import PullOrder
from p2pdl.puller.requests import Outcome
from p2pdl.puller.source import Source
from p2pdl.spec import SHARD_ELEMENTS
from tests.stores import dense_spec

KNOWN = ("first-life", 7)
SNAPSHOT = SnapshotReply("first-life", 8, 1, 1, 0.5, False, 1, 1, 0.0)
DONE = Outcome("beta", SNAPSHOT, False, None, 0.5, 2_000_000, 1_900_000, 0.1)
UNCHANGED = Outcome("beta", SNAPSHOT, True, None, 0.5, 200, 0, 0.1)
SILENT = Outcome("beta", None, False, PeerTimeout("no answer"), 5.0, 0, 0, 5.0)
TOO_SLOW = Outcome("beta", None, False, PeerTimeout("not done"), 5.0, 2_000_000, 1_900_000, 1.0)
BUSY = Outcome("beta", None, False, PeerError("busy", code="busy"), 0.1, 200, 0, 0.1)


def source_of(shards: int, parts: int = 1, codec: str = "float32", window: int = 4) -> Source:
    spec = dense_spec((shards - 1) * SHARD_ELEMENTS + 16)
    return Source(spec, Link(LinkSettings(codec=codec, window=window), -(-shards // parts)), parts)


def order(source: Source, *, whole: bool = False) -> PullOrder:
    return source.order("beta", "127.0.0.1:1", Inbox(dense_spec(16)).accept, KNOWN, whole=whole)


def test_order_says_whom_to_ask_for_what_and_how():
    source, sink = source_of(3), Inbox(dense_spec(16)).accept
    made = source.order("beta", "127.0.0.1:1", sink, KNOWN, whole=False)
    assert (made.peer, made.address, made.sink) == ("beta", "127.0.0.1:1", sink)
    assert (made.known, made.part, made.settings) == (KNOWN, None, source.link.pull_settings())
    assert made.decoder is not None and made.decoder.name == "float32"


@given(shards=st.integers(1, 40), parts=st.integers(1, 50), rounds=st.integers(1, 3))
def test_parts_in_turn_cover_every_shard_once_in_each_round(shards: int, parts: int, rounds: int):
    source = source_of(shards, parts)
    count = min(shards, parts)
    for _ in range(rounds):
        pulled = []
        for _ in range(count):
            made = order(source)
            part = range(shards) if made.part is None else made.part
            assert shards // count <= len(part) <= -(-shards // count)
            assert made.known == (KNOWN if count == 1 else None), "another part of a known version is news"
            pulled.extend(part)
            source.on_outcome(DONE, 1.0)
        assert sorted(pulled) == list(range(shards))


@pytest.mark.parametrize("outcome", [SILENT, TOO_SLOW, BUSY, UNCHANGED])
def test_part_that_did_not_arrive_is_next_again(outcome: Outcome):
    source = source_of(6, parts=3)
    source.on_outcome(DONE, 1.0)
    assert order(source).part == range(2, 4)
    source.on_outcome(outcome, 1.0)
    assert order(source).part == range(2, 4)


@pytest.mark.parametrize("codec", ["float32", "int8", "top-k:0.05:int8"])
def test_whole_pull_is_no_part_and_starts_with_an_empty_copy(codec: str):
    source = source_of(6, parts=3, codec=codec)
    before = order(source)
    made = order(source, whole=True)
    assert made.part is None and made.known == KNOWN
    assert made.decoder is not before.decoder
    assert made.decoder is not None and [made.decoder.digest(number) for number in range(6)] == [0] * 6


def test_decoder_is_kept_between_pulls_whatever_becomes_of_them():
    source = source_of(6, parts=2, codec="top-k:0.05")
    decoder = order(source, whole=True).decoder
    for outcome in (DONE, UNCHANGED, BUSY, SILENT, DONE):
        source.on_outcome(outcome, 1.0)
        assert order(source).decoder is decoder


def test_decoder_is_another_one_when_the_codec_changes():
    source = source_of(3, codec="auto")
    seen = [order(source).decoder]
    for _ in range(len(LADDER)):
        # Ten times as long as is wanted, for as many bytes as are usual: `auto` goes on to the next codec.
        nbytes = round(2 * 2**20 * density(source.link.codec))
        source.on_outcome(replace(DONE, nbytes=nbytes), DONE.seconds / 10)
        made = order(source)
        assert made.decoder is not None and made.decoder.name == source.link.codec
        if made.decoder is not seen[-1]:
            seen.append(made.decoder)
    names = [decoder.name for decoder in seen if decoder is not None]
    assert names == list(LADDER[LADDER.index("int8") :])


def test_pulls_that_are_done_teach_the_rate_of_the_link():
    source = source_of(3)
    assert source.figures()["mbit_per_second"] is None
    assert not source.on_outcome(DONE, 1.0)
    assert source.figures()["mbit_per_second"] == pytest.approx(8 * 2.0 / 0.5)
    for outcome in (UNCHANGED, BUSY, SILENT):
        assert not source.on_outcome(outcome, 1.0)
    assert source.figures()["mbit_per_second"] == pytest.approx(8 * 2.0 / 0.5)
    assert (source.figures()["codec"], source.figures()["codec_reason"]) == ("float32", "as configured")


def test_only_a_pull_that_was_under_way_makes_the_next_one_lighter():
    source = source_of(12)
    usual = order(source).settings
    for outcome in (SILENT, BUSY, UNCHANGED):
        assert not source.on_outcome(outcome, 1.0)
        assert order(source).settings == usual
    assert source.on_outcome(TOO_SLOW, 1.0)
    lighter = order(source)
    assert (lighter.settings.range_shards, lighter.settings.window) == (1, 1)
    assert lighter.settings.timeout > usual.timeout
    assert lighter.decoder is not None and lighter.decoder.name == "float32"
    assert source.on_outcome(TOO_SLOW, 1.0)
    assert order(source).decoder.name == "bfloat16"  # type: ignore[union-attr]
    while source.on_outcome(TOO_SLOW, 1.0):
        pass
    assert source.link.codec == LADDER[-1], "nothing is lighter than that"
    assert not source.on_outcome(TOO_SLOW, 1.0)


def test_figures_round_age_and_name_the_staleness():
    source = source_of(3)
    source.age, source.staleness = 0.12345, 4
    figures = source.figures()
    assert (figures["age"], figures["staleness"]) == (0.123, 4)
