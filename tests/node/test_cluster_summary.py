"""What a run of several nodes leaves together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pdl.errors import EXIT_FAILED, P2pdlError
from p2pdl.node.cluster_summary import NodeSummaries, consensus_node, write_cluster_summary
from p2pdl.node.run_folder import create_run_folder, keep_earlier
from tests.pretended_clusters import configuration, leave_results, summary


@pytest.mark.parametrize(
    ("merges", "chosen"),
    [
        ({"b": ["a", "b"], "a": ["a", "b"]}, "a"),
        ({"a": ["a"], "b": ["a", "b", "c"], "c": ["b", "c"]}, "b"),
        ({"a": [], "b": ["b"]}, "b"),
        ({"a": [], "b": []}, None),
        ({}, None),
    ],
)
def test_consensus_is_of_the_node_that_merged_most(merges: dict[str, list[str]], chosen: str | None) -> None:
    assert consensus_node([summary(name, merged) for name, merged in merges.items()]) == chosen


def test_cluster_summary_has_the_consensus_and_every_node(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=3)
    folder = create_run_folder(cluster)
    read = NodeSummaries(cluster, cluster.names)
    leave_results(folder, "node1", ["node1", "node2"])
    leave_results(folder, "node2", ["node1", "node2", "node3"], test_accuracy=0.95, test_loss=0.125)
    leave_results(folder, "node3", ["node2", "node3"])
    result, model = write_cluster_summary(cluster, 12.5, read.read({}))
    assert result["cluster"] == "lab"
    assert result["strategy"] == "gossip"
    assert result["seconds"] == 12.5
    assert result["consensus"] == {
        "test_loss": 0.125,
        "test_accuracy": 0.95,
        "nodes": ["node1", "node2", "node3"],
    }
    assert [node["node"] for node in result["nodes"]] == ["node1", "node2", "node3"]
    assert model == folder / "model.keras"
    assert model.read_text() == "model of node2"
    assert json.loads((folder / "summary.json").read_text()) == result


def test_run_without_a_merge_leaves_a_summary_and_no_model_of_an_earlier_run(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=1)
    folder = create_run_folder(cluster)
    (folder / "model.keras").write_text("an earlier run's")
    (folder / "summary.json").write_text("an earlier run's")
    result, model = write_cluster_summary(cluster, 1.0, [summary("node1")])
    assert result["consensus"] is None
    assert model is None
    assert not (folder / "model.keras").exists()
    kept = {path.name: path.read_text() for path in (folder / "earlier").iterdir()}
    assert kept == {"model-1.keras": "an earlier run's", "summary-1.json": "an earlier run's"}


def test_summaries_of_an_earlier_run_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=3)
    folder = create_run_folder(cluster)
    for name in cluster.names:
        leave_results(folder, name, cluster.names)
    read = NodeSummaries(cluster, cluster.names)
    keep_earlier(folder, [folder / "node2"])
    leave_results(folder, "node2", ["node2"])
    keep_earlier(folder, [folder / "node3"])
    summaries = read.read({"node1": "exit code 2", "node3": "ended by SIGKILL"})
    assert [node["state"] for node in summaries] == ["failed", "done", "failed"]
    assert summaries[0]["error"] == "it left no summary: exit code 2"
    assert summaries[2]["error"] == "it left no summary: ended by SIGKILL"
    assert summaries[1]["final_merge"]["nodes"] == ["node2"]


def test_node_that_was_stopped_before_it_began_is_not_called_failed(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=1)
    [node] = NodeSummaries(cluster, cluster.names).read({"node1": "ended by SIGTERM"}, stopped=True)
    assert node["state"] == "stopped"


def test_broken_summary_counts_as_none(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=1)
    read = NodeSummaries(cluster, cluster.names)
    leave_results(create_run_folder(cluster), "node1")
    (create_run_folder(cluster) / "node1" / "summary.json").write_text('{"node": "no')
    [node] = read.read({})
    assert node["error"] == "it left no summary"


def test_missing_model_is_an_error_that_says_where_the_results_are(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=1)
    create_run_folder(cluster)
    with pytest.raises(P2pdlError, match="cannot be written") as caught:
        write_cluster_summary(cluster, 1.0, [summary("node1", ["node1"])])
    assert caught.value.exit_code == EXIT_FAILED
    assert "runs/lab/<node>/summary.json" in caught.value.remedy
