"""Faults of networks, made on purpose: a proxy between two nodes for tests and for trying things out by hand."""

from tools.faults.faults import HALF_OPEN, Faults, Way
from tools.faults.proxy import FaultProxy

__all__ = ["HALF_OPEN", "FaultProxy", "Faults", "Way"]
