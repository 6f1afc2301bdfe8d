"""Starts a node's two child processes over the same weight store."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from p2pdl.config import Configuration
from p2pdl.node.listening import Listener, exchange_environment
from p2pdl.protocol.serving import ServingLimits
from p2pdl.server.process import ServerSettings
from p2pdl.server.start import MembershipStart
from p2pdl.types import NodeId


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """What a trainer process is told on its command line.

    Attributes:
        configuration: Path of the resolved configuration, JSON.
        node: The node's name.
        folder: The node's run folder.
        store: File descriptor of the weight store.
        lifeline: File descriptor of a pipe that closes when the supervisor is gone.
        resumes: True if the folder holds a run to go on with.
        restarts: How often the trainer has been started again in this life of the node.
    """

    configuration: str
    node: NodeId
    folder: str
    store: int
    lifeline: int
    resumes: bool = False
    restarts: int = 0

    def again(self) -> TrainerSettings:
        """The settings of the trainer that takes the place of one that died."""
        return replace(self, resumes=True, restarts=self.restarts + 1)

    def to_argument(self) -> str:
        """The settings as one command line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, argument: str) -> TrainerSettings:
        """The settings out of the command line argument."""
        return cls(**json.loads(argument))


class Lifeline:
    """A pipe whose writing end only this process holds: when it is gone, its children see the end of the file."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()

    def close(self) -> None:
        """Let the children go on without this process; they end at once."""
        os.close(self.reading)
        os.close(self._writing)


def start_server(
    cluster: str,
    node: NodeId,
    bind: str,
    store: int,
    lifeline: Lifeline,
    log: Path | None,
    limits: ServingLimits | None = None,
    members: MembershipStart | None = None,
    shared_settings: Path | None = None,
    keys: Path | None = None,
) -> Listener:
    """Start a server process.

    Args:
        cluster: The cluster's name.
        node: The node's name.
        bind: `host:port` to listen on.
        store: The weight store's descriptor.
        lifeline: Ends the server with this process.
        log: The node's log file; None to log to standard error.
        limits: What the server grants.
        members: How it begins to look for other nodes; None for a server that knows nobody.
        shared_settings: The JSON that a node which joins is told.
        keys: The folder of the keys; None to encrypt nothing and to let everybody in.

    Returns:
        The process, which does not listen yet.
    """
    limits = limits or ServingLimits()

    def argument(ready: int) -> str:
        return ServerSettings(
            cluster,
            node,
            bind,
            store,
            lifeline.reading,
            ready,
            str(log or ""),
            limits.uploads,
            limits.copies,
            limits.copies_nbytes,
            asdict(members) if members else None,
            str(shared_settings or ""),
            str(keys or ""),
            memory_nbytes=limits.memory_nbytes,
        ).to_argument()

    descriptors = [store, lifeline.reading]
    return Listener("p2pdl.server", argument, descriptors, f"the server process of {node}", bind, bool(log))


def serving_limits(configuration: Configuration) -> ServingLimits:
    """What the configuration lets a server grant."""
    server = configuration.server
    return ServingLimits(server.uploads, server.copies, server.copies_memory << 20, server.memory << 20)


def start_trainer(settings: TrainerSettings, lifeline: Lifeline, threads: int) -> subprocess.Popen[bytes]:
    """Start a trainer process.

    Args:
        settings: What to train.
        lifeline: Ends the trainer with this process.
        threads: Cores that its numerical libraries may use; 0 for all.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "p2pdl.node.trainer_process", settings.to_argument()],
        pass_fds=(settings.store, lifeline.reading),
        stdin=subprocess.DEVNULL,
        process_group=0,
        env=trainer_environment(threads),
    )


def trainer_environment(threads: int) -> dict[str, str]:
    """As `exchange_environment`, with what TensorFlow must find before it is loaded; what the user set stays."""
    environment = exchange_environment()
    environment.setdefault("KERAS_BACKEND", "tensorflow")
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if platform.machine().lower() in ("x86_64", "amd64"):
        # TensorFlow leaves oneDNN off on some x86 processors, where it makes a step three times as fast.
        environment.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if threads:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    return environment
