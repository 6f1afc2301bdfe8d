"""DYNSGD: a late update counts less; w -= lr * g / (staleness + 1).

Jiang, Cui, Zhang, Yu, "Heterogeneity-aware distributed parameter servers" (2017).
"""

from __future__ import annotations

import numpy as np

from p2pdl.aggregation.contract import Update
from p2pdl.aggregation.stateless import Stateless
from p2pdl.types import Float32Vector


class Dynamic(Stateless):
    """Divides by how many versions the weights are ahead of those that the worker computed with, and one."""

    name = "dynsgd"

    def scaled(self, update: Update) -> Float32Vector:
        """The values divided by staleness + 1; themselves if they are not stale."""
        return update.values / np.float32(update.staleness + 1) if update.staleness else update.values
