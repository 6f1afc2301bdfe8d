"""BSP, bulk synchronous parallel: nobody begins an iteration before the last one's updates are all in.

Valiant, "A bridging model for parallel computation" (1990); as a window of length 1 by Tsai (2017).
"""

from __future__ import annotations

from p2pdl.synchronisation.windowed import Windowed


class Bsp(Windowed):
    """One valid iteration at a time, whose updates are applied together.

    Args:
        low: The first of them.
    """

    name = "bsp"
    collects = True

    def __init__(self, low: int = 0) -> None:
        super().__init__(1, low)
