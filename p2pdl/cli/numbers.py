"""Numbers as the tables show them; `-` where there is none."""

from __future__ import annotations

from typing import Any

NOTHING = "-"


def loss(value: Any) -> str:
    """Three decimals."""
    return f"{value:.3f}" if _is_number(value) else NOTHING


def accuracy(value: Any) -> str:
    """A share of one, four decimals."""
    return f"{value:.4f}" if _is_number(value) else NOTHING


def milliseconds(seconds: Any) -> str:
    """Seconds as milliseconds, with a decimal where there are few."""
    if not _is_number(seconds):
        return NOTHING
    return f"{1e3 * seconds:.1f}" if seconds < 0.1 else f"{1e3 * seconds:.0f}"


def megabytes(nbytes: Any) -> str:
    """Bytes as millions of bytes, with a decimal where there are few."""
    if not _is_number(nbytes):
        return NOTHING
    return f"{nbytes / 1e6:.1f}" if nbytes < 1e8 else f"{nbytes / 1e6:,.0f}"


def rate(mbit_per_second: Any) -> str:
    """Mbit/s, three significant digits."""
    return significant(mbit_per_second) if _is_number(mbit_per_second) else NOTHING


def seconds(value: Any) -> str:
    """Seconds, with decimals where there are few."""
    if not _is_number(value):
        return NOTHING
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def percent(share: Any) -> str:
    """A share of one in percent, with a decimal where it is small."""
    if not _is_number(share):
        return NOTHING
    return f"{100 * share:.1f}" if share < 0.0995 else f"{100 * share:.0f}"


def count(value: Any) -> str:
    """A whole number."""
    return f"{value:,}" if isinstance(value, int) else NOTHING


def significant(value: float) -> str:
    """Three significant digits, and all digits of what is larger."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def progress(step: int, steps: int) -> str:
    """Steps done of those to do, once these are known."""
    return f"{step}/{steps}" if steps else NOTHING


def merges(done: Any, skipped: Any) -> str:
    """Merges, and those that were skipped where there were any."""
    return f"{count(done)} ({count(skipped)})" if skipped else count(done)


def minutes(seconds: Any) -> str:
    """Minutes and seconds, with hours where there are any."""
    if not _is_number(seconds):
        return NOTHING
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
