"""How long a parameter server stays after its last worker has finished, under a clock of the test's own."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from p2pdl.checkpoint.folder import CheckpointFolder
from p2pdl.clock import VirtualClock
from p2pdl.server.answer import Answer
from p2pdl.server.parameter_process import (
    LAST_PULLS_SECONDS,
    LAST_REPLY_SECONDS,
    POLL_SECONDS,
    Keeper,
    ParameterProcessSettings,
    serve,
)
from p2pdl.transport.contract import Request


class Requests:
    """A transport on which a request comes at each of some moments.

    Args:
        clock: Goes on while the server waits.
        moments: Seconds, ascending.
    """

    def __init__(self, clock: VirtualClock, moments: list[float]) -> None:
        self._clock = clock
        self._moments = list(moments)

    def keep(self, now: float) -> int:
        return 0

    def receive(self, timeout: float) -> Request | None:
        is_due = bool(self._moments) and self._moments[0] <= self._clock.now() + timeout
        self._clock.advance_to(self._moments.pop(0) if is_due else self._clock.now() + timeout)
        return Request([]) if is_due else None

    def reply(self, frames: Any) -> None:
        pass


def stays(moments: list[float], payload: int, served: bool = False) -> float:
    """Seconds until the server ends, if all are done at 0 and what is asked at these moments is answered so."""
    clock = VirtualClock()
    core = SimpleNamespace(is_done=True, has_served_everybody=served, expire=lambda now: None, layout=lambda: None)
    view = SimpleNamespace(refusals=Counter(), count=lambda answer: None)
    keeper = SimpleNamespace(keep=lambda: None)
    answer = Answer([], payload, payload, "")
    parts: list[Any] = [Requests(clock, moments), lambda *request: answer, core, view, keeper, None]
    serve(*parts, clock, lambda: False)
    return clock.now()


def test_final_weights_that_are_taken_piece_by_piece_are_waited_for() -> None:
    pieces = [15.0, 30.0, 45.0]
    assert stays(pieces, 4 << 20) == pytest.approx(45.0 + LAST_PULLS_SECONDS, abs=POLL_SECONDS)


@pytest.mark.parametrize("fails", [False, True])
def test_a_version_whose_checkpoint_failed_is_saved_when_the_server_stops(tmp_path, monkeypatch, fails):
    settings = ParameterProcessSettings("lab", "server1", "", str(tmp_path), 0, 0, {}, checkpoint_every=1.0)
    core = SimpleNamespace(version=5, state=lambda: ({"version": core.version}, {"w": np.ones(3, np.float32)}))
    clock = VirtualClock()
    keeper = Keeper(core, tmp_path, settings, clock)
    saved: list[int] = []
    save = CheckpointFolder.save

    def fail_once(folder: Any, step: int, *rest: Any) -> int:
        saved.append(step)
        if fails and len(saved) == 1:
            raise OSError("a full disk")
        return save(folder, step, *rest)

    monkeypatch.setattr(CheckpointFolder, "save", fail_once)
    clock.advance_to(2.0)
    keeper.keep()
    keeper.close()
    assert saved == ([5, 5] if fails else [5])
    newest = CheckpointFolder(tmp_path / "checkpoints", 2).newest()
    assert newest is not None and newest.step == 5


def test_questions_without_a_payload_keep_nobody() -> None:
    assert stays([1.0 * number for number in range(100)], 0) == pytest.approx(LAST_PULLS_SECONDS, abs=POLL_SECONDS)


def test_when_all_have_the_final_weights_only_the_last_reply_is_waited_for() -> None:
    assert stays([], 0, served=True) == pytest.approx(LAST_REPLY_SECONDS, abs=POLL_SECONDS)
