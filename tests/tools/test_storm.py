"""The storm: its schedule, its journal and its verdicts against what was made by hand, and that it leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.config import load
from p2pdl.errors import StartupError
from tests.pretended_clusters import write_configuration
from tests.processes import ROOT, is_running, is_stopped, wait_until
from tools.storm import journal, plan, promises
from tools.storm.events import ACTS, KINDS, Event
from tools.storm.observations import Ending, Observations, Stop, View, disagreements
from tools.storm.plan import Plan
from tools.storm.processes import MARK, Sample, children, end_marked, marked, sample, stores
from tools.storm.promises import Limits, Verdict, judge
from tools.storm.schedule import BREATH_SECONDS, round_robin, storm
from tools.storm.striking import Striker

COMMAND = [sys.executable, "-m", "tools.storm"]
NODES = ("node1", "node2", "node3")
START_SECONDS, END_SECONDS = 60.0, 90.0

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


def lines(*times: float, step: int = 1) -> list[dict[str, float]]:
    """Lines of metrics, each a step further."""
    return [{"time": time, "step": step + place} for place, time in enumerate(times)]


def seen(**changes: Any) -> Observations:
    """Two nodes that have done well."""
    done = Ending(0, "done", 100, 0.97, ("node1", "node2"))
    what: dict[str, Any] = {
        "lines": {"node1": lines(*range(60)), "node2": lines(*range(60))},
        "endings": {"node1": done, "node2": done},
        "calm": True,
        "agreed_after": 3.0,
        "stores": (2, 2),
    }
    return Observations(100, **{**what, **changes})


def verdict(observed: Observations, promise: str, limits: Limits | None = None) -> Verdict:
    """The verdict on the promise whose name contains a text."""
    [found] = [one for one in judge(observed, limits or Limits()) if promise in one.promise]
    return found


def test_run_without_a_fault_breaks_no_promise() -> None:
    found = judge(seen(), Limits(reference=0.97))
    assert [one.promise for one in found if one.holds is False] == []
    assert len({one.promise for one in found}) == len(found)


@pytest.mark.parametrize(
    "ending, words",
    [
        (Ending(1, "failed", 40), "exit code 1"),
        (Ending(None, "", 0), "has not ended"),
        (Ending(0, "stopped", 40), "stopped, 40 of 100 steps"),
        (Ending(0, "done", 99, 0.97, ("node1", "node2")), "99 of 100 steps"),
    ],
)
def test_node_that_does_not_finish_breaks_a_promise(ending: Ending, words: str) -> None:
    observed = seen(endings={**seen().endings, "node2": ending})
    found = verdict(observed, "finishes")
    assert found.holds is False and "node2" in found.broken[0] and words in found.broken[0]


def test_what_went_wrong_on_the_way_breaks_a_promise() -> None:
    assert verdict(seen(wrong=["node1 ended by itself"]), "finishes").broken == ["node1 ended by itself"]


def test_gap_counts_only_while_nothing_stops_the_node() -> None:
    observed = seen(lines={"node1": lines(0, 1, 21, 22), "node2": lines(0, 1, 2)})
    assert verdict(observed, "stepping").holds is False
    assert "node1 stood still for 20.0 s" in verdict(observed, "stepping").broken[0]
    observed.stops = [Stop("node1", 2.0, 9.0, lost=False), Stop("node1", 8.0, 14.0, lost=False)]
    # 20 seconds less the 12 from 2 to 14.
    assert [gap for gap, _ in promises.standstills(observed, "node1")] == [1.0, 8.0, 1.0]
    assert verdict(observed, "stepping").holds
    observed.stops = [Stop("node2", 2.0, 14.0, lost=False)]
    assert verdict(observed, "stepping").holds is False


def test_node_that_was_ended_is_excused_until_its_next_line() -> None:
    # Its last line is that of its orderly stop, after the signal.
    observed = seen(lines={"node1": lines(0, 1, 3, 40, 41), "node2": []})
    observed.stops = [Stop("node1", 2.0, 10.0, lost=True)]
    assert [gap for gap, _ in promises.standstills(observed, "node1")] == [1.0, 1.0, 0.0, 1.0]
    assert promises.returns(observed) == [("node1", 30.0)]
    assert verdict(observed, "come back", Limits(recovery=30.0)).holds
    assert verdict(observed, "come back", Limits(recovery=29.0)).holds is False


def test_node_that_has_done_its_steps_may_stand_still() -> None:
    observed = seen(lines={"node1": lines(0, 1, 90, step=99), "node2": []})
    assert [gap for gap, _ in promises.standstills(observed, "node1")] == [1.0]


def test_returns_leave_out_those_struck_again_and_those_with_nothing_to_do() -> None:
    stops = [Stop("node1", 2.0, 4.0, True), Stop("node1", 5.0, 7.0, True), Stop("node1", 60.0, 61.0, True)]
    observed = seen(lines={"node1": lines(0, 1, 12, 13), "node2": lines(0)}, stops=stops)
    assert promises.returns(observed) == [("node1", 5.0)]
    observed.endings = {**observed.endings, "node1": Ending(None)}
    assert promises.returns(observed) == [("node1", 5.0), ("node1", float("inf"))]
    assert verdict(observed, "come back").holds is False


@pytest.mark.parametrize("reference, holds", [(0.9749, True), (0.9751, False), (0.9, True), (None, None)])
def test_consensus_is_compared_within_half_a_point(reference: float | None, holds: bool | None) -> None:
    assert verdict(seen(), "accurate", Limits(reference=reference)).holds is holds


def test_consensus_is_that_of_the_most_nodes() -> None:
    endings = {"node1": Ending(0, "done", 100, 0.5, ["node1"]), "node2": Ending(0, "done", 100, 0.9, NODES)}
    assert promises.consensus(endings) == (0.9, 3)
    assert promises.consensus({"node1": Ending(1, "failed")}) == (None, 0)
    assert verdict(seen(endings={"node1": Ending(1, "failed")}), "accurate").holds is False


def test_views_agree_if_live_nodes_see_each_other_and_nobody_else() -> None:
    def views(**states: str) -> list[View]:
        return [View("node1", other, state) for other, state in states.items()]

    live = ["node1", "node2"]
    assert disagreements(live, views(node1="", node2="alive", node3="dead")) == []
    assert disagreements(live, views(node2="suspect", node3="left")) == ["node1 sees node2 suspect"]
    assert disagreements(live, views(node2="")) == ["node1 sees node2 not at all"]
    assert disagreements(live, views(node2="alive", node3="alive")) == ["node1 sees node3 alive, which has ended"]
    assert disagreements(["node2"], views(node2="dead")) == []


def test_views_that_do_not_agree_break_a_promise() -> None:
    apart = seen(agreed_after=None, disagreements=["node1 sees node2 dead"])
    assert verdict(apart, "views").broken == ["node1 sees node2 dead"]
    assert verdict(seen(calm=False, agreed_after=None), "views").holds is None


def looks(role: str, values: list[float], process: int = 1, **which: Any) -> list[Sample]:
    """Looks at one process, a second apart, at which one figure grows."""
    [name] = which.values() or ["mebibytes"]
    figures = [{"descriptors": 9, "threads": 3, "mebibytes": 40.0, name: value} for value in values]
    return [Sample(float(time), "node1", role, process, **figure) for time, figure in enumerate(figures)]


@pytest.mark.parametrize(
    "what, allowed, promise",
    [
        ("descriptors", promises.DESCRIPTORS, "descriptors"),
        ("threads", promises.THREADS, "threads"),
        ("mebibytes", promises.MEBIBYTES, "memory of servers"),
    ],
)
def test_process_that_holds_more_and_more_breaks_a_promise(what: str, allowed: float, promise: str) -> None:
    flat = [50.0] * 80
    assert verdict(seen(samples=looks("server", flat, what=what)), promise).holds
    growing = [50.0 + place * allowed / 10 for place in range(80)]
    assert verdict(seen(samples=looks("server", growing, what=what)), promise).holds is False
    # What it takes at its beginning, and a single peak, are no growth.
    early = [0.0] * 10 + flat
    assert verdict(seen(samples=looks("server", [*early[:60], 1e4, *early[60:]], what=what)), promise).holds
    assert verdict(seen(samples=looks("server", growing[:15], what=what)), promise).holds is None


def test_memory_of_trainers_is_their_own_business() -> None:
    growing = [float(place * 100) for place in range(80)]
    assert verdict(seen(samples=looks("trainer", growing)), "memory of servers").holds is None


def test_stores_and_leftovers_break_promises() -> None:
    assert verdict(seen(stores=(3, 2)), "one store").holds is False
    assert verdict(seen(stores=None), "one store").holds is None
    assert verdict(seen(left=["the file a.tmp"]), "nothing").broken == ["the file a.tmp"]


class Pretended:
    """A node whose processes are names, and that writes down what is done to it."""

    def __init__(self, name: str) -> None:
        self.name, self.done, self.is_done = name, [], False
        self.running = {"supervisor": 1, "server": 2, "trainer": 3}
        self.code: int | None = None
        self.proxy = self

    def processes(self) -> dict[str, int]:
        return dict(self.running)

    def signal(self, role: str, number: signal.Signals) -> bool:
        if role in self.running:
            self.done.append(f"{number.name} {role}")
        return role in self.running

    def reap(self) -> int | None:
        code, self.code = self.code, None
        return code

    def end(self, code: int) -> None:
        self.running, self.code = {}, code

    def start(self) -> None:
        self.done.append("start")
        self.running = {"supervisor": 4, "server": 5, "trainer": 6}

    def last_words(self) -> str:
        return "alas"

    def half_open(self) -> None:
        self.done.append("half open")

    def corrupt(self, every: int) -> None:
        self.done.append(f"corrupt {every}")

    def bandwidth(self, nbytes: float) -> None:
        self.done.append(f"bandwidth {nbytes:g}")

    def latency(self, seconds: float) -> None:
        self.done.append(f"latency {seconds:g}")

    def heal(self) -> None:
        self.done.append("heal")


class Struck:
    """A striker over one pretended node."""

    def __init__(self, folder: Path, *events: Event) -> None:
        self.node = Pretended("node1")
        self.said: list[str] = []
        self.journal = journal.Journal(folder / "journal.jsonl", {})
        self.striker = Striker(
            {"node1": self.node},  # type: ignore[dict-item]
            events,
            self.journal,
            lambda at, node, text: self.said.append(text),
        )

    def events(self) -> list[tuple[str, bool]]:
        """The acts in the journal, and whether there was something to strike."""
        written = [json.loads(line) for line in self.journal.path.read_text().splitlines()]
        return [(line["act"], line["struck"]) for line in written if "act" in line]


@pytest.fixture
def strike(tmp_path: Path) -> Iterator[Any]:
    made: list[Struck] = []

    def make(*events: Event) -> Struck:
        made.append(Struck(tmp_path, *events))
        return made[-1]

    yield make
    for one in made:
        one.journal.close()


@pytest.mark.parametrize(
    "act, value, done",
    [
        ("partition", 0.0, "half open"),
        ("corrupt", 1000.4, "corrupt 1000"),
        ("narrow", 2e4, "bandwidth 20000"),
        ("delay", 0.25, "latency 0.25"),
    ],
)
def test_link_is_disturbed_and_healed(strike, act: str, value: float, done: str) -> None:
    struck = strike(Event(1.0, "node1", act, 3.0, value))
    struck.striker.look(0.9)
    assert struck.node.done == []
    struck.striker.look(1.1)
    assert struck.node.done == [done] and not struck.striker.is_over
    struck.striker.look(4.2)
    assert struck.node.done == [done, "heal"] and struck.striker.is_over
    assert struck.striker.stops == [] and struck.events() == [(act, True)]


def test_paused_node_goes_on_with_its_supervisor_last(strike) -> None:
    struck = strike(Event(1.0, "node1", "pause node", 2.0))
    struck.striker.look(1.0)
    struck.striker.look(3.1)
    stopped = [f"SIGSTOP {role}" for role in ("supervisor", "server", "trainer")]
    assert struck.node.done == [*stopped, *(f"SIGCONT {role}" for role in ("trainer", "server", "supervisor"))]
    assert [stop.lost for stop in struck.striker.stops] == [False]


def test_process_that_has_come_in_place_of_a_paused_one_is_left_alone(strike) -> None:
    struck = strike(Event(1.0, "node1", "pause trainer", 2.0))
    struck.striker.look(1.0)
    struck.node.running["trainer"] = 9
    struck.striker.look(3.1)
    assert struck.node.done == ["SIGSTOP trainer"] and struck.striker.is_over


@pytest.mark.parametrize("act, number, code", [("kill supervisor", "SIGKILL", -9), ("restart", "SIGTERM", 0)])
def test_ended_node_is_started_again_once_it_is_gone(strike, act: str, number: str, code: int) -> None:
    struck = strike(Event(1.0, "node1", act, 2.0))
    struck.striker.look(1.0)
    struck.striker.look(9.0)
    assert struck.node.done == [f"{number} supervisor"] and not struck.striker.is_over
    struck.node.end(code)
    struck.striker.look(10.0)
    assert not struck.striker.is_over
    struck.striker.look(12.1)
    assert struck.node.done == [f"{number} supervisor", "start"] and struck.striker.is_over
    assert struck.striker.wrong == [] and [stop.lost for stop in struck.striker.stops] == [True]


def test_node_that_was_done_before_it_ended_is_not_started_again(strike) -> None:
    struck = strike(Event(1.0, "node1", "kill supervisor", 0.0), Event(5.0, "node1", "kill server"))
    struck.striker.look(1.0)
    struck.node.is_done = True
    struck.node.end(-9)
    struck.striker.look(6.0)
    assert struck.striker.ended == {"node1"} and struck.striker.is_over and struck.striker.wrong == []
    assert "start" not in struck.node.done
    assert struck.events() == [("kill supervisor", True), ("kill server", False)]


@pytest.mark.parametrize("code", [1, 2, -11])
def test_node_that_ends_by_itself_is_wrong_and_stays_away(strike, code: int) -> None:
    struck = strike()
    struck.node.end(code)
    struck.striker.look(1.0)
    assert struck.striker.ended == {"node1"} and "node1 ended by itself" in struck.striker.wrong[0]
    assert "alas" in struck.said[-1] and struck.node.done == []


def test_node_that_answers_sigterm_with_an_error_is_wrong_and_is_started_again(strike) -> None:
    struck = strike(Event(1.0, "node1", "restart", 0.0))
    struck.striker.look(1.0)
    struck.node.end(1)
    struck.striker.look(2.0)
    assert "after SIGTERM with exit code 1" in struck.striker.wrong[0] and struck.node.done[-1] == "start"


def test_kernel_says_what_a_marked_process_holds_and_it_is_ended(tmp_path: Path) -> None:
    code = "import os; os.memfd_create('p2pdl-weights'); print(1, flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, MARK: "here"},
    )
    try:
        assert process.stdout is not None and process.stdin is not None and process.stdout.readline() == b"1\n"
        assert marked("here") == [process.pid] and marked("her") == []
        found = sample("node1", "trainer", process.pid)
        assert found is not None and found.threads == 1 and found.descriptors >= 4 and found.mebibytes > 1
        assert len(stores([process.pid])) == 1 and stores([os.getpid()]) == set()
        assert children(process.pid) == {}
        os.kill(process.pid, signal.SIGSTOP)
        assert wait_until(lambda: is_stopped(process.pid), 10.0)
        assert end_marked("here") == [] and not is_running(process.pid)
        assert process.wait() == -signal.SIGKILL and sample("node1", "trainer", process.pid) is None
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "words, said",
    [
        (["--kinds", "kill,rain"], "there is no kind rain"),
        (["--config", "nothing.yaml"], "no such file"),
        (["--replay", "nothing.jsonl"], "cannot be replayed"),
        (["--nodes", "1"], "--nodes"),
    ],
)
def test_mistake_on_the_command_line_is_told(words: list[str], said: str, tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, *words, "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def processes_of(folder: Path) -> list[str]:
    """Command lines of running processes that name something in a folder."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if int(name) != os.getpid() and any(str(folder) in word for word in command) and is_running(int(name)):
            found.append(" ".join(command))
    return found


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_signal_ends_every_node(number: signal.Signals, code: int, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*COMMAND, "--nodes", "2", "--data", "digits", "--out", str(out)]
    with (tmp_path / "said").open("wb") as said:
        running = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said, process_group=0)
    try:
        # The storm itself, two supervisors, their servers and their trainers.
        assert wait_until(lambda: len(processes_of(out)) == 7, START_SECONDS), (tmp_path / "said").read_text()
        running.send_signal(number)
        assert running.wait(END_SECONDS) == code
        assert wait_until(lambda: processes_of(out) == [], END_SECONDS), processes_of(out)
    finally:
        running.kill()
        running.wait()
    assert "Traceback" not in (tmp_path / "said").read_text()


@pytest.mark.slow
def test_small_storm_breaks_no_promise_and_can_be_replayed(tmp_path: Path) -> None:
    words = ["--nodes", "3", "--seconds", "30", "--every", "3", "--seed", "11", "--data", "digits", "--steps", "20000"]
    done = subprocess.run([*COMMAND, *words, "--out", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    written = tmp_path / "out" / "storm" / "journal.jsonl"
    assert journal.read(written)[1] == storm(11, NODES, 30.0, KINDS, 3.0)
    shorter = tmp_path / "shorter.jsonl"
    first, *rest = written.read_text().splitlines()
    kept = [line for line in rest if '"act": "kill server"' in line]
    shorter.write_text("\n".join([first.replace('"steps": 20000', '"steps": 500'), *kept]) + "\n")
    again = subprocess.run(
        [*COMMAND, "--replay", str(shorter), "--out", str(tmp_path / "again")], cwd=ROOT, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert journal.read(tmp_path / "again" / "storm" / "journal.jsonl")[1] == journal.read(shorter)[1]
