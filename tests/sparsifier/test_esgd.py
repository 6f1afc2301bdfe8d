"""eSGD against Algorithms 1 and 2 written out slowly, coordinate by coordinate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.sparsifier import make_sparsifier
from p2pdl.sparsifier.esgd import Esgd, EsgdSettings
from p2pdl.sparsifier.spans import trained_spans
from p2pdl.sparsifier.weighted_draw import WeightedDraw
from p2pdl.types import Float32Vector
from tests.sparsifier.vectors import LARGE, SMALL, normal, trained

COORDINATES = np.flatnonzero(trained(SMALL))


class Literal:
    """The algorithm in float64 and plain loops; only the draws are those of the generator of the real one."""

    def __init__(self, fraction: float, seed: int, signed: bool) -> None:
        self.generator = np.random.SFC64(seed)
        self.draw = WeightedDraw(trained_spans(SMALL), fraction, self.generator)
        self.signed = signed
        self.hidden = dict.fromkeys(COORDINATES.tolist(), 0)
        self.residual = dict.fromkeys(COORDINATES.tolist(), 0.0)
        self.used: set[int] = set()
        self.loss = math.nan

    def drawn(self) -> set[int]:
        hidden = np.zeros(SMALL.size, np.float32)
        for i, weight in self.hidden.items():
            hidden[i] = weight
        factor, selected = self.draw.factor(hidden), np.zeros(SMALL.size, np.bool_)
        for span in trained_spans(SMALL):
            self.draw.draw(hidden[span], factor, selected[span])
        return set(np.flatnonzero(selected).tolist())

    def select(self, gradient: Float32Vector, loss: float) -> dict[int, float]:
        g = {i: float(gradient[i]) for i in self.hidden}
        size = (lambda value: value) if self.signed else abs
        threshold = sum(size(g[i]) for i in g) / len(g)
        if self.loss > loss:
            update = set(self.used)
            for i in update:
                self.hidden[i] += 1
        else:
            update = self.drawn()
        self.loss = loss
        for i in set(g) - update:
            self.residual[i] = 0.9 * self.residual[i] + 0.1 * g[i]
        replacing = [i for i in sorted(set(g) - update) if size(self.residual[i]) > threshold]
        replacing.sort(key=lambda i: -size(self.residual[i]))
        replacing = replacing[: len(update)]
        for i in self.least(update, len(replacing)):
            update.remove(i)
            self.residual[i] = 0.9 * self.residual[i] + 0.1 * g[i]
        sent = {i: g[i] for i in update}
        for i in replacing:
            sent[i] = self.residual[i]
            self.residual[i] = 0.0
        self.used = set(sent)
        return sent

    def least(self, update: set[int], count: int) -> list[int]:
        if not count:
            return []
        level = sorted(self.hidden[i] for i in update)[count - 1]
        below = [i for i in sorted(update) if self.hidden[i] < level]
        ties = [i for i in sorted(update) if self.hidden[i] == level]
        start, wanted = int(self.generator.random_raw()) % len(ties), count - len(below)
        return below + [ties[(k * len(ties) // wanted + start) % len(ties)] for k in range(wanted)]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    losses=st.lists(st.sampled_from([0.5, 0.9, 1.0, 1.1, math.nan]), min_size=1, max_size=25),
    fraction=st.sampled_from([0.02, 0.125, 0.5, 1.0]),
    steady=st.floats(0.0, 3.0),
    signed=st.booleans(),
)
def test_select_equals_the_algorithm_written_out(
    seed: int, losses: list[float], fraction: float, steady: float, signed: bool
) -> None:
    real = Esgd(SMALL, EsgdSettings(fraction, signed=signed), seed)
    literal = Literal(fraction, seed, signed)
    for step, loss in enumerate(losses):
        # A steady part lets residuals grow beyond the threshold.
        gradient = normal(SMALL, seed + step) + np.float32(steady) * normal(SMALL, 1) ** 3
        expected, selection = literal.select(gradient, loss), real.select(gradient, loss)
        assert selection.indices is not None
        assert selection.indices.tolist() == sorted(expected)
        np.testing.assert_allclose(selection.values, [expected[i] for i in sorted(expected)], rtol=1e-5, atol=1e-6)
        assert real.residual is not None
        np.testing.assert_allclose(real.residual[COORDINATES], list(literal.residual.values()), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(real.state()["hidden"][COORDINATES], list(literal.hidden.values()))


def test_falling_loss_sends_the_same_coordinates_with_new_values() -> None:
    sparsifier = make_sparsifier("esgd", LARGE, 0, fraction=0.1)
    first = sparsifier.select(normal(LARGE, 0), 1.0).indices
    assert first is not None
    first = first.copy()
    # No residual is above the threshold yet: each is a tenth of its gradient.
    second = sparsifier.select(np.ones(LARGE.size, np.float32), 0.5)
    np.testing.assert_array_equal(second.indices, first)
    assert (second.values == 1.0).all()
    np.testing.assert_array_equal(np.flatnonzero(sparsifier.state()["hidden"]), first)


@pytest.mark.parametrize("loss", [1.0, 1.5, math.nan])
def test_loss_that_has_not_fallen_draws_others(loss: float) -> None:
    sparsifier = make_sparsifier("esgd", LARGE, 0, fraction=0.1)
    first = sparsifier.select(normal(LARGE, 0), 1.0).indices
    assert first is not None
    first = first.copy()
    second = sparsifier.select(normal(LARGE, 1), loss).indices
    shared = np.intersect1d(first, second).size
    # Independent draws of 10 % share 1 %.
    assert shared / trained(LARGE).sum() == pytest.approx(0.01, abs=0.003)


def test_hidden_weights_make_coordinates_more_likely() -> None:
    sparsifier = make_sparsifier("esgd", LARGE, 0, fraction=0.1)
    used = sparsifier.select(normal(LARGE, 0), 1.0).indices
    assert used is not None
    used = used.copy()
    for loss in (0.9, 0.8, 0.7):
        sparsifier.select(np.ones(LARGE.size, np.float32), loss)
    drawn = sparsifier.select(normal(LARGE, 1), 2.0).indices
    # Weights are 4 for a tenth of the coordinates and 1 for the others: 4 / 13 of the draws.
    assert drawn is not None
    assert np.intersect1d(used, drawn).size / drawn.size == pytest.approx(4 / 13, abs=0.02)


def test_number_sent_stays_what_was_drawn_however_many_residuals_wait() -> None:
    sparsifier = make_sparsifier("esgd", LARGE, 0, fraction=0.02)
    steady = np.where(np.arange(LARGE.size) % 4 == 0, np.float32(5), np.float32(0.01)).astype(np.float32)
    counts = [sparsifier.select(steady, 1.0).values.size for _ in range(20)]
    assert np.array(counts) / trained(LARGE).sum() == pytest.approx(0.02, rel=0.08)
    # A quarter of the coordinates is above the mean for good: all that is sent comes out of their residuals.
    last = sparsifier.select(steady, 1.0).indices
    assert last is not None
    assert (last % 4 == 0).mean() > 0.95
