"""Verdicts on promises, against observations that were made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tools.storm import promises
from tools.storm.observations import Ending, Observations, Stop, View, disagreements
from tools.storm.processes import Sample
from tools.storm.promises import Limits, Verdict, judge


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
    endings = {
        "node1": Ending(0, "done", 100, 0.5, ["node1"]),
        "node2": Ending(0, "done", 100, 0.9, ("node1", "node2", "node3")),
    }
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


def looks(role: str, values: list[float], what: str = "mebibytes") -> list[Sample]:
    """Looks at one process of the first node, a second apart, at which one figure changes."""
    figures = [{"descriptors": 9, "threads": 3, "mebibytes": 40.0, what: value} for value in values]
    return [Sample(float(time), "node1", role, 1, **figure) for time, figure in enumerate(figures)]


@pytest.mark.parametrize(
    "what, allowed, promise",
    [("descriptors", 10.0, "descriptors"), ("threads", 4.0, "threads"), ("mebibytes", 24.0, "memory of servers")],
)
def test_process_that_holds_more_and_more_breaks_a_promise(what: str, allowed: float, promise: str) -> None:
    def found(values: list[float], **changes: Any) -> Verdict:
        return verdict(seen(samples=looks("server", values, what), **changes), promise)

    # The first line behind the first look is at 1 s: what comes before 11 s does not count.
    early, flat = [0.0] * 11, [50.0] * 60
    assert found(early + flat).holds
    assert found(early + flat[:30] + [1e4] + flat[30:]).holds
    assert found(early + flat[:30] + [50.0 + allowed] * 30).holds
    assert found(early + flat[:30] + [51.0 + allowed] * 30).holds is False
    assert found(early + flat[:11]).holds is None
    # Nor does it count while another node has done no step, or this one none since the process began.
    growing = early + flat[:30] + [1e4] * 30
    assert found(growing, lines={"node1": lines(*range(60)), "node2": []}).holds is None
    assert found(growing, lines={"node1": lines(0), "node2": lines(*range(60))}).holds is None


def test_memory_of_trainers_is_their_own_business() -> None:
    growing = [float(place * 100) for place in range(80)]
    assert verdict(seen(samples=looks("trainer", growing)), "memory of servers").holds is None


def test_stores_and_leftovers_break_promises() -> None:
    assert verdict(seen(stores=(3, 2)), "one store").holds is False
    assert verdict(seen(stores=None), "one store").holds is None
    assert verdict(seen(left=["the file a.tmp"]), "nothing").broken == ["the file a.tmp"]
