"""How many commits a period: searched while training goes on, by the speed at which the loss falls.

Hu, Wang, Wu, "Distributed machine learning through heterogeneous edge systems" (2020): the present number and one more
are each run for a window, and the number is raised as long as that makes the loss fall faster.
"""

from __future__ import annotations

import math

from p2pdl.synchronisation.loss_curve import FEWEST, Losses, speeds


class CommitSearch:
    """Tries one commit more, then another, until it does not help; begins again after each period.

    Where already the first one more does not help, it tries one less, and then another: the paper only ever raises the
    number, so that one that chance or an earlier stage of training has raised would stay. One value is better than
    another if its speed is greater by more than the standard error of the difference. A window without enough losses
    for a curve goes on until it has them.

    Args:
        window: Seconds for which a value is run.
        period: Seconds from the beginning of one search to that of the next.
        first: The number to begin with, at least 1.
        greatest: The largest number to try.

    Raises:
        ValueError: A length is not above 0, or the numbers are not 1 <= first <= greatest.
    """

    def __init__(self, window: float, period: float, first: int = 1, greatest: int = 1000) -> None:
        if not (0.0 < window < math.inf and 0.0 < period < math.inf):
            raise ValueError(f"window and period must be above 0 s, not {window} and {period}")
        if not 1 <= first <= greatest:
            raise ValueError(f"the numbers must be 1 <= first <= greatest, not {first} and {greatest}")
        self._window = window
        self._period = period
        self._greatest = greatest
        self._begun = self._best = first
        self._best_losses: Losses | None = None
        self._trial = first
        self._trial_losses: Losses | None = None
        self._trial_end = -math.inf
        self._step = 1
        self._next_search = -math.inf

    @property
    def searching(self) -> bool:
        """Whether a value is being tried."""
        return self._trial_losses is not None

    def observe(self, loss: float, now: float) -> None:
        """Take in the loss of a worker at a time; one that is not finite says nothing."""
        self.target(now)
        if self._trial_losses is not None and math.isfinite(loss):
            self._trial_losses.observe(loss, now)

    def target(self, now: float) -> int:
        """Commits a period that every worker is to make from now on, at least 1."""
        if self._trial_losses is None:
            if now >= self._next_search:
                self._next_search = now + self._period
                self._begun, self._best_losses, self._step = self._best, None, 1
                self._try(self._best, now)
        elif now >= self._trial_end and len(self._trial_losses) >= FEWEST:
            self._judge(self._trial_losses, now)
        return self._trial

    def _judge(self, losses: Losses, now: float) -> None:
        """End a window: keep its value if it is the better one, and choose the next."""
        goes_on = self._best_losses is None or _faster(losses, self._best_losses)
        if goes_on:
            self._best, self._best_losses = self._trial, losses
        raised = self._best > self._begun
        if self._step == 1 and not raised and not (goes_on and self._best < self._greatest):
            self._step, goes_on = -1, True
        if goes_on and 1 <= self._best + self._step <= self._greatest:
            self._try(self._best + self._step, now)
        else:
            self._trial, self._trial_losses = self._best, None

    def _try(self, number: int, now: float) -> None:
        self._trial = number
        self._trial_losses = Losses(now, self._window)
        self._trial_end = now + self._window


def _faster(losses: Losses, than: Losses) -> bool:
    old, new = speeds([than, losses])
    return new.value - old.value > math.hypot(old.error, new.error)
