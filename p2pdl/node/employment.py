"""A worker's part in its cluster: its ways to the parameter servers, put together from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from p2pdl.clock import Clock
from p2pdl.config import Configuration
from p2pdl.errors import P2pdlError, PeerError
from p2pdl.node.exchange_cost import codec_name
from p2pdl.node.live_figures import Traffic
from p2pdl.node.participation import figures_of, summary_of
from p2pdl.node.security import connecting, keys_folder
from p2pdl.node.server_settings import values_of
from p2pdl.protocol.link import Link
from p2pdl.protocol.link import LinkSettings as PullLinkSettings
from p2pdl.protocol.range_choice import RangeChoice
from p2pdl.puller.gathering import FinalMerge, Pause
from p2pdl.puller.inbox import aligned_empty
from p2pdl.puller.requests import Requester
from p2pdl.puller.server_link import LinkSettings, ServerLink, spans
from p2pdl.sparsifier import SPARSIFIERS, make_sparsifier
from p2pdl.spec import shards_in
from p2pdl.training.gradient import GradientStep
from p2pdl.training.range_exchange import RangeExchange
from p2pdl.training.server_contact import ServerContact
from p2pdl.training.timeline import Timeline
from p2pdl.training.weights import ModelWeights, spec_of
from p2pdl.training.worker_exchange import Change, Gradient, WorkerExchange
from p2pdl.types import JsonObject, NodeId

REQUEST_SECONDS = 5.0
"""How long a server may be silent, if the file does not say."""

END_POLL_SECONDS = 0.1
"""How often a worker that has finished asks whether all have."""


class Employment:
    """Links and exchange of one worker, and how it meets its servers at the start and at the end.

    Args:
        configuration: The cluster.
        node: The node's name.
        model: The built Keras model.
        gradient: The worker's step, where the optimizer is at the server; None where it is here.
        clock: Source of times.
        timeline: Where the exchange records what it does; None for nowhere.
        stopping: True when the node is to end early.
    """

    def __init__(
        self,
        configuration: Configuration,
        node: NodeId,
        model: Any,
        gradient: GradientStep | None,
        clock: Clock,
        timeline: Timeline | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock = clock
        self._stopping = stopping
        self._linger = configuration.gossip.linger
        self._traffic = Traffic()
        addresses = {entry.name: str(entry.address) for entry in configuration.servers}
        connect = connecting(keys_folder(configuration), node, lambda: addresses)
        self._requester = Requester(connect(), configuration.cluster.name, node, clock)
        gossip, compress = configuration.gossip, configuration.compress
        spec = spec_of(model)
        pull = PullLinkSettings(
            codec_name(compress), gossip.timeout, gossip.request_timeout, gossip.range_size, gossip.window
        )
        ranges = spans(spec.size, len(addresses))
        self._links: list[ServerLink] = []
        self._codec = codec_name(compress)
        for (name, address), span in zip(addresses.items(), ranges, strict=True):
            way = Link(pull, shards_in(span.stop - span.start))
            settings = LinkSettings(
                way.pull_settings(), way.codec, values_of(configuration), gossip.request_timeout or 5.0
            )
            self._links.append(ServerLink(name, address, self._requester, spec, span, settings))
        alone = len(self._links) == 1
        # Whatever has been pulled lies in it: one server's inbox, or what several have been put together in.
        self._pulled = pulled = self._links[0].vector if alone else aligned_empty(spec.size)
        weights = ModelWeights(model, pulled)
        contact = ServerContact(self._links, weights, pulled, clock, stopping)
        self.exchange: WorkerExchange | RangeExchange
        if configuration.server.range != "all" and gradient is not None:
            size = configuration.server.range
            choice = RangeChoice(sum(link.shards for link in self._links), None if size == "auto" else int(size))
            self.exchange = RangeExchange(contact, gradient.vector, choice, clock, timeline)
            return
        kind = SPARSIFIERS[compress.sparsifier][1]
        known = {"fraction": compress.kept, "threshold": compress.threshold}
        chosen = {key: value for key, value in known.items() if key in kind.__dataclass_fields__}
        seed = int(np.random.SeedSequence([configuration.train.seed, configuration.place(node)]).generate_state(1)[0])
        self.exchange = WorkerExchange(
            contact,
            Change(weights, pulled) if gradient is None else Gradient(gradient.vector),
            make_sparsifier(compress.sparsifier, spec, seed, **chosen),
            clock,
            timeline,
        )

    def warm_up(self) -> None:
        """Nothing needs it."""

    def start_together(self, pause: Pause) -> None:
        """Join the servers, and take their weights; the first worker gives them its own."""
        pause(0.0)
        self.exchange.start()

    def merge_finally(self, samples: int, pause: Pause) -> FinalMerge | None:
        """Wait until all workers have finished, and take the weights that the servers have then.

        Returns:
            What came of it; None if the worker was told to stop before it had them.

        Raises:
            P2pdlError: A server is not there any more.
        """
        give_up_at = self._clock.now() + self._linger
        waiting = list(self._links)
        while waiting and self._clock.now() < give_up_at and not pause(END_POLL_SECONDS):
            waiting = [link for link in waiting if not _is_done(link)]
        began = self._clock.now()
        missing = self.exchange.take_final()
        if missing and self._stopping():
            return None
        if missing:
            why = "; ".join(missing.values())
            raise P2pdlError(f"the final weights cannot be had: {why}", "see the log of the server")
        return FinalMerge(self._pulled, [link.name for link in self._links], {}, [], self._clock.now() - began)

    def wait_until_served(self, merged: FinalMerge | None, pause: Pause) -> None:
        """Nobody pulls from a worker."""

    def close(self) -> None:
        """Say goodbye where the run was not finished, and drop every connection."""
        self.exchange.close()
        if self._stopping():
            for link in self._links:
                if link.reply is not None:
                    _leave(link)
        self._requester.close()

    def figures(self) -> JsonObject:
        """The figures of a line of `metrics.jsonl` and of the status: `docs/metrics.md` says what each is."""
        return {
            **figures_of(self.exchange.counters, self._bytes_sent(), self._traffic, self._clock.now()),
            "staleness": None,
            "merged_from": self._links[0].name,
            "merged_age": None,
            "merged_staleness": None,
            "merged_codec": self._codec,
            "clock": max((link.reply.clock for link in self._links if link.reply), default=0),
        }

    def links(self) -> JsonObject:
        """For each server how this worker stands with it: for a line of `metrics.jsonl`."""
        return {
            link.name: {"clock": link.reply.clock, "version": link.reply.version, "base": link.base}
            for link in self._links
            if link.reply is not None
        }

    def summary(self) -> JsonObject:
        """The exchange's part of `summary.json`."""
        figures = summary_of(self.exchange.counters)
        figures["bytes_sent"] = self._bytes_sent()
        return figures

    def peer_rows(self) -> list[JsonObject]:
        """One row for each server, for the status."""
        return [
            {
                "name": link.name,
                "address": link.address,
                "state": "live" if link.reply is not None else "unknown",
                "clock": link.reply.clock if link.reply is not None else 0,
            }
            for link in self._links
        ]

    def _bytes_sent(self) -> int:
        return sum(link.pushed_bytes for link in self._links)


def _is_done(link: ServerLink) -> bool:
    try:
        return link.is_done()
    except PeerError:
        return False


def _leave(link: ServerLink) -> None:
    try:
        link.leave(finished=False)
    except PeerError:
        # Its lease runs out.
        return
