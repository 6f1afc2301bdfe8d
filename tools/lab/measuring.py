"""The rates and latencies that a laboratory really gives, by a transfer to and from each host."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from p2pdl.errors import ProcessDied
from tools.lab.contract import Lab

ROOT = Path(__file__).parents[2]
SECONDS, WARM_UP_SECONDS = 1.0, 0.2
"""What a transfer takes at least at the rate asked for, and what passes before it."""

BYTES, WARM_UP_BYTES = 1_500_000, 400_000
"""What a transfer and its warm-up have at least: TCP delivers much at once after a loss, a queue at its beginning."""

LONGEST_SECONDS = 4.0
"""What either takes at most, even if it has fewer bytes then."""

UNLIMITED_MBIT = 1000.0
"""The rate by which a transfer without a limit is sized."""

TOLERANCE = 0.1
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one host's link gives.

    Attributes:
        out_mbit: Payload from the host, millions of bits a second.
        in_mbit: Payload to it.
        round_trip_ms: Of one byte there and back, without other traffic.
    """

    out_mbit: float
    in_mbit: float
    round_trip_ms: float

    def is_near(self, mbit: float) -> bool:
        """Whether both directions are within a tenth of what was asked for."""
        return all(abs(given - mbit) <= TOLERANCE * mbit for given in (self.out_mbit, self.in_mbit))


def measure(lab: Lab, host: int, mbit: float | None, other: int, other_mbit: float | None) -> Measured:
    """Measure one host's link, with nothing else going on.

    Args:
        lab: The hosts; they listen to nothing yet.
        host: Whose link.
        mbit: The rate that it was given; None for no limit.
        other: The host at the other end, whose limit is lifted meanwhile.
        other_mbit: The limit that this one gets back.

    Raises:
        ProcessDied: A transfer has failed.
    """
    size = (mbit or UNLIMITED_MBIT) * 1e6 / 8
    warm_up = round(max(WARM_UP_SECONDS * size, min(WARM_UP_BYTES, LONGEST_SECONDS * size)))
    count = round(max(SECONDS * size, min(BYTES, LONGEST_SECONDS * size)))
    lab.shape(other, None)
    try:
        out, there, ping = (_transfer(lab, host, other, kind, warm_up, count) for kind in ("from", "to", "ping"))
    finally:
        lab.shape(other, other_mbit)
    return Measured(8e-6 * count / out, 8e-6 * count / there, 1e3 * ping)


def _transfer(lab: Lab, host: int, other: int, kind: str, warm_up: int, count: int) -> float:
    """Seconds of one transfer."""
    program = [sys.executable, "-m", "tools.lab.transfer"]
    with lab.run(
        host, [*program, "serve", lab.bind(host)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as server:
        assert server.stdout is not None and server.stderr is not None
        try:
            if server.stdout.readline() != "listening\n":
                raise ProcessDied(f"host {host} cannot listen at {lab.bind(host)}:\n{server.stderr.read()[-1000:]}")
            command = [*program, kind, lab.address(host), str(warm_up), str(count)]
            with lab.run(other, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as asker:
                try:
                    said, wrong = asker.communicate(timeout=PATIENCE_SECONDS)
                except subprocess.TimeoutExpired:
                    asker.kill()
                    raise ProcessDied(f"a transfer with host {host} takes more than {PATIENCE_SECONDS:g} s") from None
                if asker.returncode:
                    raise ProcessDied(f"a transfer with host {host} has failed:\n{wrong[-1000:]}")
                return float(said)
        finally:
            server.kill()
