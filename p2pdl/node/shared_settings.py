"""The settings that all nodes of a run must share: what a node tells one that joins, and where two files disagree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from p2pdl.config import Configuration
from p2pdl.errors import IncompatiblePeer
from p2pdl.types import JsonObject, NodeId, printable

SHARED: dict[str, tuple[str, ...]] = {
    "model": ("name", "width", "arguments"),
    "data": ("source", "partition", "alpha", "augment"),
    "train": ("passes", "steps", "batch_size", "optimizer", "loss", "seed"),
    "compress": ("mask", "error_feedback"),
}
"""Keys by section. Threads, codecs, time-outs and the like are each node's own."""

RESUMABLE = {
    ("train", "passes"),
    ("train", "steps"),
    *(("train", "optimizer", name) for name in ("learning_rate", "schedule", "warm_up")),
}
"""Keys that may change between two starts of one run: what has been trained goes on with them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting in which two configurations disagree.

    Attributes:
        key: Its dotted path.
        here: Its value in this configuration.
        there: Its value in the other one.
    """

    key: str
    here: Any
    there: Any


def shared_settings(configuration: Configuration) -> JsonObject:
    """What all nodes share, as a JSON object; `nodes` is the list by which the data are divided."""
    dumped = json.loads(configuration.to_json())
    settings: JsonObject = {section: {key: dumped[section][key] for key in keys} for section, keys in SHARED.items()}
    settings["cluster"] = configuration.cluster.name
    settings["nodes"] = [
        {"name": entry["name"], "address": entry["address"]}
        for entry in dumped["nodes"]
        if entry["name"] not in configuration.joined
    ]
    return settings


def differences(here: JsonObject, there: JsonObject) -> list[Difference]:
    """Where two results of `shared_settings` disagree, key by key; of the nodes, their names in order."""
    found = [
        Difference(".".join(path), mine, theirs)
        for section in SHARED
        for path, mine, theirs in _compared((section,), here[section], there[section])
    ]
    names = [[node["name"] for node in settings["nodes"]] for settings in (here, there)]
    if names[0] != names[1]:
        found.append(Difference("nodes", *names))
    return found


def hindrances(here: JsonObject, before: JsonObject) -> list[Difference]:
    """The differences that forbid a run to go on where it was."""
    may_change = {".".join(path) for path in RESUMABLE}
    return [difference for difference in differences(here, before) if difference.key not in may_change]


def with_settings(configuration: Configuration, node: NodeId, settings: JsonObject) -> Configuration:
    """This configuration with the cluster's shared settings in the place of its own.

    Args:
        configuration: As read from the file of a node that joins.
        node: The node's name; it is added behind the cluster's nodes if it is not one of them.
        settings: What another node has sent, as `shared_settings` makes it.

    Raises:
        IncompatiblePeer: The settings are not those of this cluster, or none of this version.
    """
    cluster = settings.get("cluster")
    if cluster != configuration.cluster.name:
        raise IncompatiblePeer(
            f"that node belongs to cluster {printable(str(cluster))!r}, and {configuration.file} to "
            f"{configuration.cluster.name!r}",
            "join a node of the same cluster, or correct cluster.name",
            code="cluster",
        )
    merged = json.loads(configuration.to_json())
    _refuse_foreign_code(merged, settings)
    _refuse_described_objects(merged, settings)
    try:
        for section, keys in SHARED.items():
            merged[section] |= {key: settings[section][key] for key in keys}
        founders = [{"name": row["name"], "address": row["address"]} for row in settings["nodes"]]
    except (KeyError, TypeError) as error:
        raise IncompatiblePeer(
            f"that node's settings are not those of this version of p2pdl: {error} is missing",
            "run the same version of p2pdl on every node",
            code="settings",
        ) from None
    own = [entry for entry in merged["nodes"] if entry["name"] == node]
    known = {founder["name"] for founder in founders}
    merged["nodes"] = [own[0] if founder["name"] == node else founder for founder in founders]
    if node not in known:
        merged["nodes"] += own
    merged["joined"] = [] if node in known else [node]
    try:
        return Configuration.from_json(json.dumps(merged))
    except ValueError as error:
        raise IncompatiblePeer(
            f"that node's settings are not valid here: {printable(str(error))[:300]}",
            "run the same version of p2pdl on every node",
            code="settings",
        ) from None


def _refuse_foreign_code(own: JsonObject, settings: JsonObject) -> None:
    """A peer must not choose which function this machine calls: its own file has to name it too."""
    for section, key in (("model", "name"), ("data", "source")):
        theirs = str(settings.get(section, {}).get(key, "")) if isinstance(settings.get(section), dict) else ""
        if ":" in theirs and not theirs.startswith("npz:") and theirs != own[section][key]:
            raise IncompatiblePeer(
                f"the cluster's {section}.{key} is the function {printable(theirs)}, and the file of this node does "
                "not name it; functions that a peer names are not called",
                f"write `{key}: {printable(theirs)}` in the section {section} of your file, if you trust that function",
                code="settings",
            )


def _refuse_described_objects(own: JsonObject, settings: JsonObject) -> None:
    """A peer must not describe an object for Keras to build: what it gives the optimizer are numbers and names."""
    train = settings.get("train")
    optimizer = train.get("optimizer") if isinstance(train, dict) else None
    arguments = optimizer.get("arguments") if isinstance(optimizer, dict) else None
    for name, value in arguments.items() if isinstance(arguments, dict) else ():
        known = own["train"]["optimizer"]["arguments"].get(name)
        if isinstance(value, dict | list) and value != known or name == "learning_rate":
            key = f"train.optimizer.arguments.{printable(str(name))}"
            raise IncompatiblePeer(
                f"the cluster's {key} describes an object, and the file of this node does not; objects that a peer "
                "describes are not built",
                f"write {key} in your file as it is in the cluster's, if you trust what it describes",
                code="settings",
            )


def _compared(path: tuple[str, ...], here: Any, there: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(here, dict) and isinstance(there, dict):
        for key in {**here, **there}:
            yield from _compared((*path, key), here.get(key), there.get(key))
    elif here != there:
        yield path, here, there
