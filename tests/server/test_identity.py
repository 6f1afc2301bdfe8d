"""Who asks is who the key says: what a member, an operator and somebody who is not listed any more are answered."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import pytest

from p2pdl.clock import MonotonicClock
from p2pdl.errors import PeerError, PeerRefused
from p2pdl.keys import AllowedKey, allow
from p2pdl.protocol.membership.members import Member
from p2pdl.protocol.membership.roster import Known
from p2pdl.protocol.messages import (
    MESSAGE_TYPES,
    Envelope,
    RangeRequest,
    Refusal,
    Reply,
    SnapshotReply,
    SnapshotRequest,
    SpecRequest,
    StatusReply,
    StatusRequest,
)
from p2pdl.protocol.serving import Payload, Serving
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Requester
from p2pdl.server.answer import ANYBODY, Answerer
from p2pdl.server.process import ServerSettings, key_at
from p2pdl.server.view import StoreView
from p2pdl.store.layout import Word
from p2pdl.store.reader import StoreReader
from p2pdl.transport.contract import Asker
from p2pdl.transport.curve import Identity
from p2pdl.transport.door import LOOK_SECONDS, Door
from p2pdl.transport.zeromq import ZmqClient
from p2pdl.wire import decode, encode
from tests.key_folders import client_of, identity_of, make_keys, stranger
from tests.processes import memory_mib, server, wait_until
from tests.protocol.nodes import PlainNode
from tests.puller.pulling import pull
from tests.stores import dense_spec, new_store, publish, random_vector, writing
from tests.wire.headers import WITH_PAYLOAD, header

SPEC = dense_spec(1000)
VECTOR = random_vector(SPEC.size)
MEMBER, OPERATOR = Asker("beta"), Asker("olga", operator=True)
OPERATORS_MAY = {"status", "settings", "spec"}
REQUESTS = [name for name in MESSAGE_TYPES if not name.endswith("-reply") and name != "refusal"]


class Listening(Serving):
    """Notes under which name each request was taken."""

    def __init__(self) -> None:
        super().__init__("lab", PlainNode())
        self.names: list[str] = []

    def on_request(self, envelope: Envelope, now: float, payload: memoryview | None = None) -> tuple[Reply, Payload]:
        self.names.append(envelope.node)
        return super().on_request(envelope, now, payload)


def answered(fields: dict[str, object], asker: Asker | None) -> tuple[str, list[str]]:
    """The code of the refusal, if it is one, and the names under which the request was taken."""
    serving = Listening()
    payload = [memoryview(b"")] if fields["type"] in WITH_PAYLOAD else []
    answer = Answerer("lab", "alpha", serving)([memoryview(msgpack.packb(fields)), *payload], 1.0, asker)
    reply = decode(answer.frames[0])
    assert reply.id == fields["id"] and reply.node == "alpha"
    assert isinstance(reply.message, Refusal) == bool(answer.refused)
    return answer.refused, serving.names


@pytest.mark.parametrize("name", REQUESTS)
def test_member_is_taken_under_the_name_of_its_key_and_no_other(name: str) -> None:
    code, names = answered(header(name, node="beta"), MEMBER)
    assert names == ["beta"] and code not in ("identity", "forbidden")
    assert answered(header(name, node=ANYBODY), MEMBER)[1] == ["beta"], "a program that is no node says so"
    for claimed in ("alpha", "gamma", "", "olga"):
        assert answered(header(name, node=claimed), MEMBER) == ("identity", [])


@pytest.mark.parametrize("name", REQUESTS)
def test_operator_may_look_and_nothing_else(name: str) -> None:
    for claimed in ("olga", ANYBODY):
        code, names = answered(header(name, node=claimed), OPERATOR)
        assert (code == "forbidden") == (name not in OPERATORS_MAY)
        assert names == (["olga"] if name in OPERATORS_MAY else [])
    assert answered(header(name, node="beta"), OPERATOR) == ("identity", [])


@pytest.mark.parametrize("name", REQUESTS)
def test_key_that_is_not_listed_any_more_opens_nothing(name: str) -> None:
    for claimed in ("beta", ANYBODY, ""):
        assert answered(header(name, node=claimed), Asker("")) == ("identity", [])


@pytest.mark.parametrize("name", REQUESTS)
def test_without_a_door_the_requests_own_word_counts(name: str) -> None:
    for claimed in ("beta", ANYBODY, "gamma"):
        assert answered(header(name, node=claimed), None)[1] == [claimed]


def test_refusal_says_whose_key_it_is() -> None:
    fields = header("status", node="gamma")
    answer = Answerer("lab", "alpha", Serving("lab", PlainNode()))([memoryview(msgpack.packb(fields))], 1.0, MEMBER)
    assert decode(answer.frames[0]).message == Refusal("identity", "this is the key of 'beta', not of 'gamma'")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "keys", "alpha", "beta", operators=("olga",))


@contextlib.contextmanager
def requester(keys: Path, identity: Identity, name: str = "") -> Iterator[Requester]:
    """Asks alpha with the key of one, under the name of the same or another."""
    client = client_of(identity, identity_of(keys, "alpha").public)
    with contextlib.closing(Requester(client, "lab", name or identity.name, MonotonicClock())) as made:
        yield made


def code_of(client: ZmqClient, address: str) -> str:
    """Why the connection does not come about; empty as long as that is not known."""
    assert client.receive(0.01) is None
    reason = client.reason(address)
    return reason.code if reason else ""


def refusal_of(asking: Requester, address: str, request: object) -> str:
    """The code with which a request is refused."""
    with pytest.raises(PeerRefused) as caught:
        asking.ask(address, request, 20.0)  # type: ignore[arg-type]
    return caught.value.code


def test_real_server_serves_members_lets_operators_look_and_nobody_else_in(keys: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with new_store() as store, writing(store, SPEC) as writer, server(store, keys=keys, log=log) as running:
        assert running.ready == ""
        publish(writer, VECTOR)
        with requester(keys, identity_of(keys, "beta")) as member:
            inbox = Inbox(SPEC)
            outcome = pull(member, running.address, SPEC, inbox)
            assert outcome.error is None
            np.testing.assert_array_equal(inbox.vector, VECTOR)
        with requester(keys, identity_of(keys, "beta"), "gamma") as pretender:
            assert refusal_of(pretender, running.address, SnapshotRequest(SPEC.digest)) == "identity"
        with requester(keys, identity_of(keys, "olga")) as operator:
            assert isinstance(operator.ask(running.address, StatusRequest(), 20.0)[0], StatusReply)
            operator.ask(running.address, SpecRequest(), 20.0)
            assert refusal_of(operator, running.address, SnapshotRequest(SPEC.digest)) == "forbidden"
        outsider = client_of(stranger("beta"), identity_of(keys, "alpha").public)
        with contextlib.closing(outsider), contextlib.closing(ZmqClient()) as naked:
            for client in (outsider, naked):
                client.send(running.address, [encode(Envelope(1, "lab", "beta", StatusRequest()))])
            assert wait_until(lambda: code_of(outsider, running.address) == "denied", 20.0)
            assert wait_until(lambda: code_of(naked, running.address) in ("handshake", "encryption"), 20.0)
        with requester(keys, identity_of(keys, "olga")) as operator:

            def figures() -> dict[str, object]:
                reply, _ = operator.ask(running.address, StatusRequest(), 20.0)
                assert isinstance(reply, StatusReply)
                return {name: value for name, value in reply.figures.items() if name.startswith("refused_")}

            # The one that was turned away is counted with the one that claimed another name.
            assert wait_until(lambda: figures() == {"refused_identity": 2, "refused_forbidden": 1}, 20.0)
            assert wait_until(lambda: writer.counter(Word.REFUSALS) == 3, 20.0)
    assert "a client at 127.0.0.1 was turned away" in log.read_text()


def test_real_server_lets_a_node_in_that_was_added_while_it_runs(keys: Path) -> None:
    newcomer = stranger("gamma")
    with new_store() as store, writing(store, SPEC) as writer, server(store, keys=keys) as running:
        publish(writer, VECTOR)
        with requester(keys, newcomer) as asking:

            def is_let_in() -> bool:
                with contextlib.suppress(PeerError):
                    return isinstance(asking.ask(running.address, SnapshotRequest(SPEC.digest), 1.0)[0], SnapshotReply)
                return False

            assert not is_let_in()
            allow(keys, [AllowedKey("gamma", newcomer.public)])
            assert wait_until(is_let_in, 10 * LOOK_SECONDS)
            # The one who is taken off the list again gets no answer any more, although the connection stands.
            kept = [line for line in (keys / "allowed").read_text().splitlines() if not line.startswith("gamma ")]
            (keys / "allowed").write_text("\n".join(kept) + "\n")

            def code() -> str:
                try:
                    asking.ask(running.address, RangeRequest("", 1, 0, SPEC.size, "float32", (), True), 20.0)
                except PeerError as error:
                    return error.code
                return ""

            assert wait_until(lambda: code() == "identity", 10 * LOOK_SECONDS)


def test_key_at_an_address_is_that_of_the_listed_member_there_and_of_one_that_is_gone_only_if_nobody_else_is(
    keys: Path,
) -> None:
    door, address = Door.of(keys, "alpha"), "10.0.0.1:7101"

    def key(*there: tuple[str, str]) -> str | None:
        with new_store() as store, contextlib.closing(StoreReader(store)) as reader:
            view = StoreView(reader)
            view.known = {name: Known(Member(name, address, "", 1, 0, state), 0.0) for name, state in there}
            return key_at(door, view, address)

    alpha, beta = (identity_of(keys, name).public for name in ("alpha", "beta"))
    assert key() is key(("gamma", "alive")) is key(("olga", "alive")) is None
    assert key(("beta", "dead")) == beta
    assert key(("gamma", "alive"), ("beta", "alive")) == beta, "the first one has been taken off the list"
    assert key(("beta", "dead"), ("alpha", "unknown")) == key(("beta", "left"), ("alpha", "suspect")) == alpha
    assert key(("beta", "alive"), ("alpha", "alive")) == beta


def test_keys_that_cannot_be_used_are_told_through_the_ready_pipe(keys: Path) -> None:
    (keys / "alpha.secret").chmod(0o644)
    with new_store() as store, server(store, keys=keys) as running:
        kind, message, remedy = json.loads(running.ready)
        assert kind == "StartupError" and "others can read the secret key" in message and "chmod 600" in remedy
        assert running.wait() == 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_key_is_on_the_command_line_or_in_the_environment(keys: Path) -> None:
    secret = identity_of(keys, "alpha").secret
    with new_store() as store, server(store, keys=keys) as running:
        assert running.ready == ""
        for what in ("cmdline", "environ"):
            shown = Path(f"/proc/{running.process.pid}/{what}").read_bytes()
            assert secret.encode() not in shown and bytes.fromhex(secret) not in shown
        assert os.fsencode(str(keys)) in Path(f"/proc/{running.process.pid}/cmdline").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_door_costs_a_server_little_memory(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = []
    for folder in ("", keys):
        with new_store() as store, server(store, keys=folder) as running:
            assert running.ready == ""
            sizes.append(memory_mib(running.process.pid, "RssAnon"))
    with capsys.disabled():
        print(f" [a server's own memory {sizes[0]:.1f} MiB without a door, {sizes[1]:.1f} with one] ", end="")
    assert sizes[1] - sizes[0] < 4.0


def test_settings_with_keys_survive_the_command_line() -> None:
    settings = ServerSettings("lab", "alpha", "127.0.0.1:7101", 3, 4, 5, keys="/home/a b/keys")
    assert ServerSettings.from_argument(settings.to_argument()) == settings
