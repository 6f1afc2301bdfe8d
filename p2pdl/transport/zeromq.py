"""Frames over ZeroMQ: one DEALER for each peer, one REP for the server, and options that bound what a peer can do.

Socket options and the faults that each one answers are listed in `docs/protocol.md`.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable

import zmq

from p2pdl.errors import AddressInUse, PeerError, StartupError
from p2pdl.transport.authenticator import Authenticator
from p2pdl.transport.contract import Asker, Frames, Received, Request
from p2pdl.transport.curve import Identity, protect_client, protect_server
from p2pdl.transport.door import LOOK_SECONDS, STRANGER, Door
from p2pdl.transport.watch import ConnectionWatch, Trouble
from p2pdl.wire import FRAME_LIMIT, HEADER_LIMIT

HEARTBEAT_MS = 2000
HEARTBEAT_TIMEOUT_MS = 6000
CONNECT_TIMEOUT_MS = 3000
REBIND_SECONDS = 5.0
REMEMBERED_TROUBLES = 256
"""Addresses of which it is known what was wrong last: gossip may bring ever new ones."""

WIDEST_WINDOW = 16
"""Requests in flight on one connection, at most."""

SERVER_QUEUE = 4 * WIDEST_WINDOW
"""Replies queued for one slow reader before libzmq drops further ones.

libzmq learns late, and for many at a time, what has been read: with a queue no longer than the window replies were lost
to readers that did keep up.
"""


class ZmqClient:
    """A DEALER for each address, made again after `reset`.

    Args:
        context: Shared by all sockets of the process; the client's own where None.
        identity: Who asks, to servers that encrypt; None to encrypt nothing.
        server_key: The public key that the server at an address must have, 64 hexadecimal digits; None where that is
            not known. Asked for each new connection, and now and then before something is sent on one that stands.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        identity: Identity | None = None,
        server_key: Callable[[str], str | None] = lambda address: None,
    ) -> None:
        self._own_context = context is None
        self._context = context or zmq.Context()
        self._identity = identity
        self._server_key = server_key
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._keys: dict[str, str] = {}
        self._key_looked_at: dict[str, float] = {}
        self._watches: dict[str, ConnectionWatch] = {}
        self._troubles: dict[str, Trouble] = {}
        self._watched_until = time.monotonic()
        self._poller = zmq.Poller()

    def send(self, address: str, frames: Frames) -> None:
        """See `ClientTransport.send`.

        Raises:
            PeerError: The address cannot even be tried, its key is not known, it does not want to hear of this node, or
                too many requests are queued on it already.
        """
        self._follow_key(address)
        try:
            self._socket(address).send_multipart([b"", *frames], flags=zmq.DONTWAIT, copy=False)
        except zmq.Again:
            watch = self._watches.get(address)
            reason = self.reason(address)
            if reason is not None and watch is not None and watch.has_ended:
                raise reason from None
            raise PeerError(f"{address}: too many requests are queued", code="queue-full") from None
        except zmq.ZMQError as error:
            raise PeerError(f"{address}: {error}", "is it host:port?", code="address") from None

    def receive(self, timeout: float) -> Received | None:
        """See `ClientTransport.receive`."""
        give_up_at = time.monotonic() + timeout
        while True:
            began = time.monotonic()
            ready = dict(self._poller.poll(max(0, round((give_up_at - began) * 1000))))
            for address in [address for address, watch in self._watches.items() if watch.socket in ready]:
                self._read_watch(address)
            self._watched_until = began
            for address, socket in self._sockets.items():
                if ready.get(socket):
                    parts = socket.recv_multipart(copy=False)
                    return Received(address, [part.buffer.toreadonly() for part in parts[1:]])
            if not ready or time.monotonic() >= give_up_at:
                return None

    def sockets(self) -> Iterable[zmq.Socket[bytes]]:
        """Those on which replies may come."""
        return self._sockets.values()

    def reason(self, address: str) -> PeerError | None:
        """See `ClientTransport.reason`. What a connection was broken by is known until the next one stands."""
        self._read_watch(address)
        watch = self._watches.get(address)
        trouble = (watch.trouble if watch else None) or self._troubles.get(address)
        return trouble.at(address) if trouble else None

    def reset(self, address: str) -> None:
        """See `ClientTransport.reset`."""
        socket = self._sockets.pop(address, None)
        self._keys.pop(address, None)
        self._key_looked_at.pop(address, None)
        if socket is not None:
            self._read_watch(address)
            self._end_watch(address)
            self._poller.unregister(socket)
            socket.close(linger=0)

    def close(self) -> None:
        """See `ClientTransport.close`."""
        for address in list(self._sockets):
            self.reset(address)
        if self._own_context:
            # A signal may have come between the making of a socket and its being noted: `term` would wait for it.
            self._context.destroy(linger=0)

    def _socket(self, address: str) -> zmq.Socket[bytes]:
        if address not in self._sockets:
            server_key = self._server_key(address) if self._identity else None
            if self._identity and server_key is None:
                raise PeerError(
                    f"{address}: which key the node there must have is not known",
                    "the list of keys and `nodes` of the file must both name it, and the file its address",
                    code="no-key",
                )
            socket = self._context.socket(zmq.DEALER)
            socket.linger = 0
            socket.sndhwm = 64
            socket.rcvhwm = 64
            socket.maxmsgsize = FRAME_LIMIT
            socket.reconnect_ivl = 200
            socket.reconnect_ivl_max = 10_000
            socket.connect_timeout = CONNECT_TIMEOUT_MS
            socket.tcp_keepalive = 1
            socket.heartbeat_ivl = HEARTBEAT_MS
            socket.heartbeat_timeout = HEARTBEAT_TIMEOUT_MS
            socket.ipv6 = "[" in address
            if self._identity and server_key:
                protect_client(socket, self._identity, server_key)
            watch: ConnectionWatch | None = None
            try:
                watch = ConnectionWatch(socket, bool(server_key), CONNECT_TIMEOUT_MS / 1000, time.monotonic())
                socket.connect(f"tcp://{address}")
            except zmq.ZMQError:
                if watch is not None:
                    watch.close()
                socket.close(linger=0)
                raise
            self._sockets[address] = socket
            if server_key:
                self._keys[address], self._key_looked_at[address] = server_key, time.monotonic()
            self._watches[address] = watch
            self._poller.register(socket, zmq.POLLIN)
            self._poller.register(watch.socket, zmq.POLLIN)
        return self._sockets[address]

    def _follow_key(self, address: str) -> None:
        """Drop a connection whose server must have another key by now, or has none any more.

        A connection stands for as long as its two ends do: without another look, whoever is taken off the list would
        be asked, and believed, for as long as it runs.
        """
        looked_at, now = self._key_looked_at.get(address), time.monotonic()
        if looked_at is None or now - looked_at < LOOK_SECONDS:
            return
        self._key_looked_at[address] = now
        if self._server_key(address) != self._keys[address]:
            self.reset(address)

    def _read_watch(self, address: str) -> None:
        watch = self._watches.get(address)
        if watch is None:
            return
        watch.read(self._watched_until, time.monotonic())
        if watch.is_up:
            self._end_watch(address)

    def _end_watch(self, address: str) -> None:
        """Stop following a connection that stands or is given up, and keep in mind what was wrong with it."""
        watch = self._watches.pop(address, None)
        if watch is None:
            return
        if watch.is_up:
            self._troubles.pop(address, None)
        elif watch.trouble is not None:
            self._troubles[address] = watch.trouble
            if len(self._troubles) > REMEMBERED_TROUBLES:
                del self._troubles[next(iter(self._troubles))]
        self._poller.unregister(watch.socket)
        watch.close()


class ZmqServer:
    """A REP socket bound to one address.

    Args:
        address: `host:port` to listen on.
        door: Whom to let in; None to let everybody in, and to encrypt nothing.
        frame_limit: Bytes of a frame that a client may send, at most.

    Raises:
        AddressInUse: Something else listens there.
        StartupError: This machine has no such address.
    """

    def __init__(self, address: str, door: Door | None = None, frame_limit: int = HEADER_LIMIT) -> None:
        self._address = address
        self._frame_limit = frame_limit
        self._door = door
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._authenticator = Authenticator(self._context, door.is_allowed) if door else None
        self._socket = self._made_socket()
        # The first frame that is sent without a copy makes a thread of pyzmq's, with a context that ends the process
        # where strangers have taken the descriptors it needs: make it before anybody can connect.
        zmq.Frame(bytes(zmq.COPY_THRESHOLD), copy=False)
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

    def keep(self, now: float) -> int:
        """Follow the list of keys, and see to it that new connections are checked; to be called again and again.

        Args:
            now: Seconds of the machine's monotonic clock.

        Returns:
            How many clients have been turned away since the last call.
        """
        if self._door is None or self._authenticator is None:
            return 0
        self._authenticator.keep()
        self._door.look(now)
        return self._door.take_turned_away()

    def receive(self, timeout: float, beside: ZmqClient | None = None) -> Request | None:
        """See `ServerTransport.receive`.

        Args:
            timeout: Seconds.
            beside: A client of the same thread: a reply to it ends the waiting too.
        """
        # Under load the next request is there already, and a poll would only tell so.
        for attempt in range(2):
            try:
                if self._door is None:
                    # A frame without a copy takes longer to be made than a header to be copied.
                    frames = [memoryview(self._socket.recv(zmq.DONTWAIT))]
                    while self._socket.rcvmore:
                        frames.append(self._socket.recv(copy=False).buffer.toreadonly())
                    return Request(frames)
                parts = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
                return Request([part.buffer.toreadonly() for part in parts], self._asker(parts[0]))
            except zmq.Again:
                if attempt or not self._wait(timeout, beside):
                    return None
        return None

    def _asker(self, part: zmq.Frame) -> Asker:
        assert self._door is not None
        try:
            return self._door.asker(str(part.get("User-Id")))
        except zmq.ZMQError:
            return STRANGER

    def _wait(self, timeout: float, beside: ZmqClient | None) -> bool:
        """True if there may be a request."""
        milliseconds = max(0, round(timeout * 1000))
        if beside is None:
            return bool(self._socket.poll(milliseconds))
        sockets = [self._socket, *beside.sockets()]
        return self._socket in dict(zmq.zmq_poll([(socket, zmq.POLLIN) for socket in sockets], milliseconds))

    def reply(self, frames: Frames) -> None:
        """See `ServerTransport.reply`. A requester that has gone makes no difference."""
        self._socket.send_multipart(frames, copy=False)

    def close(self) -> None:
        """See `ServerTransport.close`."""
        self._socket.close(linger=0)
        self._context.term()
        if self._authenticator is not None:
            self._authenticator.join()

    def _made_socket(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.REP)
        socket.linger = 0
        socket.sndhwm = SERVER_QUEUE
        socket.rcvhwm = 16
        socket.maxmsgsize = self._frame_limit
        socket.backlog = 128
        socket.handshake_ivl = 3000
        socket.tcp_keepalive = 1
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = HEARTBEAT_TIMEOUT_MS
        socket.heartbeat_ttl = HEARTBEAT_TIMEOUT_MS
        socket.ipv6 = "[" in self._address
        if self._door is not None:
            protect_server(socket, self._door.identity)
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
