"""When connections are encrypted, what is said where they are not, and which keys a node's clients use."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest

from p2pdl.config import Configuration
from p2pdl.errors import PeerError, StartupError
from p2pdl.keys import AllowedKey, allow, secret_path
from p2pdl.node.security import connecting, keys_folder, looking, warning
from p2pdl.transport.contract import Asker
from p2pdl.transport.door import LOOK_SECONDS, Door
from p2pdl.transport.zeromq import ZmqClient, ZmqServer
from tests.config.cases import read
from tests.key_folders import make_keys, stranger
from tests.processes import free_port, wait_until

WAIT = 20.0

HERE = "127.0.0.1:7101"
LOOPBACK = (HERE, "localhost:7101", "127.9.9.9:7101", '"[::1]:7101"')
ELSEWHERE = ("10.0.0.2:7101", "gpu.example:7101", '"[fd00::2]:7101"', "10.0.0.2:7101\n    bind: 127.0.0.1:7101")
BOUND_TO_ALL = f"{HERE}\n    bind: 0.0.0.0:7101"


def configuration(folder: Path, address: str, security: str = "auto") -> Configuration:
    nodes = f"nodes:\n  - name: alpha\n    address: {address}\n  - name: beta\n    address: 127.0.0.1:7102\n"
    return read(folder, f"cluster: {{name: lab}}\n{nodes}security: {security}\n")


@pytest.mark.parametrize("address", LOOPBACK)
def test_auto_on_one_machine_needs_no_keys(tmp_path: Path, address: str) -> None:
    assert keys_folder(configuration(tmp_path, address)) is None
    assert warning(configuration(tmp_path, address)) == ""
    assert warning(configuration(tmp_path, address, "none")) == ""


@pytest.mark.parametrize("address", [*ELSEWHERE, BOUND_TO_ALL])
def test_auto_across_machines_does_not_start_without_keys(tmp_path: Path, address: str) -> None:
    file = configuration(tmp_path, address).file
    with pytest.raises(StartupError) as caught:
        keys_folder(configuration(tmp_path, address))
    exposed = "0.0.0.0:7101" if address == BOUND_TO_ALL else address.split("\n")[0].strip('"')
    assert caught.value.message.startswith(f"{exposed} can be reached from other machines, and {tmp_path / 'keys'} has")
    assert f"p2pdl keygen --config {file}" in caught.value.remedy and "`security: none`" in caught.value.remedy


@pytest.mark.parametrize("address", [*LOOPBACK, *ELSEWHERE, BOUND_TO_ALL])
@pytest.mark.parametrize("mode", ["auto", "curve"])
def test_keys_that_are_there_are_used(tmp_path: Path, address: str, mode: str) -> None:
    make_keys(tmp_path / "keys", "alpha")
    assert keys_folder(configuration(tmp_path, address, mode)) == tmp_path / "keys"
    assert warning(configuration(tmp_path, address, mode)) == ""


def test_keys_are_where_the_file_says(tmp_path: Path) -> None:
    make_keys(tmp_path / "inner" / "mine", "alpha")
    assert keys_folder(configuration(tmp_path, HERE, "{keys: inner/mine}")) == tmp_path / "inner" / "mine"


@pytest.mark.parametrize("address", [*LOOPBACK, *ELSEWHERE])
def test_curve_without_keys_does_not_start(tmp_path: Path, address: str) -> None:
    with pytest.raises(StartupError, match="`security: curve` needs keys, and .*keys has no list of those"):
        keys_folder(configuration(tmp_path, address, "curve"))


@pytest.mark.parametrize("address", [*ELSEWHERE, BOUND_TO_ALL])
def test_none_across_machines_is_warned_of_whether_there_are_keys_or_not(tmp_path: Path, address: str) -> None:
    for _ in range(2):
        assert keys_folder(configuration(tmp_path, address, "none")) is None
        text = warning(configuration(tmp_path, address, "none"))
        assert text.startswith("security: none: whoever can reach ") and "p2pdl keygen" in text
        make_keys(tmp_path / "keys", "alpha")
        (tmp_path / "keys" / "alpha.secret").unlink()


def test_client_of_a_node_knows_each_server_by_its_address(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "alpha", "beta", operators=("olga",))
    places = {"alpha": f"127.0.0.1:{free_port()}", "olga": "127.0.0.1:9"}
    make_client = connecting(keys, "beta", lambda: places)
    with (
        contextlib.closing(ZmqServer(places["alpha"], Door.of(keys, "alpha"))) as server,
        contextlib.closing(make_client()) as client,
    ):
        client.send(places["alpha"], [b"hello"])
        request = server.receive(WAIT)
        assert request is not None and request.asker == Asker("beta")
        server.reply([b"welcome"])
        assert client.receive(WAIT) is not None
        for nobody in ("127.0.0.1:9", "127.0.0.1:10"):
            with pytest.raises(PeerError) as caught:
                client.send(nobody, [b"hello"])
            assert caught.value.code == "no-key"


def test_client_follows_the_list_and_the_addresses(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "beta")
    places: dict[str, str] = {}
    address = f"127.0.0.1:{free_port()}"
    with contextlib.closing(connecting(keys, "beta", lambda: places)()) as client:
        for step in ("nothing", "listed", "found", "broken"):
            if step == "listed":
                make_keys(keys, "alpha")
            if step == "found":
                places["alpha"] = address
            if step == "broken":
                (keys / "allowed").write_text("nonsense")
            if step in ("nothing", "listed"):
                with pytest.raises(PeerError):
                    client.send(address, [b"hello"])
            else:
                client.send(address, [b"hello"])
                client.reset(address)


def test_member_taken_off_the_list_is_pulled_from_no_more_although_its_connection_stands(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "alpha", "mallory")
    # The member that is taken out has a list of its own, and goes on answering.
    shutil.copytree(keys, tmp_path / "mallory")
    address = f"127.0.0.1:{free_port()}"
    with (
        contextlib.closing(ZmqServer(address, Door.of(tmp_path / "mallory", "mallory"))) as server,
        contextlib.closing(connecting(keys, "alpha", lambda: {"mallory": address})()) as client,
    ):

        def answer() -> str:
            """What the member says; the code of the error where it is not even asked."""
            try:
                client.send(address, [b"weights?"])
            except PeerError as error:
                return error.code
            assert server.receive(WAIT) is not None
            server.reply([b"weights"])
            received = client.receive(WAIT)
            return bytes(received.frames[0]).decode() if received else ""

        assert answer() == "weights"
        lines = (keys / "allowed").read_text().splitlines(keepends=True)
        (keys / "allowed").write_text("".join(line for line in lines if not line.startswith("mallory ")))
        assert wait_until(lambda: answer() == "no-key", 10 * LOOK_SECONDS)
        assert answer() == "no-key" and server.receive(0.05) is None


def test_node_whose_keys_cannot_be_used_is_told_before_it_connects(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "alpha")
    with pytest.raises(StartupError, match="there is no secret key for beta"):
        connecting(keys, "beta", dict)
    assert connecting(None, "beta", dict) is ZmqClient


def test_who_looks_uses_an_operators_key_or_else_any_that_is_here(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "alpha", "beta", operators=("olga",))
    address = f"127.0.0.1:{free_port()}"
    seen = []
    with contextlib.closing(ZmqServer(address, Door.of(keys, "alpha"))) as server:
        for lost in (None, "olga", "alpha"):
            if lost:
                secret_path(keys, lost).unlink()
            with contextlib.closing(looking(keys, lambda: {"alpha": address})) as client:
                client.send(address, [b"hello"])
                request = server.receive(WAIT)
                assert request is not None and request.asker is not None
                server.reply([b"welcome"])
                seen.append(request.asker)
    assert seen == [Asker("olga", operator=True), Asker("alpha"), Asker("beta")]
    secret_path(keys, "beta").unlink()
    with pytest.raises(StartupError, match="has no secret key, and these nodes answer only to listed keys") as caught:
        looking(keys, dict)
    assert "p2pdl keygen --operator" in caught.value.remedy
    with contextlib.closing(looking(None, dict)) as client:
        client.send(address, [b"hello"])


def test_list_that_others_could_write_is_not_followed(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", "alpha", "beta")
    with contextlib.closing(connecting(keys, "beta", lambda: {"gamma": "127.0.0.1:9"})()) as client:
        allow(keys, [AllowedKey("gamma", stranger().public)])
        (keys / "allowed").chmod(0o666)
        with pytest.raises(PeerError, match="is not known"):
            client.send("127.0.0.1:9", [b"hello"])
