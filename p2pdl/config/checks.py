"""Mistakes that involve more than one key.

They are looked for in whatever is sound, so that one wrong key hides none of them, and keep quiet where what they
would compare is wrong itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import get_args

from p2pdl.config.address import HIGHEST_PORT, Address
from p2pdl.config.complaints import Complaint
from p2pdl.config.draft import Draft
from p2pdl.config.exchange import Gossip
from p2pdl.config.names import ModelName
from p2pdl.config.role_checks import roles
from p2pdl.config.sections import Model, Train
from p2pdl.config.source import Location
from p2pdl.config.texts import nearest

GRAPH: Location = ("gossip", "graph")


def cross_checks(draft: Draft) -> Iterator[Complaint]:
    """Every mistake between keys that can be seen in the draft."""
    gossip = draft.section("gossip", Gossip)
    yield from duplicate_names(draft)
    yield from duplicate_addresses(draft)
    yield from model_arguments(draft.section("model", Model))
    yield from training_length(draft.section("train", Train))
    yield from measured_losses(gossip)
    yield from roles(draft)
    if draft.sound("gossip", "topology"):
        yield from number_of_peers(gossip, draft)
        yield from graph_and_topology(gossip, draft)
    if gossip.graph is not None and (gossip.topology == "static" or not draft.sound("gossip", "topology")):
        yield from graph_entries(gossip.graph, draft)


def duplicate_names(draft: Draft) -> Iterator[Complaint]:
    """Two nodes of one name."""
    first: dict[str, int] = {}
    for place, name in draft.names.items():
        if name in first:
            taken = f"found `{name}`, which is the name of nodes[{first[name]}] already"
            yield ("nodes", place, "name"), taken, f"write `{_free_name(name, draft)}`, or remove one of the two"
        first.setdefault(name, place)


def duplicate_addresses(draft: Draft) -> Iterator[Complaint]:
    """Two nodes that others dial at one address, or that listen on one port of one machine."""
    first: dict[Address, int] = {}
    dialled = draft.addresses("address")
    for place, address in dialled.items():
        same = _canonical(address)
        if same in first:
            taken = f"found {address}, which is the address of nodes[{first[same]}] already"
            yield ("nodes", place, "address"), taken, _other_port(address, dialled.values())
        first.setdefault(same, place)
    listening: dict[tuple[str, Address], int] = {}
    for place, bind in draft.addresses("bind").items():
        if place not in dialled:
            continue
        socket = (_canonical(dialled[place]).host, _canonical(bind))
        if socket in listening:
            taken = f"found {bind}, on which nodes[{listening[socket]}] of the same machine listens already"
            yield ("nodes", place, "bind"), taken, "give each node of a machine a port of its own"
        listening.setdefault(socket, place)


def model_arguments(model: Model) -> Iterator[Complaint]:
    """Settings that the chosen kind of model would ignore."""
    built_in = model.name in get_args(ModelName)
    if built_in and model.arguments:
        message = f"are given, but the built-in model `{model.name}` takes none"
        yield (
            ("model", "arguments"),
            message,
            "write `arguments: {}`, or a model of your own as `name: module:function`",
        )
    if not built_in and model.width != 1.0:
        message = f"found `{model.width:g}`, but only built-in models have a width, and `{model.name}` is none"
        yield ("model", "width"), message, f"write `arguments: {{width: {model.width:g}}}` if your function takes it"


def training_length(train: Train) -> Iterator[Complaint]:
    """Both lengths of training, and two learning rates."""
    if train.steps is not None and "passes" in train.model_fields_set:
        message = f"found `{train.steps}`, and `passes: {train.passes:g}` beside it; only one can decide"
        yield ("train", "steps"), message, "remove one of the two lines"
    if "learning_rate" in train.optimizer.arguments:
        where = ("train", "optimizer", "arguments", "learning_rate")
        yield where, "does not belong in arguments", "write it one level up, as `learning_rate` of the optimizer"


def measured_losses(gossip: Gossip) -> Iterator[Complaint]:
    """Losses that are measured for nothing."""
    if gossip.contribution == "measured" and gossip.merge != "contribution":
        message = f"found `measured`, but `merge: {gossip.merge}` goes by no losses"
        yield ("gossip", "contribution"), message, "write `merge: contribution`, or `contribution: claimed`"


def number_of_peers(gossip: Gossip, draft: Draft) -> Iterator[Complaint]:
    """More peers than the topology pulls from, or than there are."""
    if gossip.peers == 1:
        return
    found = f"found `{gossip.peers}`"
    if gossip.topology != "random":
        message = f"{found}, but `topology: {gossip.topology}` has its own neighbours"
        yield ("gossip", "peers"), message, "write `peers: 1` or remove the line, or write `topology: random`"
    elif draft.nodes and gossip.peers >= len(draft.nodes):
        others = len(draft.nodes) - 1
        message = f"{found}, but the number of other nodes is {others}"
        yield ("gossip", "peers"), message, f"write `peers: {max(1, others)}`" + (" or less" if others > 1 else "")


def graph_and_topology(gossip: Gossip, draft: Draft) -> Iterator[Complaint]:
    """A graph that is missing or not wanted."""
    if gossip.topology != "static" and gossip.graph is not None:
        message = f"is given, but `topology: {gossip.topology}` does not use it"
        yield GRAPH, message, "write `topology: static`, or `graph: null`"
    if gossip.topology == "static" and gossip.graph is None and GRAPH not in draft.wrong:
        example = _ring(list(dict.fromkeys(draft.names.values())))
        yield GRAPH, "is missing, and `topology: static` needs it", f"add `graph: {example}`, for example"


def graph_entries(graph: Mapping[str, Sequence[str]], draft: Draft) -> Iterator[Complaint]:
    """Entries that do not fit the nodes."""
    names = list(dict.fromkeys(draft.names.values()))
    if len(draft.names) < len(draft.nodes) or not names:
        return  # a name that cannot be read may be the very one that seems to be missing
    for node, neighbours in graph.items():
        if node not in names:
            yield (*GRAPH, node), "is no node of the list", _known_node(node, names)
        yield from _neighbours((*GRAPH, node), node, neighbours, names)
    for node in names:
        if node not in graph and draft.sound(*GRAPH, node):
            remedy = f"add `{node}: [...]` with the nodes that it pulls from, or `[]` for none"
            yield GRAPH, f"has no entry for the node {node}", remedy


def _neighbours(where: Location, node: str, neighbours: Iterable[str], names: list[str]) -> Iterator[Complaint]:
    seen: set[str] = set()
    for place, neighbour in enumerate(neighbours):
        if neighbour == node:
            yield (*where, place), f"found `{neighbour}`: a node cannot pull from itself", "remove it"
        elif neighbour not in names:
            yield (*where, place), f"found `{neighbour}`, which is no node of the list", _known_node(neighbour, names)
        elif neighbour in seen:
            yield (*where, place), f"found `{neighbour}` a second time", "name each neighbour once"
        seen.add(neighbour)


def _known_node(name: str, names: list[str]) -> str:
    better = nearest(name, names)
    return f"did you mean `{better}`?" if better else f"use one of {', '.join(names)}"


def _ring(names: list[str]) -> str:
    pairs = (f"{name}: [{names[place - 1]}]" for place, name in enumerate(names))
    return "{" + ", ".join(pairs) + "}"


def _free_name(name: str, draft: Draft) -> str:
    stem = name.rstrip("0123456789") or name
    taken = set(draft.names.values())
    return next(f"{stem}{number}" for number in range(1, len(taken) + 2) if f"{stem}{number}" not in taken)


def _other_port(address: Address, taken: Iterable[Address]) -> str:
    ports = {other.port for other in taken}
    free = next((port for port in range(address.port, HIGHEST_PORT) if port not in ports), None)
    return "give each node a port of its own" + (f", such as `{Address(address.host, free)}`" if free else "")


def _canonical(address: Address) -> Address:
    return Address("127.0.0.1", address.port) if address.host == "localhost" else address
