"""Looks at an address from below ZeroMQ: names, TCP connections, and the first bytes that the other end says.

The greeting is ZMTP 3.1 (rfc.zeromq.org/spec/37): a signature of 10 bytes, the version, and the name of the security
mechanism. ZeroMQ itself never says why a connection does not come up, nor whether there was one.
"""

from __future__ import annotations

import errno
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from ipaddress import ip_address

from p2pdl.config import Address
from p2pdl.node.connection_sighting import Attempt, Greeting, Resolved

MOST_HOSTS = 8
"""Addresses of one name that are tried."""

NEW_SIGNATURE = b"\xff" + bytes(7) + b"\x01\x7f\x03"
"""A greeting as far as the version: whoever speaks ZMTP 3 answers it with the whole of its own."""

GREETING_BYTES = 64
SIGNATURE_BYTES = 10
MECHANISM = slice(12, 32)

HTTP_REQUEST = b"GET / HTTP/1.0\r\n\r\n"

SIGNS = {b"HTTP/": "HTTP", b"<": "HTTP", b"SSH-": "SSH", b"\x15\x03": "TLS", b"220": "a mail or file server"}
"""How other programs begin."""

GUESS_SECONDS = 0.5
"""For each of the two further questions to a program that is not ZeroMQ."""


def resolve(host: str, timeout: float) -> Resolved:
    """Ask the name service, which cannot be told how long it may take.

    Args:
        host: A name or a number.
        timeout: Seconds.
    """
    try:
        return Resolved((str(ip_address(host)),))
    except ValueError:
        pass
    answers: list[Resolved] = []
    # A daemon, which is left behind if the name service hangs.
    asking = threading.Thread(target=lambda: answers.append(_looked_up(host)), name="p2pdl-resolve", daemon=True)
    asking.start()
    asking.join(timeout)
    return answers[0] if answers else Resolved((), f"the name service has not answered within {timeout:.1f} s")


def connect(hosts: Iterable[str], port: int, timeout: float) -> tuple[Attempt, ...]:
    """Try a connection to each address, all at once.

    Args:
        hosts: Numeric addresses.
        port: Of TCP.
        timeout: Seconds.
    """
    started = time.monotonic()
    ended: dict[str, Attempt] = {}
    order = list(hosts)[:MOST_HOSTS]
    with selectors.DefaultSelector() as selector:
        for host in order:
            try:
                probe = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            except OSError as error:
                ended[host] = Attempt(host, error.errno or errno.EAFNOSUPPORT, 0.0)
                continue
            probe.setblocking(False)
            code = probe.connect_ex((host, port))
            if code in (0, errno.EINPROGRESS):
                selector.register(probe, selectors.EVENT_WRITE, host)
            else:
                probe.close()
                ended[host] = Attempt(host, code, 0.0)
        while selector.get_map() and (left := started + timeout - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                code = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                ended[key.data] = Attempt(key.data, code, time.monotonic() - started)
                selector.unregister(key.fileobj)
                key.fileobj.close()
        for key in list(selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            ended[key.data] = Attempt(key.data, errno.ETIMEDOUT, timeout)
            key.fileobj.close()
    return tuple(ended[host] for host in order)


def greet(host: str, port: int, timeout: float) -> Greeting:
    """Hear what the other end says first.

    Args:
        host: Numeric address.
        port: Of TCP.
        timeout: Seconds; a program that is not ZeroMQ may take as many more as `GUESS_SECONDS` twice.
    """
    heard, closed = _said(host, port, NEW_SIGNATURE, timeout)
    if heard[:1] == b"\xff" and len(heard) >= SIGNATURE_BYTES and heard[9] & 1:
        if len(heard) == GREETING_BYTES:
            return Greeting(heard[MECHANISM].rstrip(b"\0").decode("ascii", "replace"))
        return Greeting("", "ZeroMQ of an old version")
    other = _likeness(heard) or _likeness(_said(host, port, HTTP_REQUEST, GUESS_SECONDS)[0])
    if not other and _speaks_tls(host, port):
        other = "TLS"
    if not other and heard:
        other = f"nothing known (it begins with {heard[:12]!r})"
    return Greeting("", other, closed, timeout)


def bind_error(address: Address) -> int:
    """Why a server could not listen there: the error's number, 0 if it could."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server does: connections of a server that has just ended do not hold the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return 0


def _looked_up(host: str) -> Resolved:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return Resolved((), getattr(error, "strerror", None) or str(error))
    return Resolved(tuple(dict.fromkeys(str(target[0]) for *_, target in found)))


def _said(host: str, port: int, question: bytes, timeout: float) -> tuple[bytes, bool]:
    """What the other end says to a few bytes, up to the length of a greeting, and whether it closes after that."""
    give_up_at = time.monotonic() + timeout
    heard = b""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.sendall(question)
            while len(heard) < GREETING_BYTES and (left := give_up_at - time.monotonic()) > 0:
                connection.settimeout(left)
                part = connection.recv(GREETING_BYTES - len(heard))
                if not part:
                    return heard, True
                heard += part
    except TimeoutError:
        return heard, False
    except OSError:
        return heard, True
    return heard, False


def _likeness(heard: bytes) -> str:
    return next((name for sign, name in SIGNS.items() if heard.startswith(sign)), "")


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), GUESS_SECONDS) as connection:
            with context.wrap_socket(connection):
                return True
    except ssl.SSLError as error:
        return "ALERT" in str(error.reason)
    except OSError:
        return False
