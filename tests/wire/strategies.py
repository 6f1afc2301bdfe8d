"""Strategies for every message, built from what its fields may hold."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

from hypothesis import strategies as st

from p2pdl.protocol.fields import Figures, Finite, Flag, Table, Text, Whole, WholeList
from p2pdl.protocol.messages import MESSAGE_TYPES, Envelope

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), NUMBERS, WORDS)


def kinds(message_type: type) -> dict[str, object]:
    """The kind of each field of a message type."""
    hints = get_type_hints(message_type, include_extras=True)
    return {field.name: hints[field.name].__metadata__[0] for field in fields(message_type)}


def values(kind: object) -> st.SearchStrategy[Any]:
    """Values that a field of this kind may hold."""
    match kind:
        case Whole(low, high):
            return st.integers(low, high)
        case Finite():
            return st.none() | NUMBERS
        case Flag():
            return st.booleans()
        case Text(limit):
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=min(limit, 80))
        case WholeList(limit, item):
            return st.lists(values(item), max_size=limit).map(tuple)
        case Figures():
            return st.dictionaries(WORDS, SCALARS, max_size=6)
        case Table():
            return st.lists(st.dictionaries(WORDS, SCALARS, max_size=4), max_size=4).map(tuple)
    raise AssertionError(f"no strategy for {kind}")


MESSAGES = st.one_of(
    [
        st.builds(message_type, **{name: values(kind) for name, kind in kinds(message_type).items()})
        for message_type in MESSAGE_TYPES.values()
    ]
)

ENVELOPES = st.builds(
    Envelope,
    id=st.integers(0, 2**64 - 1),
    cluster=values(Text(64)),
    node=values(Text(64)),
    message=MESSAGES,
)
