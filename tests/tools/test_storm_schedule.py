"""What befalls whom and when, and how it is written down and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.config import load
from p2pdl.errors import StartupError
from tests.pretended_clusters import write_configuration
from tools.storm import journal, plan
from tools.storm.events import ACTS, KINDS
from tools.storm.plan import Plan
from tools.storm.schedule import BREATH_SECONDS, round_robin, storm

NODES = ("node1", "node2", "node3")

a_storm = {
    "seed": st.integers(0, 1 << 31),
    "nodes": st.integers(2, 9).map(lambda count: [f"node{n}" for n in range(count)]),
    "seconds": st.floats(1, 300),
    "kinds": st.lists(st.sampled_from(KINDS), min_size=1, unique=True),
    "every": st.floats(0.2, 20),
}


@given(**a_storm)
def test_storm_follows_from_its_seed_and_is_over_in_time(seed, nodes, seconds, kinds, every) -> None:
    events = storm(seed, nodes, seconds, kinds, every)
    assert events == storm(seed, nodes, seconds, kinds, every)
    assert [event.at for event in events] == sorted(event.at for event in events)
    for event in events:
        act = ACTS[event.act]
        assert event.victim in nodes and act.kind in kinds
        assert event.at + event.seconds <= seconds + 0.002 and event.seconds <= act.seconds[1]
        assert act.value[0] - 0.001 <= event.value <= act.value[1] + 0.001
        assert str(event)


@given(**a_storm)
def test_neither_the_processes_of_a_node_nor_its_link_are_struck_twice_at_a_time(
    seed, nodes, seconds, kinds, every
) -> None:
    free_at: dict[tuple[str, str], float] = {}
    for event in storm(seed, nodes, seconds, kinds, every):
        place = event.victim, event.what.place
        assert event.at >= free_at.get(place, 0.0) - 0.002
        free_at[place] = event.at + event.seconds + BREATH_SECONDS


def test_long_storm_has_every_act_and_strikes_every_node() -> None:
    events = storm(7, NODES, 2000.0, KINDS, 2.0)
    assert {event.act for event in events} == ACTS.keys()
    assert {event.victim for event in events} == set(NODES)
    # Every two seconds, less those at which nobody is calm.
    assert 600 < len(events) <= 1100
    assert storm(8, NODES, 2000.0, KINDS, 2.0) != events


def test_round_robin_kills_every_node_once_in_each_round() -> None:
    events = round_robin(3, NODES, every=10.0, rounds=4, seconds=1.0)
    assert [event.at for event in events] == [10.0 * place for place in range(1, 13)]
    for start in range(0, 12, 3):
        assert {event.victim for event in events[start : start + 3]} == set(NODES)
    assert len({tuple(event.victim for event in events[start : start + 3]) for start in range(0, 12, 3)}) > 1
    assert {event.act for event in events} == {"kill supervisor"}


def some_plan() -> Plan:
    return Plan(7, NODES, 60.0, 4.0, ["kill"], plan.default_sections("digits", 7, 100, 3, 60.0))


def test_journal_is_replayed_as_it_was_written_and_half_a_line_is_left_out(tmp_path: Path) -> None:
    events = storm(7, NODES, 60.0, KINDS, 4.0)
    written = journal.Journal(tmp_path / "journal.jsonl", some_plan().to_json())
    for event in events:
        written.event(event, struck=True)
        written.note(event.at, event.victim, "goes on")
    written.close()
    with written.path.open("a") as file:
        file.write('{"time": 3, "act": "kill')
    settings, found = journal.read(written.path)
    assert found == events
    assert Plan.from_json(settings).to_json() == json.loads(json.dumps(some_plan().to_json()))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}\n",
        "[1]\n",
        "\x00\n",
        '{"journal": 2}\n',
        '{"journal": 1}\n{"act": "kill server"}\n',
        '{"journal": 1}\n{"at": 1, "victim": "node1", "act": "burn", "seconds": 0, "value": 0}\n',
        '{"journal": 1}\n{"at": -1, "victim": "node1", "act": "restart", "seconds": 0, "value": 0}\n',
    ],
)
def test_journal_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(content)
    with pytest.raises(StartupError, match="cannot be replayed"):
        journal.read(path)
    with pytest.raises(StartupError):
        journal.read(tmp_path / "nothing")


@pytest.mark.parametrize("settings", [{}, {**some_plan().to_json(), "nodes": []}, {"seed": 1}])
def test_plan_that_is_none_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(StartupError, match="holds no plan"):
        Plan.from_json(settings)


def test_file_is_taken_over_but_for_its_addresses(tmp_path: Path) -> None:
    more = "model: {width: 0.5}\ntrain: {passes: 3, batch_size: 32, seed: 1}\ngossip: {topology: ring}\n"
    file = write_configuration(tmp_path, nodes=3, more=more)
    names, sections = plan.sections_of(file, seed=5, steps=70)
    assert names == list(NODES)
    assert sections["train"] == {"batch_size": 32, "seed": 5, "steps": 70}
    assert (sections["model"], sections["gossip"]) == ({"width": 0.5}, {"topology": "ring"})
    with pytest.raises(StartupError, match="how many passes"):
        plan.sections_of(file, seed=5, steps=None)
    entries = [{"name": name, "address": f"127.0.0.1:{7000 + n}"} for n, name in enumerate(names)]
    written = tmp_path / "storm.json"
    written.write_text(json.dumps({"cluster": {"name": "storm"}, "nodes": entries, **sections}))
    assert load(written).train.steps == 70 and load(written).gossip.topology == "ring"
