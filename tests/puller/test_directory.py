"""Where the other nodes are: from the file at first, then from the node's server."""

from __future__ import annotations

import json
from typing import Any

from p2pdl.puller.directory import Directory
from p2pdl.store.block import Block
from p2pdl.store.layout import VIEW
from p2pdl.store.view import MemberView
from tests.stores import new_store

LISTED = {"alpha": "127.0.0.1:1", "beta": "127.0.0.1:2", "own": "127.0.0.1:9"}


def member(name: str, address: str, state: str) -> dict[str, Any]:
    return {"name": name, "address": address, "key": "", "state": state, "since": 1.0, "error": ""}


def write(block: Block, *members: dict[str, Any], superseded: str | None = None) -> None:
    block.write(json.dumps({"superseded": superseded, "members": members}).encode())


def test_directory_of_a_file_alone() -> None:
    directory = Directory("own", LISTED)
    assert not directory.refresh()
    assert directory.addresses == {"alpha": "127.0.0.1:1", "beta": "127.0.0.1:2"}
    assert directory.states == {"alpha": "unknown", "beta": "unknown"}


def test_directory_follows_the_server_and_says_when_something_has_changed() -> None:
    with new_store() as store:
        block, view = Block(store, VIEW), MemberView(Block(store, VIEW))
        directory = Directory("own", LISTED, view)
        assert not directory.refresh()
        write(block, member("own", "127.0.0.1:9", "alive"), member("alpha", "127.0.0.1:7", "alive"))
        assert directory.refresh() and not directory.refresh()
        assert directory.addresses == {"alpha": "127.0.0.1:7", "beta": "127.0.0.1:2"}
        assert directory.states == {"alpha": "alive", "beta": "unknown"}
        write(block, member("alpha", "127.0.0.1:7", "dead"), member("late", "127.0.0.1:3", "alive"))
        assert directory.refresh()
        assert directory.states == {"alpha": "dead", "beta": "unknown", "late": "alive"}
        assert (directory.name_at("127.0.0.1:3"), directory.name_at("127.0.0.1:1")) == ("late", None)
        view.close()


def test_member_that_the_server_tells_of_no_more_is_not_held_for_alive() -> None:
    with new_store() as store:
        block, view = Block(store, VIEW), MemberView(Block(store, VIEW))
        directory = Directory("own", LISTED, view)
        states = {"alpha": "alive", "late": "suspect", "gone": "left", "lost": "dead", "new": "unknown"}
        write(block, *(member(name, "127.0.0.1:7", state) for name, state in states.items()))
        assert directory.refresh() and directory.states == {"beta": "unknown", **states}
        write(block, member("own", "127.0.0.1:9", "alive"))
        assert directory.refresh()
        assert directory.states == {"beta": "unknown", **states, "alpha": "dead", "late": "dead"}
        write(block, member("alpha", "127.0.0.1:7", "alive"))
        assert directory.refresh() and directory.states["alpha"] == "alive"
        view.close()


def test_view_keeps_what_it_read_last_while_the_server_writes() -> None:
    with new_store() as store:
        block, view = Block(store, VIEW), MemberView(Block(store, VIEW))
        assert view.members == {} and view.superseded is None
        write(block, member("alpha", "127.0.0.1:7", "alive"), superseded="127.0.0.1:8")
        assert view.superseded == "127.0.0.1:8" and view.members["alpha"].state == "alive"
        block._words[VIEW.offset // 8] |= 1
        assert view.members["alpha"].state == "alive"
        view.close()
