"""What rules have in common that look at nothing but the update."""

from __future__ import annotations

from p2pdl.aggregation.contract import State
from p2pdl.aggregation.saved import expect_nothing
from p2pdl.types import NodeId


class Stateless:
    """Keeps nothing, so that there is nothing to note, to forget or to save."""

    name: str

    def on_pull(self, worker: NodeId) -> None:
        """Nothing to note."""

    def forget(self, worker: NodeId) -> None:
        """Nothing to drop."""

    def state(self) -> State:
        """Empty."""
        return {}

    def restore(self, state: State) -> None:
        """Check that the state is empty.

        Raises:
            CheckpointMismatch: It is not.
        """
        expect_nothing(state, self.name)
