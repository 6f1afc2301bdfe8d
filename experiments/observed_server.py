"""One run of a parameter server and workers of given speeds, with the accuracy of the server's weights over time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.training_figures import read_lines
from p2pdl.clock import MonotonicClock
from p2pdl.config import Configuration
from p2pdl.errors import ProcessDied
from p2pdl.failpoints import VARIABLE
from p2pdl.node.children import Lifeline, trainer_environment
from p2pdl.node.local_nodes import node_command
from p2pdl.node.restarts import how_it_ended
from p2pdl.node.run_folder import run_folder
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Requester
from p2pdl.spec import WeightSpec
from p2pdl.transport.zeromq import ZmqClient
from p2pdl.types import Float32Vector

ROOT = Path(__file__).parents[1]

START_SECONDS, END_SECONDS = 300.0, 30.0
"""How long the processes may take until somebody trains, and to end."""

PULL = PullSettings(timeout=5.0, request_timeout=2.0)


@dataclass(frozen=True, slots=True)
class Look:
    """The server's weights at a moment.

    Attributes:
        seconds: Since the first step of the first worker began.
        version: Their version.
        accuracy: Their test accuracy.
    """

    seconds: float
    version: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run has shown.

    Attributes:
        looks: In their order; the last one is the first that has reached the accuracy, if any has.
        steps_per_second: Of each worker, by name.
        server: The server's summary.
    """

    looks: list[Look]
    steps_per_second: dict[str, float]
    server: dict[str, Any]


def train_and_look(
    configuration: Configuration,
    step_seconds: Mapping[str, float],
    accuracy: float,
    limit: float,
    look_every: float,
    say: Callable[[float | None, str], None],
) -> Seen:
    """Train until the server's weights have reached an accuracy.

    Args:
        configuration: One server, and workers without end.
        step_seconds: How long a step of each worker takes at least, by name.
        accuracy: What is to be reached, on the test set.
        limit: Seconds of training after which they have not.
        look_every: Seconds between two looks.
        say: Told how far it is, see `Desk.say`.

    Raises:
        ProcessDied: A node has ended, or nobody trains.
    """
    say(None, "starting")
    # What TensorFlow must find before it is loaded.
    os.environ.update(trainer_environment(threads=0))
    from experiments.lockstep import LocalModel
    from p2pdl.node.training_settings import preparation_settings
    from p2pdl.training.preparation import Preparation

    model = LocalModel(Preparation(preparation_settings(configuration, configuration.founders[0])))
    server = configuration.servers[0].name
    folders = {name: run_folder(configuration) / name for name in (server, *configuration.founders)}

    def test(vector: Float32Vector) -> float:
        return model.test(vector, configuration.metrics.evaluation_samples).accuracy

    # The first evaluation compiles, which would take the processors from the workers.
    test(model.reset())
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(_node(configuration, name, step_seconds.get(name))) for name in folders}
        observer = stack.enter_context(contextlib.closing(_Observer(configuration, model.spec)))
        found = _watch(processes, observer, configuration, test, accuracy, limit, look_every, say)
        # All at once: they end side by side.
        for process in processes.values():
            process.terminate()
    lines = {name: read_lines(folders[name] / "metrics.jsonl") for name in step_seconds}
    began = min(_began(of) for of in lines.values())
    looks = [Look(moment - began, version, reached) for moment, version, reached in found]
    rates = {name: of[-1]["step"] / of[-1]["seconds"] for name, of in lines.items()}
    return Seen(looks, rates, json.loads((folders[server] / "summary.json").read_text()))


class _Observer:
    """Somebody who only pulls, and says so by another name than any worker's."""

    def __init__(self, configuration: Configuration, spec: WeightSpec) -> None:
        [entry] = configuration.servers
        self._server, self._address = entry.name, str(entry.address)
        self._spec = spec
        self._transport = ZmqClient()
        self._requester = Requester(self._transport, configuration.cluster.name, "observer", MonotonicClock())
        self._inbox = Inbox(spec)

    def pull(self) -> tuple[float, int, Float32Vector] | None:
        """The moment in seconds since 1970, the version, and the weights; None while they cannot be had."""
        self._inbox.expect(None)
        outcome = self._requester.pull(self._server, self._address, self._spec, PULL, self._inbox.accept)
        if outcome.error is not None or outcome.snapshot is None:
            return None
        return time.time(), outcome.snapshot.version, self._inbox.vector

    def close(self) -> None:
        """Drop the connection."""
        self._transport.close()


@contextlib.contextmanager
def _node(configuration: Configuration, name: str, step_seconds: float | None) -> Iterator[subprocess.Popen[bytes]]:
    """A node, which is told to end at the end."""
    environment = {**os.environ}
    if step_seconds is not None:
        environment[VARIABLE] = f"trainer.step=pad:{step_seconds:.6f}"
    lifeline = Lifeline()
    with _output(configuration, name).open("wb") as said:
        process = subprocess.Popen(
            node_command(configuration, name, (), lifeline.reading),
            pass_fds=[lifeline.reading],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=ROOT,
            env=environment,
            # Ctrl-C of the terminal comes to this process alone, which then ends the nodes.
            process_group=0,
        )
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
        # Whatever it has started ends with the lifeline.
        process.kill()
        process.wait()
        lifeline.close()


def _watch(
    processes: Mapping[str, subprocess.Popen[bytes]],
    observer: _Observer,
    configuration: Configuration,
    test: Callable[[Float32Vector], float],
    accuracy: float,
    limit: float,
    look_every: float,
    say: Callable[[float | None, str], None],
) -> list[tuple[float, int, float]]:
    """Pull now and then until the weights are as good as they are to be, or the time is over.

    Returns:
        Seconds since 1970, version and accuracy of each look.
    """
    found: list[tuple[float, int, float]] = []
    give_up_at = time.monotonic() + START_SECONDS
    while True:
        for name, process in processes.items():
            if (code := process.poll()) is not None:
                last = _output(configuration, name).read_text(errors="replace")[-2000:]
                raise ProcessDied(f"{name} has ended too early ({how_it_ended(code)}); it said:\n{last}")
        next_look = time.monotonic() + look_every
        pulled = observer.pull()
        # Version 1 are the weights to begin with.
        if pulled is not None and pulled[1] > 1:
            moment, version, vector = pulled
            found.append((moment, version, test(vector)))
            passed = moment - found[0][0]
            say(min(1.0, passed / limit), f"{passed:.0f} s, accuracy {found[-1][2]:.4f}")
            if found[-1][2] >= accuracy or passed >= limit:
                return found
        elif not found and time.monotonic() > give_up_at:
            said = {name: _output(configuration, name).read_text(errors="replace")[-500:] for name in processes}
            raise ProcessDied(f"nobody has trained within {START_SECONDS:g} s; the nodes said:\n{said}")
        time.sleep(max(0.0, next_look - time.monotonic()))


def _output(configuration: Configuration, name: str) -> Path:
    return configuration.folder / f"{name}.out"


def _began(lines: list[dict[str, Any]]) -> float:
    """Seconds since 1970 when a worker's first step began.

    Raises:
        ProcessDied: It has written no line.
    """
    if not lines:
        raise ProcessDied("a worker has written no line of metrics.jsonl", "let it train for longer")
    return float(lines[0]["time"] - lines[0]["seconds"])
