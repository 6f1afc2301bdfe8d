"""The lines about parameter servers: every figure in its place, and whatever a peer may have sent."""

from __future__ import annotations

from typing import Any

import pytest

from p2pdl.cli.server_lines import server_lines
from p2pdl.protocol.messages import StatusReply

FIGURES = {
    **{"policy_workers": 4.0, "policy_waiting": 1.0, "clock_low": 40, "clock_high": 42, "policy_low": 40.0},
    **{"staleness": 1.25, "pushes": 1640, "ingress_bytes": 12_000_000, "bytes_sent": 24_000_000},
}


def status(figures: dict[str, Any]) -> StatusReply:
    return StatusReply("life", "training", 1, 0, 64, 0.5, 0.0, figures, ())


def test_each_server_has_a_line_with_clocks_window_staleness_and_traffic() -> None:
    lines = server_lines([("worker", status({"merges": 3})), ("server1", status(FIGURES))])
    assert lines is not None
    assert lines.plain == (
        "server1: 4 workers, 1 waiting, clocks 40 to 42, window from 40, mean staleness 1.25, 1,640 pushes, "
        "12.0 MB in, 24.0 MB out"
    )


def test_cluster_without_a_server_has_no_lines() -> None:
    assert server_lines([("node1", status({"merges": 3}))]) is None


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("value", [None, "x\n", True, 1e30])
def test_figures_that_are_none_do_no_harm(figure: str, value: Any) -> None:
    lines = server_lines([("a\nb", status({"ingress_bytes": 1, **FIGURES, figure: value}))])
    assert lines is not None and "\n" not in lines.plain
