"""What a cluster looks like from outside."""

from __future__ import annotations

import os

import pytest

from p2pdl.errors import PeerTimeout
from p2pdl.node.cluster_status import StatusWatch, ask_around, ask_nodes, identify
from p2pdl.server.view import status_block
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS
from tests.processes import free_port, server, wait_until
from tests.stores import new_store


def write_status(store: int, **fields: object) -> None:
    writer = Block(store, STATUS)
    writer.write(status_block(now=0.0, **fields))  # type: ignore[arg-type]
    writer.close()


def test_nodes_of_a_file_are_asked_and_the_silent_one_has_a_reason() -> None:
    with new_store() as store, server(store, cluster="lab") as running:
        write_status(store, state="training", step=7, steps=9, loss=0.5)
        silent = f"127.0.0.1:{free_port()}"
        first, second = ask_nodes("lab", {"alpha": running.address, "beta": silent}, timeout=1.0)
    assert first.status is not None
    assert (first.status.state, first.status.step, first.status.loss) == ("training", 7, 0.5)
    assert first.error == ""
    assert first.to_json()["state"] == "training"
    assert second.status is None
    assert second.error == "no answer within 1 s: refuses connections"
    assert second.to_json() == {
        "name": "beta",
        "address": silent,
        "error": "no answer within 1 s: refuses connections",
        "state": "no answer",
    }


def test_node_of_another_cluster_says_so() -> None:
    with new_store() as store, server(store, cluster="lab") as running:
        [node] = ask_nodes("kitchen", {"alpha": running.address})
    assert node.status is None
    assert "this is cluster 'lab', not 'kitchen'" in node.error


def test_one_address_is_enough_to_see_the_peers_of_a_node() -> None:
    with new_store() as first, new_store() as second:
        with server(first, node="alpha") as alpha, server(second, node="beta") as beta:
            silent = f"127.0.0.1:{free_port()}"
            peers = [
                {"name": "beta", "address": beta.address, "state": "live"},
                {"name": "gamma", "address": silent, "state": "failing"},
            ]
            write_status(first, state="training", peers=peers)
            write_status(second, state="finished")
            cluster, nodes = ask_around(alpha.address, timeout=1.0)
    assert cluster == "lab"
    states = [(node.name, node.status.state if node.status else None) for node in nodes]
    assert states == [("alpha", "training"), ("beta", "finished"), ("gamma", None)]


def test_address_without_a_node_is_an_error() -> None:
    with pytest.raises(PeerTimeout, match="no answer within 0.2 s"):
        identify(f"127.0.0.1:{free_port()}", timeout=0.2)


def test_watch_keeps_the_last_answer_of_a_node_that_has_gone() -> None:
    with new_store() as store:
        with server(store) as running:
            write_status(store, state="training", step=3)
            watch = StatusWatch("lab", {"alpha": running.address})
            try:
                assert wait_until(lambda: "alpha" in watch.latest() and watch.latest()["alpha"].status, 10.0)
                os.kill(running.process.pid, 9)
                assert wait_until(lambda: watch.latest()["alpha"].error, 10.0)
            finally:
                watch.close()
    node = watch.latest()["alpha"]
    assert node.status is not None
    assert node.status.step == 3
    assert "no answer" in node.error
