"""ASP, asynchronous parallel: nobody waits for anybody.

Recht, Re, Wright, Niu, "Hogwild: A lock-free approach to parallelizing stochastic gradient descent" (2011) is the best
known case; as a policy beside BSP and SSP in Tsai (2017).
"""

from __future__ import annotations

from p2pdl.synchronisation.windowed import Windowed


class Asp(Windowed):
    """Each update is applied as it comes, however old; `low` lags behind a little where the spread is wide.

    Args:
        low: The first iteration.
    """

    name = "asp"

    def __init__(self, low: int = 0) -> None:
        super().__init__(None, low)
