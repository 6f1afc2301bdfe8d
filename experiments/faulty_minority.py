"""Two faulty nodes of five cost the three others no step, hardly any time and no accuracy.

Claim: with two nodes that fall silent, are slow, are cut off in mid-transfer, are damaged on the way, are full of NaN,
are a thousand times too large, or lie about their loss, the three others do all their steps; their median step takes at
most 1.1 times as long as without those two; and their models, before and after the final merge, are within 1 point.
Source: for the last two, He, Karimireddy, Jaggi, "Byzantine-Robust Decentralized Learning via ClippedGossip" (2022).
Command: python -m experiments.faulty_minority          about 15 minutes on two cores

The faulty nodes have a server and take part in the membership, but do not train: they serve copies of an honest node's
weights, or what they make of them, so that they take no time from the processors that the others share. The run
without them is on the three fifths of the data that the others have.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.faulty_cluster import HONEST, Case, Row, train, write_data
from experiments.running import data_file
from experiments.tables import output, table
from p2pdl.errors import P2pdlError
from p2pdl.node.supervisor import EXIT_INTERRUPTED
from tools.faults import Faults, Way

STEP_RATIO, POINTS = 1.1, 1.0
"""What a faulty minority may cost: of a step's time, and in hundredths of the accuracy."""

CASES = (
    Case("silent", falls_silent=True),
    Case("slow", faults=Faults(Way(bandwidth=1e4), Way(bandwidth=1e4))),
    Case("cut", faults=Faults(from_target=Way(cut_after=100_000))),
    Case("corrupting", faults=Faults(from_target=Way(corrupt_every=50_000))),
    Case("nan", lambda first, newest: np.full_like(newest, np.nan)),
    Case("scaled", lambda first, newest: 1000 * newest),
    # Whoever believes them goes back to the first steps with nine tenths of each merge.
    Case("lying", lambda first, newest: first, loss=0.0),
    Case("lying-measured", lambda first, newest: first, loss=0.0, gossip={"contribution": "measured"}),
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
    found = compared(rows, arguments.steps)
    if arguments.json:
        print(json.dumps({"steps": arguments.steps, "width": arguments.width, "seed": arguments.seed, "rows": found}))
    else:
        show(found)
    return 0


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line; ends the program where it makes no sense."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", default=",".join(names), help="with commas between them")
    parser.add_argument("--steps", type=int, default=6000, help="of each node")
    parser.add_argument("--width", type=float, default=0.5, help="of the mlp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="digits, 300 steps, one case: tries it out, shows nothing")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    if arguments.quick:
        arguments.cases, arguments.steps, arguments.width = "nan", 300, 0.1
    if unknown := set(arguments.cases.split(",")) - set(names):
        parser.error(f"there is no case {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    return arguments


def measure(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Train with each case; without faulty nodes before the first and after the last, since machines drift."""
    whole, parts = write_data(folder, images(arguments.quick), arguments.seed)
    chosen = [case for case in CASES if case.name in arguments.cases.split(",")]
    runs: list[Case | None] = [None, *chosen] if arguments.quick else [None, *chosen, None]
    return [
        train(case, sections(arguments, whole if case else parts), folder / f"run{number}")
        for number, case in enumerate(runs)
    ]


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
    }


def compared(rows: Sequence[Row], steps: int) -> list[dict[str, Any]]:
    """Each run as a JSON object, with what it lost against the mean of those without faulty nodes.

    Args:
        rows: Of all runs.
        steps: That each node had to do.

    Returns:
        The row's own fields, `step_ratio`, the lowest of the nodes' differences before and after the final merge in
        hundredths (`points_before` and `points_after`), and whether it `holds`.
    """
    alone = [row for row in rows if not row.case]
    step = statistics.mean(_step(row) for row in alone)
    before = np.mean([sorted(row.accuracies) for row in alone], axis=0)
    after = statistics.mean(min(row.consensus) for row in alone)
    found = []
    for row in rows:
        whole = not row.ended and len(row.accuracies) == len(HONEST)
        figures: dict[str, Any] = {
            "step_ratio": _step(row) / step if whole else None,
            "points_before": 100 * float(np.min(np.sort(row.accuracies) - before)) if whole else None,
            "points_after": 100 * (min(row.consensus) - after) if whole else None,
        }
        holds = (
            whole
            and row.steps == steps
            and figures["step_ratio"] <= STEP_RATIO
            and min(figures["points_before"], figures["points_after"]) >= -POINTS
        )
        found.append({**asdict(row), **figures, "holds": holds})
    return found


def _step(row: Row) -> float:
    return statistics.mean(row.step_seconds)


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table, and below it what failed."""
    console = output()
    before = ("ms a step", "ratio", "lowest before", "points", "lowest after", "points", "merges", "load")
    made = table("faulty nodes", "steps", *before, "", left=("faulty nodes", ""))
    for row in rows:
        made.add_row(
            row["case"] or "none",
            str(row["steps"]),
            " ".join(f"{1000 * seconds:.1f}" for seconds in row["step_seconds"]),
            _number(row["step_ratio"], ".3f"),
            _number(min(row["accuracies"], default=None), ".4f"),
            _number(row["points_before"], "+.2f"),
            _number(min(row["consensus"], default=None), ".4f"),
            _number(row["points_after"], "+.2f"),
            str(row["merges"]),
            f"{row['load']:.1f}",
            "holds" if row["holds"] else "does not hold",
        )
    console.print(made)
    for row in rows:
        name = row["case"] or "none"
        failed = ", ".join(f"{code} {count}" for code, count in row["failures"].items())
        console.print(f"{name}: {failed or 'no'} failures; {row['seconds']:.0f} s")
        if row["merged"]:
            console.print(f"{name}: {' and '.join(row['merged'])} in somebody's final merge")
        for node, how in row["ended"].items():
            console.print(f"{name}: {node} ended with {how}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    sys.exit(main())
