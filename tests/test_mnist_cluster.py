"""Real clusters on the full MNIST: accuracy as claimed; minutes long, and only where the data are."""

from __future__ import annotations

import pytest

from experiments.running import GOSSIP, SINGLE, accuracies, data_file, run_case

pytestmark = [pytest.mark.slow, pytest.mark.data]


@pytest.mark.parametrize("topology", ["ring", "random"])
def test_four_quarters_of_mnist_end_as_good_as_one_machine(topology):
    data = {"source": f"npz:{data_file('mnist.npz')}"}
    summary = run_case(topology, 4, {**GOSSIP, "data": data, "gossip": {"topology": topology}, "train": {"passes": 3}})
    before, consensus = accuracies(summary)
    alone, _ = accuracies(run_case("one machine", 1, {**SINGLE, "data": data, "train": {"passes": 3}}))
    assert min(before) >= 0.94, before
    assert consensus is not None and consensus >= 0.968
    assert consensus >= alone[0] - 0.004


def test_skewed_quarters_need_the_exchange():
    data = {"source": f"npz:{data_file('mnist.npz')}", "partition": "dirichlet", "alpha": 0.3}
    train = {"passes": 3}
    _, consensus = accuracies(run_case("skewed", 4, {**GOSSIP, "data": data, "train": train}))
    isolated, _ = accuracies(run_case("isolated", 4, {**SINGLE, "data": data, "train": train}))
    assert consensus is not None and consensus >= 0.945
    assert max(isolated) < consensus - 0.03
