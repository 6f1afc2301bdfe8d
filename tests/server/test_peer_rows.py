"""The peers in a status: the trainer's rows and the membership's, merged, ordered, and never too long for a header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.messages import Envelope, StatusReply
from p2pdl.server.peer_rows import LONGEST_ERROR, PEER_ROWS, ROW_KEYS, fitting, packed_limit, peer_rows, severity
from p2pdl.server.view import FIGURES, StoreView, status_block
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS, Word
from p2pdl.store.reader import StoreReader
from p2pdl.wire import HEADER_LIMIT, decode, encode
from tests.stores import new_store


@dataclass(frozen=True)
class Entry:
    """What the membership says of a node, as it stands in `StoreView.known`."""

    @dataclass(frozen=True)
    class Who:
        address: str
        state: str

    member: Who
    since: float = 0.0
    error: str = ""


def entry(state: str, address: str = "10.0.0.9:7101", since: float = 0.0, error: str = "") -> Entry:
    return Entry(Entry.Who(address, state), since, error)


def status_of(
    written: list[dict[str, Any]],
    known: Mapping[str, Entry],
    figures: dict[str, Any] | None = None,
    counters: Mapping[str, int] | None = None,
) -> StatusReply:
    """What a server answers at second 100 over such a status block."""
    with new_store() as store:
        reader, block = StoreReader(store), Block(store, STATUS)
        try:
            block.write(status_block(now=100.0, state="training", peers=written, figures=figures))
            view = StoreView(reader, "alpha")
            view.known, view.member_counters = known, counters or {}
            view.refusals["model"] = 1
            return view.status(100.0)
        finally:
            block.close()
            reader.close()


def test_row_has_what_the_trainer_and_what_the_membership_know() -> None:
    written = [
        {"name": "beta", "address": "10.0.0.1:7101", "state": "failing", "last_error": "refused", "codec": "int8"}
    ]
    known = {"beta": entry("dead", "10.0.0.2:7101", since=88.0, error="no answer to 4 probes")}
    [row] = peer_rows(written, known, "alpha", 100.0)
    assert row == {
        **{"name": "beta", "address": "10.0.0.2:7101", "state": "failing", "last_error": "refused", "codec": "int8"},
        **{"member": "dead", "since": 12.0, "member_error": "no answer to 4 probes"},
    }


def test_members_that_the_trainer_does_not_know_have_rows_and_the_node_itself_has_none() -> None:
    known = {"alpha": entry("alive"), "gamma": entry("alive", "10.0.0.3:7101", since=40.0)}
    assert peer_rows([{"name": "beta", "state": "live"}], known, "alpha", 100.0) == [
        {"name": "beta", "address": None, "state": "live", "member": "unknown", "since": None, "member_error": ""},
        {
            **{"name": "gamma", "address": "10.0.0.3:7101", "state": "unknown"},
            **{"member": "alive", "since": 60.0, "member_error": ""},
        },
    ]


def test_time_of_the_last_error_becomes_its_age() -> None:
    rows = peer_rows([{"name": "a", "last_error_at": 85.0}, {"name": "b", "last_error_at": None}], {}, "alpha", 100.0)
    assert rows == [{"name": "a", "last_error_age": 15.0}, {"name": "b", "last_error_age": None}]


def test_worst_peers_come_first_and_healthy_ones_are_left_out_where_there_are_too_many() -> None:
    states = {
        "d": ("dead", "live"),
        "q": ("alive", "quarantined"),
        "s": ("suspect", "unknown"),
        "f": ("alive", "failing"),
    }
    states |= {"u": ("unknown", "unknown"), "l": ("left", "failing")} | {f"h{n}": ("alive", "live") for n in range(99)}
    written = [{"name": name, "state": exchange} for name, (_, exchange) in reversed(states.items())]
    known = {name: entry(member) for name, (member, _) in states.items()}
    rows = peer_rows(written, known, "alpha", 100.0)
    assert len(rows) == PEER_ROWS
    assert [row["name"] for row in rows[:5]] == ["d", "q", "s", "f", "u"]
    assert all(row["name"].startswith("h") for row in rows[5:])
    assert sorted(rows, key=severity) == rows


def test_row_has_no_more_keys_than_a_message_takes() -> None:
    written = [{"name": "beta", **{f"key{number}": number for number in range(20)}}]
    [row] = peer_rows(written, {"beta": entry("alive")}, "alpha", 100.0)
    assert len(row) == ROW_KEYS and row["member"] == "alive"


@pytest.mark.parametrize("letter", ["x", "é", "漢", "😀"])
def test_reply_with_64_members_of_long_names_and_errors_can_be_sent(letter: str) -> None:
    names = [(f"{number:02}" + letter * 64)[:64] for number in range(64)]
    written = [
        {
            **{"name": name, "address": f"{'a' * 253}:7101", "state": "failing", "pulls": 2**40, "failures": 2**40},
            **{"last_error": letter * 120, "last_error_at": 12.5, "codec": "mean-threshold:int8+deflate"},
            **{"codec_reason": "r" * 60, "mbit_per_second": 0.1, "age": 0.1, "staleness": 2**40},
        }
        for name in names
    ]
    known = {name: entry("dead", f"{'b' * 253}:7101", error=letter * 5000) for name in names}
    figures = {f"figure{number:058}": 0.1 * number for number in range(60)}
    reply = status_of(written, known, figures, {"probes": 3})
    frame = encode(Envelope(2**64 - 1, "😀" * 64, "😀" * 64, reply))
    assert len(frame) < HEADER_LIMIT
    assert decode(frame).message == reply
    assert all(len(str(row["member_error"])) <= LONGEST_ERROR for row in reply.peers)
    assert [row["name"] for row in reply.peers] == names[: len(reply.peers)]
    # With four bytes a letter 64 such rows are more than a header holds.
    assert len(reply.peers) == 64 if letter == "x" else len(reply.peers) > 30


def test_counters_of_the_membership_take_the_places_that_are_left() -> None:
    counters = {f"event-{number:02}": number for number in range(80)}
    few = status_of([], {}, {"merges": 3}, {"probes": 5, "deaths": 1}).figures
    assert (few["merges"], few["members_probes"], few["members_deaths"], few["refused_model"]) == (3, 5, 1, 1)
    many = status_of([], {}, {"merges": 3}, counters).figures
    assert len(many) == FIGURES
    own = {"merges", "refused_model", *(w.name.lower() for w in (Word.BYTES_SENT, Word.REQUESTS, Word.REFUSALS))}
    assert own <= many.keys()


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)
)
ROWS = st.lists(st.dictionaries(st.text(max_size=5), SCALARS, max_size=16), max_size=9)


@given(ROWS)
def test_limit_of_a_row_is_never_less_than_what_it_takes(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert len(msgpack.packb(row)) <= packed_limit(row) <= 6 * len(json.dumps(row)) + 9 * len(row)


@given(ROWS, st.integers(-10, 300))
def test_rows_that_fit_are_the_first_ones(rows: list[dict[str, Any]], nbytes: int) -> None:
    kept = fitting(rows, nbytes)
    assert list(kept) == rows[: len(kept)]
    assert sum(len(msgpack.packb(row)) for row in kept) <= max(0, nbytes)
    if len(kept) < len(rows):
        assert sum(packed_limit(row) for row in rows[: len(kept) + 1]) > nbytes
