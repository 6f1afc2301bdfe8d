"""Mean: both models count the same."""

from __future__ import annotations

from p2pdl.merge.contract import Standing


class Mean:
    """Half and half, whatever either side says about its loss."""

    def weight(self, own: Standing, peer: Standing) -> float:
        """Always 0.5."""
        return 0.5
