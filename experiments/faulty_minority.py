"""Two faulty nodes of five cost the three others no step, hardly any time and no accuracy.

Claim: with two nodes that fall silent, are slow, are cut off in mid-transfer, are damaged on the way, are full of NaN,
are a thousand times too large, or lie about their loss, the three others do all their steps; their median step takes at
most 1.1 times as long as without those two; and their models, before and after the final merge, are within 1 point.
Source: for the last two, He, Karimireddy, Jaggi, "Byzantine-Robust Decentralized Learning via ClippedGossip" (2022).
Command: python -m experiments.faulty_minority          about 15 minutes on two cores

The faulty nodes have a server and take part in the membership, but do not train: they serve copies of an honest node's
weights, or what they make of them, so that they take no time from the processors that the others share. With each of
these runs goes, at the same time, one of three nodes without faulty ones, on the same three fifths of the data.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.faulty_cluster import HONEST, Case, Row, Trio, train_side_by_side, write_data
from experiments.running import data_file
from experiments.tables import output, table
from p2pdl.errors import EXIT_INTERRUPTED, P2pdlError
from tools.faults import Faults, Way

STEP_RATIO, POINTS = 1.1, 1.0
"""What a faulty minority may cost: of a step's time, and in hundredths of the accuracy."""

LINE_SECONDS = 0.2
"""Between two lines of a node's metrics, by which its steps are measured."""

CASES = (
    Case("silent", falls_silent=True),
    Case("slow", faults=Faults(Way(bandwidth=1e4), Way(bandwidth=1e4))),
    Case("cut", faults=Faults(from_target=Way(cut_after=100_000))),
    Case("corrupting", faults=Faults(from_target=Way(corrupt_every=50_000))),
    Case("nan", lambda first, newest: np.full_like(newest, np.nan)),
    Case("scaled", lambda first, newest: 1000 * newest),
    Case("lying", loss=0.0),
    # Beyond the claim: liars who are half of everybody's neighbours, and drag them back to the first steps.
    Case("stale", lambda first, newest: first, loss=0.0),
    Case("stale-measured", lambda first, newest: first, loss=0.0, gossip={"contribution": "measured"}),
)


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse(words)
    try:
        with tempfile.TemporaryDirectory(prefix="p2pdl-faulty-") as folder:
            rows = measure(arguments, Path(folder))
    except P2pdlError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    if arguments.json:
        print(json.dumps({"steps": arguments.steps, "width": arguments.width, "seed": arguments.seed, "rows": rows}))
    else:
        show(rows)
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the program where it makes no sense."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", default=",".join(names), help="with commas between them")
    parser.add_argument("--steps", type=int, default=6000, help="of each node")
    parser.add_argument("--width", type=float, default=0.5, help="of the mlp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="digits, 1000 steps, one case: tries it out, shows nothing"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    if arguments.quick:
        arguments.cases, arguments.steps, arguments.width = "nan", 1000, 0.1
    if unknown := set(arguments.cases.split(",")) - set(names):
        parser.error(f"there is no case {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    return arguments


def measure(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Train with each case; a JSON object for each."""
    whole, parts = write_data(folder, images(arguments.quick), arguments.seed)
    found = []
    for case in CASES:
        if case.name in arguments.cases.split(","):
            load, began = os.getloadavg()[0], time.monotonic()
            both = train_side_by_side(
                case,
                Trio(sections(arguments, whole), folder / f"{case.name}-with", case),
                Trio(sections(arguments, parts), folder / f"{case.name}-without", None),
            )
            found.append((case.name, *both, time.monotonic() - began, load))
    return compared(found, arguments.steps)


def images(quick: bool) -> dict[str, np.ndarray]:
    """MNIST, or scikit-learn's digits."""
    if not quick:
        with np.load(data_file("mnist.npz")) as data:
            return {name: data[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    from sklearn.datasets import load_digits

    bundled = load_digits()
    test = np.arange(len(bundled.target)) % 5 == 0
    x, y = bundled.images.astype(np.float32)[..., np.newaxis] / 16, bundled.target.astype(np.int32)
    return {"x_train": x[~test], "y_train": y[~test], "x_test": x[test], "y_test": y[test]}


def sections(arguments: argparse.Namespace, data: Path) -> dict[str, Any]:
    """The configuration but for its nodes."""
    return {
        "model": {"name": "mlp", "width": arguments.width},
        "data": {"source": f"npz:{data}"},
        "train": {"steps": arguments.steps, "batch_size": 64, "threads": 1, "seed": arguments.seed},
        "gossip": {"start_wait": 120},
        "metrics": {"interval": LINE_SECONDS},
    }


def compared(runs: Sequence[tuple[str, Row, Row, float, float]], steps: int) -> list[dict[str, Any]]:
    """Each case as a JSON object, with what its honest nodes lost.

    Step times are compared with those of the nodes that trained at the same time; accuracies, which do not depend on
    the machine, with the mean over all runs without faulty nodes.

    Args:
        runs: Name, both rows, seconds and load of each.
        steps: That each node had to do.

    Returns:
        Both rows (`with`, `without`), `step_ratio`, the lowest of the nodes' differences before and after the final
        merge in hundredths (`points_before` and `points_after`), and whether it `holds`.
    """
    good = [alone for _, _, alone, _, _ in runs if _is_whole(alone)]
    before = [statistics.mean(each) for each in zip(*(sorted(row.accuracies) for row in good), strict=True)]
    after = statistics.mean(min(row.consensus) for row in good) if good else math.nan
    found = []
    for name, row, alone, seconds, load in runs:
        figures: dict[str, Any] = {"step_ratio": None, "points_before": None, "points_after": None, "holds": False}
        if _is_whole(row) and good:
            figures["points_before"] = 100 * float(np.min(np.sort(row.accuracies) - before))
            figures["points_after"] = 100 * (min(row.consensus) - after)
        if _is_whole(row) and _is_whole(alone):
            figures["step_ratio"] = statistics.mean(row.step_seconds) / statistics.mean(alone.step_seconds)
            figures["holds"] = (
                row.steps == steps
                and figures["step_ratio"] <= STEP_RATIO
                and min(figures["points_before"], figures["points_after"]) >= -POINTS
            )
        both = {"with": asdict(row), "without": asdict(alone)}
        found.append({"case": name, "seconds": seconds, "load": load, **both, **figures})
    return found


def _is_whole(row: Row) -> bool:
    """Whether all honest nodes have ended well, with steps that count."""
    return not row.ended and len(row.accuracies) == len(row.step_seconds) == len(HONEST)


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table, and below it what failed."""
    console = output()
    columns = (
        "ms a step",
        "without",
        "ratio",
        "lowest before",
        "without",
        "points",
        "lowest after",
        "without",
        "points",
    )
    made = table("faulty nodes", "steps", *columns, "merges", "without", "load", "", left=("faulty nodes", ""))
    for row in rows:
        ours, theirs = row["with"], row["without"]
        cells = [_milliseconds(ours), _milliseconds(theirs), _number(row["step_ratio"], ".3f")]
        for name, points in (("accuracies", "points_before"), ("consensus", "points_after")):
            cells += [_number(min(each[name], default=None), ".4f") for each in (ours, theirs)]
            cells.append(_number(row[points], "+.2f"))
        cells += [str(ours["merges"]), str(theirs["merges"]), f"{row['load']:.1f}"]
        made.add_row(row["case"], str(ours["steps"]), *cells, "holds" if row["holds"] else "does not hold")
    console.print(made)
    for row in rows:
        failed = ", ".join(f"{code} {count}" for code, count in row["with"]["failures"].items())
        console.print(f"{row['case']}: {failed or 'no'} failures; {row['seconds']:.0f} s")
        if row["with"]["merged"]:
            console.print(f"{row['case']}: {' and '.join(row['with']['merged'])} in somebody's final merge")
        for which in ("with", "without"):
            for node, how in row[which]["ended"].items():
                console.print(f"{row['case']}: {node} ({which} faulty nodes) ended with {how}")


def _milliseconds(row: Mapping[str, Any]) -> str:
    return _number(1000 * statistics.mean(row["step_seconds"]) if row["step_seconds"] else None, ".1f")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    sys.exit(main())
