"""Real clusters on the full MNIST: accuracy as claimed; minutes long, and only where the data are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.harness.cluster import Cluster, train
from tests.experiments.desk import Desk

pytestmark = [pytest.mark.slow, pytest.mark.data]


def trained(folder: Path, nodes: int, **sections: Any) -> tuple[float, list[float]]:
    """The accuracy of the consensus, or of the median node, and those of the nodes before the final merge."""
    folder.mkdir()
    found = train(Desk(folder), Cluster({"train": {"passes": 3}, **sections}, "mnist", nodes))
    summaries = [node["summary"] for node in found["nodes"].values()]
    return found["accuracy"], [(one.get("before_final_merge") or one)["test_accuracy"] for one in summaries]


@pytest.mark.parametrize("topology", ["ring", "random"])
def test_four_quarters_of_mnist_end_as_good_as_one_machine(topology: str, tmp_path: Path) -> None:
    consensus, own = trained(tmp_path / "four", 4, gossip={"topology": topology})
    alone, _ = trained(tmp_path / "one", 1, strategy="single")
    assert min(own) >= 0.94, own
    assert consensus >= max(0.968, alone - 0.004)


def test_skewed_quarters_need_the_exchange(tmp_path: Path) -> None:
    skewed = {"partition": "dirichlet", "alpha": 0.3}
    consensus, _ = trained(tmp_path / "together", 4, data=skewed)
    _, isolated = trained(tmp_path / "apart", 4, data=skewed, strategy="single")
    assert consensus >= 0.945
    assert max(isolated) < consensus - 0.03
