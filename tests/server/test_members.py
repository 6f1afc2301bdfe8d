"""Servers that keep an eye on each other, for real: processes, sockets, and the view that they leave in the store."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2pdl.clock import MonotonicClock
from p2pdl.node.children import Lifeline, start_server
from p2pdl.protocol.messages import SettingsReply, SettingsRequest, StatusRequest
from p2pdl.puller.requests import Requester
from p2pdl.server.start import MembershipStart
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import VIEW
from p2pdl.store.view import MemberView
from p2pdl.transport.zeromq import ZmqClient
from tests.processes import free_port, wait_until

SECONDS = 60.0
"""A death takes a few seconds on a quiet machine, and several times that on a busy one."""


class Member:
    """One server process with a membership, and what its supervisor would hold.

    Attributes:
        name: Its name.
        address: Its address.
    """

    def __init__(self, name: str, contacts: dict[str, str], join: list[str], folder: Path, address: str = "") -> None:
        self.name = name
        self.address = address or f"127.0.0.1:{free_port()}"
        self.store = memory.create()
        self.lifeline = Lifeline()
        self.folder = folder
        self.start = MembershipStart(
            self.address, life=hash((name, self.address)) % 2**64, preset="local", contacts=contacts, join=join
        )
        self.view = MemberView(Block(self.store, VIEW))
        self.process = self.run()

    def run(self):
        shared = self.folder / "shared.json"
        shared.write_text('{"cluster": "lab"}')
        return start_server(
            "lab",
            self.name,
            self.address,
            self.store,
            self.lifeline,
            self.folder / f"{self.name}.log",
            None,
            self.start,
            shared,
        ).ready()

    def states(self) -> dict[str, str]:
        return {name: member.state for name, member in self.view.members.items() if name != self.name}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        self.view.close()
        self.lifeline.close()
        os.close(self.store)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Member]]:
    with contextlib.ExitStack() as stack:

        def made(name: str, *, join: list[str] | None = None, address: str = "", **contacts: str) -> Member:
            member = Member(name, contacts, join or [], tmp_path, address)
            stack.callback(member.close)
            return member

        yield made


def see(member: Member, **states: str) -> bool:
    return wait_until(lambda: member.states() == states, SECONDS)


def test_servers_find_each_other_through_one_contact_and_notice_a_death_and_a_return(make) -> None:
    alpha = make("alpha")
    beta = make("beta", alpha=alpha.address)
    gamma = make("gamma", join=[alpha.address])
    assert see(alpha, beta="alive", gamma="alive")
    assert see(beta, alpha="alive", gamma="alive")
    assert see(gamma, alpha="alive", beta="alive")
    beta.kill()
    assert see(alpha, beta="dead", gamma="alive") and see(gamma, alpha="alive", beta="dead")
    assert alpha.view.members["beta"].error
    # The same node, its server started again over the same store: it knows the others from before.
    beta.process = beta.run()
    assert see(alpha, beta="alive", gamma="alive") and see(gamma, alpha="alive", beta="alive")
    assert see(beta, alpha="alive", gamma="alive")


def test_server_that_is_told_to_stop_says_goodbye(make) -> None:
    alpha = make("alpha")
    beta = make("beta", alpha=alpha.address)
    assert see(alpha, beta="alive")
    beta.process.terminate()
    assert beta.process.wait(SECONDS) == 0
    assert see(alpha, beta="left")


def test_stopped_server_is_suspected_and_refutes_when_it_goes_on(make) -> None:
    alpha = make("alpha")
    beta = make("beta", alpha=alpha.address)
    assert see(alpha, beta="alive") and see(beta, alpha="alive")
    beta.process.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: alpha.states()["beta"] in ("suspect", "dead"), SECONDS)
    beta.process.send_signal(signal.SIGCONT)
    assert see(alpha, beta="alive")
    assert see(beta, alpha="alive")


def test_second_life_of_a_name_at_a_new_address_is_taken_over_by_all(make) -> None:
    alpha = make("alpha")
    old = make("beta", alpha=alpha.address)
    gamma = make("gamma", alpha=alpha.address)
    assert see(alpha, beta="alive", gamma="alive") and see(gamma, alpha="alive", beta="alive")
    old.kill()
    new = make("beta", alpha=alpha.address)
    for member in (alpha, gamma):
        assert wait_until(lambda member=member: member.view.members["beta"].address == new.address, SECONDS)
        assert wait_until(lambda member=member: member.states()["beta"] == "alive", SECONDS)
    assert new.view.superseded is None


def test_second_process_of_a_name_that_is_in_use_learns_so_and_the_first_one_stays(make) -> None:
    alpha = make("alpha")
    first = make("beta", alpha=alpha.address)
    assert see(alpha, beta="alive")
    second = make("beta", alpha=alpha.address)
    assert wait_until(lambda: second.view.superseded == first.address, SECONDS)
    assert alpha.view.members["beta"].address == first.address
    assert first.view.superseded is None


def test_status_names_the_members_and_settings_are_told_to_whoever_joins(make) -> None:
    alpha = make("alpha")
    beta = make("beta", alpha=alpha.address)
    assert see(alpha, beta="alive")
    requester = Requester(ZmqClient(), "lab", "test", MonotonicClock())
    try:
        status, _ = requester.ask(alpha.address, StatusRequest(), SECONDS)
        rows = {row["name"]: row for row in status.peers}
        assert rows["beta"]["member"] == "alive" and rows["beta"]["address"] == beta.address
        reply, frames = requester.ask(alpha.address, SettingsRequest(), SECONDS)
        assert isinstance(reply, SettingsReply) and bytes(frames[0]) == b'{"cluster": "lab"}'
    finally:
        requester.close()
