"""Mixing matrices against closed forms, and whole networks against published rates."""

from __future__ import annotations

import numpy as np
import pytest

from p2pdl.topology import Topology, create
from p2pdl.topology.mixing import averaging_matrix, is_doubly_stochastic, is_row_stochastic, spectral_gap
from p2pdl.types import MixingMatrix

N = 512
NODES = [f"node{place:03d}" for place in range(N)]
PLACES = {node: place for place, node in enumerate(NODES)}


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 31, 64])
def test_spectral_gap_ring_equals_closed_form(n: int) -> None:
    matrix = create("ring", NODES[:n]).mixing_matrix(n)
    expected = 1 - abs(0.5 + 0.5 * np.exp(2j * np.pi / n))
    assert spectral_gap(matrix) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("peers", [1, 2, 3])
def test_spectral_gap_random_equals_closed_form(peers: int) -> None:
    n = 16
    matrix = create("random", NODES[:n], peers=peers).mixing_matrix(n)
    # The expectation is a I + b J with row sums of 1: every other eigenvalue is a.
    own = 1 / (peers + 1)
    assert spectral_gap(matrix) == pytest.approx(1 - (own - (1 - own) / (n - 1)), abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 4, 8, 32, 256])
def test_exponential_power_of_two_averages_exactly_in_log2_rounds(n: int) -> None:
    topology = create("exponential", NODES[:n])
    product = np.eye(n)
    for round in range(n.bit_length() - 1):
        product = topology.mixing_matrix(n, round) @ product
    np.testing.assert_array_equal(product, np.full((n, n), 1 / n))
    assert spectral_gap(product) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["ring", "random", "exponential"])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 12])
def test_matrix_symmetric_roles_is_doubly_stochastic(name: str, n: int) -> None:
    topology = create(name, NODES[:n], peers=2)
    assert all(is_doubly_stochastic(topology.mixing_matrix(n, round)) for round in range(5))


def test_spectral_gap_disconnected_network_is_zero() -> None:
    assert spectral_gap(averaging_matrix([(1,), (0,), (3,), (2,)])) == pytest.approx(0.0, abs=1e-12)
    assert spectral_gap(np.eye(3)) == 0.0


def test_spectral_gap_one_node_is_one() -> None:
    assert spectral_gap(np.ones((1, 1))) == 1.0


def test_averaging_matrix_weighs_a_node_and_its_sources_alike() -> None:
    expected = np.array([[1 / 3, 1 / 3, 1 / 3], [0, 1, 0], [0.5, 0, 0.5]])
    np.testing.assert_allclose(averaging_matrix([(1, 2), (), (0,)]), expected)


def test_is_doubly_stochastic_star_is_only_row_stochastic() -> None:
    star = averaging_matrix([(), (0,), (0,)])
    assert is_row_stochastic(star)
    assert not is_doubly_stochastic(star)


@pytest.mark.parametrize(
    "matrix",
    [np.ones((2, 3)) / 3, np.array([[1.5, -0.5], [0, 1]]), np.full((2, 2), 0.4), np.ones(1), np.ones((0, 0))],
)
def test_spectral_gap_not_row_stochastic_is_refused(matrix: MixingMatrix) -> None:
    with pytest.raises(ValueError, match="not a row-stochastic matrix"):
        spectral_gap(matrix)


def test_ring_512_scalars_takes_more_than_400_rounds() -> None:
    rounds, _ = rounds_to_agree(create("ring", NODES), seed=0, limit=400, changing=False)
    assert rounds == 400


def test_exponential_512_scalars_takes_9_rounds_and_keeps_the_mean() -> None:
    rounds, drift = rounds_to_agree(create("exponential", NODES), seed=0)
    assert rounds == 9
    assert abs(drift) < 1e-12


@pytest.mark.parametrize(("peers", "expected"), [(1, 13.7), (3, 7.0)])
def test_random_512_scalars_takes_published_rounds_and_lets_the_mean_drift(peers: int, expected: float) -> None:
    topology = create("random", NODES, peers=peers)
    runs = [rounds_to_agree(topology, seed) for seed in range(8)]
    assert np.mean([rounds for rounds, _ in runs]) == pytest.approx(expected, abs=0.3)
    # A round adds p / (p + 1)^2 * variance / n to the squared drift and divides the variance by p + 1.
    closed_form = np.sqrt(1 / (peers + 1) / N)
    drift = np.sqrt(np.mean([drift**2 for _, drift in runs]))
    assert 0.5 * closed_form < drift < 1.7 * closed_form


def rounds_to_agree(topology: Topology, seed: int, limit: int = 30, changing: bool = True) -> tuple[int, float]:
    """Synchronous rounds until 512 scalars of variance 1 have one of 1e-4, and how far their mean moved.

    Args:
        changing: False if the choice is the same in every round, which saves asking for it.
    """
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(N)
    values = (values - values.mean()) / values.std()
    for round in range(limit):
        if values.var() <= 1e-4:
            return round, float(values.mean())
        if changing or round == 0:
            chosen = [topology.choose(node, NODES, round, rng) for node in NODES]
            sources = np.array([[PLACES[peer] for peer in peers] for peers in chosen])
        values = (values + values[sources].sum(axis=1)) / (1 + sources.shape[1])
    return limit, float(values.mean())
