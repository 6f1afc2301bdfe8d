"""How a check of connections asks: with the key of the node that runs here, with an operator's, or without any."""

from __future__ import annotations

from dataclasses import dataclass

from p2pdl.config import Configuration
from p2pdl.config.sections import NodeEntry
from p2pdl.errors import PeerError, StartupError
from p2pdl.node.connection_sighting import Step
from p2pdl.node.own_side import reached_from_here
from p2pdl.node.security import connecting, keys_folder, looking
from p2pdl.transport.contract import ClientTransport, Frames, Received
from p2pdl.transport.zeromq import ZmqClient


@dataclass(frozen=True, slots=True)
class Asking:
    """How to ask.

    Attributes:
        client: Sends the questions.
        mechanism: `CURVE` if connections are encrypted, else `NULL`.
        key: What is to be said of this node's key; None where it needs none.
    """

    client: ClientTransport
    mechanism: str
    key: Step | None


class Keyless:
    """Stands for a client where there is no key to ask with; a `ClientTransport`.

    Args:
        error: Why there is none.
    """

    def __init__(self, error: StartupError) -> None:
        self._error = error

    def send(self, address: str, frames: Frames) -> None:
        """See `ClientTransport.send`.

        Raises:
            PeerError: Always.
        """
        raise PeerError(f"this machine has no key to ask with: {self._error.message}", self._error.remedy, "no-key")

    def receive(self, timeout: float) -> Received | None:
        """See `ClientTransport.receive`."""
        return None

    def reason(self, address: str) -> PeerError | None:
        """See `ClientTransport.reason`."""
        return None

    def reset(self, address: str) -> None:
        """See `ClientTransport.reset`."""

    def close(self) -> None:
        """See `ClientTransport.close`."""


def asking(configuration: Configuration, own: NodeEntry | None) -> Asking:
    """How to ask the nodes of a file.

    Args:
        configuration: The file.
        own: The node that runs here; None for somebody who only looks on.

    Raises:
        StartupError: The file does not say whether connections are encrypted, and they can come from anywhere.
    """
    folder = keys_folder(configuration)
    if folder is None:
        return Asking(ZmqClient(), "NULL", None)
    addresses = {entry.name: str(entry.address) for entry in configuration.nodes}
    try:
        if own is None:
            return Asking(looking(folder, lambda: addresses), "CURVE", None)
        addresses[own.name] = str(reached_from_here(own.listen))
        client = connecting(folder, own.name, lambda: addresses)()
    except StartupError as error:
        return Asking(Keyless(error), "CURVE", Step("key", False, error.message, error.remedy, "no key"))
    return Asking(client, "CURVE", Step("key", True, f"the key of {own.name} is here and on the list"))
