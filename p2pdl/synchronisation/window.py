"""The sliding window of valid iterations: which of them may be done while the slowest worker is where it is.

Tsai, "Large scale deep learning parameter server" (2017): an integer range [low, low + length); a push from outside is
refused; O(1) for a push and for the lower bound, O(length) space however many workers there are.
"""

from __future__ import annotations

from p2pdl.errors import PeerRefused

PLACES = 64
"""Counters of a window without a length."""


class SlidingWindow:
    """Counts workers by their clock, the iteration that each does next, and rises as the slowest does.

    A ring of counters holds the clocks low to low + length; those at low + length have to wait.

    A window without a length has `PLACES` counters for any spread: when the fastest worker would leave the ring, each
    two neighbours become one, for twice as many clocks. A counter for each clock in use would grow with the spread,
    which nothing bounds there. So `low` may be less than the slowest worker's clock, never more: by less than 1/31 of
    the greatest spread so far, and by nothing as long as that is below `PLACES`.

    Args:
        length: Valid iterations, at least 1; None for no upper end.
        low: The first valid iteration, at least 0; not 0 where a run goes on from a checkpoint.

    Raises:
        ValueError: The length is less than 1, or `low` is negative.
    """

    def __init__(self, length: int | None, low: int = 0) -> None:
        if length is not None and length < 1:
            raise ValueError(f"a window needs a length of at least 1, not {length}")
        if low < 0:
            raise ValueError(f"the first iteration must be at least 0, not {low}")
        self._length = length
        self._counts = [0] * (PLACES if length is None else length + 1)
        self._width = 1
        self._first = 0
        self._low = low
        self._workers = 0

    @property
    def low(self) -> int:
        """First valid iteration; it never falls."""
        return self._low

    @property
    def high(self) -> int | None:
        """One past the last valid iteration; None for a window without a length."""
        return None if self._length is None else self._low + self._length

    @property
    def workers(self) -> int:
        """How many are in the window or wait at its end."""
        return self._workers

    @property
    def waiting(self) -> int:
        """How many wait at its end."""
        return 0 if self._length is None else self._counts[self._place(self._low + self._length)]

    def admits(self, clock: int) -> bool:
        """Whether a worker may begin this iteration."""
        return self._low <= clock and (self._length is None or clock < self._low + self._length)

    def join(self) -> int:
        """Add a worker; its clock is `low`."""
        self._counts[self._first] += 1
        self._workers += 1
        return self._low

    def push(self, clock: int) -> None:
        """Note that a worker has done an iteration: its clock is now one more.

        Raises:
            PeerRefused: The iteration is not valid (`outside-window`).
            ValueError: No worker is there.
        """
        if not self.admits(clock):
            until = "" if self._length is None else f" to {self._low + self._length - 1}"
            raise PeerRefused(
                f"iteration {clock} is outside the window of valid iterations, {self._low}{until}",
                "pull again, and push for the iteration that the server names once it admits this worker",
                code="outside-window",
            )
        self._remove(clock)
        if self._length is None and clock + 1 - self._low >= PLACES * self._width:
            self._coarsen()
        self._counts[self._place(clock + 1)] += 1
        self._workers += 1
        self._rise()

    def leave(self, clock: int) -> None:
        """Take a worker out, so that it holds nobody up.

        Raises:
            ValueError: No worker is there.
        """
        self._remove(clock)
        if self._workers:
            self._rise()
        else:
            self._width = 1

    def _place(self, clock: int) -> int:
        return (self._first + (clock - self._low) // self._width) % len(self._counts)

    def _remove(self, clock: int) -> None:
        steps = (clock - self._low) // self._width
        if not (0 <= steps < len(self._counts) and self._counts[self._place(clock)]):
            raise ValueError(f"no worker is at iteration {clock}")
        self._counts[self._place(clock)] -= 1
        self._workers -= 1

    def _rise(self) -> None:
        while not self._counts[self._first]:
            self._first = (self._first + 1) % len(self._counts)
            self._low += self._width

    def _coarsen(self) -> None:
        in_order = self._counts[self._first :] + self._counts[: self._first]
        self._counts = [a + b for a, b in zip(in_order[::2], in_order[1::2], strict=True)] + [0] * (PLACES // 2)
        self._first = 0
        self._width *= 2
