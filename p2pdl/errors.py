"""Every error that p2pdl raises on purpose: what happened, why, and what to do.

P2pdlError
├── ConfigurationError        the file or a flag is wrong; carries every problem found       exit 2
├── StartupError              this machine cannot start the node as asked                    exit 2
│   ├── AddressInUse          something else listens on the node's port
│   ├── NodeChoiceError       no entry of the file is this machine's, or all of them run already
│   ├── DataUnavailable       the data source is missing or malformed
│   ├── ModelUnavailable      the model cannot be built
│   ├── RunDirectoryUnusable  the run directory cannot be written
│   ├── RunMismatch           the run that is there cannot go on with these settings
│   └── NotJoined             no node of the cluster to join was reached
├── StoreError                the weight store in shared memory                              exit 1
│   └── StoreTooLarge         not enough memory for the weight store
├── CheckpointError           a checkpoint cannot be written, read or used                   exit 1
│   ├── CheckpointDamaged     the file is not what was written
│   └── CheckpointMismatch    the checkpoint is of another model or optimizer
├── TrainingError             training itself cannot go on                                   exit 1
│   └── DivergedError         the node's own loss or weights are no longer finite
├── ProcessDied               a process of the node ended by itself                          exit 1
├── NameTaken                 another node runs under this one's name, and has prevailed     exit 1
└── PeerError                 a peer or the network failed; never ends a run
    ├── ProtocolError         bytes that are not this protocol
    ├── PeerTimeout           no answer within the deadline
    ├── PeerRefused           the peer answered with a refusal
    ├── IncompatiblePeer      another cluster, another model, another protocol version
    └── RejectedWeights       the weights arrived but are not acceptable
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


class P2pdlError(Exception):
    """Base of the tree.

    Args:
        message: What happened and why, with the values that matter.
        remedy: What the user can do about it; empty where nothing can be done.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.remedy}" if self.remedy else self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration.

    Attributes:
        key: Dotted path of the setting, such as `nodes[1].address`.
        message: What was found and what is wrong with it.
        remedy: What to write instead.
        file: The file it stands in, or None for a `--set` flag.
        line: Line in that file, counted from 1; None where no line is to blame.
    """

    key: str
    message: str
    remedy: str = ""
    file: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = f"{self.file}" if self.file else "--set"
        if self.line is not None:
            place += f":{self.line}"
        text = f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"
        return f"{text}\n  -> {self.remedy}" if self.remedy else text


class ConfigurationError(P2pdlError):
    """The configuration is wrong; `problems` holds every mistake, in file order."""

    exit_code = EXIT_USAGE

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class StartupError(P2pdlError):
    """This machine cannot start the node as asked."""

    exit_code = EXIT_USAGE


class AddressInUse(StartupError):
    """Something else listens on the node's port."""


class NodeChoiceError(StartupError):
    """No entry of the file is this machine's, or all of them run already."""


class DataUnavailable(StartupError):
    """The data source is missing or malformed."""


class ModelUnavailable(StartupError):
    """The model cannot be built."""


class RunDirectoryUnusable(StartupError):
    """The run directory cannot be written."""


class RunMismatch(StartupError):
    """The run that is there cannot go on with these settings."""


class NotJoined(StartupError):
    """No node of the cluster to join was reached."""


class StoreError(P2pdlError):
    """The weight store in shared memory is not usable."""


class StoreTooLarge(StoreError):
    """There is not enough memory for the weight store."""


class CheckpointError(P2pdlError):
    """A checkpoint cannot be written, read or used."""


class CheckpointDamaged(CheckpointError):
    """The file is not what was written."""


class CheckpointMismatch(CheckpointError):
    """The checkpoint is of another model or optimizer."""


class TrainingError(P2pdlError):
    """Training itself cannot go on."""


class DivergedError(TrainingError):
    """The node's own loss or weights are no longer finite."""

    def __init__(
        self,
        message: str,
        remedy: str = "lower train.optimizer.learning_rate, or check the data for extreme values",
    ) -> None:
        super().__init__(message, remedy)


class ProcessDied(P2pdlError):
    """A process of the node ended by itself."""


class NameTaken(P2pdlError):
    """Another node runs under this one's name, and has prevailed.

    Args:
        name: The name.
        address: Where this node is.
        other: Where the other one is.
    """

    def __init__(self, name: str, address: str, other: str) -> None:
        super().__init__(
            f"the name {name} is in use: another node of that name runs at {other}, and has prevailed over this one at "
            f"{address}",
            "give each node a name of its own, or stop the other one first",
        )


class PeerError(P2pdlError):
    """A peer or the network failed; the node counts it under `code` and goes on.

    Args:
        message: What happened, with the peer's name where it is known.
        remedy: What the user can do about it.
        code: The counter's name in metrics, status and refusals; the class's own where not given.
    """

    code = "peer-error"

    def __init__(self, message: str, remedy: str = "", code: str | None = None) -> None:
        super().__init__(message, remedy)
        if code is not None:
            self.code = code


class ProtocolError(PeerError):
    """Bytes that are not this protocol."""

    code = "protocol-error"


class PeerTimeout(PeerError):
    """No answer within the deadline."""

    code = "timeout"


class PeerRefused(PeerError):
    """The peer answered with a refusal."""

    code = "refused"


class IncompatiblePeer(PeerError):
    """Another cluster, another model or another protocol version."""

    code = "incompatible"


class RejectedWeights(PeerError):
    """The weights arrived but are not acceptable."""

    code = "rejected"
