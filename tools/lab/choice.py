"""Which hosts a laboratory has: namespaces where these can be made, else ports behind proxies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from experiments import network
from tools.lab.contract import Lab, Line
from tools.lab.namespaces import NamespaceLab
from tools.lab.proxies import ProxyLab

AUTO = "auto"
KINDS: Mapping[str, Callable[[Sequence[Line]], Lab]] = {NamespaceLab.link: NamespaceLab, ProxyLab.link: ProxyLab}


def lab_for(lines: Sequence[Line], kind: str = AUTO) -> tuple[Lab, str]:
    """A laboratory that is not made yet.

    Args:
        lines: How each host is connected.
        kind: A key of `KINDS`, or `auto`.

    Returns:
        The laboratory, and why there are no namespaces in it if they were not to be had; empty otherwise.
    """
    reason = network.available() if kind == AUTO else ""
    if kind == AUTO:
        kind = ProxyLab.link if reason else NamespaceLab.link
    return KINDS[kind](lines), reason
