"""What a node has learnt of the link to one peer, and how it therefore pulls: codec, range size, deadlines."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass

from p2pdl.codec.ends import shard_nbytes
from p2pdl.protocol.deadlines import PULL_BOUNDS, SILENCE_BOUNDS, SLACK, Experience, LearntDeadline
from p2pdl.protocol.pull import PullSettings
from p2pdl.protocol.serving import range_limit
from p2pdl.spec import SHARD_ELEMENTS

LADDER = ("float32", "bfloat16", "int8", "top-k:0.1:int8", "top-k:0.02:int8", "top-k:0.005:int8")
"""Codecs from the plainest to the strongest, as `auto` and links that are too slow go through them."""

FIRST_RUNG = LADDER.index("int8")
"""Where `auto` begins: a quarter of the bytes over a link that may be slow, at hardly any loss."""

EASE = 0.7
"""A plainer codec is tried if it is expected to take at most this share of the wanted interval."""

PROBE_PULLS = 50
"""After so many pulls that fit, a plainer codec is tried anyway: small transfers say little about a link's rate."""

RECENT_RATES = 9

WHOLE_SHARDS = 2.0
"""A pull of so many times the bytes that are usual for its codec consists of whole shards."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What the configuration says about pulls.

    Attributes:
        codec: A codec's name on the wire, or `auto`.
        timeout: Seconds for a pull; None to learn it.
        request_timeout: Seconds without an answer; None to learn it.
        range_shards: Shards of float32 in one request, or as many bytes of another codec, where a link is fast.
        window: Requests in flight.
    """

    codec: str = "float32"
    timeout: float | None = None
    request_timeout: float | None = None
    range_shards: int = 2
    window: int = 2


class LinkExperience:
    """What all links of a node have shown.

    Attributes:
        pulls: How long whole pulls took.
        silences: How long the longest silences in them were.
    """

    def __init__(self) -> None:
        self.pulls = Experience()
        self.silences = Experience()


class Link:
    """Learns one link.

    Args:
        settings: What the configuration says.
        shards: Shards of one pull.
        others: What the node's other links have shown; None for none.
    """

    def __init__(self, settings: LinkSettings, shards: int, others: LinkExperience | None = None) -> None:
        self._settings = settings
        self._shards = shards
        self._pull_deadline = LearntDeadline(PULL_BOUNDS, others.pulls if others else None)
        self._silence_deadline = LearntDeadline(SILENCE_BOUNDS, others.silences if others else None)
        self._rates: deque[float] = deque(maxlen=RECENT_RATES)
        self._rung = FIRST_RUNG if settings.codec == "auto" else -1
        self._narrow = False
        self._fits = 0
        self.reason = "not measured yet" if settings.codec == "auto" else "as configured"

    @property
    def codec(self) -> str:
        """The codec of the next pull."""
        return self._settings.codec if self._rung < 0 else LADDER[self._rung]

    @property
    def mbit_per_second(self) -> float | None:
        """Median rate of recent pulls, in bytes on the wire; None before the first."""
        return statistics.median(self._rates) * 8e-6 if self._rates else None

    def pull_settings(self) -> PullSettings:
        """How to go about the next pull."""
        settings = self._settings
        largest = range_limit(self.codec)
        # A range of a strong codec is small: several shards of it make up for the round trip.
        by_bytes = max(1, self._range_nbytes() // shard_nbytes(self.codec))
        shards = 1 if self._narrow else min(largest, by_bytes)
        window = 1 if self._narrow else settings.window
        nbytes = self._expected_nbytes()
        silence = shards * window * shard_nbytes(self.codec)
        # A server that has lost its copy sends whole shards: the first such reply comes as a surprise, and takes longer
        # than any delta did. The time for further ones is granted by the pull, as they come.
        byte_seconds = SLACK / max(self._rates) if self._rates else 0.0
        surplus = byte_seconds * max(0, shards * shard_nbytes(self.codec) - nbytes * shards // self._shards)
        timeout = min(self._pull_deadline.seconds(nbytes) + surplus, PULL_BOUNDS.ceiling)
        request_timeout = min(self._silence_deadline.seconds(min(silence, nbytes)) + surplus, SILENCE_BOUNDS.ceiling)
        return PullSettings(
            timeout=settings.timeout or timeout,
            request_timeout=settings.request_timeout or request_timeout,
            range_shards=shards,
            window=window,
            nbytes=nbytes,
            byte_seconds=0.0 if settings.timeout else byte_seconds,
        )

    def _range_nbytes(self) -> int:
        """Bytes of one reply: one shard, until the link is known to carry a larger range within a second."""
        wanted = 4 * SHARD_ELEMENTS * self._settings.range_shards
        is_fast = bool(self._rates) and statistics.median(self._rates) >= wanted
        return wanted if is_fast else 4 * SHARD_ELEMENTS

    def on_success(self, seconds: float, silence: float, nbytes: int, interval: float) -> None:
        """A pull is done.

        Args:
            seconds: How long it took.
            silence: The longest time in seconds between two of its replies.
            nbytes: Bytes on the wire.
            interval: Seconds within which a pull is wanted.
        """
        self._pull_deadline.on_success(seconds, nbytes)
        self._silence_deadline.on_success(silence, nbytes)
        self._rates.append(nbytes / max(seconds, 1e-9))
        if self._settings.codec == "auto":
            self._choose(self._usual_seconds(seconds, nbytes), interval)
        else:
            self._recover()

    def on_timeout(self) -> bool:
        """A pull took too long; True if the next one goes about it in a lighter way."""
        self._pull_deadline.on_timeout()
        self._silence_deadline.on_timeout()
        self._fits = 0
        if not self._narrow:
            self._narrow = True
            self.reason = "a pull did not end in time: smaller ranges, one at a time"
            return True
        stronger = self._stronger()
        if stronger == self._rung:
            return False
        self._rung = stronger
        self.reason = f"pulls did not end in time: {self.codec}"
        return True

    def _choose(self, seconds: float, interval: float) -> None:
        fit = seconds / max(interval, 1e-9)
        now = f"a pull in {self.codec} takes {seconds:.3g} s of {interval:.3g} s"
        if fit > 1.0:
            self._fits = 0
            if self._rung < len(LADDER) - 1:
                self._rung += 1
                self.reason = f"{now}: too long"
            else:
                self.reason = f"{now}: nothing is smaller"
            return
        self._narrow = False
        self._fits += 1
        plainer = max(0, self._rung - 1)
        growth = density(LADDER[plainer]) / density(self.codec)
        if plainer < self._rung and (fit * growth <= EASE or self._fits >= PROBE_PULLS):
            self.reason = f"{now}: {LADDER[plainer]} may fit too"
            self._rung = plainer
            self._fits = 0
        else:
            self.reason = f"{now}: fits"

    def _recover(self) -> None:
        """After many pulls in time, go back one step towards what the configuration says."""
        self._fits += 1
        if self._fits < PROBE_PULLS or (self._rung < 0 and not self._narrow):
            return
        self._fits = 0
        plainer = self._rung - 1
        if self._rung < 0:
            self._narrow = False
        else:
            self._rung = plainer if plainer >= 0 and density(LADDER[plainer]) < density(self._settings.codec) else -1
        self.reason = "pulls end in time again: back towards what is configured"

    def _stronger(self) -> int:
        if self._rung >= 0:
            return min(self._rung + 1, len(LADDER) - 1)
        own = density(self._settings.codec)
        return next((rung for rung, name in enumerate(LADDER) if density(name) < own), self._rung)

    def _usual_seconds(self, seconds: float, nbytes: int) -> float:
        """What a pull takes once both ends have a copy: the first one, of whole shards, is no reason to send less."""
        expected = self._expected_nbytes()
        return seconds if nbytes <= WHOLE_SHARDS * expected else seconds * expected / nbytes

    def _expected_nbytes(self) -> int:
        return round(4 * SHARD_ELEMENTS * self._shards * density(self.codec))


def density(codec: str) -> float:
    """About how many bytes a codec sends for each byte of float32, once both ends have a copy."""
    kind, *parameters = codec.removesuffix("+deflate").split(":")
    if kind == "top-k":
        return float(parameters[0]) * (0.5 if "int8" in parameters else 1.25)
    if kind == "mean-threshold":
        return 0.14 if "int8" in parameters else 0.46
    return {"float32": 1.0, "bfloat16": 0.5, "float16": 0.5, "int8": 0.257}[kind]
