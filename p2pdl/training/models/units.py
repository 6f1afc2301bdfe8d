"""The width factor of the built-in models."""

from __future__ import annotations


def scaled(units: int, width: float) -> int:
    """`width` times as many units, rounded, at least one."""
    return max(1, round(units * width))
