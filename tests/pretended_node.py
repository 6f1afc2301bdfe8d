"""Stands in for `p2pdl node` in tests of what runs nodes: `python pretended_node.py ROLE NAME FOLDER LIFELINE`."""

import json
import os
import signal
import sys
import time

role, name, folder, lifeline = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
terminated = []
signal.signal(signal.SIGTERM, lambda number, frame: terminated.append(number))


def say(text):
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def leave(state):
    os.makedirs(os.path.join(folder, name), exist_ok=True)
    merged = {"nodes": ["node1", "node2"], "missing": {}} if state == "done" else None
    summary = {
        "node": name,
        "strategy": "gossip",
        "state": state,
        "steps": 7,
        "test_loss": 0.25 if merged else None,
        "test_accuracy": 0.9 if merged else None,
        "before_final_merge": {"test_loss": 0.5, "test_accuracy": 0.8} if merged else None,
        "final_merge": merged,
    }
    with open(os.path.join(folder, name, "model.keras"), "w") as file:
        file.write(f"model of {name}")
    with open(os.path.join(folder, name, "summary.json"), "w") as file:
        json.dump(summary, file)


def wait_for(condition):
    while not condition():
        time.sleep(0.005)


if role == "done":
    leave("done")
elif role == "talks":
    say(f"{name}: nothing much")
    say(f"{name}: warning: node9 is not there")
    sys.stdout.write("printed by a function of the user's\n")
    leave("done")
elif role == "cannot-start":
    say("p2pdl: npz:x.npz: there is no such file\n  -> write another one")
    sys.exit(2)
elif role == "dies":
    say("dying")
    os.kill(os.getpid(), signal.SIGKILL)
elif role == "fails":
    say(f"{name}: error: the loss is no longer finite\n  -> lower the learning rate")
    leave("failed")
    sys.exit(1)
elif role == "outlives":
    # Goes on until another node has been found dead.
    wait_for(lambda: os.path.exists(os.path.join(folder, "noticed")))
    leave("done")
elif role == "stops":
    say("ready")
    wait_for(lambda: terminated)
    leave("stopped")
elif role == "stubborn":
    say("ready")
    wait_for(lambda: terminated)
    say("not now")
    wait_for(lambda: False)
elif role == "follows":
    # As a node does whose `up` is gone: the pipe says so.
    say("ready")
    os.read(lifeline, 1)
    leave("stopped")
