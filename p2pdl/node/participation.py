"""A node's part in its cluster: the exchange, put together from the configuration, and the meetings of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from p2pdl import merge, topology
from p2pdl.clock import Clock
from p2pdl.codec.delta import DeltaSettings
from p2pdl.config import Configuration
from p2pdl.config.exchange import Compress
from p2pdl.protocol.finish import DONE_STATES, Gathering
from p2pdl.protocol.link import Link, LinkSettings
from p2pdl.protocol.neighbours import Neighbours
from p2pdl.protocol.pull import shards_in
from p2pdl.puller.gathering import FinalMerge, Pause, final_merge, gather, start_together
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.puller import Puller
from p2pdl.puller.requests import Requester
from p2pdl.store.layout import Word
from p2pdl.store.writer import StoreWriter
from p2pdl.training.exchange import Exchange, ExchangeCounters, ExchangeSettings
from p2pdl.training.weights import ModelWeights, spec_of
from p2pdl.transport.zeromq import ZmqClient
from p2pdl.types import JsonObject, NodeId

log = logging.getLogger(__name__)


class Participation:
    """Store, puller and exchange of one node, and how it meets the others at the start and at the end.

    Args:
        configuration: The cluster.
        node: The node's name.
        store: The weight store's descriptor.
        model: The built Keras model.
        clock: Source of times.
    """

    def __init__(self, configuration: Configuration, node: NodeId, store: int, model: Any, clock: Clock) -> None:
        gossip = configuration.gossip
        self._node = node
        self._gossip = gossip
        self._clock = clock
        spec = spec_of(model)
        self.addresses = {entry.name: str(entry.address) for entry in configuration.nodes if entry.name != node}
        # The final merge is exact, whatever codec the run has used on its way.
        self._final_link = LinkSettings(
            "float32", gossip.timeout, gossip.request_timeout, gossip.range_size, gossip.window
        )
        self._inbox = Inbox(spec)
        self._weights = ModelWeights(model, self._inbox.vector)
        self._store = StoreWriter(store, spec, clock)

        def make_requester() -> Requester:
            return Requester(ZmqClient(), configuration.cluster.name, node, clock)

        self._requester = make_requester()
        puller = Puller(make_requester, spec)
        rng = np.random.default_rng([configuration.train.seed, configuration.names.index(node)])
        chosen = topology.create(gossip.topology, configuration.names, peers=gossip.peers, graph=gossip.graph)
        self.exchange = Exchange(
            self._weights,
            self._inbox,
            self._store,
            puller,
            Neighbours(node, self.addresses, chosen, rng),
            self.addresses,
            merge.create(gossip.merge, gossip.clamp),
            ExchangeSettings(
                gossip.exchange_every,
                gossip.overlap,
                gossip.parts,
                replace(self._final_link, codec=codec_name(configuration.compress)),
            ),
            clock,
        )

    def warm_up(self) -> None:
        """Compile the merge before the first one is due."""
        self._weights.warm_up()

    def start_together(self, pause: Pause) -> None:
        """Wait, within bounds, for nodes that are starting too."""
        met = start_together(self._requester, self.addresses, self._gossip.start_wait, self._clock, pause)
        absent = sorted(self.addresses.keys() - met)
        if absent:
            log.warning("starting without %s: no answer yet; training goes on and asks again", ", ".join(absent))

    def merge_finally(self, samples: int, pause: Pause) -> FinalMerge:
        """Wait until the others have finished, and take the average of everybody's final weights.

        Call after `Exchange.finish`.

        Args:
            samples: Training samples behind this node's weights.
            pause: How to wait.
        """
        gathering = self._gather(self.addresses, DONE_STATES, pause)
        arrived = {node: self.addresses[node] for node in gathering.arrived()}
        own = (self._node, self._store.pin_newest(), samples)
        spec = self._weights.spec
        settings = Link(self._final_link, shards_in(spec.size)).pull_settings()
        merged = final_merge(self._requester, own, arrived, spec, settings, self._inbox, self._clock, pause)
        self._store.unpin()
        for outcome in merged.outcomes:
            self.exchange.counters.bytes_received += outcome.nbytes
            self.exchange.counters.payload_bytes_received += outcome.payload_nbytes
        merged.missing.update(gathering.missing())
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
            self._gather(self.addresses, DONE_STATES, pause)
        else:
            others = {node: self.addresses[node] for node in merged.nodes if node != self._node}
            self._gather(others, frozenset({"merged"}), pause)

    def _gather(self, addresses: Mapping[NodeId, str], goal: frozenset[str], pause: Pause) -> Gathering:
        return gather(self._requester, addresses, goal, self._gossip.linger, self._clock, pause)

    def close(self) -> None:
        """End the puller's thread and drop every connection."""
        self.exchange.close()
        self._requester.close()

    def figures(self) -> JsonObject:
        """The figures of a line of `metrics.jsonl` and of the status."""
        counters = self.exchange.counters
        return {
            "merges": counters.merges,
            "merges_skipped": counters.merges_skipped,
            "adoptions": counters.adoptions,
            "publications": counters.publications,
            "bytes_received": counters.bytes_received,
            "bytes_sent": self._store.counter(Word.BYTES_SENT),
            "wait_seconds": counters.wait_seconds,
            "merge_seconds": counters.merge_seconds,
            "publish_seconds": counters.publish_seconds,
            "pull_seconds": counters.pull_seconds,
            "staleness": counters.staleness_sum / counters.merges if counters.merges else None,
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
                "address": self.addresses[name],
                "state": record.state,
                "pulls": record.pulls,
                "failures": record.failures,
                "last_error": record.last_error[:200],
                **self.exchange.sources[name].figures(),
            }
            for name, record in sorted(
                self.exchange.neighbours.records.items(), key=lambda item: item[1].state != "failing"
            )
        ]


def codec_name(compress: Compress) -> str:
    """The configured codec as on the wire, or `auto`."""
    match compress.codec:
        case "auto":
            return "auto"
        case "top-k":
            return DeltaSettings("top-k", compress.density, compress.values).name
        case "mean-threshold":
            return DeltaSettings("mean-threshold", 0.0, compress.values).name
    return compress.codec + ("+deflate" if compress.deflate else "")


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
        "unchanged": counters.unchanged,
        "busy": counters.busy,
        "staleness": counters.staleness_sum / counters.merges if counters.merges else None,
        "publications": counters.publications,
        "publications_skipped": counters.publications_skipped,
        "exchange_failures": dict(sorted(counters.failures.items())),
        "peers_seen": [],
        "restarts": 0,
    }
