"""Where a node listens or is dialled: a host and a port, checked before ZeroMQ sees them.

ZeroMQ itself takes `tcp://127.0.0.1:99999` and quietly uses another port, so nothing is left to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

HIGHEST_PORT = 65535
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMERIC = re.compile(r"[0-9.]+")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_EXAMPLE = "192.168.1.10:7101"


class AddressError(ValueError):
    """A text that is not an address.

    Args:
        message: What is wrong with it.
        remedy: What to write instead.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port.

    Attributes:
        host: Name, IPv4 or IPv6 address, in lower case and without brackets.
        port: From 1 to 65535.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port`, where an IPv6 host stands in brackets.

        Raises:
            AddressError: The text has no port or no host, or one of them cannot exist.
        """
        scheme, separator, rest = text.partition("://")
        if separator:
            raise AddressError(f"{scheme}:// does not belong here", f"write host:port alone: `{rest or _EXAMPLE}`")
        host, port = _split(text)
        return cls(_checked_host(host), _checked_port(port, host))

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is a literal IPv6 address."""
        return ":" in self.host

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every interface of a machine: good to listen on, impossible to dial."""
        return self.host in ("0.0.0.0", "::")

    @property
    def zmq(self) -> str:
        """The endpoint for ZeroMQ, such as `tcp://127.0.0.1:7101`."""
        return f"tcp://{self}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        if not bracket:
            raise AddressError("the bracket of the IPv6 address is not closed", 'write `"[::1]:7101"`')
        if not _is_ipv6(host):
            raise AddressError(f"{host!r} in brackets is not an IPv6 address", 'write `"[::1]:7101"`')
        if not port.startswith(":"):
            raise AddressError("the port is missing", f'write `"[{host}]:7101"`')
        return host, port[1:]
    host, colon, port = text.rpartition(":")
    if not colon:
        if _PORT.fullmatch(text):
            raise AddressError("the host is missing", f"write the host before it, such as `127.0.0.1:{text}`")
        raise AddressError("the port is missing", f"write `{text or '127.0.0.1'}:7101`")
    if _is_ipv6(host):
        raise AddressError("an IPv6 address needs brackets", f'write `"[{host}]:{port}"`')
    if _is_ipv6(text):
        raise AddressError("an IPv6 address needs brackets and a port", f'write `"[{text}]:7101"`')
    return host, port


def _checked_port(text: str, host: str) -> int:
    shown = f"[{host}]" if ":" in host else host
    remedy = f"write a port from 1 to {HIGHEST_PORT}, such as `{shown}:7101`"
    if not text:
        raise AddressError("the port is missing", remedy)
    if text.lstrip("+-").isdecimal() and not _PORT.fullmatch(text):
        raise AddressError(f"there is no port {text}", remedy)
    if not _PORT.fullmatch(text):
        raise AddressError(f"the port {text!r} is not a number", remedy)
    if int(text) > HIGHEST_PORT:
        raise AddressError(f"there is no port {text}", remedy)
    return int(text)


def _checked_host(text: str) -> str:
    remedy = f"write a host name or an IP address before the port, such as `{_EXAMPLE}`"
    if not text:
        raise AddressError("the host is missing", remedy)
    if text == "*":
        raise AddressError("* is not a host", "write `0.0.0.0` to listen on every interface")
    if ":" in text:
        if not _is_ipv6(text):
            raise AddressError(f"{text!r} is not a host", remedy)
        return str(IPv6Address(text))
    if _NUMERIC.fullmatch(text):
        try:
            return str(IPv4Address(text))
        except AddressValueError as error:
            raise AddressError(f"{text} is not an IPv4 address", remedy) from error
    name = text.lower()
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise AddressError(f"{text!r} is not a host name", remedy)
    return name


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
