"""Steps of a check that a node's own answers decide: who it is, and whether it trains the same."""

from __future__ import annotations

import json
from statistics import median

from p2pdl.errors import IncompatiblePeer, PeerError, PeerTimeout, ProtocolError
from p2pdl.node.connection_sighting import Answer, Expectation, Heard, Sighting, Step
from p2pdl.node.shared_settings import differences
from p2pdl.protocol.messages import PROTOCOL_VERSION, Refusal, SettingsReply, SpecReply
from p2pdl.types import printable

LISTED = 8
"""Differences that are written out; more are counted."""

LONGEST_VALUE = 60


def handshake(expected: Expectation, seen: Sighting) -> Step | None:
    answer = seen.answer
    if answer is None:
        return None
    if isinstance(answer, IncompatiblePeer):
        return Step("handshake", True, "it answers")
    if isinstance(answer, PeerError):
        is_silent, is_other = isinstance(answer, PeerTimeout), isinstance(answer, ProtocolError)
        result = "silent" if is_silent else "not a node" if is_other else "refuses"
        remedy = answer.remedy or (
            "it speaks ZeroMQ: another program does so too, or the node has more to do than it can; look at its log"
        )
        return Step("handshake", False, printable(answer.message), remedy, result)
    message = answer.envelope.message
    if isinstance(message, Refusal) and message.code != "cluster":
        detail = f"{seen.address} refuses to answer: {printable(message.message)}"
        return Step("handshake", False, detail, "the log of that node says more", "refuses")
    return Step("handshake", True, "it answers")


def protocol(expected: Expectation, seen: Sighting) -> Step | None:
    if isinstance(seen.answer, IncompatiblePeer):
        return Step("protocol", False, seen.answer.message, seen.answer.remedy, "other version")
    return Step("protocol", True, f"version {PROTOCOL_VERSION}") if isinstance(seen.answer, Heard) else None


def cluster(expected: Expectation, seen: Sighting) -> Step | None:
    if not isinstance(seen.answer, Heard):
        return None
    cluster = seen.answer.envelope.cluster
    if cluster == expected.cluster:
        return Step("cluster", True, cluster)
    return Step(
        "cluster",
        False,
        f"the node at {seen.address} belongs to cluster {printable(cluster)!r}, and {expected.file} is of "
        f"{expected.cluster!r}",
        "correct the address or `cluster.name`; two clusters on one machine need ports of their own",
        "other cluster",
    )


def node(expected: Expectation, seen: Sighting) -> Step | None:
    if not isinstance(seen.answer, Heard):
        return None
    node = seen.answer.envelope.node
    if node == seen.name:
        return Step("node", True, node)
    return Step(
        "node",
        False,
        f"at {seen.address} the node {printable(node)} answers, not {seen.name}",
        f"correct the addresses under `nodes`, or start the node there with `--name {seen.name}`",
        "other node",
    )


def settings(expected: Expectation, seen: Sighting) -> Step | None:
    reply = _read("settings", seen, seen.settings)
    if not isinstance(reply, Heard):
        return reply
    try:
        theirs = json.loads(b"".join(reply.payload))
        found = differences(expected.settings, theirs)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return Step(
            "settings",
            False,
            f"{seen.name} answers with settings that are not those of this version of p2pdl",
            "install the same version of p2pdl on every machine",
            "other version",
        )
    if not found:
        return Step("settings", True, "those that all nodes must share are the same")
    shown = [f"{it.key} is {_value(it.there)} there and {_value(it.here)} here" for it in found[:LISTED]]
    more = [f"and {len(found) - LISTED} more"] if len(found) > LISTED else []
    return Step(
        "settings",
        False,
        f"{seen.name} trains with other settings than {expected.file}: {'; '.join(shown + more)}",
        "give every machine the same file; a node that runs keeps the settings with which it was started",
        "other settings",
    )


def model(expected: Expectation, seen: Sighting) -> Step | None:
    reply = _read("model", seen, seen.spec)
    if not isinstance(reply, Heard):
        return reply
    assert isinstance(reply.envelope.message, SpecReply)
    digest = reply.envelope.message.spec
    if digest == expected.spec.digest:
        return Step(
            "model", True, f"{expected.spec.parameters:,} parameters in {len(expected.spec.variables)} variables"
        )
    rows = b"".join(reply.payload).decode(errors="replace").split("\n")
    difference = expected.spec.first_difference(rows) or f"its digest is {expected.spec.digest} here and {digest} there"
    return Step(
        "model",
        False,
        f"{seen.name} trains another model: {printable(difference)}",
        "give every node the same `model` and data of the same shape, and the same version of a function of your own",
        "other model",
    )


def round_trip(expected: Expectation, seen: Sighting) -> Step | None:
    if not seen.round_trips and seen.lost is not None:
        detail, remedy = (
            f"{seen.name} has answered, and does so no more: {printable(seen.lost.message)}",
            "look at its log",
        )
        return Step("round trip", False, detail, remedy, "silent")
    if not seen.round_trips:
        return None
    return Step("round trip", True, f"{1000 * median(seen.round_trips):.2f} ms")


def _read(name: str, seen: Sighting, answer: Answer | None) -> Heard | Step | None:
    """The reply to one of the later questions, or what is to be said where there is none."""
    if answer is None:
        return None
    if isinstance(answer, PeerError):
        return Step(name, False, printable(answer.message), answer.remedy or "look at the log of that node", "silent")
    match answer.envelope.message:
        case Refusal("not-ready", message):
            return Step(name, None, f"cannot be compared: {printable(message)}")
        case Refusal(_, message):
            detail = f"{seen.name} refuses to answer: {printable(message)}"
            return Step(name, False, detail, "the log of that node says more", "refuses")
        case SettingsReply() | SpecReply():
            return answer
    kind = type(answer.envelope.message).__name__
    return Step(name, False, f"{seen.name} answers with a {kind}", "is this really a p2pdl node?", "not a node")


def _value(value: object) -> str:
    text = printable(json.dumps(value))
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
