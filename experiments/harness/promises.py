"""Parts of a claim: a figure and what it should be."""

from __future__ import annotations

import math

from p2pdl.report.findings import Promise

ROUNDING = 1e-9
"""Of a figure: a difference of accuracies is so little beside its decimals, and breaks no promise by that."""


def at_least(what: str, wanted: float, found: float | None, unit: str = "") -> Promise:
    """A figure that should not be below another; not known while `found` is None."""
    holds = None if found is None else found >= wanted or math.isclose(found, wanted, rel_tol=ROUNDING)
    return _promise(what, f">= {wanted:g}{unit}", found, holds, unit)


def at_most(what: str, wanted: float, found: float | None, unit: str = "") -> Promise:
    """A figure that should not be above another; not known while `found` is None."""
    holds = None if found is None else found <= wanted or math.isclose(found, wanted, rel_tol=ROUNDING)
    return _promise(what, f"<= {wanted:g}{unit}", found, holds, unit)


def _promise(what: str, wanted: str, found: float | None, holds: bool | None, unit: str) -> Promise:
    # Adding 0 makes 0 of -0.
    return Promise(what, wanted, "" if found is None else f"{found + 0.0:.4g}{unit}", holds)


def ratio(above: float | None, below: float | None) -> float | None:
    """One figure over another; None while either is not known."""
    return None if above is None or not below else above / below
