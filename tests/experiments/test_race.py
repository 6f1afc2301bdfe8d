"""What is concluded of a race: its verdict, its table and its charts, against numbers by hand."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.harness.experiment import Figures, Size
from experiments.race import EXPERIMENT, LONGER, STEPS, SYSTEMS, cases, conclude

NOTHING = "-"


def figures(accuracy: float, own: list[float], pace: float, server: bool) -> Figures:
    """Two nodes that evaluate each `pace` seconds, and have received 1 MB more each time; without a server they end
    half a second after the last evaluation, and merge in another half, for another megabyte."""
    moments = range(len(own))
    curve = {
        "seconds": [pace * n for n in moments],
        "evaluation_seconds": [0.0 for _ in moments],
        "test_accuracy": own,
        "bytes_received": [1e6 * n for n in moments],
    }
    last = len(own) - 1
    summary: dict[str, Any] = {
        "steps": 300,
        "seconds": pace * last + 0.7,
        "evaluation_seconds": 0.2,
        "bytes_received": 1e6 * (last + 1),
        "final_merge": {"nodes": ["node1", "node2"], "missing": {}, "seconds": 0.5},
    }
    node: dict[str, Any] = {"summary": summary, "curve": curve}
    nodes = {"node1": node, "node2": node} | ({"server1": {"summary": {}, "curve": {}}} if server else {})
    return {"accuracy": accuracy, "is_consensus": True, "nodes": nodes}


RESULTS = {
    "gossip-2400-all-100": figures(0.97, [0.1, 0.9, 0.95, 0.96], 2.0, server=False),
    "asp-all-100": figures(0.95, [0.1, 0.5, 0.9, 0.95], 10.0, server=True),
    "esgd-all-100": figures(0.9, [0.1, 0.5, 0.85, 0.9], 8.0, server=True),
    "gossip-1200-free": figures(0.97, [0.1, 0.5, 0.95, 0.96], 1.0, server=False),
    "asp-free": figures(0.96, [0.1, 0.5, 0.9, 0.95], 1.0, server=True),
}


def test_promises_are_shares_of_the_servers_times() -> None:
    found = conclude(Size.SMALL, RESULTS)
    # 4 s of 30 s of asp, and 2 s of 24 s of esgd.
    assert [promise.found for promise in found.promises] == [f"{4 / 30:.4g}"] * 2
    assert [promise.holds for promise in found.promises] == [True, True]
    assert "asp (cui-ps)) ends with 0.9500 after 30 s and 6 MB" in found.sentence
    assert "gossip has it after 4.00 s and 2 MB" in found.sentence
    assert found.sentence.endswith("0.083 to 0.13 of that server's time, the most against asp (cui-ps).")


def test_the_server_that_is_hardest_to_beat_may_be_another_than_the_best() -> None:
    quick = RESULTS | {"adsp-all-100": figures(0.94, [0.1, 0.9, 0.94], 2.5, server=True)}
    found = conclude(Size.SMALL, quick)
    # Of the 5 s in which adsp ends gossip takes 4 s.
    assert [promise.found for promise in found.promises] == [f"{4 / 30:.4g}", "0.8"]
    assert [promise.holds for promise in found.promises] == [True, False]
    assert found.sentence.endswith("0.083 to 0.8 of that server's time, the most against adsp.")


def test_gossip_that_never_comes_to_the_target_breaks_both_promises() -> None:
    slow = RESULTS | {"gossip-2400-all-100": figures(0.94, [0.1, 0.9, 0.94], 2.0, server=False)}
    found = conclude(Size.SMALL, slow)
    assert all(promise.holds is False and "never" in promise.found for promise in found.promises)
    assert found.sentence.endswith("gossip never comes to it.")


def test_a_consensus_counts_when_its_run_and_the_final_merge_are_over() -> None:
    runs = {
        "gossip-600-all-100": figures(0.93, [0.1, 0.8], 2.0, server=False),
        "gossip-1200-all-100": figures(0.951, [0.1, 0.8, 0.9], 2.0, server=False),
        "gossip-2400-all-100": figures(0.97, [0.1, 0.8, 0.9, 0.9, 0.94], 2.0, server=False),
    }
    found = conclude(Size.SMALL, RESULTS | runs)
    # The run of 1200 steps: 4.5 s of training and half a second of merging; its nodes had received 3 MB by then.
    assert found.promises[0].found == f"{5 / 30:.4g}" and "after 5.00 s and 3 MB" in found.sentence
    # That of 600 has the 0.9 of esgd after 3 s of its 24 s, before any own weights have it.
    assert found.sentence.endswith("0.12 to 0.17 of that server's time, the most against asp (cui-ps).")
    consensus = next(one for one in found.charts[0].series if one.name == "gossip, codec auto, consensus")
    assert (consensus.x, consensus.y) == ([3.0, 5.0, 9.0], [0.93, 0.951, 0.97])


@pytest.mark.parametrize("missing", ["gossip-2400-all-100", "asp-all-100"])
def test_nothing_is_promised_while_either_side_is_missing(missing: str) -> None:
    left = {name: found for name, found in RESULTS.items() if name not in (missing, "esgd-all-100")}
    found = conclude(Size.SMALL, left)
    assert [promise.holds for promise in found.promises] == [None, None] and "yet" in found.sentence


def test_each_kind_of_links_has_a_target_of_its_own() -> None:
    found = conclude(Size.SMALL, RESULTS)
    rows = {(row[0], row[1]): row for row in found.tables[0].rows}
    heads = found.tables[0].heads
    time, moved, share = (heads.index(name) for name in heads if name.startswith(("s to", "MB of", "gossip's")))
    gossip = rows["gossip, codec auto", "no limit"]
    assert (gossip[time], gossip[moved]) == ("3.0", "3.0")
    # Its last own accuracy is 0.95, and the server's weights have 0.96 at that moment.
    assert (rows["asp (cui-ps)", "no limit"][time], rows["asp (cui-ps)", "no limit"][moved]) == ("3.0", "6.0")
    assert rows["esgd, drop 75 %", "all at 100 Mbit/s"][time] == NOTHING
    assert rows["esgd, drop 75 %", "all at 100 Mbit/s"][share] == f"{2 / 24:.3f}"


def test_charts_have_all_systems_and_the_first_one_is_over_time() -> None:
    time, moved, ends = conclude(Size.SMALL, RESULTS).charts
    assert (time.name, time.level, len(time.series)) == ("race-time", 0.95, 4)
    # From an accuracy of 0.8 on.
    assert (time.series[1].x, time.series[1].y) == ([20.0, 30.0], [0.9, 0.95])
    assert moved.log_x and (moved.series[1].x, moved.series[1].y) == ([4.0, 6.0], [0.9, 0.95])
    assert ends.groups == [
        *("asp (cui-ps), all at 100 Mbit/s", "esgd, drop 75 %, all at 100 Mbit/s"),
        "asp (cui-ps), no limit",
    ]
    # Without a limit gossip's own weights have 0.96 at 3 s, before its consensus.
    assert [bars.values for bars in ends.series] == [[30.0, 24.0, 3.0], [4.0, 2.0, 3.0]]


def test_all_do_the_same_but_for_their_own_settings() -> None:
    small = {case.name: case.settings for case in cases(Size.SMALL)}
    assert len(small) == 2 * len(SYSTEMS) + 2 * 4 and EXPERIMENT.minutes(Size.SMALL) <= 20
    for name, settings in small.items():
        train = settings["sections"]["train"]
        if name.startswith("gossip"):
            assert f"-{train['steps']}-" in name
        else:
            assert train["steps"] == STEPS[Size.SMALL] * (LONGER[Size.SMALL] if name.startswith("adsp") else 1)
        assert train["batch_size"] == 64 and settings["links"] == ({"all": 100.0} if "100" in name else {})
    assert small["adacomp-free"]["sections"]["train"]["optimizer"]["arguments"] == {}
    limited = {case.name: case.settings["links"] for case in cases(Size.PAPER) if case.name.endswith("300")}
    assert limited["gossip-4000-one-300"] == {"node1": 300.0} and limited["asp-one-300"] == {"server1": 300.0}
