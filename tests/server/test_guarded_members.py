"""Servers with doors find each other by gossip, and somebody whose key is not listed is nobody to them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from p2pdl.clock import MonotonicClock
from p2pdl.errors import PeerError
from p2pdl.keys import AllowList, allow
from p2pdl.node.children import Lifeline, start_server
from p2pdl.node.security import looking
from p2pdl.protocol.messages import StatusReply, StatusRequest
from p2pdl.puller.requests import Requester
from p2pdl.server.start import MembershipStart
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import VIEW
from p2pdl.store.view import KnownMember, MemberView
from tests.key_folders import make_keys
from tests.processes import free_port, wait_until

SECONDS = 60.0
"""It takes a second on a quiet machine, and several times that on a busy one."""


@contextlib.contextmanager
def member(name: str, address: str, contacts: dict[str, str], keys: Path | None) -> Iterator[MemberView]:
    """A server process with a membership; whom it knows."""
    with contextlib.ExitStack() as stack:
        store = memory.create()
        stack.callback(os.close, store)
        lifeline = Lifeline()
        stack.callback(lifeline.close)
        start = MembershipStart(address, life=hash(address) % 2**64, preset="local", contacts=contacts)
        process = start_server("lab", name, address, store, lifeline, None, None, start, keys=keys).ready()
        stack.callback(process.wait)
        stack.callback(process.terminate)
        view = MemberView(Block(store, VIEW))
        stack.callback(view.close)
        yield view


def alive(view: MemberView) -> dict[str, KnownMember]:
    return {name: known for name, known in view.members.items() if known.state == "alive"}


def test_members_find_each_other_and_show_their_keys(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "alpha", "beta", "gamma")
    names = ("alpha", "beta", "gamma")
    addresses = {name: f"127.0.0.1:{free_port()}" for name in names}
    # Each knows the next one alone: the third is found through the second.
    chain = {"alpha": ["beta"], "beta": ["gamma"], "gamma": []}
    with contextlib.ExitStack() as stack:
        views = {
            name: stack.enter_context(
                member(name, addresses[name], {other: addresses[other] for other in chain[name]}, keys)
            )
            for name in names
        }
        assert wait_until(lambda: all(sorted(alive(view)) == sorted(names) for view in views.values()), SECONDS)
        listed = AllowList(keys).node_keys
        for view in views.values():
            assert {name: known.key for name, known in alive(view).items()} == dict(listed)


def test_somebody_who_is_not_listed_is_nobody(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "alpha", "beta")
    # The intruder knows everybody's public keys, and has a list of its own on which it stands.
    foreign = make_keys(tmp_path / "foreign", "mallory")
    allow(foreign, AllowList(keys).entries.values())
    addresses = {name: f"127.0.0.1:{free_port()}" for name in ("alpha", "beta", "mallory", "plain")}
    with (
        member("alpha", addresses["alpha"], {"beta": addresses["beta"]}, keys) as alpha,
        member("mallory", addresses["mallory"], addresses, foreign) as mallory,
        member("plain", addresses["plain"], addresses, None) as plain,
        member("beta", addresses["beta"], {"alpha": addresses["alpha"]}, keys) as beta,
        contextlib.closing(looking(keys, lambda: addresses)) as client,
    ):
        members = ["alpha", "beta"]
        assert wait_until(lambda: sorted(alive(alpha)) == sorted(alive(beta)) == members, SECONDS)
        asking = Requester(client, "lab", "status", MonotonicClock())

        def turned_away() -> float:
            with contextlib.suppress(PeerError):
                reply, _ = asking.ask(addresses["alpha"], StatusRequest(), SECONDS)
                assert isinstance(reply, StatusReply)
                return float(reply.figures.get("refused_identity") or 0)
            return 0

        assert wait_until(lambda: turned_away() >= 3, SECONDS), "it has tried again and again"
        assert sorted(alive(mallory)) == ["mallory"] and sorted(alive(plain)) == ["plain"]
        assert sorted(alpha.members) == sorted(beta.members) == members


def test_member_that_was_taken_off_the_list_is_not_held_for_alive_although_it_answers(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "alpha", "mallory")
    shutil.copytree(keys, tmp_path / "own")
    addresses = {name: f"127.0.0.1:{free_port()}" for name in ("alpha", "mallory")}
    with (
        member("alpha", addresses["alpha"], {"mallory": addresses["mallory"]}, keys) as alpha,
        # Its list is left as it was.
        member("mallory", addresses["mallory"], {"alpha": addresses["alpha"]}, tmp_path / "own") as mallory,
    ):
        both = ["alpha", "mallory"]
        assert wait_until(lambda: sorted(alive(alpha)) == sorted(alive(mallory)) == both, SECONDS)
        lines = (keys / "allowed").read_text().splitlines(keepends=True)
        (keys / "allowed").write_text("".join(line for line in lines if not line.startswith("mallory ")))
        assert wait_until(lambda: sorted(alive(alpha)) == ["alpha"], SECONDS)
        assert "no answer" in alpha.members["mallory"].error
