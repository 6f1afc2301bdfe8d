"""The messages between workers and parameter servers, as typed values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from p2pdl.protocol.fields import Count, Flag, Name, Number, Word


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """Let me work for you, parameter server. The rows of the asker's WeightSpec follow as one frame.

    Attributes:
        spec: The digest of the WeightSpec.
    """

    spec: Name


@dataclass(frozen=True, slots=True)
class InitialRequest:
    """A shard of the weights to begin with follows, as one frame of float32. Sent by the worker that was asked to.

    Attributes:
        shard: Its number.
        digest: Digest of the frame.
    """

    shard: Count
    digest: Word


@dataclass(frozen=True, slots=True)
class PushRequest:
    """What an iteration has made of a shard follows, as one frame.

    Attributes:
        incarnation: Of the server, as the reply to the `JoinRequest` gave it.
        clock: The iteration.
        base: The version of the weights that the iteration began from.
        shard: Number of the shard; of those that a push has nothing for, nothing is sent.
        last: True for the last frame of this push.
        partial: True if the iteration moves the shards that are sent and leaves the others alone; False if it has moved
            the others by nothing.
        digest: Digest of the frame; the frame is empty where the whole push is.
        loss: The worker's training loss.
        samples: Training samples behind the push.
    """

    incarnation: Name
    clock: Count
    base: Count
    shard: Count
    last: Annotated[bool, Flag()]
    partial: Annotated[bool, Flag()]
    digest: Word
    loss: Number
    samples: Count


@dataclass(frozen=True, slots=True)
class BeginRequest:
    """May I begin my iteration?"""


@dataclass(frozen=True, slots=True)
class LeaveRequest:
    """I work no more for you.

    Attributes:
        finished: True if the worker has done all its steps; False if it was stopped.
    """

    finished: Annotated[bool, Flag()]


@dataclass(frozen=True, slots=True)
class WorkerReply:
    """How a worker stands with a parameter server.

    Attributes:
        incarnation: Random name of the server's life.
        clock: The worker's iteration: the one that it does next.
        version: The newest version of the weights; 0 while there are none.
        admitted: Whether the worker may begin that iteration.
        sends_initial: Whether it is asked to send the weights to begin with.
        commit_in: Seconds until it is to push; nil to push after every step.
        workers: Workers that take part now.
    """

    incarnation: Name
    clock: Count
    version: Count
    admitted: Annotated[bool, Flag()]
    sends_initial: Annotated[bool, Flag()]
    commit_in: Number
    workers: Count


WorkerRequest = JoinRequest | InitialRequest | PushRequest | BeginRequest | LeaveRequest
