"""What was seen of a node, judged step by step: what happened, why, and what to do. No input or output."""

from __future__ import annotations

from collections.abc import Generator

from p2pdl.errors import PeerError
from p2pdl.node import connection_answers as answers
from p2pdl.node import connection_way as way
from p2pdl.node.connection_sighting import Answer, Expectation, Heard, Sighting, Step
from p2pdl.protocol.messages import Request, SettingsRequest, SpecRequest, StatusReply, StatusRequest

ROUND_TRIPS = 5
"""Status requests whose median is the round trip time."""

STEPS = (
    *(way.name, way.route, way.greeting),
    *(answers.handshake, answers.protocol, answers.cluster, answers.node),
    *(answers.settings, answers.model, answers.round_trip),
)


def judge(expected: Expectation, seen: Sighting) -> list[Step]:
    """The steps as far as they were looked at; the last one may have failed, those before it have not.

    Args:
        expected: What should be there.
        seen: What is there.
    """
    steps: list[Step] = []
    for look in STEPS:
        step = look(expected, seen)
        if step is None:
            break
        steps.append(step)
        if step.ok is False:
            break
    return steps


def questions(expected: Expectation, seen: Sighting) -> Generator[Request, Answer, None]:
    """What to ask the node, as long as its answers are right; `seen` takes them in.

    Args:
        expected: What should be there.
        seen: What is there; its greeting was right.
    """
    seen.answer = yield StatusRequest()
    if fails(expected, seen):
        return
    if isinstance(seen.answer, Heard) and isinstance(seen.answer.envelope.message, StatusReply):
        seen.status = seen.answer.envelope.message
    seen.settings = yield SettingsRequest()
    if fails(expected, seen):
        return
    seen.spec = yield SpecRequest()
    if fails(expected, seen):
        return
    for _ in range(ROUND_TRIPS):
        answer = yield StatusRequest()
        if isinstance(answer, PeerError):
            seen.lost = answer
            return
        seen.round_trips.append(answer.seconds)
        if isinstance(answer.envelope.message, StatusReply):
            seen.status = answer.envelope.message


def fails(expected: Expectation, seen: Sighting) -> bool:
    """Whether a step has failed."""
    return any(step.ok is False for step in judge(expected, seen))
