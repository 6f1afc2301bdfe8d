"""SIGKILL at random moments to every process of two nodes: what is lost is what was not saved yet, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from p2pdl.protocol.messages import StatusReply
from tests.node.clusters import START_SECONDS, Lab, NodeProcess, make_lab, node
from tests.processes import is_running, wait_until

EVERY = 0.3
"""Seconds between two checkpoints."""

BUSY_SECONDS = 10.0
"""By how much more a checkpoint may be older on a machine that does many other things: it is written in spare time."""

WITHIN_SECONDS = 1.0
"""A kill comes within so many seconds after the last one has been recovered from."""

Recovery = Callable[[], None]
"""Waits until what was killed is back, and checks what that has cost."""

AGAIN, STARTING_SECONDS = 0.25, 5.0
"""How often a trainer is killed that has not begun to train, and within which time after its start."""


@dataclass
class Victim:
    """A node that is killed again and again, process by process.

    Attributes:
        lab: Its cluster.
        name: Its name.
        rng: Of its chances.
        lost: Seconds of training that each end of a trainer has cost.
    """

    lab: Lab
    name: str
    rng: random.Random
    lost: list[float] = field(default_factory=list)
    _life: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _process: NodeProcess | None = None

    @property
    def process(self) -> NodeProcess:
        """Its supervisor."""
        assert self._process is not None
        return self._process

    def status(self) -> StatusReply:
        """What its server says, as soon as it does."""
        give_up_at = time.monotonic() + START_SECONDS
        while (reply := self.lab.status(self.name)) is None:
            assert time.monotonic() < give_up_at, self.process.said()
        return reply

    def start(self) -> None:
        """Start its supervisor."""
        self._life = contextlib.ExitStack()
        self._process = self._life.enter_context(node(self.lab, self.name))

    def wait_until_it_trains(self, after: int = 0) -> None:
        """Wait until another trainer than the one that was killed has done its first steps and saved."""

        def trains() -> bool:
            trainer = self.process.children().get("trainer", after)
            status = self.lab.status(self.name) if trainer != after else None
            if status is None or status.state != "training" or status.figures.get("process") != trainer:
                return False
            return int(status.figures["checkpoints"] or 0) > 0

        assert wait_until(trains, START_SECONDS), self.process.said()

    def kill_server(self) -> None:
        """Kill the server; it comes back at its port."""
        before = self.status()
        os.kill(self.process.children()["server"], signal.SIGKILL)
        after = self.status()
        assert after.figures["server_starts"] == before.figures["server_starts"] + 1

    def kill_trainer(self) -> Recovery:
        """Kill the trainer; the server goes on answering, and the next one goes on from the newest checkpoint."""
        server, trainer = (self.process.children()[name] for name in ("server", "trainer"))
        reached, saved = self._kill(lambda: os.kill(trainer, signal.SIGKILL), [trainer])
        assert self.status() and self.process.children()["server"] == server
        while self.rng.random() < AGAIN:
            trainer = self._kill_while_it_starts(trainer)
            # On a quick machine it may have trained and saved by then.
            saved = max(self.lab.checkpoints(self.name))

        def recover() -> None:
            self.wait_until_it_trains(trainer)
            self._account(reached, saved)

        return recover

    def kill_supervisor(self) -> Recovery:
        """Kill the supervisor; its children end with it, and the same command goes on from the newest checkpoint."""
        children = list(self.process.children().values())
        reached, saved = self._kill(lambda: self.process.signal(signal.SIGKILL), children)
        self._life.close()
        assert wait_until(lambda: self.lab.port_is_free(self.name), 10.0)
        self.start()

        def recover() -> None:
            self.wait_until_it_trains()
            self._account(reached, saved)

        return recover

    def stop(self) -> None:
        """End it as people do."""
        self.process.signal(signal.SIGTERM)
        assert self.process.wait() == 0
        self._life.close()

    def _kill_while_it_starts(self, before: int) -> int:
        """Kill the trainer that follows another one, wherever it is then; its process id."""
        assert wait_until(lambda: self.process.children().get("trainer", before) != before, START_SECONDS)
        trainer = self.process.children()["trainer"]
        time.sleep(self.rng.uniform(0.0, STARTING_SECONDS))
        os.kill(trainer, signal.SIGKILL)
        assert wait_until(lambda: not is_running(trainer), 10.0)
        return trainer

    def _kill(self, strike, dying: list[int]) -> tuple[tuple[int, float], int]:
        """Strike; the step that was reached and the seconds that a step takes, and the newest step that is saved."""
        before = self.status()
        strike()
        assert wait_until(lambda: not any(is_running(pid) for pid in dying), 10.0)
        saved = max(self.lab.checkpoints(self.name))
        # What the node has called saved is saved.
        assert saved >= before.figures["checkpoint_step"]
        return (before.step, before.figures["seconds_per_step"]), saved

    def _account(self, reached: tuple[int, float], saved: int) -> None:
        resumed = re.findall(r"going on from step-(\d+)\.ckpt", self.lab.log(self.name))
        assert int(resumed[-1]) == saved
        self.lost.append(max(0, reached[0] - saved) * reached[1])


def kill_at_random_moments(folder: Path, rounds: int) -> None:
    """In each round the servers of both nodes are killed, the trainer of one and the supervisor of the other."""
    seed = int(os.environ.get("P2PDL_SEED") or secrets.randbits(32))
    print(f"P2PDL_SEED={seed}")
    rng = random.Random(seed)
    lab = make_lab(
        folder,
        2,
        train={"steps": 10_000_000, "batch_size": 32},
        gossip={"start_wait": 0.0, "linger": 2.0, "request_timeout": 0.5},
        checkpoint={"every": EVERY, "restarts": 1000},
        metrics={"interval": 0.1},
    )
    victims = [Victim(lab, "node1", rng), Victim(lab, "node2", rng)]
    with contextlib.ExitStack() as stack:
        for victim in victims:
            victim.start()
            stack.callback(lambda victim=victim: victim._life.close())
        for victim in victims:
            victim.wait_until_it_trains()
        for number in range(rounds):
            kills: list[Callable[[], Recovery | None]] = [victim.kill_server for victim in victims]
            kills += [victims[number % 2].kill_trainer, victims[1 - number % 2].kill_supervisor]
            rng.shuffle(kills)
            recoveries = []
            for kill in kills:
                # No wait for anything: the moment is meant to be any.
                time.sleep(rng.uniform(0.0, WITHIN_SECONDS))
                recoveries.append(kill())
            for recover in filter(None, recoveries):
                recover()
        for victim in victims:
            victim.stop()
    lost = [seconds for victim in victims for seconds in victim.lost]
    print(f"lost {statistics.median(lost):.2f} s of training, {max(lost):.2f} s at most, of {len(lost)} trainers")
    assert len(lost) == 2 * rounds and max(lost) <= EVERY + BUSY_SECONDS
    for victim in victims:
        leaves_nothing_behind(lab, victim.name)


def leaves_nothing_behind(lab: Lab, name: str) -> None:
    """No half-written file was ever taken for a whole one, and none is left."""
    folder = lab.folder / "runs" / "lab" / name
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert all(re.fullmatch(r"step-\d{9}\.ckpt(\.superseded)?", name) for name in names), names
    assert "damaged" not in lab.log(name) and "Traceback" not in lab.log(name)
    assert json.loads((folder / "summary.json").read_text())["state"] == "stopped"
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    assert lab.port_is_free(name)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_at_a_few_random_moments_cost_no_more_than_a_checkpoint_interval(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path, 3)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_kills_at_a_hundred_random_moments_cost_no_more_than_a_checkpoint_interval(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path, 100)
