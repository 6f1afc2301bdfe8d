"""Probes: one member in each interval, directly, then through others, then suspected.

Das, Gupta, Motivala (2002), "SWIM: Scalable Weakly-consistent Infection-style Process Group Membership Protocol",
section 3.1, with the own time-outs and intervals of Lifeguard (2018), section IV.A.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pdl.protocol.membership.claims import Claims
from p2pdl.protocol.membership.gossip import Gossip
from p2pdl.protocol.membership.knowledge import Answer, Knowledge
from p2pdl.protocol.membership.turns import Turns
from p2pdl.protocol.messages import ProbeRequest, RelayedRequest, RelayRequest
from p2pdl.types import NodeId


@dataclass(slots=True)
class _Probe:
    """One member being probed.

    Attributes:
        target: The member.
        address: Where.
        sequence: Tells what relays say about this probe from what they say about others.
        multiplier: Of all times of this probe.
        deadline: When the next step is due: asking relays, then suspecting the member.
        relays: Members that were asked to probe it, and whether they answered at all; None before.
    """

    target: NodeId
    address: str
    sequence: int
    multiplier: int
    deadline: float
    relays: dict[NodeId, bool] | None = field(default=None)


class Probing:
    """Probes one member after another.

    Args:
        knowledge: What the node knows.
        claims: Hears whom to suspect.
        gossip: Puts rumours on probes.
        now: Monotonic seconds.
    """

    def __init__(self, knowledge: Knowledge, claims: Claims, gossip: Gossip, now: float) -> None:
        self._knowledge = knowledge
        self._claims = claims
        self._gossip = gossip
        self._turns = Turns(knowledge.rng)
        self._probe: _Probe | None = None
        self._next_at = now
        self._heard_at: dict[NodeId, float] = {}

    @property
    def deadline(self) -> float:
        """When the next probe, or the next step of the present one, is due."""
        return self._probe.deadline if self._probe else self._next_at

    def on_tick(self, now: float) -> None:
        """Do what is due."""
        probe = self._probe
        if probe is not None and now >= probe.deadline:
            if probe.relays is None:
                self._ask_relays(probe, now)
            else:
                self._fail(probe, now)
        if self._probe is None and now >= self._next_at:
            self._begin(now)

    def on_heard(self, name: NodeId, now: float) -> None:
        """A member has asked this node for something, so it is alive: its next turn can be passed over."""
        self._heard_at.setdefault(name, now)

    def on_relayed(self, request: RelayedRequest, sender: NodeId) -> None:
        """A relay says that it has reached the member."""
        probe = self._probe
        if (
            probe is not None
            and (probe.sequence, probe.target) == (request.sequence, request.target)
            and sender in (probe.relays or ())
        ):
            self._knowledge.counters["probes-relayed"] += 1
            self._succeed(probe)

    def void(self, now: float) -> None:
        """Forget the present probe: this node did not run, and could not have seen an answer."""
        self._probe = None
        self._next_at = now

    def _begin(self, now: float) -> None:
        knowledge, settings = self._knowledge, self._knowledge.settings
        multiplier = knowledge.health.multiplier
        self._next_at = now + settings.probe_interval * multiplier
        if knowledge.roster.arrivals:
            self._turns.add(knowledge.roster.arrivals)
            knowledge.roster.arrivals.clear()
        target = self._turns.next(knowledge.roster.present, lambda name: self._is_fit(name, now))
        self._heard_at = {name: at for name, at in self._heard_at.items() if now - at < 2 * settings.probe_interval}
        if target is None:
            return
        address = knowledge.roster.known[target].member.address
        deadline = now + settings.probe_timeout * multiplier
        probe = self._probe = _Probe(target, address, knowledge.new_id(), multiplier, deadline)
        knowledge.counters["probes"] += 1
        request = ProbeRequest(target, self._gossip.rows_for(target, now))
        knowledge.ask(target, address, request, now, lambda answer: self._succeed(probe))

    def _is_fit(self, name: NodeId, now: float) -> bool:
        known = self._knowledge.roster.known.get(name)
        if known is None or not known.member.is_present:
            return False
        # Once only: a member whose server is gone may go on asking.
        heard_at = self._heard_at.pop(name, None)
        if (
            heard_at is None
            or known.member.state != "alive"
            or now - heard_at > self._knowledge.settings.probe_interval
        ):
            return True
        self._knowledge.counters["probes-saved"] += 1
        return False

    def _ask_relays(self, probe: _Probe, now: float) -> None:
        knowledge, settings = self._knowledge, self._knowledge.settings
        rest = (settings.probe_interval - settings.probe_timeout) * probe.multiplier
        # Counted from now: a host that was late has not taken the relays' time.
        probe.deadline = now + rest
        self._next_at = max(self._next_at, probe.deadline)
        relays = knowledge.some(settings.relays, exclude=(probe.target,), only_alive=True)
        probe.relays = dict.fromkeys(relays, False)

        def on_answer(answer: Answer) -> None:
            if probe.relays is not None:
                probe.relays[answer.sender] = True

        for relay in relays:
            knowledge.counters["relays-asked"] += 1
            rows = self._gossip.rows_for(relay, now)
            request = RelayRequest(probe.target, probe.address, probe.sequence, rows)
            knowledge.ask(relay, knowledge.roster.known[relay].member.address, request, now, on_answer)

    def _succeed(self, probe: _Probe) -> None:
        if probe is not self._probe:
            return
        self._probe = None
        self._knowledge.health.better()
        known = self._knowledge.roster.known.get(probe.target)
        if known is not None and known.member.state == "alive":
            known.error = ""

    def _fail(self, probe: _Probe, now: float) -> None:
        knowledge = self._knowledge
        self._probe = None
        knowledge.counters["probes-failed"] += 1
        relays = probe.relays or {}
        # A relay answers at once, whatever the target does: if it does not, this node is the one that is slow.
        knowledge.health.worse(sum(not answered for answered in relays.values()) if relays else 1)
        known = knowledge.roster.known.get(probe.target)
        if known is None or not known.member.is_present or known.member.address != probe.address:
            return
        through = f", nor through {', '.join(sorted(relays))}" if relays else ""
        seconds = knowledge.settings.probe_interval * probe.multiplier
        known.error = f"no answer from {probe.address} within {seconds:g} s{through}"
        self._claims.accuse(probe.target, now)
        # The suspect itself is the first to hear of it.
        self._gossip.tell(probe.target, now)
