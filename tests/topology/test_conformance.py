"""What every topology must do, whatever its rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.topology import TOPOLOGIES, Graph, Topology, create
from p2pdl.topology.mixing import averaging_matrix, is_row_stochastic

EVERY_TOPOLOGY = pytest.mark.parametrize("name", TOPOLOGIES)
CASES = settings(max_examples=60, deadline=None)


def names(n: int) -> list[str]:
    return [f"node{place:02d}" for place in range(n)]


def graphs(nodes: list[str]) -> st.SearchStrategy[Graph]:
    return st.fixed_dictionaries(
        {
            node: st.lists(st.sampled_from(others), unique=True) if others else st.just([])
            for node in nodes
            for others in [[other for other in nodes if other != node]]
        }
    )


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[str], list[str], Graph, int, int, int]:
    """Listed nodes, live nodes (later joiners among them), a graph, peers per round, round and seed."""
    nodes = draw(st.permutations(names(draw(st.integers(1, 12)))))
    known = [*nodes, "joined-a", "joined-b"]
    alive = draw(st.lists(st.sampled_from(known), unique=True))
    graph = draw(graphs(nodes))
    return nodes, alive, graph, draw(st.integers(1, 4)), draw(st.integers(0, 1000)), draw(st.integers(0, 9))


@EVERY_TOPOLOGY
@CASES
@given(cluster=clusters())
def test_choice_any_cluster_is_of_distinct_live_others(
    name: str, cluster: tuple[list[str], list[str], Graph, int, int, int]
) -> None:
    nodes, alive, graph, peers, round, seed = cluster
    topology = create(name, nodes, peers=peers, graph=graph)
    for node in {*nodes, *alive}:
        chosen = topology.choose(node, alive, round, np.random.default_rng(seed))
        assert isinstance(chosen, tuple)
        assert node not in chosen
        assert set(chosen) <= set(alive)
        assert len(set(chosen)) == len(chosen)
        if name == "static" and node in graph:
            assert set(chosen) == set(graph[node]) & set(alive)
        elif set(alive) - {node}:
            assert chosen


@EVERY_TOPOLOGY
@CASES
@given(cluster=clusters(), shuffled=st.randoms(use_true_random=False))
def test_choice_same_generator_does_not_depend_on_order_of_alive(
    name: str, cluster: tuple[list[str], list[str], Graph, int, int, int], shuffled: object
) -> None:
    nodes, alive, graph, peers, round, seed = cluster
    topology = create(name, nodes, peers=peers, graph=graph)
    reordered = list(alive)
    shuffled.shuffle(reordered)  # type: ignore[attr-defined]
    for collection in (reordered, set(alive), frozenset(alive) | {nodes[0]}, tuple(alive)):
        first = topology.choose(nodes[0], alive, round, np.random.default_rng(seed))
        assert topology.choose(nodes[0], collection, round, np.random.default_rng(seed)) == first


@EVERY_TOPOLOGY
@CASES
@given(n=st.integers(1, 12), peers=st.integers(1, 4), round=st.integers(0, 20), data=st.data())
def test_mixing_matrix_all_alive_agrees_with_choice(
    name: str, n: int, peers: int, round: int, data: st.DataObject
) -> None:
    nodes = names(n)
    topology = create(name, nodes, peers=peers, graph=data.draw(graphs(nodes)))
    matrix = topology.mixing_matrix(n, round)
    assert matrix.shape == (n, n)
    assert matrix.dtype == np.float64
    assert is_row_stochastic(matrix)
    pulls = chosen_places(topology, nodes, round, seed=0)
    for place, sources in enumerate(pulls):
        possible = set(np.flatnonzero(matrix[place])) - {place}
        if name == "random":
            assert possible == set(range(n)) - {place}
            assert len(sources) == min(peers, n - 1)
        else:
            assert set(sources) == possible
    if name != "random":
        np.testing.assert_allclose(matrix, averaging_matrix(pulls))


@EVERY_TOPOLOGY
def test_mixing_matrix_long_run_equals_frequencies_of_choices(name: str) -> None:
    nodes, rounds = names(5), 3000
    graph = {node: nodes[:place] for place, node in enumerate(nodes)}
    topology = create(name, nodes, peers=2, graph=graph)
    rng = np.random.default_rng(3)
    measured, expected = np.zeros((5, 5)), np.zeros((5, 5))
    for round in range(rounds):
        pulls = [[nodes.index(peer) for peer in topology.choose(node, nodes, round, rng)] for node in nodes]
        measured += averaging_matrix(pulls) / rounds
        expected += topology.mixing_matrix(5, round) / rounds
    # The weight of one peer is 0 or 1/3 a round, so its mean has a standard error of 0.003.
    np.testing.assert_allclose(measured, expected, atol=0.015)


@EVERY_TOPOLOGY
def test_construction_repeated_node_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="names a more than once"):
        create(name, ["a", "b", "a"], graph={"a": [], "b": []})


def test_create_unknown_name_lists_the_known() -> None:
    with pytest.raises(ValueError, match="'star'.*ring, random, exponential, static"):
        create("star", ["a", "b"])


def chosen_places(topology: Topology, nodes: list[str], round: int, seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[nodes.index(peer) for peer in topology.choose(node, nodes, round, rng)] for node in nodes]
