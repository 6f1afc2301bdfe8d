"""Who a member is, how a claim about it travels, and which of two claims counts: the order on which all nodes agree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import xxhash

from p2pdl.protocol.fields import Scalar
from p2pdl.types import NodeId

Row = dict[str, Scalar]
"""A claim as messages carry it."""

RANKS = {"unknown": 0, "alive": 1, "suspect": 2, "dead": 3, "left": 4}
"""States, the stronger ones last; `unknown` is a node of the file that nobody has heard of yet, and no claim."""

NAME_LIMIT = 64
HIGHEST_LIFE = 2**64 - 1
HIGHEST_INCARNATION = 2**63 - 1
HIGHEST_AGE = 2**31 - 1
HIGHEST_PORT = 65535

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253}):([1-9][0-9]{0,4})")
_KEY = re.compile(r"[0-9a-f]{64}|")
_FIELDS = frozenset({"name", "address", "key", "life", "incarnation", "state"})
_FIELDS_OF = {
    "alive": _FIELDS,
    "suspect": _FIELDS | {"accuser"},
    "dead": _FIELDS | {"age"},
    "left": _FIELDS | {"age"},
}


@dataclass(frozen=True, slots=True)
class Member:
    """What is claimed about one name.

    Attributes:
        name: The node's name.
        address: `host:port` at which it is reached.
        key: Its public key, 64 hexadecimal digits; empty without encryption.
        life: Random name of one life of the node.
        incarnation: Counter that only the node itself raises, to contradict what is claimed about it.
        state: A key of `RANKS`.

    Raises:
        ValueError: One of them cannot be.
    """

    name: NodeId
    address: str
    key: str
    life: int
    incarnation: int
    state: str

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise ValueError(f"a name is printable text of 1 to {NAME_LIMIT} characters, not {self.name!r:.80}")
        if not _is_address(self.address):
            raise ValueError(f"an address is host:port, not {self.address!r:.80}")
        if type(self.key) is not str or not _KEY.fullmatch(self.key):
            raise ValueError(f"a key is empty or 64 hexadecimal digits, not {self.key!r:.80}")
        if type(self.life) is not int or not 0 <= self.life <= HIGHEST_LIFE:
            raise ValueError(f"a life is a number from 0 to 2^64 - 1, not {self.life!r:.80}")
        if type(self.incarnation) is not int or not 0 <= self.incarnation <= HIGHEST_INCARNATION:
            raise ValueError(f"an incarnation is a number from 0 to 2^63 - 1, not {self.incarnation!r:.80}")
        if type(self.state) is not str or self.state not in RANKS:
            raise ValueError(f"a state is one of {', '.join(RANKS)}, not {self.state!r:.80}")

    @property
    def order(self) -> tuple[int, int, int, str, str]:
        """The higher of two claims about one name counts, whoever hears of them, and in whichever order.

        Incarnation, life and state decide; address and key only keep nodes from disagreeing where all of these are the
        same, which takes a lie.
        """
        return self.incarnation, self.life, RANKS[self.state], self.address, self.key

    @property
    def is_present(self) -> bool:
        """True for a member that takes part, although it may be suspected."""
        return self.state in ("alive", "suspect")

    @property
    def is_gone(self) -> bool:
        """True for a member that is dead or has left."""
        return self.state in ("dead", "left")

    @property
    def fingerprint(self) -> int:
        """64 bits over what nodes in agreement hold in common; a suspicion is a matter of moments, and not part of it.

        0 for a node that nobody has heard of.
        """
        if self.state == "unknown":
            return 0
        state = "present" if self.is_present else self.state
        text = f"{self.name}\0{self.address}\0{self.life}\0{self.incarnation}\0{state}"
        return xxhash.xxh3_64_intdigest(text.encode())


@dataclass(frozen=True, slots=True)
class Claim:
    """A member's state as somebody tells it.

    Attributes:
        member: What is claimed.
        accuser: Who suspects a `suspect` member; empty where nobody does of its own knowledge.
        age: Whole seconds since a member is `dead` or has `left`, rounded up.
    """

    member: Member
    accuser: NodeId = ""
    age: int = 0


def to_row(member: Member, accuser: NodeId = "", age: int = 0) -> Row:
    """A claim as messages carry it; see `Claim`."""
    row: Row = {
        "name": member.name,
        "address": member.address,
        "key": member.key,
        "life": member.life,
        "incarnation": member.incarnation,
        "state": member.state,
    }
    if member.state == "suspect":
        row["accuser"] = accuser
    elif member.is_gone:
        row["age"] = age
    return row


def from_row(row: Mapping[str, object]) -> Claim:
    """Read a row that somebody sent.

    Raises:
        ValueError: A field is missing, unknown, or cannot be.
    """
    state = row.get("state")
    if type(state) is not str or state not in _FIELDS_OF:
        raise ValueError(f"a row's state is one of {', '.join(_FIELDS_OF)}, not {state!r:.80}")
    if row.keys() != _FIELDS_OF[state]:
        raise ValueError(f"the row of a member that is {state} has the fields {', '.join(sorted(_FIELDS_OF[state]))}")
    accuser, age = row.get("accuser", ""), row.get("age", 0)
    if type(accuser) is not str or (accuser and not _is_name(accuser)):
        raise ValueError(f"an accuser is a name or empty, not {accuser!r:.80}")
    if type(age) is not int or not 0 <= age <= HIGHEST_AGE:
        raise ValueError(f"an age is a number of seconds from 0 to {HIGHEST_AGE}, not {age!r:.80}")
    # The constructor checks the types.
    return Claim(Member(**{field: row[field] for field in _FIELDS}), accuser, age)  # type: ignore[arg-type]


def merged(*lists: Iterable[Member]) -> dict[NodeId, Member]:
    """What nodes agree on that exchange their lists: the highest claim about each name."""
    highest: dict[NodeId, Member] = {}
    for members in lists:
        for member in members:
            known = highest.get(member.name)
            if known is None or member.order > known.order:
                highest[member.name] = member
    return highest


def _is_name(value: object) -> bool:
    return type(value) is str and 0 < len(value) <= NAME_LIMIT and value.isprintable()


def _is_address(value: object) -> bool:
    found = _ADDRESS.fullmatch(value) if type(value) is str else None
    return found is not None and int(found[1]) <= HIGHEST_PORT
