"""What is concluded of seconds a batch, against figures made by hand, and which runs are compared."""

from __future__ import annotations

from typing import Any

from experiments.cui_speed import EXPERIMENT, conclude
from experiments.harness.experiment import Size


def found(median: float, p90: float | None = None) -> dict[str, Any]:
    return {"step": {"median": median, "p90": p90 or median, "count": 50, "seconds": [median] * 5}}


RESULTS = {
    "vgg19-gossip-free": found(2.9),
    "vgg19-gossip-300": found(3.1, 3.5),
    "vgg19-gossip-free-2": found(3.1),
    "vgg19-asp-300": found(12.4, 14.0),
    "vgg19-tensorflow-300": found(9.3),
    "mlp-gossip-300": found(0.02),
    "mlp-tensorflow-300": found(0.5),
}


def test_ratios_are_of_the_medians_and_of_the_tails() -> None:
    promises = {promise.what: promise for promise in conclude(Size.SMALL, RESULTS).promises}
    assert promises["vgg19, asp / gossip, median seconds a batch"].found == "4"
    assert promises["vgg19, asp / gossip, p90"].found == "4"
    assert promises["vgg19, TensorFlow's server / gossip, median"].found == "3"
    assert promises["mlp, TensorFlow's server / gossip, median"].found == "25"
    assert all(promise.holds for promise in promises.values())


def test_gossip_with_a_limited_link_is_held_against_the_runs_before_and_after_it() -> None:
    def ratio(results: dict[str, Any]) -> tuple[str, bool | None]:
        [promise] = [one for one in conclude(Size.SMALL, results).promises if "before and after" in one.what]
        return promise.found, promise.holds

    assert ratio(RESULTS) == (f"{3.1 / 3.0:.4g}", True)
    assert ratio(RESULTS | {"vgg19-gossip-free-2": found(2.9)}) == (f"{3.1 / 2.9:.4g}", False)
    alone = {name: figures for name, figures in RESULTS.items() if name != "vgg19-gossip-free-2"}
    assert ratio(alone) == ("", None)


def test_the_limited_run_is_between_the_other_two() -> None:
    names = [case.name for case in EXPERIMENT.cases(Size.SMALL)]
    assert names[:3] == ["vgg19-gossip-free", "vgg19-gossip-300", "vgg19-gossip-free-2"]
    links = {case.name: case.settings["links"] for case in EXPERIMENT.cases(Size.SMALL)}
    assert links["vgg19-gossip-free-2"] == {} and links["vgg19-gossip-300"] == {"node1": 300.0}
    assert links["mlp-asp-300"] == {"server1": 300.0} and links["mlp-tensorflow-300"] == {"ps0": 300.0}
