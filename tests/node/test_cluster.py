"""Several nodes run as one: what they say, how they are stopped, and what the exit code tells."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pdl.config import Configuration
from p2pdl.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from p2pdl.node import cluster as local_cluster
from p2pdl.node.cluster import LocalCluster, Outcome
from p2pdl.node.run_folder import create_run_folder
from tests.pretended_clusters import Recording, configuration, pretend, write_configuration
from tests.processes import ROOT, is_running, wait_until


def run(cluster: Configuration, roles: dict[str, str], observer: Recording | None = None) -> Outcome:
    command = pretend(create_run_folder(cluster), roles)
    return LocalCluster(cluster, cluster.names, command, observer or Recording()).run()


def test_nodes_that_are_done_end_the_run_with_exit_code_0(tmp_path: Path) -> None:
    observer = Recording()
    outcome = run(configuration(tmp_path), {}, observer)
    assert outcome.exit_code == EXIT_DONE
    assert outcome.exit_codes == {"node1": 0, "node2": 0, "node3": 0, "node4": 0}
    assert outcome.failed == {}
    assert [(node.name, node.local, node.exit_code) for node in observer.last] == [
        (f"node{number}", True, 0) for number in (1, 2, 3, 4)
    ]


def test_messages_of_nodes_arrive_with_their_level(tmp_path: Path) -> None:
    observer = Recording()
    run(configuration(tmp_path, nodes=1), {"node1": "talks"}, observer)
    assert sorted((message.level, str(message)) for message in observer.messages) == [
        ("info", "node1: nothing much"),
        ("other", "node1: printed by a function of the user's"),
        ("warning", "node1: warning: node9 is not there"),
    ]


@pytest.mark.parametrize(("role", "how"), [("dies", "ended by SIGKILL"), ("fails", "exit code 1")])
def test_node_that_fails_leaves_the_others_alone(tmp_path: Path, role: str, how: str) -> None:
    cluster = configuration(tmp_path, nodes=3)
    folder = create_run_folder(cluster)

    class Noticing(Recording):
        def message(self, message: object) -> None:
            super().message(message)  # type: ignore[arg-type]
            if "the other nodes go on" in str(message):
                (folder / "noticed").touch()

    observer = Noticing()
    outcome = run(cluster, {"node1": "outlives", "node2": role, "node3": "outlives"}, observer)
    assert outcome.exit_code == EXIT_FAILED
    assert outcome.failed == {"node2": how}
    assert f"node2 failed ({how}); the other nodes go on" in observer.texts


def test_node_that_cannot_start_ends_the_run_with_its_message(tmp_path: Path) -> None:
    observer = Recording()
    outcome = run(configuration(tmp_path, nodes=3), {"node1": "stops", "node2": "cannot-start"}, observer)
    assert outcome.exit_code == EXIT_USAGE
    assert outcome.could_not_start == ["node2"]
    assert "node2: error: npz:x.npz: there is no such file\n  -> write another one" in observer.texts


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, EXIT_DONE)])
def test_first_signal_stops_every_node_in_order(tmp_path: Path, number: signal.Signals, exit_code: int) -> None:
    cluster = configuration(tmp_path, nodes=3)
    roles = dict.fromkeys(cluster.names, "stops")
    outcome = run(cluster, roles, Recording({"ready": (3, number)}))
    assert outcome.exit_code == exit_code
    assert outcome.stopped
    assert outcome.exit_codes == {"node1": 0, "node2": 0, "node3": 0}
    assert all((create_run_folder(cluster) / name / "summary.json").exists() for name in cluster.names)


def test_second_ctrl_c_ends_nodes_that_do_not_stop(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=3)
    roles = dict.fromkeys(cluster.names, "stubborn")
    observer = Recording({"ready": (3, signal.SIGINT), "not now": (3, signal.SIGINT)})
    outcome = run(cluster, roles, observer)
    assert outcome.exit_code == 130
    assert set(outcome.exit_codes.values()) == {-signal.SIGKILL}
    assert "stopping all nodes (Ctrl-C once more to stop at once)" in observer.texts


def test_signal_handlers_are_as_before_after_a_run(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run(configuration(tmp_path, nodes=1), {})
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), SystemExit(1)])
def test_nodes_go_on_where_nothing_can_be_shown_any_more(tmp_path: Path, failure: BaseException) -> None:
    class Blind(Recording):
        def message(self, message: object) -> None:
            raise failure

        def progress(self, nodes: object) -> None:
            raise failure

    outcome = run(configuration(tmp_path, nodes=2), {"node1": "talks", "node2": "talks"}, Blind())
    assert outcome.exit_code == EXIT_DONE and outcome.exit_codes == {"node1": 0, "node2": 0}


def test_nodes_may_save_what_they_have_where_their_run_is_broken_off(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=2)

    class Failing(Recording):
        def message(self, message: object) -> None:
            super().message(message)  # type: ignore[arg-type]
            if self.texts.count("node1: ready") + self.texts.count("node2: ready") == 2:
                raise RuntimeError("a fault of the program")

    with pytest.raises(RuntimeError, match="a fault of the program"):
        run(cluster, dict.fromkeys(cluster.names, "stops"), Failing())
    assert all((create_run_folder(cluster) / name / "summary.json").exists() for name in cluster.names)


def test_observer_that_fails_leaves_no_node_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_cluster, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(local_cluster, "LAST_WORDS_SECONDS", 0.1)

    class Failing(Recording):
        def message(self, message: object) -> None:
            raise RuntimeError("the terminal is gone")

    with pytest.raises(RuntimeError, match="the terminal is gone"):
        run(configuration(tmp_path, nodes=2), {"node1": "stubborn", "node2": "stubborn"}, Failing())


def test_command_that_does_not_exist_leaves_no_node_behind(tmp_path: Path) -> None:
    cluster = configuration(tmp_path, nodes=2)
    good = pretend(create_run_folder(cluster), {"node1": "stubborn"})

    def command(name: str, lifeline: int) -> list[str]:
        return good(name, lifeline) if name == "node1" else [str(tmp_path / "nothing")]

    with pytest.raises(FileNotFoundError):
        LocalCluster(cluster, cluster.names, command, Recording()).run()


DRIVER = """
import os, sys
from pathlib import Path
from p2pdl.config import load
from p2pdl.node.cluster import LocalCluster
from p2pdl.node.run_folder import create_run_folder
from tests.pretended_clusters import Recording, pretend

class Telling(Recording):
    def message(self, message):
        print(message.text, flush=True)

cluster = load(sys.argv[1])
command = pretend(create_run_folder(cluster), dict.fromkeys(cluster.names, "follows"))
local = LocalCluster(cluster, cluster.names, command, Telling())
local.run()
"""


def test_nodes_learn_that_what_ran_them_was_killed(tmp_path: Path) -> None:
    file = write_configuration(tmp_path, nodes=2)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(file)], stdout=subprocess.PIPE, text=True, cwd=ROOT, pass_fds=()
    )
    assert driver.stdout is not None
    assert [driver.stdout.readline().strip() for _ in range(2)] == ["ready", "ready"]
    nodes = _children_of(driver.pid)
    assert len(nodes) == 2
    driver.kill()
    driver.communicate()
    assert wait_until(lambda: not any(map(is_running, nodes)), 10.0)
    assert all((tmp_path / "runs" / "lab" / name / "summary.json").exists() for name in ("node1", "node2"))


def _children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if os.path.exists(f"/proc/{child}")]
