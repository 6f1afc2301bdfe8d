"""What becomes of a node whose processes are killed, stopped, or short of memory, disk or a terminal."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from p2pdl.config import load
from p2pdl.errors import PeerError
from p2pdl.protocol.messages import SnapshotReply, SnapshotRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.puller.inbox import Inbox
from p2pdl.puller.requests import Outcome
from p2pdl.spec import WeightSpec
from tests.node.clusters import START_SECONDS, Lab, NodeProcess, make_lab, node
from tests.processes import is_running, is_stopped, wait_until
from tests.puller.pulling import requester_of

QUICK = {"start_wait": 1.0, "linger": 2.0, "request_timeout": 0.5}
ENDLESS = {"steps": 10_000_000, "batch_size": 32}
FREQUENT = {"checkpoint": {"every": 0.2}, "metrics": {"interval": 0.1}}

BACK_SECONDS = 20.0
"""Far more than the two seconds within which a server is back on an idle machine."""


def snapshot(lab: Lab, name: str, spec: WeightSpec) -> SnapshotReply | None:
    """What a node serves at this moment; None if it does not answer."""
    try:
        reply, _ = lab.ask(name, SnapshotRequest(spec.digest))
    except PeerError:
        return None
    assert isinstance(reply, SnapshotReply)
    return reply


def pull(lab: Lab, name: str, spec: WeightSpec) -> tuple[Outcome, Inbox]:
    """A node's weights, as another node gets them."""
    inbox = Inbox(spec)
    inbox.expect(None)
    with requester_of("test") as requester:
        settings = PullSettings(timeout=20.0, request_timeout=10.0)
        return requester.pull(name, lab.addresses[name], spec, settings, inbox.accept), inbox


@contextmanager
def training(lab: Lab, name: str, *arguments: str, **environment: str) -> Iterator[NodeProcess]:
    """A node that has saved at least twice."""
    with node(lab, name, *arguments, **environment) as started:
        assert wait_until(lambda: lab.has_reached(name, 1) and len(lab.checkpoints(name)) >= 2, START_SECONDS)
        yield started


def test_a_killed_server_is_back_with_the_same_weights_and_a_stopped_trainer_is_told_by_its_age(tmp_path):
    lab = make_lab(tmp_path, 1, train=ENDLESS, gossip=QUICK, **FREQUENT)
    with training(lab, "node1") as started:
        spec = lab.spec("node1")
        trainer = started.children()["trainer"]
        os.kill(trainer, signal.SIGSTOP)
        assert wait_until(lambda: is_stopped(trainer), 10.0)
        before, weights = pull(lab, "node1", spec)
        assert before.error is None and before.snapshot is not None
        took = []
        for _ in range(3):
            os.kill(started.children()["server"], signal.SIGKILL)
            killed = time.monotonic()
            assert wait_until(lambda: lab.status("node1") is not None, BACK_SECONDS)
            took.append(time.monotonic() - killed)
            after, again = pull(lab, "node1", spec)
            assert after.error is None and after.snapshot is not None
            same = ("incarnation", "version", "step", "digest")
            assert [getattr(after.snapshot, name) for name in same] == [getattr(before.snapshot, name) for name in same]
            np.testing.assert_array_equal(again.vector, weights.vector)
        print(f"back after {', '.join(f'{seconds:.2f} s' for seconds in took)}")
        status = lab.status("node1")
        assert status is not None and status.figures["server_starts"] == 4
        # Nobody is told that the trainer stands still but by the age of what it has said last.
        assert status.state == "training"
        assert wait_until(lambda: (now := lab.status("node1")) is not None and now.age > status.age + 0.5, 20.0)
        os.kill(trainer, signal.SIGCONT)
        assert wait_until(lambda: lab.has_reached("node1", status.step + 100), BACK_SECONDS)
        later = lab.status("node1")
        assert later is not None and later.age < 5.0
        assert started.children()["trainer"] == trainer
        started.signal(signal.SIGTERM)
        assert started.wait() == 0
    assert lab.summary("node1")["trainer_restarts"] == 0


@pytest.mark.slow
def test_a_trainer_killed_in_the_midst_of_a_publication_leaves_the_version_before(tmp_path):
    lab = make_lab(tmp_path, 1, train=ENDLESS, gossip=QUICK, **FREQUENT)
    with node(lab, "node1", P2PDL_FAILPOINTS="store.half-published=kill*200") as started:
        assert wait_until(lambda: "trainer" in started.children(), START_SECONDS)
        trainer = started.children()["trainer"]
        assert wait_until(lambda: not is_running(trainer), START_SECONDS)
        outcome, inbox = pull(lab, "node1", lab.spec("node1"))
        # The digest has been checked; version 200 was half written.
        assert outcome.error is None and outcome.snapshot is not None and outcome.snapshot.version == 199
        assert np.isfinite(inbox.vector).all() and inbox.vector.any()
        # The next trainer has only begun to load: a stop does not wait for more than that.
        assert wait_until(lambda: started.children().get("trainer", trainer) != trainer, BACK_SECONDS)
        started.signal(signal.SIGTERM)
        assert started.wait() == 0
    assert re.search(r"the trainer ended by SIGKILL at step \d+.* starting it again", started.said())
    assert lab.summary("node1")["state"] == "stopped"


@pytest.mark.slow
def test_a_trainer_that_fails_twice_at_the_same_place_ends_the_node(tmp_path):
    lab = make_lab(tmp_path, 1, train=ENDLESS, gossip=QUICK)
    with node(lab, "node1", P2PDL_FAILPOINTS="store.half-published=raise*1") as started:
        assert started.wait() == 1
        said = started.said()
    assert said.count("the trainer failed: RuntimeError: the failpoint store.half-published is switched on") == 2
    assert (
        "starting it again from its last checkpoint" in said and "at the same place as before; this node stops" in said
    )
    assert lab.summary("node1")["state"] == "failed" and wait_until(lambda: lab.port_is_free("node1"), 10.0)


HURT = """
import keras
from p2pdl.training.data.digits import load_digits

def data():
    digits = load_digits("digits")
    digits.x_train[700] = 3e38
    return (digits.x_train, digits.y_train), (digits.x_test, digits.y_test)

def model(input_shape, classes):
    layers = [keras.layers.Flatten(), keras.layers.Rescaling(10.0), keras.layers.Dense(32, activation="relu")]
    return keras.Sequential([keras.Input(input_shape), *layers, keras.layers.Dense(classes)])
"""
"""Once in each pass a sample comes that is finite itself, and makes the loss and the weights anything but that."""


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_never_published_and_costs_the_steps_since_the_last_checkpoint(tmp_path):
    (tmp_path / "hurt.py").write_text(HURT)
    lab = make_lab(
        tmp_path,
        1,
        model={"name": "hurt:model"},
        data={"source": "hurt:data"},
        train={"steps": 3000, "batch_size": 1, "optimizer": {"name": "sgd", "learning_rate": 0.001}},
        gossip=QUICK,
        **FREQUENT,
    )
    outcomes = []
    with node(lab, "node1") as started:
        assert wait_until(lambda: lab.has_reached("node1", 1), START_SECONDS)
        spec = lab.spec("node1")
        while started.process.poll() is None:
            outcomes.append(pull(lab, "node1", spec)[0])
        said = started.said()
    assert started.wait() == 0, said
    assert re.search(
        r"training has diverged(; nothing of it was published)?; going on from the weights of step \d+", said
    )
    summary = lab.summary("node1")
    assert (summary["state"], summary["steps"]) == ("done", 3000)
    # With batches of one sample the accuracy goes up and down by a tenth and more; weights that had been hurt had 0.1.
    assert summary["restores"] in (2, 3) and summary["test_accuracy"] > 0.5
    # What a peer asked for at any moment was whole and finite, until the node ended.
    assert len(outcomes) > 10
    assert [outcome.error for outcome in outcomes[:-1] if outcome.error] == []


def test_a_node_without_a_terminal_whose_peers_are_all_dead_trains_through_a_full_disk(tmp_path):
    lab = make_lab(tmp_path, 3, train={"steps": 2000, "batch_size": 32}, gossip=QUICK, **FREQUENT)
    closed = ["bash", "-c", 'exec "$@" >&- 2>&-', "closed"]
    with node(lab, "node1", prefix=closed, P2PDL_FAILPOINTS="checkpoint.before-sync=enospc*2") as started:
        assert started.wait() == 0
    assert started.said() == ""
    log = lab.log("node1")
    assert "No space left on device; training goes on" in log and "checkpoints are written again" in log
    assert "starting without node2, node3" in log and "Traceback" not in log
    # However often they are asked, there is one line for each until something changes.
    assert [log.count(f"skipped {peer}") for peer in ("node2", "node3")] == [1, 1]
    summary = lab.summary("node1")
    assert (summary["state"], summary["steps"], summary["checkpoint_failures"]) == ("done", 2000, 1)
    assert (summary["merges"], summary["final_merge"]["nodes"]) == (0, ["node1"])
    assert sorted(summary["final_merge"]["missing"]) == ["node2", "node3"] and summary["test_accuracy"] > 0.9


@pytest.mark.slow
def test_a_model_that_memory_has_no_room_for_ends_the_node_with_the_figures(tmp_path):
    lab = make_lab(tmp_path, 1, model={"name": "mlp"}, train=ENDLESS)
    # The store is a file without a name, and this machine gives no file more than 4 MiB.
    limited = ["bash", "-c", 'ulimit -f 4096; exec "$@"', "limited"]
    with node(lab, "node1", prefix=limited) as started:
        assert started.wait() == 1
        said = started.said()
    assert "the weight store needs" in said and "this machine would not give it (File too large)" in said
    assert "-> use a smaller model" in said and "Traceback" not in said
    assert lab.summary("node1")["state"] == "failed"
    assert wait_until(lambda: lab.port_is_free("node1"), 10.0)


@pytest.mark.parametrize("place", ["before-rename", "before-folder-sync"])
@pytest.mark.slow
def test_a_trainer_killed_while_it_saves_goes_on_from_a_whole_checkpoint(tmp_path, place):
    lab = make_lab(tmp_path, 1, train=ENDLESS, gossip=QUICK, metrics=FREQUENT["metrics"], checkpoint={"every": 0.2})
    with node(lab, "node1", P2PDL_FAILPOINTS=f"checkpoint.{place}=kill*3") as started:
        trainers = []
        for _ in range(2):
            assert wait_until(lambda: started.children().get("trainer") not in (None, *trainers), START_SECONDS)
            trainers.append(started.children()["trainer"])
        # The second one has gone on from what the first one left.
        assert wait_until(lambda: lab.trains("node1", trainers[1]), START_SECONDS)
        started.signal(signal.SIGTERM)
        assert started.wait() == 0
    (resumed,) = re.findall(r"going on from step-(\d+)\.ckpt", lab.log("node1"))
    assert "damaged" not in lab.log("node1")
    assert lab.summary("node1")["steps"] >= int(resumed) > 0
    folder = tmp_path / "runs" / "lab" / "node1" / "checkpoints"
    assert [path.name for path in folder.iterdir() if not path.name.endswith(".ckpt")] == []


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_costs_one_interval_more_and_is_kept_aside(tmp_path):
    lab = make_lab(tmp_path, 1, train=ENDLESS, gossip=QUICK, **FREQUENT)
    with training(lab, "node1") as started:
        started.signal(signal.SIGKILL)
        started.wait()
    before, newest = list(lab.checkpoints("node1").items())[-2:]
    os.truncate(newest[1], newest[1].stat().st_size // 2)
    # The disk that the log is on has become full meanwhile, and so does the one of the figures.
    log, figures = (tmp_path / "runs" / "lab" / "node1" / name for name in ("node.log", "metrics.jsonl"))
    log.unlink()
    log.symlink_to("/dev/full")
    with node(lab, "node1") as started:
        assert wait_until(lambda: lab.has_reached("node1", newest[0] + 100), START_SECONDS)
        figures.unlink()
        figures.symlink_to("/dev/full")
        assert wait_until(lambda: "training goes on without it" in started.said(), BACK_SECONDS)
        status = lab.status("node1")
        assert status is not None
        assert wait_until(lambda: lab.has_reached("node1", status.step + 100), BACK_SECONDS)
        started.signal(signal.SIGTERM)
        assert started.wait() == 0
        said = started.said()
    assert f"the checkpoint {newest[1]} is damaged" in said and "falling back to the one before" in said
    assert f"going on from {before[1].name}, saved at step {before[0]}" in said
    assert f"cannot write {figures} (No space left on device)" in said and "Traceback" not in said
    assert lab.summary("node1")["state"] == "stopped"
    assert newest[1].with_name(f"{newest[1].name}.damaged").exists()


def test_a_run_of_other_settings_is_refused_and_a_fresh_one_keeps_it(tmp_path):
    lab = make_lab(tmp_path, 1, train=ENDLESS)
    folder = tmp_path / "runs" / "lab" / "node1"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text(load(lab.file, ["train.seed=7"]).to_json())
    (folder / "checkpoints" / "step-000000007.ckpt").write_bytes(b"of another run")
    with node(lab, "node1") as started:
        assert started.wait() == 2
    assert "was made with other settings: train.seed was 7 and is now 0" in started.said()
    assert "--fresh" in started.said() and "Traceback" not in started.said()
    kept = folder.parent / "earlier" / "node1-1" / "checkpoints" / "step-000000007.ckpt"
    assert not kept.exists()
    with node(lab, "node1", "--fresh"):
        assert wait_until(kept.exists, START_SECONDS)
        assert wait_until(lambda: lab.status("node1") is not None, START_SECONDS)
    assert lab.checkpoints("node1") == {}


def test_a_model_that_cannot_be_written_is_told_and_spares_the_rest(tmp_path):
    lab = make_lab(tmp_path, 1, train=ENDLESS, gossip=QUICK, **FREQUENT)
    with training(lab, "node1") as started:
        # As a full disk does, a folder of that name lets nothing take its place.
        (tmp_path / "runs" / "lab" / "node1" / "model.keras").mkdir()
        started.signal(signal.SIGTERM)
        assert started.wait() == 0
    assert re.search(r"model\.keras cannot be written: .*\n +-> make room", started.said())
    assert "Traceback" not in lab.log("node1") and lab.checkpoints("node1")
    assert lab.summary("node1")["state"] == "stopped"
    assert not list((tmp_path / "runs" / "lab" / "node1").glob(".model*"))
