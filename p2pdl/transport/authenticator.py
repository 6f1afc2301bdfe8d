"""Answers ZeroMQ's question which clients may come in, in a thread (ZAP 1.0, ZeroMQ RFC 27).

pyzmq's own authenticator loads asyncio, which is 25 ms and 6 MB of every server process, and its thread ends for good
when the function that it asks fails: then nobody comes in any more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import zmq

from p2pdl.transport.curve import DOMAIN

ADDRESS = "inproc://zeromq.zap.01"
"""Where ZeroMQ asks, within one context."""

ALLOWED, TURNED_AWAY, FAILED = b"200", b"400", b"500"

log = logging.getLogger(__name__)


class Authenticator:
    """Lets clients into the sockets of one context by their keys.

    Make it before these sockets are bound: without it they turn everybody away.

    Args:
        context: The context.
        is_allowed: Whether the owner of a public key of 32 bytes at an IP address may come in. Called by the thread.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], is_allowed: Callable[[bytes, str], bool]) -> None:
        self._context = context
        self._is_allowed = is_allowed
        self._thread = self._started()

    def keep(self) -> None:
        """Start the thread again if it has died; to be called again and again by the thread of the sockets."""
        if self._thread.is_alive():
            return
        try:
            self._thread = self._started()
        except zmq.ZMQError:
            # The dead one's socket is still being closed, in a thread of ZeroMQ: the next call will do.
            return
        log.warning("the thread that checks the keys of new connections had died; it runs again")

    def join(self) -> None:
        """Wait for the thread to end, once the context has been told to."""
        self._thread.join()

    def _started(self) -> threading.Thread:
        socket = self._context.socket(zmq.REP)
        socket.linger = 0
        try:
            socket.bind(ADDRESS)
        except zmq.ZMQError:
            socket.close()
            raise
        thread = threading.Thread(target=self._run, args=(socket,), name="p2pdl-zap", daemon=True)
        thread.start()
        return thread

    def _run(self, socket: zmq.Socket[bytes]) -> None:
        try:
            while True:
                socket.send_multipart(self._answer(socket.recv_multipart()))
        except zmq.ContextTerminated:
            pass
        finally:
            socket.close()

    def _answer(self, question: list[bytes]) -> list[bytes]:
        version, request = question[:2]
        status, user = TURNED_AWAY, b""
        try:
            _, _, domain, address, _, mechanism, *credentials = question
            if domain == DOMAIN and mechanism == b"CURVE" and self._is_allowed(credentials[0], address.decode()):
                status, user = ALLOWED, credentials[0].hex().encode()
        except Exception:
            # Whatever went wrong here, the next client is to be let in.
            log.exception("the key of a new connection could not be checked")
            status = FAILED
        return [version, request, status, b"", user, b""]
