"""`docs/membership.md`, and what `docs/protocol.md` says of members, against the code."""

from __future__ import annotations

import re
from dataclasses import fields

import xxhash

from p2pdl.protocol.membership.claims import VERIFICATIONS
from p2pdl.protocol.membership.contacts import JOINING_INTERVALS
from p2pdl.protocol.membership.health import HIGHEST_MULTIPLIER
from p2pdl.protocol.membership.identity import CHECKS, RAISE_LIMIT
from p2pdl.protocol.membership.knowledge import MEMBERS_LIMIT
from p2pdl.protocol.membership.members import RANKS, Member, from_row, to_row
from p2pdl.protocol.membership.presets import PRESETS, MembershipSettings
from p2pdl.protocol.membership.relaying import RELAYS_AT_ONCE
from p2pdl.protocol.membership.roster import Known
from p2pdl.protocol.membership.syncing import LIST_BYTES
from p2pdl.protocol.messages import RUMOUR_ROWS
from p2pdl.server.connections import DOUBTFUL_LIMIT, SILENT_SECONDS
from p2pdl.server.member_block import member_block
from p2pdl.store.layout import VIEW
from tests.processes import ROOT
from tests.protocol.membership.driving import joined, member, row

TEXT = (ROOT / "docs" / "membership.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
FILES = [*sorted((ROOT / "p2pdl" / "protocol" / "membership").glob("*.py")), ROOT / "p2pdl" / "server" / "members.py"]
CODE = "\n".join(path.read_text() for path in FILES)


def table(text: str, title: str) -> list[list[str]]:
    """The rows of the table whose first column has this title."""
    [found] = re.findall(rf"^\| {title} \|.*\n\|[-|]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found.splitlines()]


def test_page_gives_every_setting_of_every_preset() -> None:
    rows = table(TEXT, "setting")
    assert [it[0] for it in rows] == [f"`{field.name}`" for field in fields(MembershipSettings)]
    for name, *values, meaning in rows:
        expected = [getattr(settings, name.strip("`")) for settings in PRESETS.values()]
        assert [float(value) for value in values] == expected, name
        assert meaning


def test_page_gives_the_limits() -> None:
    words = " ".join(TEXT.split())
    assert f"up to {RUMOUR_ROWS} rows on each" in words
    assert f"(0 to {HIGHEST_MULTIPLIER - 1})" in words and f"by 1 to {HIGHEST_MULTIPLIER}," in words
    assert JOINING_INTERVALS == 2 and "two probe intervals have passed" in words
    assert CHECKS == 3 and "three times, each with the probe's time-out" in words
    assert RAISE_LIMIT == 2**20 and "more than 2^20 above" in words
    assert f"{MEMBERS_LIMIT} are kept" in words and f"{RELAYS_AT_ONCE} at one time" in words
    assert f"{LIST_BYTES >> 10} KiB of its rows" in words and f"at most {LIST_BYTES >> 10} KiB of rows" in PROTOCOL
    assert VERIFICATIONS < RELAYS_AT_ONCE


def test_page_says_of_how_many_members_the_trainer_is_told() -> None:
    words = " ".join(TEXT.split())
    assert VIEW.nbytes == 128 << 10 and "as fit into 128 KiB" in words
    for key, count in [("", 1190), ("ab" * 32, 750)]:
        known = {
            name: Known(Member(name, "10.0.0.1:7101", key, 1, 0, "alive"), 12345.678901234)
            for name in (f"worker-{number:05}" for number in range(MEMBERS_LIMIT))
        }
        _, left_out = member_block(known, "own", (), None, VIEW.limit)
        assert 0 <= MEMBERS_LIMIT - len(left_out) - count < 10
        assert f"about {count}" in words or f"or {count} with keys" in words


def test_page_says_how_many_connections_the_server_keeps_for_those_who_may_not_be_there() -> None:
    [(_, outcome)] = [it for it in table(TEXT, "claim") if it[0].startswith("many addresses")]
    assert f"are {DOUBTFUL_LIMIT} at most" in outcome and f"end after {SILENT_SECONDS:g} s" in outcome


def test_page_names_every_counter_and_no_other() -> None:
    counted = set(re.findall(r'counters\["([a-z-]+)"\]|"((?:replies|wrong)-[a-z]+)"\)', CODE))
    names = {one or other for one, other in counted} | {f"now-{state}" for state in RANKS if state != "unknown"}
    section = TEXT.split("## Counters")[1]
    refusals = set(re.findall(r"`([a-z-]+)`", " ".join(it[1] for it in table(TEXT, "claim"))))
    assert set(re.findall(r"`([a-z-]+)`", section)) | refusals == names


def test_protocol_describes_the_row_of_a_member() -> None:
    rows = {name.strip("`"): meaning for name, _, meaning in table(PROTOCOL, "field of a row")}
    suspect, dead = row("b", "suspect", accuser="c"), row("b", "dead", age=3)
    assert list(rows) == [*suspect, *(dead.keys() - suspect.keys())]
    states = [state for state in RANKS if state != "unknown"]
    assert rows["state"] == "`alive`, `suspect`, `dead` or `left`" and states == ["alive", "suspect", "dead", "left"]
    for state in states:
        written = to_row(member("b", state), "c", 3)
        for field in ("accuser", "age"):
            is_told = f"`{state}`" in rows[field].split(" only")[0]
            assert (field in written) == is_told
        assert from_row(written).member == member("b", state)


def test_protocol_defines_the_digest_of_a_list() -> None:
    driven = joined("b", "c")
    driven.hear(row("x", "dead", 3), row("y", "suspect", 2, accuser="c"), row("z", "left"))
    expected = 0
    for it in driven.core.members.values():
        state = {"alive": "present", "suspect": "present"}.get(it.state, it.state)
        text = "\0".join([it.name, it.address, str(it.life), str(it.incarnation), state])
        expected ^= xxhash.xxh3_64_intdigest(text.encode("utf-8"), seed=0)
    assert driven.sync().digest == expected
    assert "`name`, `address`, `life`, `incarnation`, `state` joined by zero bytes" in " ".join(PROTOCOL.split())
