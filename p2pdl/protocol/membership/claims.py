"""What becomes of a claim: it is refused, it is old, or it is now what this node knows and tells.

Das, Gupta, Motivala (2002), "SWIM", section 4.2: alive, suspect and dead override each other by incarnation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from p2pdl.protocol.membership.actions import Changed
from p2pdl.protocol.membership.identity import RAISE_LIMIT, Identity
from p2pdl.protocol.membership.knowledge import Answer, Knowledge, Phase
from p2pdl.protocol.membership.members import Claim, Member, Row, from_row
from p2pdl.protocol.membership.roster import NEARLY, Known
from p2pdl.protocol.membership.suspicion import Suspicion
from p2pdl.protocol.messages import ProbeRequest
from p2pdl.types import NodeId

VERIFICATIONS = 8
"""Members that are asked at one time whether an unlikely claim about them is true."""


class Claims:
    """Judges claims about other members.

    Args:
        knowledge: What the node knows.
        identity: Takes the claims about this node itself.
    """

    def __init__(self, knowledge: Knowledge, identity: Identity) -> None:
        self._knowledge = knowledge
        self._identity = identity
        self._suspicions: dict[NodeId, Suspicion] = {}
        self._verifying: dict[NodeId, float] = {}

    @property
    def deadline(self) -> float:
        """When the next suspicion ends; never without one."""
        return min((suspicion.deadline for suspicion in self._suspicions.values()), default=math.inf)

    def on_tick(self, now: float) -> None:
        """Give up members that have not refuted their suspicion in time."""
        for name in [name for name, suspicion in self._suspicions.items() if suspicion.deadline <= now]:
            known = self._knowledge.roster.known[name]
            by = ", ".join(sorted(self._suspicions[name].accusers)) or "hearsay"
            seconds = now - known.since
            self._knowledge.counters["given-up"] += 1
            self._put(
                Claim(replace(known.member, state="dead")),
                now,
                f"it has not refuted a suspicion for {seconds:.1f} s (suspected by {by})",
            )

    def postpone(self, seconds: float) -> None:
        """Do not count a time in which this node did not run."""
        for suspicion in self._suspicions.values():
            suspicion.postpone(seconds)

    def take(self, rows: Iterable[Row], now: float, first_hand: NodeId = "", is_list: bool = False) -> None:
        """Take in rows that somebody sent.

        Args:
            rows: Claims.
            now: Monotonic seconds.
            first_hand: The member that has said so itself, at its own address; empty if none has.
            is_list: True for a whole list, false for news.
        """
        for row in rows:
            if self._knowledge.roster.has_row(row):
                continue
            try:
                claim = from_row(row)
            except ValueError:
                self._knowledge.counters["refused-row"] += 1
                continue
            self._consider(claim, now, claim.member.name == first_hand, is_list)

    def accuse(self, name: NodeId, now: float) -> None:
        """This node has probed a member in vain; why, its `error` says."""
        known = self._knowledge.roster.known[name]
        own = self._knowledge.own.name
        self._knowledge.counters["accusations"] += 1
        if known.member.state == "alive":
            self._put(Claim(replace(known.member, state="suspect"), own), now, known.error)
        else:
            self._confirm(known, own)

    def _consider(self, claim: Claim, now: float, is_first_hand: bool, is_list: bool) -> None:
        knowledge, member = self._knowledge, claim.member
        if knowledge.keys is not None and knowledge.keys.get(member.name) != member.key:
            knowledge.counters["refused-key"] += 1
            return
        if member.name == knowledge.own.name:
            self._identity.on_claim(claim, now)
            return
        known = knowledge.roster.known.get(member.name)
        if known is None and not self._is_welcome(claim):
            return
        incarnation = known.member.incarnation if known else 0
        if member.incarnation - incarnation > RAISE_LIMIT and not is_first_hand:
            knowledge.counters["refused-incarnation"] += 1
            if known is None or known.member.address == member.address:
                self._verify(member, now)
            return
        if known is not None and is_list and member.state == "dead" and known.member.is_present:
            # A list may be old: it comes from the other half of a network, say. The member itself is heard first.
            claim = Claim(replace(member, state="suspect"))
        if known is None or claim.member.order > known.member.order:
            self._put(claim, now, self._reason(claim, known), is_list)
        elif claim.member == known.member and member.state == "suspect":
            self._confirm(known, claim.accuser)

    def _is_welcome(self, claim: Claim) -> bool:
        """Whether a claim about a name that is not in the list may enter it."""
        knowledge = self._knowledge
        if claim.member.is_gone and claim.age >= NEARLY * knowledge.settings.forget_after:
            return False
        if not knowledge.make_room():
            knowledge.counters["refused-full"] += 1
            return False
        return True

    def _put(self, claim: Claim, now: float, reason: str, is_list: bool = False) -> None:
        knowledge, member = self._knowledge, claim.member
        known = knowledge.roster.known.get(member.name)
        before = known.member if known else None
        accuser = claim.accuser if self._may_accuse(claim) else ""
        knowledge.roster.put(member, now, accuser, claim.age)
        self._suspicions.pop(member.name, None)
        if member.state == "suspect":
            size, settings = knowledge.roster.size, knowledge.settings
            self._suspicions[member.name] = Suspicion(accuser, now, size, settings)
        # What a newcomer reads in its first list is news to nobody else.
        if not (is_list and knowledge.phase is Phase.JOINING):
            knowledge.rumours.add(member.name)
        knowledge.roster.known[member.name].error = "" if member.state == "alive" else reason
        if before is None or _differs(before, member):
            knowledge.counters[f"now-{member.state}"] += 1
            knowledge.actions.append(Changed(member, before.state if before else "", reason))

    def _confirm(self, known: Known, accuser: NodeId) -> None:
        suspicion = self._suspicions[known.member.name]
        if self._may_accuse(Claim(known.member, accuser)) and suspicion.confirm(accuser):
            known.accuser = accuser
            self._knowledge.counters["confirmations"] += 1
            self._knowledge.rumours.add(known.member.name)

    def _may_accuse(self, claim: Claim) -> bool:
        """Whether the accuser is another member, which a liar must be at least."""
        accuser = self._knowledge.roster.members.get(claim.accuser)
        return accuser is not None and accuser.is_present and accuser.name != claim.member.name

    def _verify(self, member: Member, now: float) -> None:
        """Ask the member itself about a claim that nobody else is believed."""
        knowledge = self._knowledge
        self._verifying = {name: until for name, until in self._verifying.items() if until > now}
        if member.name in self._verifying or len(self._verifying) >= VERIFICATIONS:
            return
        self._verifying[member.name] = now + knowledge.settings.probe_interval

        def on_answer(answer: Answer) -> None:
            self._verifying.pop(answer.sender, None)

        knowledge.ask(member.name, member.address, ProbeRequest(member.name, ()), now, on_answer)

    def _reason(self, claim: Claim, known: Known | None) -> str:
        member, before = claim.member, known.member if known else None
        if member.state == "suspect":
            return f"{claim.accuser} cannot reach it" if claim.accuser else "others hold it for dead"
        if member.state == "dead":
            return "other members have given it up"
        if member.state == "left":
            return "it has said goodbye"
        if before is None or before.state == "unknown":
            return f"it is at {member.address}"
        moved = f" at {member.address} instead of {before.address}" if member.address != before.address else ""
        if before.life != member.life:
            return f"it has started again{moved}"
        return f"it has spoken for itself{moved}"


def _differs(before: Member, after: Member) -> bool:
    """Whether people would call it a change."""
    return (before.state, before.life, before.address) != (after.state, after.life, after.address)
