"""What a parameter server refuses of its workers: with which code, and that nothing has changed then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.protocol.messages import REFUSALS, BeginRequest, InitialRequest, JoinRequest, PushRequest, Refusal
from p2pdl.protocol.parameter_server import WORKERS
from p2pdl.sparsifier import Selection
from p2pdl.synchronisation import POLICIES, PolicySettings
from tests.protocol.nodes import MODEL
from tests.protocol.workplace import SMALL, Workplace, gradient, settings_of

EVERY_POLICY = pytest.mark.parametrize("policy", POLICIES)


def working(policy: str) -> Workplace:
    """A server of which ada has done two iterations, and bob as many as ada's policy needs."""
    options = {"policy_settings": PolicySettings(staleness=1), "optimizer": "momentum", "expected": 2}
    place = Workplace(SMALL, settings_of(policy, **options))
    place.start("ada", "bob")
    for _ in range(2):
        for name in ("ada", "bob"):
            place.push(name, gradient(SMALL, place.weights, 3))
    return place


def picture(place: Workplace) -> tuple[object, ...]:
    """All that a refused push must leave as it was."""
    core = place.core
    header, arrays = core.state()
    collected = [(shard.collection.count, shard.collection.clock) for shard in core._shards if shard.collection]
    clocks = {name: (worker.clock, frozenset(worker.pushed)) for name, worker in core.workers.items()}
    return header, {name: array.tobytes() for name, array in arrays.items()}, collected, clocks, core.loss


def with_frame(request: PushRequest, frame: bytes) -> tuple[PushRequest, bytes]:
    """A request with another frame, whose digest is right."""
    return replace(request, digest=xxhash.xxh3_64_intdigest(frame)), frame


def refused(place: Workplace, worker: str, request: PushRequest, frame: bytes | None) -> str:
    """The code with which a push is refused, after which nothing has changed."""
    before = picture(place)
    reply = place.ask(worker, request, frame)
    assert isinstance(reply, Refusal) and reply.code in REFUSALS and reply.message
    assert picture(place) == before
    return reply.code


@EVERY_POLICY
def test_damaged_and_malformed_pushes_are_refused_and_change_nothing(policy: str) -> None:
    place = working(policy)
    [(request, frame)] = place.frames("ada", gradient(SMALL, place.weights, 3))
    assert refused(place, "ada", replace(request, digest=request.digest ^ 1), frame) == "payload"
    assert refused(place, "ada", request, frame[:-1]) == "payload"
    assert refused(place, "ada", request, None) == "payload"
    for shard in (1, 2**63 - 1):
        assert refused(place, "ada", replace(request, shard=shard), frame) == "payload"
    for junk in (b"x", frame[:-4], frame + bytes(4), bytes(len(frame)), b"\xff" * len(frame)):
        assert refused(place, "ada", *with_frame(request, junk)) == "payload"
    for value in (np.nan, np.inf):
        poisoned = np.frombuffer(frame, np.uint8).copy()
        poisoned[8:12] = np.frombuffer(np.float32(value).tobytes(), np.uint8)
        assert refused(place, "ada", *with_frame(request, poisoned.tobytes())) == "payload"
    statistics = place.frames("ada", Selection(np.array([32]), np.ones(1, np.float32)))
    assert refused(place, "ada", *statistics[0]) == "payload"
    assert place.told("ada", request, frame).clock == 3, "what is good is taken afterwards"


@given(data=st.binary(max_size=400))
def test_any_bytes_are_refused_or_are_an_update(data: bytes) -> None:
    place = working("bsp")
    [(request, _)] = place.frames("ada", gradient(SMALL, place.weights, 3))
    reply = place.ask("ada", *with_frame(request, data))
    assert not isinstance(reply, Refusal) or reply.code == "payload"
    assert np.isfinite(place.weights).all()


@EVERY_POLICY
def test_pushes_of_other_iterations_and_lives_are_refused_and_change_nothing(policy: str) -> None:
    place = working(policy)
    [(request, frame)] = place.frames("ada", gradient(SMALL, place.weights, 3))
    assert refused(place, "ada", replace(request, incarnation="the life before"), frame) == "not-joined"
    for clock in (0, 3, 2**63 - 1):
        assert refused(place, "ada", replace(request, clock=clock), frame) == "other-iteration"
    assert refused(place, "nobody", request, frame) == "not-joined"
    while place.begin("ada").admitted and place.core.workers["ada"].clock < 9:
        place.push("ada", gradient(SMALL, place.weights, 4))
    ahead = {"bsp": 3, "ssp": 4}.get(policy)
    if ahead is not None:
        assert place.core.workers["ada"].clock == ahead
        [(request, frame)] = place.frames("ada", gradient(SMALL, place.weights, 5))
        assert refused(place, "ada", request, frame) == "outside-window"
    place.now += place.settings.lease + 0.1
    # Whoever lapses first: bob's leaving may move the window, before the request is looked at.
    place.core.expire(place.now)
    assert refused(place, "ada", request, frame) == "not-joined"
    assert isinstance(place.ask("ada", BeginRequest()), Refusal)


def test_push_before_there_are_weights_is_not_ready() -> None:
    place = Workplace(SMALL, settings_of("bsp"))
    place.join("ada")
    [(request, frame)] = place.frames("ada", np.zeros(SMALL.size, np.float32))
    reply = place.ask("ada", request, frame)
    assert isinstance(reply, Refusal) and reply.code == "not-ready"
    assert isinstance(place.ask("bob", InitialRequest(0, 0), b""), Refusal)


def test_adacomp_refuses_a_push_without_a_pull() -> None:
    place = Workplace(MODEL, settings_of("asp", rule="adacomp", expected=2))
    place.start("ada")
    place.join("bob")
    for request, frame in place.frames("bob", gradient(MODEL, place.weights, 1)):
        assert refused(place, "bob", request, frame) == "not-pulled"
    sparse = place.frames("bob", Selection(np.array([3]), np.ones(1, np.float32)))
    assert refused(place, "bob", *sparse[0]) == "not-pulled"


def test_layouts_that_are_wrong_or_of_another_model_are_refused() -> None:
    place = Workplace(SMALL, settings_of("bsp"))
    rows = "\n".join(SMALL.rows())
    for digest, payload in (
        ("0" * 32, rows.encode()),
        (SMALL.digest, b""),
        (SMALL.digest, None),
        (SMALL.digest, rows.encode()[:-1]),
        (SMALL.digest, b"\xff\xfe"),
        (xxhash.xxh3_128_hexdigest(moved := rows.replace("\t32\t", "\t48\t").encode()), moved),
        (xxhash.xxh3_128_hexdigest(empty := b"w\t0\tfloat32\t0\ttrainable"), empty),
    ):
        reply = place.ask("ada", JoinRequest(digest), payload)
        assert isinstance(reply, Refusal) and reply.code == "payload"
    assert place.core.layout() is None and not place.core.workers
    place.join("ada")
    reply = place.ask("bob", JoinRequest(MODEL.digest), "\n".join(MODEL.rows()).encode())
    assert isinstance(reply, Refusal) and reply.code == "model"
    assert list(place.core.workers) == ["ada"]


def test_names_that_take_part_are_bounded() -> None:
    place = Workplace(SMALL, settings_of("asp"))
    for number in range(WORKERS):
        place.join(f"worker{number}")
    reply = place.ask("one more", JoinRequest(SMALL.digest), None)
    assert isinstance(reply, Refusal) and reply.code == "busy"
    assert place.join("worker7").workers == WORKERS
