"""A node's part in its cluster: the exchange, put together from the configuration, and the meetings of a run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from p2pdl import merge, topology
from p2pdl.clock import Clock
from p2pdl.config import Configuration
from p2pdl.errors import PeerError, StartupError
from p2pdl.node.exchange_cost import codec_name
from p2pdl.node.live_figures import Traffic
from p2pdl.node.security import connecting, keys_folder
from p2pdl.protocol.fields import Scalar
from p2pdl.protocol.finish import DONE_STATES, Gathering
from p2pdl.protocol.link import Link, LinkSettings
from p2pdl.protocol.messages import ProbeRequest
from p2pdl.protocol.neighbours import Neighbours
from p2pdl.puller.directory import Directory
from p2pdl.puller.gathering import FinalMerge, Pause, final_merge, gather, start_together
from p2pdl.puller.requests import Requester
from p2pdl.spec import shards_in
from p2pdl.store.block import Block
from p2pdl.store.layout import VIEW, Word
from p2pdl.store.view import MemberView
from p2pdl.store.writer import StoreWriter
from p2pdl.training.appraisal import Judge
from p2pdl.training.downloads import Downloads
from p2pdl.training.exchange import Exchange
from p2pdl.training.exchange_counters import ExchangeCounters
from p2pdl.training.exchange_settings import ExchangeSettings
from p2pdl.training.timeline import FILE_NAME, Timeline
from p2pdl.training.weights import ModelWeights, spec_of
from p2pdl.types import JsonObject, NodeId

OWN_SERVER_SECONDS = 1.0
"""How long this node's own server may take to take in what a pull has brought about members."""

log = logging.getLogger(__name__)

LONGEST_ERROR = 120
"""Characters of a peer's last error in the status, whose block in shared memory must hold 64 failing peers."""


class Participation:
    """Store, puller and exchange of one node, and how it meets the others at the start and at the end.

    Args:
        configuration: The cluster.
        node: The node's name.
        store: The weight store's descriptor.
        model: The built Keras model.
        clock: Source of times.
        timeline: Where the exchange records what it does; None for nowhere.
        judge: Measures losses on the node's own data; None where those are not at hand.
        stopping: True when the node is to end early.

    Raises:
        StartupError: Losses are to be measured, and there is no data to measure them on.
    """

    def __init__(
        self,
        configuration: Configuration,
        node: NodeId,
        store: int,
        model: Any,
        clock: Clock,
        timeline: Timeline | None = None,
        judge: Judge | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        gossip = configuration.gossip
        if gossip.contribution == "measured" and judge is None:
            raise StartupError(
                "gossip.contribution: measured needs the node's own data, which `p2pdl.Gossip` does not see",
                "write `contribution: claimed`, or `merge: mean`, which believes nobody",
            )
        self._node = node
        self._gossip = gossip
        self._clock = clock
        self._judge = judge
        self._traffic = Traffic()
        spec = spec_of(model)
        self._view = MemberView(Block(store, VIEW))
        listed = {entry.name: str(entry.address) for entry in configuration.nodes if entry.name != node}
        self._directory = Directory(node, listed, self._view)
        self._listed = tuple(listed)
        # The final merge is exact, whatever codec the run has used on its way.
        self._final_link = LinkSettings(
            "float32", gossip.timeout, gossip.request_timeout, gossip.range_size, gossip.window
        )
        self._store = StoreWriter(store, spec, clock)

        # This node's own server is one of those that it talks to.
        own_address = str(configuration.node(node).address)
        connect = connecting(keys_folder(configuration), node, lambda: {**self._directory.addresses, node: own_address})

        def make_requester() -> Requester:
            return Requester(connect(), configuration.cluster.name, node, clock)

        self._requester = make_requester()

        def pass_on(requester: Requester, rumours: tuple[dict[str, Scalar], ...]) -> None:
            with contextlib.suppress(PeerError):
                requester.ask(own_address, ProbeRequest(node, rumours), OWN_SERVER_SECONDS)

        downloads = Downloads(make_requester, spec, gossip.downloads, clock, pass_on)
        self._inbox = downloads.inboxes[0]
        self._weights = ModelWeights(model, *(inbox.vector for inbox in downloads.inboxes))
        rng = np.random.default_rng([configuration.train.seed, configuration.place(node)])
        chosen = topology.create(gossip.topology, configuration.founders, peers=gossip.peers, graph=gossip.graph)
        self.exchange = Exchange(
            self._weights,
            downloads,
            self._store,
            Neighbours(node, listed, chosen, rng),
            self._directory,
            merge.create(gossip.merge, gossip.clamp),
            ExchangeSettings(
                gossip.exchange_every,
                gossip.overlap,
                gossip.parts,
                replace(self._final_link, codec=codec_name(configuration.compress)),
                gossip.clip,
                gossip.contribution == "measured",
            ),
            clock,
            timeline=timeline,
            judge=judge,
            stopping=stopping,
        )

    def warm_up(self) -> None:
        """Compile what a merge needs before the first one is due."""
        self._weights.warm_up()
        if self._gossip.contribution == "measured" and self._judge is not None:
            self._judge.own_loss(0)

    def start_together(self, pause: Pause) -> None:
        """Wait, within bounds, for nodes that are starting too."""
        addresses = {name: self._directory.addresses[name] for name in self._listed}
        met = start_together(self._requester, addresses, self._gossip.start_wait, self._clock, pause)
        absent = sorted(addresses.keys() - met)
        if absent:
            log.warning("starting without %s: no answer yet; training goes on and asks again", ", ".join(absent))

    def merge_finally(self, samples: int, pause: Pause) -> FinalMerge:
        """Wait until the others have finished, and take the average of everybody's final weights.

        Call after `Exchange.finish`.

        Args:
            samples: Training samples behind this node's weights.
            pause: How to wait.
        """
        self._directory.refresh()
        gone = {node for node, state in self._directory.states.items() if state == "left"}
        others = {node: address for node, address in self._directory.addresses.items() if node not in gone}
        gathering = self._gather(others, DONE_STATES, pause)
        records = self.exchange.neighbours.records
        refused = {node for node in gathering.arrived() if node in records and records[node].state == "quarantined"}
        arrived = {node: others[node] for node in gathering.arrived() if node not in refused}
        own = (self._node, self._store.pin_newest(), samples)
        spec = self._weights.spec
        settings = Link(self._final_link, shards_in(spec.size)).pull_settings()
        clips = self._gossip.clip is not None
        merged = final_merge(self._requester, own, arrived, spec, settings, self._inbox, self._clock, pause, clips)
        self._store.unpin()
        for outcome in merged.outcomes:
            self.exchange.counters.bytes_received += outcome.nbytes
            self.exchange.counters.payload_bytes_received += outcome.payload_nbytes
        merged.missing.update(dict.fromkeys(gone, "it has left"))
        merged.missing.update(gathering.missing())
        merged.missing.update({node: f"it is in quarantine: {records[node].last_error}" for node in refused})
        for node, reason in sorted(merged.missing.items()):
            log.warning("the final merge leaves out %s: %s", node, reason)
        self._weights.assign(merged.vector)
        return merged

    def wait_until_served(self, merged: FinalMerge | None, pause: Pause) -> None:
        """Wait while another node may still want this node's final weights.

        Args:
            merged: This node's final merge, whose other nodes do theirs; None if there is none, and the nodes just end.
            pause: How to wait.
        """
        if merged is None:
            self._gather(self._directory.addresses, DONE_STATES, pause)
        else:
            others = {node: self._directory.addresses[node] for node in merged.nodes if node != self._node}
            self._gather(others, frozenset({"merged"}), pause)

    def _gather(self, addresses: Mapping[NodeId, str], goal: frozenset[str], pause: Pause) -> Gathering:
        return gather(self._requester, addresses, goal, self._gossip.linger, self._clock, pause)

    def close(self) -> None:
        """End the puller's thread and drop every connection."""
        self.exchange.close()
        self._requester.close()
        self._view.close()

    def figures(self) -> JsonObject:
        """The figures of a line of `metrics.jsonl` and of the status: `docs/metrics.md` says what each is."""
        counters = self.exchange.counters
        bytes_sent = self._store.counter(Word.BYTES_SENT)
        peer = self.exchange.neighbours.merged_last
        merged = self.exchange.source(peer).figures() if peer is not None else {}
        return {
            **figures_of(counters, bytes_sent, self._traffic, self._clock.now()),
            "staleness": counters.staleness_sum / counters.merges if counters.merges else None,
            "merged_from": peer,
            "merged_age": merged.get("age"),
            "merged_staleness": merged.get("staleness"),
            "merged_codec": merged.get("codec"),
        }

    def links(self) -> JsonObject:
        """For each peer that has answered or failed, how the link to it is: for a line of `metrics.jsonl`."""
        records = self.exchange.neighbours.records
        return {
            name: {
                "state": record.state,
                "pulls": record.pulls,
                "failures": record.failures,
                **self.exchange.source(name).figures(),
            }
            for name, record in records.items()
            if record.state != "unknown"
        }

    def summary(self) -> JsonObject:
        """The exchange's part of `summary.json`."""
        figures = summary_of(self.exchange.counters)
        figures["bytes_sent"] = self._store.counter(Word.BYTES_SENT)
        figures["restarts"] = max(0, self._store.counter(Word.SERVER_STARTS) - 1)
        figures["peers_seen"] = sorted(name for name, r in self.exchange.neighbours.records.items() if r.pulls)
        return figures

    def peer_rows(self) -> list[JsonObject]:
        """One row for each peer, for the status."""
        return [
            {
                "name": name,
                "address": self._directory.addresses[name],
                "state": record.state,
                "pulls": record.pulls,
                "failures": record.failures,
                "last_error": record.last_error[:LONGEST_ERROR],
                "last_error_at": record.last_error_at,
                **self.exchange.source(name).figures(),
            }
            for name, record in sorted(
                self.exchange.neighbours.records.items(),
                key=lambda item: item[1].state not in ("failing", "quarantined"),
            )
        ]


def profile_of(configuration: Configuration, node: NodeId, folder: Path) -> Timeline | None:
    """A node's timeline in its run folder; None unless `train.profile` asks for one."""
    if not configuration.train.profile:
        return None
    return Timeline(folder / FILE_NAME, node, configuration.gossip.downloads)


def figures_of(counters: ExchangeCounters, bytes_sent: int, traffic: Traffic, now: float) -> JsonObject:
    """The counters, and the rates that they make, under the names of `metrics.jsonl`."""
    mbit_in, mbit_out = traffic.look(now, counters.bytes_received, bytes_sent)
    return {
        "merges": counters.merges,
        "merges_skipped": counters.merges_skipped,
        "adoptions": counters.adoptions,
        "clipped": counters.clipped,
        "publications": counters.publications,
        "bytes_received": counters.bytes_received,
        "bytes_sent": bytes_sent,
        "mbit_per_second_in": None if mbit_in is None else round(mbit_in, 3),
        "mbit_per_second_out": None if mbit_out is None else round(mbit_out, 3),
        "wait_seconds": counters.wait_seconds,
        "merge_seconds": counters.merge_seconds,
        "publish_seconds": counters.publish_seconds,
        "pull_seconds": counters.pull_seconds,
    }


def summary_of(counters: ExchangeCounters) -> JsonObject:
    """The counters under the names of `summary.json`."""
    return {
        "wait_seconds": counters.wait_seconds,
        "merge_seconds": counters.merge_seconds,
        "publish_seconds": counters.publish_seconds,
        "pull_seconds": counters.pull_seconds,
        "bytes_received": counters.bytes_received,
        "payload_bytes_received": counters.payload_bytes_received,
        "bytes_sent": 0,
        "merges": counters.merges,
        "merges_skipped": counters.merges_skipped,
        "adoptions": counters.adoptions,
        "clipped": counters.clipped,
        "unchanged": counters.unchanged,
        "busy": counters.busy,
        "staleness": counters.staleness_sum / counters.merges if counters.merges else None,
        "publications": counters.publications,
        "exchange_failures": dict(sorted(counters.failures.items())),
        "peers_seen": [],
        "restarts": 0,
    }
