"""Which node a process is: four that start at once become four nodes, and every reason not to start is named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from p2pdl.config import Address, load
from p2pdl.errors import EXIT_USAGE, AddressInUse, NodeChoiceError, RunDirectoryUnusable
from p2pdl.node.choice import claim_node, is_local
from tests.pretended_clusters import configuration, free_ports, write_configuration
from tests.processes import ROOT, free_port

CLAIM = """
import sys
from p2pdl.config import load
from p2pdl.node.choice import claim_node
claim = claim_node(load(sys.argv[1]), None)
print(claim.node, flush=True)
sys.stdin.read()
"""


def test_processes_that_claim_at_once_get_every_node_once(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, nodes=4)
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(4)
    ]
    try:
        got = [claimer.stdout.readline().strip() for claimer in claimers if claimer.stdout]
        assert sorted(got) == ["node1", "node2", "node3", "node4"]
        with pytest.raises(NodeChoiceError) as caught:
            claim_node(load(file), None)
        assert all(
            f"{name} (process {claimer.pid})" in str(caught.value) for name, claimer in zip(got, claimers, strict=True)
        )
    finally:
        for claimer in claimers:
            claimer.communicate()
    claim = claim_node(load(file), None)
    assert claim.node == "node1"
    claim.release()


def test_claims_without_a_name_go_in_the_order_of_the_file(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=3)
    claims = [claim_node(cluster, None) for _ in range(3)]
    assert [claim.node for claim in claims] == ["node1", "node2", "node3"]
    claims[1].release()
    again = claim_node(cluster, None)
    assert again.node == "node2"
    for claim in (claims[0], claims[2], again):
        claim.release()


def test_named_node_that_runs_already_is_refused_with_its_process(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=2)
    claim = claim_node(cluster, "node2")
    with pytest.raises(NodeChoiceError, match=rf"'node2' runs already on this machine \(process {os.getpid()}\)"):
        claim_node(cluster, "node2")
    claim.release()


def test_named_node_that_is_not_in_the_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(NodeChoiceError, match="did you mean --name node2") as caught:
        claim_node(configuration(tmp_path, nodes=2), "nod2")
    assert caught.value.exit_code == EXIT_USAGE


def test_port_in_use_is_named_and_the_node_stays_unclaimed(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        cluster = load(write_configuration(tmp_path, ports=[port, *free_ports(1)]))
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{port}"):
            claim_node(cluster, "node1")
        # Without a name the next free node is taken.
        second = claim_node(cluster, None)
        assert second.node == "node2"
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{port}"):
            claim_node(cluster, None)
        second.release()
    claim = claim_node(cluster, "node1")
    claim.release()


def test_file_without_a_node_of_this_machine_is_refused_with_its_addresses(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    file.write_text("cluster: {name: lab}\nnodes: [{name: far, address: '192.0.2.1:7101'}]\n")
    with pytest.raises(NodeChoiceError, match="far 192.0.2.1:7101"):
        claim_node(load(file), None)


def test_run_directory_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    cluster = load(write_configuration(tmp_path), ["cluster.runs=occupied"])
    with pytest.raises(RunDirectoryUnusable, match="occupied"):
        claim_node(cluster, None)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:1", True), ("127.0.0.2:1", True), ("localhost:1", True), ("192.0.2.1:1", False)],
)
def test_address_is_local_if_a_socket_can_be_bound_to_it(address: str, expected: bool) -> None:
    assert is_local(Address.parse(address)) is expected


def test_a_wildcard_bind_makes_no_node_this_machines(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    # 192.0.2.0/24 is for documentation: no machine has such an address.
    file.write_text(
        "cluster: {name: lab}\nnodes:\n"
        f"  - {{name: far, address: '192.0.2.7:{free_port()}', bind: '0.0.0.0:{free_port()}'}}\n"
        f"  - {{name: here, address: '127.0.0.1:{free_port()}'}}\n"
    )
    claim = claim_node(load(file), None)
    assert claim.node == "here"
    claim.release()


def test_a_lock_that_cannot_be_opened_is_told_with_its_path(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=1)
    claim_node(cluster, None).release()
    (lock,) = cluster.runs_folder.glob("*/.node1.lock")
    lock.unlink()
    lock.mkdir()
    with pytest.raises(RunDirectoryUnusable, match="cannot be opened") as caught:
        claim_node(cluster, None)
    assert str(lock) in caught.value.message and "--set cluster.runs=PATH" in caught.value.remedy


def test_a_full_disk_keeps_nobody_from_claiming_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    claim = claim_node(configuration(tmp_path, nodes=1), None)
    assert claim.node == "node1"
    claim.release()
