"""What each topology does by its own rule."""

from __future__ import annotations

import numpy as np
import pytest

from p2pdl.topology import Topology, create

NODES = ["d", "a", "c", "b"]


def choice(topology: Topology, node: str, alive: str, round: int = 0) -> str:
    return "".join(topology.choose(node, list(alive), round, np.random.default_rng(0)))


def test_ring_all_alive_pulls_from_predecessor_in_file_order() -> None:
    ring = create("ring", NODES)
    assert [choice(ring, node, "abcd") for node in NODES] == ["b", "d", "a", "c"]


def test_ring_dead_predecessors_are_passed_over() -> None:
    ring = create("ring", NODES)
    assert choice(ring, "c", "bcd") == "d"
    assert choice(ring, "c", "bc") == "b"
    assert choice(ring, "c", "c") == ""
    assert choice(ring, "c", "") == ""


def test_ring_later_joiners_stand_behind_the_list_in_sorted_order() -> None:
    ring = create("ring", NODES)
    assert choice(ring, "e", "abcde") == "b"
    assert choice(ring, "f", "abcdef") == "e"
    assert choice(ring, "d", "abcdef") == "f"
    assert [choice(ring, node, "abcdjhgifke") for node in "defghijk"] == list("kbefghij")


def test_random_two_peers_come_equally_often_in_every_order() -> None:
    topology = create("random", NODES, peers=2)
    rng = np.random.default_rng(1)
    draws = 6000
    counts: dict[tuple[str, ...], int] = {}
    for round in range(draws):
        pair = topology.choose("a", NODES, round, rng)
        counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == 6
    # Binomial with p = 1/6: standard deviation 29.
    assert all(abs(count - draws / 6) < 120 for count in counts.values())


def test_random_more_peers_than_alive_takes_all_alive() -> None:
    topology = create("random", NODES, peers=3)
    assert set(choice(topology, "a", "abc")) == {"b", "c"}
    np.testing.assert_allclose(topology.mixing_matrix(3), np.full((3, 3), 1 / 3))


def test_random_no_peer_a_round_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 peer a round, not 0"):
        create("random", NODES, peers=0)


def test_exponential_eight_nodes_goes_back_1_2_4() -> None:
    topology = create("exponential", list("abcdefgh"))
    assert [choice(topology, "f", "abcdefgh", round) for round in range(6)] == list("edbedb")


def test_exponential_five_nodes_has_a_period_of_three_rounds() -> None:
    topology = create("exponential", list("abcde"))
    assert [choice(topology, "e", "abcde", round) for round in range(4)] == list("dcad")


def test_exponential_dead_target_is_replaced_by_next_live_one_further_back() -> None:
    topology = create("exponential", list("abcdefgh"))
    assert choice(topology, "f", "abcefgh", round=1) == "c"
    assert choice(topology, "f", "efgh", round=2) == "h"
    assert choice(topology, "f", "f", round=2) == ""


def test_exponential_dead_nodes_keep_the_distances_of_the_others() -> None:
    topology = create("exponential", list("abcdefgh"))
    assert choice(topology, "f", "abf", round=2) == "b"
    assert choice(topology, "f", "abf", round=3) == "b"


def test_static_sources_are_all_listed_in_order_of_the_graph() -> None:
    topology = create("static", NODES, graph={"a": ["d", "b", "c"], "b": ["a"], "c": [], "d": ["a"]})
    assert choice(topology, "a", "abcd") == "dbc"
    assert choice(topology, "a", "abc", round=5) == "bc"
    assert choice(topology, "c", "abcd") == ""
    assert choice(topology, "b", "bcd") == ""


def test_static_later_joiner_pulls_from_nearest_live_node_before_it() -> None:
    topology = create("static", NODES, graph={"a": ["d"], "b": ["a"], "c": [], "d": ["a"]})
    assert choice(topology, "e", "abcde") == "b"
    assert choice(topology, "f", "abcdf") == "b"
    assert choice(topology, "d", "abcde") == "a"
    joined = np.array([[0, 0, 0, 0.5, 0.5, 0], [0, 0, 0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(topology.mixing_matrix(6)[4:], joined)


def test_static_matrix_of_fewer_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="4 nodes, so there is no matrix for 3"):
        create("static", NODES, graph={node: [] for node in NODES}).mixing_matrix(3)


@pytest.mark.parametrize(
    ("graph", "mistake"),
    [
        ({"a": ["b"]}, "b has no entry"),
        ({"a": ["b"], "b": ["x"]}, "b pulls from x, which is not in the list"),
        ({"a": ["b"], "b": [], "x": []}, "x is not in the list"),
        ({"a": ["a"], "b": []}, "a pulls from itself"),
        ({"a": ["b", "b"], "b": []}, "a pulls from b more than once"),
    ],
)
def test_static_wrong_graph_is_refused(graph: dict[str, list[str]], mistake: str) -> None:
    with pytest.raises(ValueError, match=mistake):
        create("static", ["a", "b"], graph=graph)


def test_static_without_graph_names_every_node_left_out() -> None:
    with pytest.raises(ValueError, match="a has no entry.*b has no entry"):
        create("static", ["a", "b"])
