"""Frames over ZeroMQ: one DEALER for each peer, one REP for the server, and options that bound what a peer can do.

Socket options and the faults that each one answers are listed in `docs/protocol.md`.
"""

from __future__ import annotations

import errno
import os
import time

import zmq

from p2pdl.errors import AddressInUse, PeerError, StartupError
from p2pdl.transport.contract import Frames, Received
from p2pdl.wire import FRAME_LIMIT, HEADER_LIMIT

HEARTBEAT_MS = 2000
HEARTBEAT_TIMEOUT_MS = 6000
REBIND_SECONDS = 5.0
SERVER_QUEUE = 16
"""Replies queued for one slow reader before libzmq drops further ones; as many as the widest window of requests."""


class ZmqClient:
    """A DEALER for each address, made again after `reset`.

    Args:
        context: Shared by all sockets of the process; the client's own where None.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]] | None = None) -> None:
        self._own_context = context is None
        self._context = context or zmq.Context()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._poller = zmq.Poller()

    def send(self, address: str, frames: Frames) -> None:
        """See `ClientTransport.send`.

        Raises:
            PeerError: The address cannot even be tried, or too many requests are queued on it already.
        """
        try:
            self._socket(address).send_multipart([b"", *frames], flags=zmq.DONTWAIT, copy=True)
        except zmq.Again:
            raise PeerError(f"{address}: too many requests are queued", code="queue-full") from None
        except zmq.ZMQError as error:
            raise PeerError(f"{address}: {error}", "is it host:port?", code="address") from None

    def receive(self, timeout: float) -> Received | None:
        """See `ClientTransport.receive`."""
        ready = dict(self._poller.poll(max(0, round(timeout * 1000))))
        for address, socket in self._sockets.items():
            if ready.get(socket):
                parts = socket.recv_multipart(copy=False)
                return Received(address, [part.buffer.toreadonly() for part in parts[1:]])
        return None

    def reset(self, address: str) -> None:
        """See `ClientTransport.reset`."""
        socket = self._sockets.pop(address, None)
        if socket is not None:
            self._poller.unregister(socket)
            socket.close(linger=0)

    def close(self) -> None:
        """See `ClientTransport.close`."""
        for address in list(self._sockets):
            self.reset(address)
        if self._own_context:
            self._context.term()

    def _socket(self, address: str) -> zmq.Socket[bytes]:
        if address not in self._sockets:
            socket = self._context.socket(zmq.DEALER)
            socket.linger = 0
            socket.sndhwm = 64
            socket.rcvhwm = 64
            socket.maxmsgsize = FRAME_LIMIT
            socket.reconnect_ivl = 200
            socket.reconnect_ivl_max = 10_000
            socket.connect_timeout = 3000
            socket.tcp_keepalive = 1
            socket.heartbeat_ivl = HEARTBEAT_MS
            socket.heartbeat_timeout = HEARTBEAT_TIMEOUT_MS
            socket.ipv6 = "[" in address
            try:
                socket.connect(f"tcp://{address}")
            except zmq.ZMQError:
                socket.close(linger=0)
                raise
            self._sockets[address] = socket
            self._poller.register(socket, zmq.POLLIN)
        return self._sockets[address]


class ZmqServer:
    """A REP socket bound to one address.

    Args:
        address: `host:port` to listen on.

    Raises:
        AddressInUse: Something else listens there.
        StartupError: This machine has no such address.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._made_socket()
        try:
            self._socket.bind(f"tcp://{address}")
        except zmq.ZMQError as error:
            self.close()
            raise _bind_error(address, error) from None

    def reset(self) -> None:
        """Drop every connection, with all that is queued for those that do not read, and listen again.

        Not between a request and its reply: who asked has been dropped too. Clients connect again by themselves, and
        their requests that were under way are lost.

        Raises:
            AddressInUse: Something else has taken the port.
        """
        self._socket.close(linger=0)
        give_up_at = time.monotonic() + REBIND_SECONDS
        while True:
            self._socket = self._made_socket()
            try:
                self._socket.bind(f"tcp://{self._address}")
                return
            except zmq.ZMQError as error:
                # The closed socket leaves the port a moment later, in a thread of ZeroMQ.
                self._socket.close(linger=0)
                if time.monotonic() > give_up_at:
                    raise _bind_error(self._address, error) from None
            time.sleep(0.01)

    def receive(self, timeout: float) -> list[memoryview] | None:
        """See `ServerTransport.receive`."""
        # Under load the next request is there already, and a poll would only tell so.
        for attempt in range(2):
            try:
                return [memoryview(part) for part in self._socket.recv_multipart(zmq.DONTWAIT)]
            except zmq.Again:
                if attempt or not self._socket.poll(max(0, round(timeout * 1000))):
                    return None
        return None

    def reply(self, frames: Frames) -> None:
        """See `ServerTransport.reply`. A requester that has gone makes no difference."""
        self._socket.send_multipart(frames, copy=False)

    def close(self) -> None:
        """See `ServerTransport.close`."""
        self._socket.close(linger=0)
        self._context.term()

    def _made_socket(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.REP)
        socket.linger = 0
        socket.sndhwm = SERVER_QUEUE
        socket.rcvhwm = 16
        socket.maxmsgsize = HEADER_LIMIT
        socket.backlog = 128
        socket.handshake_ivl = 3000
        socket.tcp_keepalive = 1
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = HEARTBEAT_TIMEOUT_MS
        socket.heartbeat_ttl = HEARTBEAT_TIMEOUT_MS
        socket.ipv6 = "[" in self._address
        return socket


def _bind_error(address: str, error: zmq.ZMQError) -> StartupError:
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(
            f"cannot listen on {address}: something else does already",
            "stop the other program, or give this node another port in `nodes`",
        )
    reason = os.strerror(error.errno) if error.errno in errno.errorcode and error.errno else str(error)
    return StartupError(
        f"cannot listen on {address}: {reason}",
        "`address` (or `bind`) must name an address of this machine",
    )
