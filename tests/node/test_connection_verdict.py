"""What a check of a connection makes of what it has seen: the step that failed, why, and what to do. No sockets."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from p2pdl.config import Address, Configuration
from p2pdl.config.sections import NodeEntry
from p2pdl.errors import IncompatiblePeer, PeerError, PeerTimeout, ProtocolError
from p2pdl.node.connection_sighting import Answer, Attempt, Expectation, Greeting, Heard, Resolved, Sighting, Step
from p2pdl.node.connection_verdict import ROUND_TRIPS, STEPS, judge, questions
from p2pdl.node.own_side import own_steps, reached_from_here
from p2pdl.node.shared_settings import shared_settings
from p2pdl.protocol.messages import (
    Envelope,
    Message,
    Refusal,
    SettingsReply,
    SettingsRequest,
    SpecReply,
    SpecRequest,
    StatusReply,
    StatusRequest,
)
from p2pdl.spec import WeightSpec
from tests.pretended_clusters import configuration

SPEC = WeightSpec.layout([("dense/kernel", (64, 10), "float32", True), ("dense/bias", (10,), "float32", True)])
OTHER_SPEC = WeightSpec.layout([("dense/kernel", (32, 10), "float32", True), ("dense/bias", (10,), "float32", True)])
STATUS = StatusReply("x", "training", 5, 20, 320, 0.5, 0.25, {}, ())
HOST = "10.0.0.2"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    return configuration(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def expected(cluster: Configuration) -> Expectation:
    return Expectation("peers.yaml", "lab", "NULL", shared_settings(cluster), SPEC)


def heard(message: Message, *payload: bytes, cluster: str = "lab", node: str = "node2") -> Heard:
    return Heard(Envelope(1, cluster, node, message), payload, 0.001)


def spec_of(spec: WeightSpec) -> Heard:
    return heard(SpecReply(spec.digest), "\n".join(spec.rows()).encode())


def settings_of(settings: Any) -> Heard:
    return heard(SettingsReply(), json.dumps(settings).encode())


def seen(expected: Expectation, **fields: Any) -> Sighting:
    """A node that is right, but for some of what was seen of it; what comes after a None was not looked at."""
    right: dict[str, Any] = {
        "resolved": Resolved((HOST,)),
        "attempts": (Attempt(HOST, 0, 0.001),),
        "greeting": Greeting("NULL"),
        "answer": heard(STATUS),
        "settings": settings_of(expected.settings),
        "spec": spec_of(SPEC),
        "round_trips": [0.004, 0.002, 0.003, 0.009, 0.001],
    }
    return Sighting("node2", Address("gpu2", 7102), **(right | fields))


def failure(steps: list[Step]) -> Step:
    """The last step, which alone has failed."""
    assert [step.ok for step in steps] == [True] * (len(steps) - 1) + [False]
    assert steps[-1].detail and steps[-1].remedy and steps[-1].result
    return steps[-1]


def test_node_that_is_right_passes_every_step(expected: Expectation) -> None:
    steps = judge(expected, seen(expected))
    assert [step.name for step in steps] == [
        *("name", "route", "greeting", "handshake", "protocol", "cluster", "node"),
        *("settings", "model", "round trip"),
    ]
    assert all(step.ok and step.detail and not step.remedy for step in steps)
    assert steps[-1].detail == "3.00 ms"
    assert len(steps) == len(STEPS)


FIELDS = ("resolved", "attempts", "greeting", "answer", "settings", "spec", "round_trips")


@pytest.mark.parametrize("count", range(len(FIELDS)))
def test_steps_end_where_nobody_has_looked_yet(expected: Expectation, count: int) -> None:
    nothing = {name: [] if name == "round_trips" else None for name in FIELDS[count:]}
    steps = judge(expected, seen(expected, **nothing))
    assert len(steps) == [0, 1, 2, 3, 7, 8, 9][count]
    assert all(step.ok for step in steps)


@pytest.mark.parametrize(
    ("field", "value", "step", "result", "detail", "remedy"),
    [
        (
            *("resolved", Resolved((), "Name or service not known"), "name", "no such name"),
            "the name gpu2 leads nowhere: Name or service not known",
            "/etc/hosts",
        ),
        (
            *("resolved", Resolved(("fd00::2",)), "name", "no such name"),
            "gpu2 has addresses of IPv6 only (fd00::2)",
            '`"[fd00::2]:7102"`',
        ),
        (
            *("attempts", (Attempt(HOST, errno.ECONNREFUSED, 0.1),), "route", "not running"),
            "10.0.0.2:7102 refuses connections: nothing listens there",
            "start node2 on that machine",
        ),
        (
            *("attempts", (Attempt(HOST, errno.ETIMEDOUT, 1.5),), "route", "unreachable"),
            "10.0.0.2:7102 has not answered a connection within 1.5 s",
            "firewall drops TCP port 7102",
        ),
        (
            *("attempts", (Attempt(HOST, errno.ENETUNREACH, 0.1),), "route", "unreachable"),
            "no route to the network of 10.0.0.2",
            "VPN",
        ),
        (
            *("attempts", (Attempt(HOST, errno.EHOSTUNREACH, 0.1),), "route", "unreachable"),
            "no machine answers for 10.0.0.2",
            "is the machine on",
        ),
        (
            *("attempts", (Attempt(HOST, errno.EPERM, 0.1),), "route", "unreachable"),
            "a connection to 10.0.0.2:7102 fails: Operation not permitted",
            "firewall on this machine",
        ),
        (
            *("greeting", Greeting("", "HTTP"), "greeting", "not a node"),
            "something else listens on gpu2:7102: it looks like HTTP",
            "a port of its own",
        ),
        (
            *("greeting", Greeting("", closed=True), "greeting", "not a node"),
            "accepts connections and closes them at once",
            "port forwarding",
        ),
        (
            *("greeting", Greeting("", seconds=1.0), "greeting", "silent"),
            "accepts connections and says nothing for 1.0 s",
            "stopped or hangs",
        ),
        (
            *("greeting", Greeting("CURVE"), "greeting", "refuses"),
            "wants encryption, and peers.yaml has none",
            "the same `security`",
        ),
        (
            *("greeting", Greeting("PLAIN"), "greeting", "refuses"),
            "asks for PLAIN, which no node does",
            "a port of its own",
        ),
        (
            *("answer", PeerTimeout("gpu2:7102 has not answered within 2.0 s"), "handshake", "silent"),
            "has not answered within 2.0 s",
            "another program",
        ),
        (
            *(
                "answer",
                ProtocolError("gpu2:7102 answers, but not as a node", "right port?"),
                "handshake",
                "not a node",
            ),
            "answers, but not as a node",
            "right port?",
        ),
        (
            *("answer", PeerError("does not let this node in", "copy the list", code="denied"), "handshake", "refuses"),
            "does not let this node in",
            "copy the list",
        ),
        (
            *("answer", heard(Refusal("identity", "who are you?")), "handshake", "refuses"),
            "gpu2:7102 refuses to answer: who are you?",
            "log of that node",
        ),
        (
            *("answer", IncompatiblePeer("the peer speaks 2, this node 3", "the same version"), "protocol"),
            *("other version", "the peer speaks 2, this node 3", "the same version"),
        ),
        (
            *("answer", heard(Refusal("cluster", "no"), cluster="kitchen"), "cluster", "other cluster"),
            "belongs to cluster 'kitchen', and peers.yaml is of 'lab'",
            "cluster.name",
        ),
        (
            *("answer", heard(STATUS, node="node3"), "node", "other node"),
            "at gpu2:7102 the node node3 answers, not node2",
            "--name node2",
        ),
        ("settings", heard(SettingsReply(), b"[1"), "settings", "other version", "not those of this version", "same"),
        ("settings", settings_of([1]), "settings", "other version", "not those of this version", "same"),
        ("settings", settings_of({"model": 1}), "settings", "other version", "not those of this version", "same"),
        ("settings", PeerTimeout("silence"), "settings", "silent", "silence", "log of that node"),
        ("settings", heard(Refusal("internal", "oh")), "settings", "refuses", "refuses to answer: oh", "log"),
        ("settings", heard(STATUS), "settings", "not a node", "answers with a StatusReply", "p2pdl node"),
        (
            *("spec", spec_of(OTHER_SPEC), "model", "other model"),
            "variable 0 is dense/kernel float32[64x10] here and dense/kernel float32[32x10] there",
            "the same `model`",
        ),
        (
            *("spec", heard(SpecReply("f" * 32), "\n".join(SPEC.rows()).encode()), "model", "other model"),
            f"its digest is {SPEC.digest} here and {'f' * 32} there",
            "the same `model`",
        ),
        ("spec", heard(SpecReply("f" * 32), b"\xff\x1b[2J"), "model", "other model", "variable 0 is", "same"),
    ],
)
def test_first_step_that_fails_says_why_and_what_to_do(
    expected: Expectation, field: str, value: Any, step: str, result: str, detail: str, remedy: str
) -> None:
    failed = failure(judge(expected, seen(expected, **{field: value})))
    assert (failed.name, failed.result) == (step, result)
    assert detail in failed.detail
    assert remedy in failed.remedy
    assert failed.detail.isprintable()


def test_encryption_must_be_the_one_of_the_file(expected: Expectation) -> None:
    secured = replace(expected, mechanism="CURVE")
    assert all(step.ok for step in judge(secured, seen(secured, greeting=Greeting("CURVE"))))
    failed = failure(judge(secured, seen(secured)))
    assert failed.name == "greeting" and "speaks without encryption (NULL)" in failed.detail


def test_of_a_name_the_first_ipv4_address_counts_since_zeromq_dials_it(expected: Expectation) -> None:
    resolved = Resolved(("fd00::2", "10.0.0.2", "10.0.0.3"))
    refused, open_ = Attempt("10.0.0.2", errno.ECONNREFUSED, 0.1), Attempt("10.0.0.3", 0, 0.1)
    sighting = seen(expected, resolved=resolved, attempts=(refused, Attempt("fd00::2", 0, 0.1), open_))
    assert sighting.dialled == "10.0.0.2"
    failed = failure(judge(expected, sighting))
    assert failed.name == "route" and "another address of that name, fd00::2, accepts" in failed.detail
    assert '"[fd00::2]:7102"' in failed.remedy
    literal = Sighting("node2", Address("fd00::2", 7102), Resolved(("fd00::2",)))
    assert literal.dialled == "fd00::2"


def test_every_setting_that_differs_is_listed(expected: Expectation) -> None:
    theirs = json.loads(json.dumps(expected.settings))
    theirs["train"] |= {"seed": 99, "batch_size": 7}
    theirs["nodes"].pop()
    failed = failure(judge(expected, seen(expected, settings=settings_of(theirs))))
    assert failed.result == "other settings"
    mine = expected.settings["train"]
    for text in (
        f"train.seed is 99 there and {mine['seed']} here",
        f"train.batch_size is 7 there and {mine['batch_size']} here",
        'nodes is ["node1", "node2", "node3"] there',
    ):
        assert text in failed.detail
    assert "the same file" in failed.remedy


def test_absurdly_many_and_long_differences_are_cut(expected: Expectation) -> None:
    theirs = json.loads(json.dumps(expected.settings))
    theirs["model"]["arguments"] = {f"key{number}": "x" * 5000 for number in range(50)}
    failed = failure(judge(expected, seen(expected, settings=settings_of(theirs))))
    assert "and 42 more" in failed.detail
    assert len(failed.detail) < 1500


@pytest.mark.parametrize("field, name", [("settings", "settings"), ("spec", "model")])
def test_what_a_node_cannot_say_yet_is_no_failure(expected: Expectation, field: str, name: str) -> None:
    steps = judge(expected, seen(expected, **{field: heard(Refusal("not-ready", "still building"))}))
    assert [step.name for step in steps if step.ok is None] == [name]
    assert not any(step.ok is False for step in steps)
    assert len(steps) == len(STEPS)


def converse(expected: Expectation, sighting: Sighting, reply: Callable[[object], Answer]) -> list[object]:
    """Answer every question; what was asked."""
    asked: list[object] = []
    talk = questions(expected, sighting)
    request = next(talk)
    while True:
        asked.append(request)
        try:
            request = talk.send(reply(request))
        except StopIteration:
            return asked


def right_reply(expected: Expectation) -> Callable[[object], Answer]:
    replies = {
        StatusRequest: heard(STATUS),
        SettingsRequest: settings_of(expected.settings),
        SpecRequest: spec_of(SPEC),
    }
    return lambda request: replies[type(request)]


def fresh(expected: Expectation) -> Sighting:
    return seen(expected, answer=None, settings=None, spec=None, round_trips=[])


def test_questions_go_on_as_long_as_the_answers_are_right(expected: Expectation) -> None:
    sighting = fresh(expected)
    asked = converse(expected, sighting, right_reply(expected))
    assert [type(request) for request in asked] == [
        *(StatusRequest, SettingsRequest, SpecRequest),
        *[StatusRequest] * ROUND_TRIPS,
    ]
    assert all(step.ok for step in judge(expected, sighting)) and len(judge(expected, sighting)) == len(STEPS)
    assert sighting.status == STATUS


@pytest.mark.parametrize("wrong", [StatusRequest, SettingsRequest, SpecRequest])
def test_nothing_is_asked_after_a_wrong_answer(expected: Expectation, wrong: type) -> None:
    sighting = fresh(expected)
    right = right_reply(expected)
    asked = converse(
        expected, sighting, lambda request: PeerTimeout("silence") if type(request) is wrong else right(request)
    )
    assert type(asked[-1]) is wrong
    assert failure(judge(expected, sighting)).result == "silent"


@pytest.mark.parametrize("answered, ok", [(0, False), (3, True)])
def test_node_that_falls_silent_later_has_the_round_trips_that_there_were(
    expected: Expectation, answered: int, ok: bool
) -> None:
    sighting = fresh(expected)
    replies = iter([right_reply(expected)] * (3 + answered))
    converse(expected, sighting, lambda request: next(replies, lambda request: PeerTimeout("silence"))(request))
    step = judge(expected, sighting)[-1]
    assert (step.name, step.ok, len(sighting.round_trips)) == ("round trip", ok, answered)


def entry(address: str = "127.0.0.1:7101", bind: str | None = None) -> NodeEntry:
    return NodeEntry(name="node1", address=Address.parse(address), bind=Address.parse(bind) if bind else None)


@pytest.mark.parametrize(
    ("error", "name", "result", "detail", "remedy"),
    [
        (errno.EADDRNOTAVAIL, "address", "not this machine", "this machine has no such address", "correct `bind`"),
        (errno.EAFNOSUPPORT, "address", "not this machine", "not supported", "correct `bind`"),
        (errno.EACCES, "port", "forbidden", "may not listen on port 7101", "above 1023"),
    ],
)
def test_own_side_that_cannot_listen_says_so(
    expected: Expectation, error: int, name: str, result: str, detail: str, remedy: str
) -> None:
    failed = failure(own_steps(expected, entry(bind="10.9.9.9:7101"), error, None))
    assert (failed.name, failed.result) == (name, result)
    assert detail in failed.detail and remedy in failed.remedy


def test_own_port_is_free_or_this_nodes_own_or_taken(expected: Expectation) -> None:
    free = own_steps(expected, entry(bind="0.0.0.0:7101"), 0, None)
    assert [(step.name, step.ok) for step in free] == [("address", True), ("port", True)]
    assert "every address" in free[0].detail and free[1].detail == "port 7101 is free"

    runs = own_steps(expected, entry(), errno.EADDRINUSE, replace(seen(expected), name="node2"))
    assert [step.name for step in runs] == ["address", "port", "settings", "model", "round trip"]
    assert runs[1].detail == "node1 runs already and listens there"

    taken = own_steps(expected, entry(), errno.EADDRINUSE, seen(expected, greeting=Greeting("", "SSH")))
    assert failure(taken).result == "port taken"
    assert "port 7101 is taken: something else listens on gpu2:7102: it looks like SSH" in failure(taken).detail

    stale = own_steps(expected, entry(), errno.EADDRINUSE, seen(expected, spec=spec_of(OTHER_SPEC)))
    assert [step.name for step in stale] == ["address", "port", "settings", "model"]
    assert failure(stale).result == "other model"


def test_own_key_comes_first(expected: Expectation) -> None:
    missing, there = Step("key", False, "no key", "make one", "no key"), Step("key", True, "there")
    assert own_steps(expected, entry(), 0, None, missing) == [missing]
    assert own_steps(expected, entry(), 0, None, there) == [there, *own_steps(expected, entry(), 0, None)]
    refused = own_steps(expected, entry(), errno.EADDRNOTAVAIL, None, there)
    assert [step.name for step in refused] == ["key", "address"] and failure(refused).name == "address"


def test_what_listens_everywhere_is_found_on_loopback() -> None:
    assert str(reached_from_here(Address("0.0.0.0", 7101))) == "127.0.0.1:7101"
    assert str(reached_from_here(Address("::", 7101))) == "[::1]:7101"
    assert str(reached_from_here(Address("10.0.0.1", 7101))) == "10.0.0.1:7101"
