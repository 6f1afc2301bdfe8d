"""What a node does about claims on its own name: it contradicts, or it finds that another process has the name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from p2pdl.protocol.membership.actions import Changed, Superseded
from p2pdl.protocol.membership.knowledge import Answer, Knowledge, Phase
from p2pdl.protocol.membership.members import HIGHEST_INCARNATION, Claim, Member
from p2pdl.protocol.messages import ProbeReply, ProbeRequest

CHECKS = 3
"""Times that the address of another process with this node's name is asked."""

CHECKS_WAITING = 8
"""Addresses that are asked one after another, at most: they come out of what others say."""

RAISE_LIMIT = 1 << 20
"""How far one claim may raise an incarnation. 2^63 of them are left after any number of claims that can be sent, so
nobody can use them up; what an honest node has missed in a day is far less."""


@dataclass(slots=True)
class _Check:
    """Asks whether another process of this name is there; `number` tells its answers from those of an earlier one."""

    other: Member
    number: int
    tries: int
    deadline: float


class Identity:
    """Keeps this node's own claim the highest.

    Args:
        knowledge: What the node knows.
    """

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self._check: _Check | None = None
        self._waiting: list[Member] = []
        self._prevailing: int | None = None

    @property
    def life(self) -> int:
        """The life that has this node's name: its own, unless another one has prevailed."""
        return self._knowledge.own.life if self._prevailing is None else self._prevailing

    @property
    def deadline(self) -> float:
        """When the check in progress goes on; never without one."""
        return self._check.deadline if self._check else math.inf

    @property
    def is_checking(self) -> bool:
        """True while it is not clear whether another process has this node's name."""
        return self._check is not None

    def on_claim(self, claim: Claim, now: float) -> None:
        """Somebody says something about this node's name."""
        other, own = claim.member, self._knowledge.own
        if self._knowledge.phase in (Phase.LEFT, Phase.SILENT):
            return
        if other.life == own.life:
            self._contradict(claim, now)
        elif other.is_present and other.address != own.address:
            self._begin_check(other, now)
        elif other.order > own.order:
            self._rise_above(other, now)

    def on_tick(self, now: float) -> None:
        """Ask once more, or stop asking."""
        check = self._check
        if check is None or now < check.deadline:
            return
        if check.tries < CHECKS:
            self._ask(check, now)
        else:
            self._end_check(now)

    def _contradict(self, claim: Claim, now: float) -> None:
        knowledge, other, own = self._knowledge, claim.member, self._knowledge.own
        if other.order <= own.order:
            return
        if (other.state, other.address, other.key) == ("alive", own.address, own.key):
            # An earlier server process of this node has said so.
            self._rise(other.incarnation, now)
            return
        knowledge.counters["refutations"] += 1
        self._rise_above(other, now)
        if other.state != "alive":
            knowledge.health.worse()
        if other.is_gone:
            reason = f"others held this node for {other.state}; it has contradicted"
            knowledge.actions.append(Changed(knowledge.own, other.state, reason))

    def _matters(self, other: Member) -> bool:
        """Whether this node cannot go on as it is if that process is there.

        A newcomer asks even where its own claim would win: whoever was there first keeps the name.
        """
        return self._knowledge.phase is Phase.JOINING or other.order > self._knowledge.own.order

    def _begin_check(self, other: Member, now: float) -> None:
        if not self._matters(other):
            return
        if self._check is not None:
            asked = [self._check.other, *self._waiting]
            if other not in asked and len(asked) < CHECKS_WAITING:
                self._waiting.append(other)
            return
        self._knowledge.counters["name-checks"] += 1
        self._check = _Check(other, self._knowledge.new_id(), 0, now)
        self._ask(self._check, now)

    def _ask(self, check: _Check, now: float) -> None:
        knowledge = self._knowledge
        check.tries += 1
        check.deadline = now + knowledge.settings.probe_timeout * knowledge.health.multiplier
        name, number = knowledge.own.name, check.number

        def on_answer(answer: Answer) -> None:
            if self._check is not None and self._check.number == number:
                self._on_answer(self._check, answer)

        # Without a row of this node's own: it would be a claim already.
        knowledge.ask(name, check.other.address, ProbeRequest(name, ()), now, on_answer)

    def _on_answer(self, check: _Check, answer: Answer) -> None:
        knowledge = self._knowledge
        assert isinstance(answer.reply, ProbeReply)
        life = answer.reply.life
        is_other = life != knowledge.own.life
        is_it = life == check.other.life or knowledge.phase is Phase.JOINING
        is_leaving = any(row.get("life") == life and row.get("state") == "left" for row in answer.reply.rumours)
        if is_other and is_it and not is_leaving:
            self._check = None
            self._prevailing = life
            knowledge.phase = Phase.SILENT
            knowledge.counters["superseded"] += 1
            knowledge.actions.append(Superseded(replace(check.other, life=life)))
        else:
            self._end_check(answer.now)

    def _end_check(self, now: float) -> None:
        assert self._check is not None
        other, self._check = self._check.other, None
        if other.order > self._knowledge.own.order:
            self._knowledge.counters["refutations"] += 1
            self._rise_above(other, now)
        waiting, self._waiting = self._waiting, []
        for another in waiting:
            self._begin_check(another, now)

    def _rise_above(self, other: Member, now: float) -> None:
        self._rise(other.incarnation + 1, now)

    def _rise(self, incarnation: int, now: float) -> None:
        knowledge, own = self._knowledge, self._knowledge.own
        incarnation = min(incarnation, own.incarnation + RAISE_LIMIT, HIGHEST_INCARNATION)
        knowledge.roster.put(replace(own, incarnation=incarnation), now)
        if knowledge.phase is Phase.MEMBER:
            knowledge.rumours.add(own.name)
