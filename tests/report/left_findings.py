"""Findings as experiments leave them, made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from p2pdl.report.findings import (
    BarChart,
    Bars,
    CaseRecord,
    Findings,
    FoundTable,
    Histogram,
    LineChart,
    Promise,
    Sample,
    Series,
    write_findings,
)

RNG_SEED = 5


def line_chart(name: str = "loss", points: int = 50, curves: int = 2) -> LineChart:
    """Noisy curves that fall; the last one is somebody else's."""
    rng = np.random.default_rng(RNG_SEED)
    x = 10.0 * np.arange(points)
    series = [
        Series(f"curve {i}", x.tolist(), (2 / (1 + x / 50) + rng.uniform(0, 0.1, points)).tolist(), i == curves - 1)
        for i in range(curves)
    ]
    return LineChart(name, "Loss over steps", "The mean of four nodes.", "steps", "training loss", series, level=0.5)


def bar_chart(name: str = "traffic", log: bool = True) -> BarChart:
    """Three groups, of which one lacks a figure."""
    bars = [Bars("float32", [5245.0, 7546.0, 3102.0]), Bars("DGC", [121.0, None, 18.2], published=True)]
    groups = ["MNIST, mlp", "MNIST, cnn", "CIFAR-10, vgg19 of quarter width"]
    return BarChart(name, "Traffic until 0.97", "Received.", "MB received", groups, bars, log=log, level=100.0)


def histogram(name: str = "steps", log: bool = False) -> Histogram:
    """Two distributions."""
    rng = np.random.default_rng(RNG_SEED)
    series = [
        Sample(title, (scale * np.exp(rng.normal(0, 0.3, 500))).tolist())
        for title, scale in (("overlapped", 20.0), ("waiting", 50.0))
    ]
    return Histogram(name, "Time per step", "Of all nodes.", "ms per step", series, log)


def case(number: int, state: str = "done") -> CaseRecord:
    """A case whose environment differs from the others' in its load and its link."""
    return CaseRecord(
        title=f"ring, seed {number}",
        state=state,  # type: ignore[arg-type]
        seconds=60.0 + number if state == "done" else None,
        error="no space left on device\n  -> make room" if state == "failed" else "",
        settings={"train": {"seed": number}, "gossip": {"topology": "ring"}},
        environment={
            "versions": {"python": "3.11.7", "keras": "3.9"},
            "cores": 2,
            "memory_bytes": 4_000_000_000,
            "load": 0.25 * number,
            "links": {"mbit": [100, 1000][number % 2]},
        },
    )


def promise(holds: bool | None = True) -> Promise:
    """Something that was claimed."""
    return Promise(
        "bytes until 0.97 against float32", "<= 1/20", {True: "1/166", False: "1/14", None: ""}[holds], holds
    )


def findings(name: str = "mnist_quarters", rank: int = 100, **others: object) -> Findings:
    """An experiment that is done, and whose claim holds."""
    given: dict[str, object] = {
        "title": f"The title of {name}",
        "claim": f"What {name} claims.",
        "source": "Blot and others, 2016",
        "command": f"python -m experiments {name} --size small",
        "size": "small",
        "sentence": f"what {name} found, 0.9761 against 0.9749",
        "promises": [promise()],
        "tables": [FoundTable("Test accuracy", ["case", "ours", "published"], [["ring", "0.9761", "0.977"]])],
        "charts": [line_chart(), bar_chart(), histogram()],
        "notes": ["Two cores only."],
        "cases": [case(number) for number in range(3)],
        **others,
    }
    return Findings(name=name, rank=rank, **given)  # type: ignore[arg-type]


def leave_findings(folder: Path, found: Findings) -> Path:
    """The folder of one experiment."""
    folder.mkdir(parents=True)
    write_findings(folder, found)
    return folder


def leave_several(folder: Path) -> Path:
    """The folder of five experiments, one of each verdict."""
    leave_findings(folder / "a", findings("a_last", 9))
    leave_findings(folder / "b", findings("b_part", 2, promises=[promise(), promise(False)]))
    leave_findings(folder / "c", findings("c_not", 3, promises=[promise(False)]))
    leave_findings(folder / "d", findings("d_shown", 1, promises=[]))
    leave_findings(folder / "e", findings("e_open", 4, cases=[case(0), case(1, "failed"), case(2, "missing")]))
    return folder
