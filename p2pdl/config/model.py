"""The whole configuration: every section, the file it came from, and its way to another process.

Mistakes that involve two keys are found in `checks`, so that one wrong key never hides them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from zlib import crc32

from pydantic import AfterValidator, Field

from p2pdl.config import texts
from p2pdl.config.exchange import Compress, Gossip, Metrics
from p2pdl.config.names import StrategyName
from p2pdl.config.reliability import Checkpoint, Membership
from p2pdl.config.sections import Cluster, Data, Model, NodeEntry, Train
from p2pdl.config.security import Security
from p2pdl.config.serving import Server
from p2pdl.config.setting import Section, setting
from p2pdl.errors import NodeChoiceError


class Settings(Section):
    """Everything that a file may say."""

    cluster: Cluster
    nodes: Annotated[tuple[NodeEntry, ...], Field(strict=False), AfterValidator(texts.not_empty)] = setting(
        wanted="a list of nodes, each with a name and an address",
        example=[{"name": "node1", "address": "192.168.1.10:7101"}],
        meaning="The nodes of the cluster, in an order that is the same on every machine.",
        trade_off="More nodes share the work, and each has a smaller part of the data.",
    )
    model: Model = Field(default_factory=Model)
    data: Data = Field(default_factory=Data)
    train: Train = Field(default_factory=Train)
    strategy: StrategyName = setting(
        "gossip",
        meaning="`gossip` trains with the other nodes; `parameter-server` trains through the nodes whose `role` is "
        "`server`; `single` trains this node alone. The trainer is the same.",
        trade_off="The other two are what to compare with: `parameter-server` has its servers in every worker's way, "
        "`single` no exchange, no waiting, and only the node's own part of the data.",
    )
    gossip: Gossip = Field(default_factory=Gossip)
    compress: Compress = Field(default_factory=Compress)
    server: Server = Field(default_factory=Server)
    membership: Membership = Field(default_factory=Membership)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    security: Security = Field(
        default_factory=Security,
        json_schema_extra={
            "wanted": "auto, curve, none, or indented lines of `key: value`, with the keys mode, keys",
            "example": "curve",
        },
    )
    metrics: Metrics = Field(default_factory=Metrics)


class Configuration(Settings):
    """Settings that passed every check, and the file they stand in.

    Attributes:
        file: Absolute path of the file.
        joined: Those of `nodes` that are not among the nodes by which the data are divided: they joined later.
    """

    file: Path
    joined: tuple[str, ...] = Field(default=(), strict=False)

    @property
    def folder(self) -> Path:
        """The folder of the file, from which relative paths count."""
        return self.file.parent

    @property
    def runs_folder(self) -> Path:
        """The folder in which each run leaves its folder."""
        return self.resolve(self.cluster.runs)

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names, in the order of the file."""
        return tuple(entry.name for entry in self.nodes)

    @property
    def founders(self) -> tuple[str, ...]:
        """The nodes by which the data are divided, in the order of the file."""
        return tuple(it.name for it in self.nodes if it.name not in self.joined and it.role == "worker")

    @property
    def servers(self) -> tuple[NodeEntry, ...]:
        """The parameter servers, in the order of the ranges of the model that they hold."""
        return tuple(entry for entry in self.nodes if entry.role == "server")

    def place(self, node: str) -> int:
        """A number that is the node's own: its place among the founders, or one behind them made of its name."""
        if node in self.founders:
            return self.founders.index(node)
        return len(self.founders) + crc32(node.encode())

    def resolve(self, path: str | Path) -> Path:
        """A path of the file as an absolute path; `~` is the user's home."""
        return self.folder / Path(path).expanduser()

    def node(self, name: str) -> NodeEntry:
        """The entry of one node.

        Raises:
            NodeChoiceError: No node of the file has that name.
        """
        for entry in self.nodes:
            if entry.name == name:
                return entry
        better = texts.nearest(name, self.names)
        known = ", ".join(self.names)
        raise NodeChoiceError(
            f"{self.file} lists no node {name!r}; its nodes are {known}",
            f"did you mean --name {better}?" if better else "use one of these names, or add the node to `nodes`",
        )

    def to_json(self) -> str:
        """Everything, defaults included, for a process that must not read the file again."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """The inverse of `to_json`."""
        return cls.model_validate_json(text)
