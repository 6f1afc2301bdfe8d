"""What keeps a run going by itself: the sections `membership` and `checkpoint` of the file."""

from __future__ import annotations

from p2pdl.config.names import MembershipName
from p2pdl.config.setting import Section, setting


class Membership(Section):
    """How the nodes keep an eye on each other; `nodes` is only where a node begins to look."""

    preset: MembershipName = setting(
        "auto",
        meaning="How soon a node that does not answer is suspected and given up: `local` for nodes on one machine, "
        "`lan` for one network, `wan` for links with long or uneven delays; `auto` takes `local` if every address is "
        "this machine's own, and else `lan`.",
        trade_off="`local` and `lan` notice a death within seconds; `wan` forgives a slow link for longer.",
    )


class Checkpoint(Section):
    """What a node writes down to go on from after a crash, a reboot or a stop."""

    every: float = setting(
        60.0,
        ge=0,
        le=86400,
        unit="s",
        meaning="Time between two checkpoints: weights, optimizer, step and the place in the data, written in the "
        "background. A node whose run has not ended goes on from its newest one when it is started again; 0 writes "
        "none.",
        trade_off="A crash costs the steps since the last one. Each takes the disk what the model and the optimizer's "
        "state take in memory, and the training one copy of them.",
    )
    keep: int = setting(
        2,
        ge=1,
        le=100,
        unit="checkpoints",
        meaning="How many are kept; a damaged one is passed over for the one before.",
        trade_off="More are more steps to go back to, and more disk.",
    )
    restarts: int = setting(
        5,
        ge=0,
        le=1000,
        unit="restarts",
        meaning="How often within an hour a trainer that has died is started again from its newest checkpoint before "
        "the node gives up.",
        trade_off="0 ends the node at the first crash; many keep a machine busy that crashes at the same place "
        "each time.",
    )
