"""Mistakes about who serves and who trains: roles that do not fit the strategy, and what neither of them can do."""

from __future__ import annotations

from collections.abc import Iterator

from p2pdl.config.complaints import Complaint
from p2pdl.config.draft import Draft
from p2pdl.config.exchange import Compress
from p2pdl.config.sections import Train
from p2pdl.config.serving import Server


def roles(draft: Draft) -> Iterator[Complaint]:
    """Servers where there can be none, or none where one is needed; an optimizer that no server has."""
    if not draft.sound("strategy") or not draft.sound("nodes"):
        return
    strategy = draft.value.get("strategy", "gossip")
    servers = [place for place, entry in enumerate(draft.nodes) if entry.get("role") == "server"]
    if strategy != "parameter-server":
        for place in servers:
            message = f"found `server`, and `strategy: {strategy}` has none"
            yield ("nodes", place, "role"), message, "write `strategy: parameter-server`, or remove the line"
        return
    if not servers:
        message = "found `parameter-server`, and no node is a server"
        yield ("strategy",), message, "write `role: server` in one entry of `nodes`"
    elif len(servers) == len(draft.nodes):
        yield ("nodes",), "has servers only, and nobody who trains", "add a node without `role: server`"
    server = draft.section("server", Server)
    yield from server_optimizer(server, draft.section("train", Train))
    yield from ranges(server, draft.section("compress", Compress))


def server_optimizer(server: Server, train: Train) -> Iterator[Complaint]:
    """What the server cannot do in place of the workers."""
    place = server.optimizer_place
    if server.policy == "adsp" and place == "server":
        message = "found `server`, and `policy: adsp` lets every worker train on its own between two pushes"
        yield ("server", "optimizer"), message, "write `optimizer: worker`, or `auto`"
    known = {"momentum", "nesterov"}
    unknown = sorted(train.optimizer.arguments.keys() - known)
    if place == "server" and (train.optimizer.name != "sgd" or unknown):
        found = f"`{train.optimizer.name}`" if train.optimizer.name != "sgd" else f"sgd with `{unknown[0]}`"
        message = f"found {found}, and a parameter server knows sgd with momentum and nesterov"
        yield ("train", "optimizer"), message, "write `server: {optimizer: worker}`: then each worker has its own"


def ranges(server: Server, compress: Compress) -> Iterator[Complaint]:
    """What a worker cannot push range by range."""
    if server.range == "all":
        return
    if server.optimizer_place == "worker":
        message = f"found `{server.range}`, and the optimizer is at the workers, which push the whole change"
        yield ("server", "range"), message, "write `all`, or `optimizer: server` with another policy than adsp"
    elif compress.sparsifier != "none":
        message = f"found `{server.range}`, and `{compress.sparsifier}` chooses from the whole model what is pushed"
        yield ("server", "range"), message, "write `all`, or `compress: {sparsifier: none}`"
