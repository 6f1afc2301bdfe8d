"""The server's part in the membership: it sends what the core asks for, and writes down whom the core knows."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from p2pdl.clock import Clock
from p2pdl.errors import PeerError
from p2pdl.protocol.membership.actions import Action, Ask, Changed, Superseded
from p2pdl.protocol.membership.core import Membership
from p2pdl.protocol.membership.members import Member, Row
from p2pdl.protocol.membership.presets import PRESETS
from p2pdl.protocol.messages import Envelope, MemberReply, MemberRequest
from p2pdl.server.connections import Connections
from p2pdl.server.member_block import member_block
from p2pdl.server.start import MembershipStart
from p2pdl.store.block import Block
from p2pdl.store.view import KnownMember
from p2pdl.transport.contract import ClientTransport, Received
from p2pdl.transport.door import Door
from p2pdl.types import NodeId
from p2pdl.wire import decode, encode

log = logging.getLogger(__name__)

LEAVE_SECONDS = 0.5
"""How long a goodbye may take to reach those to whom it is said."""

TIDY_SECONDS = 1.0
"""Between two looks for connections that nobody needs any more."""


def start_membership(
    start: MembershipStart, node: NodeId, known: Iterable[KnownMember], now: float, door: Door | None = None
) -> Membership:
    """The membership core of a server that has just started.

    Args:
        start: How to begin.
        node: This node's name.
        known: Whom an earlier server process of this node knew.
        now: Seconds of the machine's monotonic clock.
        door: Whom the server lets in; None for everybody.
    """
    own = Member(node, start.address, door.identity.public if door else "", start.life, 0, "alive")
    contacts = {member.name: member.address for member in known if member.state != "left"} | start.contacts
    contacts.pop(node, None)
    rng = np.random.default_rng([start.seed, start.life])
    keys = door.allowed.node_keys if door else None
    return Membership(own, contacts, PRESETS[start.preset], rng, now, keys, start.join)


class MembershipHost:
    """Runs one membership core; used by the server's one thread.

    Args:
        core: The core.
        client: How to reach other nodes.
        cluster: This node's cluster.
        node: This node's name.
        view: Where the node's other processes read whom the core knows.
        start: Whom the node looks for: of those that are not there, the nodes of its file matter the most.
    """

    def __init__(
        self,
        core: Membership,
        client: ClientTransport,
        cluster: str,
        node: NodeId,
        view: Block,
        start: MembershipStart | None = None,
    ) -> None:
        self.core = core
        self._connections = Connections(client)
        self._cluster = cluster
        self._node = node
        self._view = view
        self._contacts = start.contacts if start else {}
        self._join = start.join if start else []
        self._left_out: frozenset[NodeId] = frozenset()
        self._superseded: str | None = None
        self._present: frozenset[str] = frozenset()
        self._tidy_at = 0.0
        self._follow_addresses()
        self._write()

    def on_request(self, request: MemberRequest, sender: NodeId, now: float) -> MemberReply:
        """Answer another node's question about members."""
        reply, actions = self.core.on_request(request, sender, now)
        self._perform(actions, now)
        return reply

    def on_heard(self, node: NodeId, now: float) -> None:
        """A request has come from a node: it is there."""
        self.core.on_heard(node, now)

    def rumours(self, now: float) -> tuple[Row, ...]:
        """News to send along with a reply."""
        return self.core.rumours(now)

    def run(self, now: float) -> None:
        """Take in the replies that have come, and do what is due; never waits."""
        while (received := self._connections.receive(0.0)) is not None:
            self._take(received, now)
        if now >= self.core.deadline:
            self._perform(self.core.on_tick(now), now)

    def leave(self, clock: Clock) -> None:
        """Say goodbye to several members, and wait a moment for it to be heard."""
        self._connections.forget_questions()
        self._perform(self.core.leave(clock.now()), clock.now())
        give_up_at = clock.now() + LEAVE_SECONDS
        while self._connections.is_silent and (left := give_up_at - clock.now()) > 0:
            received = self._connections.receive(left)
            if received is not None:
                self._take(received, clock.now())

    def _take(self, received: Received, now: float) -> None:
        try:
            envelope = decode(received.frames[0] if received.frames else b"")
        except PeerError as error:
            self.core.counters[f"reply-{error.code}"] += 1
            return
        if envelope.cluster == self._cluster:
            self._perform(self.core.on_reply(envelope.id, envelope.node, envelope.message, now), now)
        else:
            self.core.counters["reply-cluster"] += 1

    def _perform(self, actions: Iterable[Action], now: float) -> None:
        changed = False
        for action in actions:
            match action:
                case Ask(ask_id, address, request):
                    self._ask(ask_id, address, request, now)
                case Changed(member, previous, reason):
                    changed = True
                    if member.name != self._node:
                        level = logging.INFO if member.state in ("alive", "left") else logging.WARNING
                        log.log(level, "%s is %s (%s): %s", member.name, member.state, previous or "new", reason)
                case Superseded(member):
                    changed = True
                    self._superseded = member.address
                    log.error("this node's name runs at %s too", member.address)
        if changed:
            self._follow_addresses()
            self._write()
        if now >= self._tidy_at:
            self._tidy_at = now + TIDY_SECONDS
            self._connections.let_go_unneeded(now)

    def _ask(self, ask_id: int, address: str, request: MemberRequest, now: float) -> None:
        try:
            self._connections.ask(address, [encode(Envelope(ask_id, self._cluster, self._node, request))], now)
        except PeerError as error:
            # A full queue, or an address that cannot be tried: to the core it is a node that does not answer.
            self.core.counters[f"ask-{error.code}"] += 1

    def _follow_addresses(self) -> None:
        """Let go of the connections to those that have left, died or moved.

        ZeroMQ would try them again for as long as this process runs. Who is dead is asked now and then all the same, on
        a connection of its own each time.
        """
        present = {name: known.member.address for name, known in self.core.known.items() if known.member.is_present}
        before, self._present = self._present, frozenset(present.values())
        for address in before - self._present:
            self._connections.let_go(address)
        absent = (address for name, address in self._contacts.items() if name not in present)
        self._connections.needed = self._present.union(absent, self._join)

    def _write(self) -> None:
        content, left_out = member_block(
            self.core.known, self._node, self._contacts, self._superseded, self._view.limit
        )
        counters = self.core.counters
        if left_out and "view-left-out" not in counters:
            log.warning(
                "no room for %d of the %d nodes that this one has heard of: those gone the longest are left out first, "
                "and who is left out is not pulled from\n"
                "  -> if the cluster is smaller than that, somebody makes up names; with `security: curve` only those "
                "on the list of keys count",
                len(left_out),
                len(self.core.known),
            )
        if newly := left_out - self._left_out:
            counters["view-left-out"] += len(newly)
        self._left_out = left_out
        self._view.write(content)
