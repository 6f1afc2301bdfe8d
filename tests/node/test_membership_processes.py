"""Whom real nodes know: one that joins a run it was never told of, one name for two nodes, and two halves that meet."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.network import ShapedNetwork
from p2pdl.node.children import Lifeline, start_server
from p2pdl.server.process import ServerSettings
from p2pdl.server.start import MembershipStart
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import VIEW
from p2pdl.store.view import MemberView
from p2pdl.types import JsonObject
from tests.node.clusters import START_SECONDS, Lab, make_lab, node
from tests.processes import ROOT, free_port, wait_until

ENDLESS = {"steps": 10_000_000, "batch_size": 32}
QUICK = {"start_wait": 0.0, "linger": 2.0, "request_timeout": 0.5}
FREQUENT = {"checkpoint": {"every": 0.5}, "metrics": {"interval": 0.1}}

KNOWN_SECONDS = 90.0
"""News are known within seconds on a quiet machine, and within several times that on a busy one."""


def rows(lab: Lab, name: str) -> dict[str, JsonObject]:
    """A node's peers as its status has them, by name; empty if it does not answer."""
    status = lab.status(name)
    return {str(row["name"]): dict(row) for row in status.peers} if status else {}


def write(folder: Path, name: str, address: str, others: dict[str, str], **settings: Any) -> Lab:
    """A file of its own for one node, with a run folder of its own."""
    folder.mkdir()
    nodes = [{"name": each, "address": there} for each, there in {**others, name: address}.items()]
    lab = Lab(folder, {name: address})
    sections = {"model": {"name": "mlp", "width": 0.1}, "train": ENDLESS, "gossip": QUICK, **FREQUENT, **settings}
    lab.file.write_text(json.dumps({"cluster": {"name": "lab"}, "nodes": nodes, **sections}))
    return lab


def joins_and_leaves(folder: Path, founders: int) -> None:
    """A further node joins through one founder, trains with all of them, and leaves."""
    lab = make_lab(folder, founders, train=ENDLESS, gossip=QUICK, **FREQUENT)
    there = lab.addresses["node1"]
    other = write(folder / "other", "newcomer", f"127.0.0.1:{free_port()}", {}, train={"steps": 7, "batch_size": 16})
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(node(lab, name)) for name in lab.addresses]
        for name in lab.addresses:
            assert wait_until(lambda name=name: lab.has_reached(name, 1), START_SECONDS)
        with node(other, "newcomer", "--join", there) as newcomer:

            def takes_part() -> bool:
                status, known = other.status("newcomer"), rows(other, "newcomer")
                alive = {name for name, row in known.items() if row["member"] == "alive"}
                return status is not None and bool(status.figures.get("merges")) and alive == set(lab.addresses)

            assert wait_until(takes_part, START_SECONDS), newcomer.said()
            said = newcomer.said()
            # The cluster's steps, not those of its own file.
            status = other.status("newcomer")
            assert status is not None and status.steps == ENDLESS["steps"]
            for name in lab.addresses:

                def has_merged(name: str = name) -> bool:
                    row = rows(lab, name).get("newcomer", {})
                    return row.get("member") == "alive" and row.get("pulls", 0) > 0

                assert wait_until(has_merged, KNOWN_SECONDS), rows(lab, name)
            newcomer.signal(signal.SIGTERM)
            assert newcomer.wait() == 0
        for name in lab.addresses:

            def has_left(name: str = name) -> bool:
                return rows(lab, name).get("newcomer", {}).get("member") == "left"

            assert wait_until(has_left, KNOWN_SECONDS), rows(lab, name)
        for process in running:
            process.signal(signal.SIGTERM)
        assert [process.wait() for process in running] == [0] * founders
    assert "train.batch_size is 32 in the cluster and 16 in peers.yaml; the cluster's value is used" in said
    assert other.summary("newcomer")["merges"] > 0


def test_a_node_in_no_file_joins_a_run_through_one_that_is_alive_and_leaves_it_again(tmp_path):
    joins_and_leaves(tmp_path, 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_fifth_node_in_no_file_joins_a_run_of_four_and_leaves_it_again(tmp_path):
    joins_and_leaves(tmp_path, 4)


@contextlib.contextmanager
def acquaintance(folder: Path) -> Iterator[tuple[str, MemberView]]:
    """A member that only listens: a server without a trainer; its address, and whom it knows."""
    address, store, lifeline = f"127.0.0.1:{free_port()}", memory.create(), Lifeline()
    view = MemberView(Block(store, VIEW))
    start = MembershipStart(address, 1, "local", {})
    process = start_server("lab", "node1", address, store, lifeline, folder / "node1.log", None, start).ready()
    try:
        yield address, view
    finally:
        process.kill()
        process.wait()
        view.close()
        lifeline.close()
        os.close(store)


@pytest.mark.slow
def test_the_second_of_two_nodes_with_one_name_ends_and_takes_the_name_when_the_first_is_dead(tmp_path):
    with acquaintance(tmp_path) as (address, view):

        def is_alive_at(place: str) -> bool:
            known = view.members.get("node2")
            return known is not None and (known.state, known.address) == ("alive", place)

        labs = [
            write(tmp_path / folder, "node2", f"127.0.0.1:{free_port()}", {"node1": address})
            for folder in ("first", "second")
        ]
        at = [lab.addresses["node2"] for lab in labs]
        with node(labs[0], "node2") as first:
            assert wait_until(lambda: is_alive_at(at[0]), KNOWN_SECONDS)
            with node(labs[1], "node2") as second:
                assert second.wait() == 1
                said = second.said()
            assert f"another node of that name runs at {at[0]}" in said and f"over this one at {at[1]}" in said
            assert "-> give each node a name of its own" in said and "Traceback" not in said
            assert labs[1].summary("node2")["state"] == "stopped"
            assert is_alive_at(at[0]) and first.process.poll() is None
            first.signal(signal.SIGKILL)
            first.wait()
        # The same name at another address, as after a move to another machine.
        with node(labs[1], "node2") as second:
            assert wait_until(lambda: is_alive_at(at[1]), KNOWN_SECONDS)
            assert second.process.poll() is None


PORT = 7101


class Hosts:
    """Servers without trainers that know each other, each on a host of its own.

    Args:
        network: The hosts.
        folder: Where they log.
    """

    def __init__(self, network: ShapedNetwork, folder: Path) -> None:
        self._network = network
        self._folder = folder
        self._stores = [memory.create() for _ in range(network.hosts)]
        self._lifeline = Lifeline()
        self.views = [MemberView(Block(store, VIEW)) for store in self._stores]
        self._places = {f"node{host}": f"{network.address(host)}:{PORT}" for host in range(network.hosts)}
        for host in range(network.hosts):
            self._start(host)

    def _start(self, host: int) -> None:
        name = f"node{host}"
        contacts = {other: place for other, place in self._places.items() if other != name}
        # Nobody waits to be told that it listens.
        ready = os.open(os.devnull, os.O_WRONLY)
        settings = ServerSettings(
            cluster="lab",
            node=name,
            bind=self._places[name],
            store=self._stores[host],
            lifeline=self._lifeline.reading,
            ready=ready,
            log=str(self._folder / f"{name}.log"),
            members={"address": self._places[name], "life": host + 1, "preset": "local", "contacts": contacts},
        )
        command = [sys.executable, "-m", "p2pdl.server", settings.to_argument()]
        self._network.run(host, command, cwd=ROOT, pass_fds=(settings.store, settings.lifeline, ready))
        os.close(ready)

    def see(self, expected: list[dict[int, str]]) -> bool:
        """Whether each host's view comes to be the expected one, by the hosts' numbers."""

        def states() -> list[dict[int, str]]:
            return [
                {int(name.removeprefix("node")): known.state for name, known in view.members.items()}
                for view in self.views
            ]

        return wait_until(lambda: states() == expected, KNOWN_SECONDS)

    def close(self) -> None:
        """Let go of their stores."""
        for view, store in zip(self.views, self._stores, strict=True):
            view.close()
            os.close(store)
        self._lifeline.close()


def route(network: ShapedNetwork, halves: Sequence[set[int]], change: str) -> None:
    """Let every packet from one half to the other vanish, or end that."""
    for here, there in itertools.permutations(halves):
        for host, other in itertools.product(here, there):
            hole = ["blackhole", f"{network.address(other)}/32"]
            subprocess.run(["ip", "-n", network.namespace(host), "route", change, *hole], check=True)


@pytest.mark.root
@pytest.mark.slow
def test_two_halves_of_a_network_give_each_other_up_and_meet_again_by_themselves(tmp_path):
    halves = [{0, 1}, {2, 3}]
    whole = [dict.fromkeys(range(4), "alive")] * 4
    apart = [
        {other: "alive" if {host, other} <= half else "dead" for other in range(4)}
        for half in halves
        for host in sorted(half)
    ]
    with ShapedNetwork(4) as network:
        hosts = Hosts(network, tmp_path)
        try:
            assert hosts.see(whole)
            route(network, halves, "add")
            assert hosts.see(apart)
            route(network, halves, "delete")
            assert hosts.see(whole)
        finally:
            hosts.close()
