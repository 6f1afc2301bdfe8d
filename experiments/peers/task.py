"""`python -m experiments.peers.task TASK`: one process of a cluster; `TF_CONFIG` says which cluster."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from experiments.peers.work import Work
from p2pdl.errors import P2pdlError
from p2pdl.lifeline import end_with_parent

SERVER, COORDINATOR, WORKER = "server", "coordinator", "worker"


@dataclass(frozen=True, slots=True)
class Task:
    """What the process is told on its command line.

    Attributes:
        kind: `server` is told what to do by a coordinator; `coordinator`; `worker` of a ring.
        index: The worker's number.
        form: How the coordinator writes the step.
        work: What is trained, as `Work.to_argument` has it; nothing for a server.
        result: Where to write the figures, JSON.
        lifeline: File descriptor of a pipe that closes when the parent is gone; -1 while that is not known.
    """

    kind: str
    index: int = 0
    form: str = ""
    work: str = ""
    result: str = ""
    lifeline: int = -1

    def with_lifeline(self, lifeline: int) -> Task:
        """The task of a process that holds this lifeline."""
        return replace(self, lifeline=lifeline)

    def to_argument(self) -> str:
        """The task as one command line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, argument: str) -> Task:
        """The task out of the command line argument."""
        return cls(**json.loads(argument))


def run(task: Task) -> int:
    """Do the task; returns the exit code. A server does not end."""
    end_with_parent(task.lifeline)
    if task.kind == SERVER:
        serve()
        return 0
    work = Work.from_argument(task.work)
    try:
        # Not before the lifeline is held: it takes seconds to load TensorFlow.
        if task.kind == COORDINATOR:
            from experiments.peers import coordinator

            figures = coordinator.train(work, task.form)
        else:
            from experiments.peers import mirrored

            figures = mirrored.train(work, task.index)
    except P2pdlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    Path(task.result).write_text(json.dumps(figures))
    return 0


def serve() -> None:
    """Be a parameter server, or a worker that a coordinator tells what to do, for ever."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id, protocol="grpc"
    )
    server.join()


if __name__ == "__main__":
    sys.exit(run(Task.from_argument(sys.argv[1])))
