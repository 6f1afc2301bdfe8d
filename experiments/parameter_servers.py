"""Every parameter-server system of the papers trains MNIST to the accuracy of its policy: four workers, one server.

Claim: `cui-ps`, `tsai` and `adsp` reach 0.965 in as many samples in all as one machine needs for 0.97; `adacomp` with
1 % of the entries 0.96; `esgd` that drops 50, 75 and 87.5 % of them 0.95, 0.93 and 0.90.
Source: `docs/systems`; eSGD's published accuracies are 0.912, 0.867 and 0.815.
Command: python -m experiments.parameter_servers        about 12 minutes on two cores

All have the same model (`mlp`), data (an iid quarter each), batch and number of samples, three passes. Ingress is what
the server receives from all workers, as a share of what the same pushes would take in dense float32.
"""

from __future__ import annotations

import sys
from typing import Any

from experiments.running import SINGLE, data_file, run_case, table

PASSES = 3
WORKERS = 4

PARAMETER_SERVER: dict[str, Any] = {"strategy": "parameter-server"}
CASES: list[tuple[str, float, dict[str, Any]]] = [
    ("bsp", 0.965, {"server": {"policy": "bsp"}}),
    ("ssp 3", 0.965, {"server": {"policy": "ssp"}}),
    ("cui-ps", 0.965, {"server": {"policy": "asp"}}),
    (
        "downpour",
        0.0,
        {
            "server": {"policy": "asp", "rate": 1.0},
            "train": {"optimizer": {"name": "sgd", "learning_rate": 0.1, "arguments": {}}},
        },
    ),
    ("tsai", 0.965, {"server": {"policy": "ssp", "update_rule": "direction-distance"}}),
    ("tsai, range auto", 0.0, {"server": {"policy": "ssp", "update_rule": "direction-distance", "range": "auto"}}),
    (
        "adsp",
        0.965,
        {
            "server": {"policy": "adsp", "check_period": 1.0, "pushes": 8, "search_window": 2.0},
            "compress": {"mask": "none"},
        },
    ),
    (
        "adacomp 1 %",
        0.96,
        {
            "server": {"policy": "asp", "update_rule": "adacomp", "rate": 1.0},
            "train": {"optimizer": {"name": "sgd", "learning_rate": 0.1, "arguments": {}}},
            "compress": {"sparsifier": "adacomp", "kept": 0.01, "values": "float32"},
        },
    ),
    *(
        (
            f"esgd, drop {100 * drop:g} %",
            floor,
            {
                "server": {"policy": "bsp"},
                "compress": {"sparsifier": "esgd", "kept": 1.0 - drop, "values": "float32"},
            },
        )
        for drop, floor in ((0.5, 0.95), (0.75, 0.93), (0.875, 0.90))
    ),
]
"""Title, least accuracy (0 where nothing is claimed), and the settings besides those that all share."""


def main() -> int:
    data = {"source": f"npz:{data_file('mnist.npz')}"}
    chosen = sys.argv[1:]
    rows = [["case", "accuracy", "target", "", "s", "ms a step", "waited", "ingress MB", "of dense"]]
    for title, floor, settings in CASES:
        if chosen and title not in chosen:
            continue
        train = {"passes": PASSES, **settings.get("train", {})}
        case = {**PARAMETER_SERVER, **settings, "data": data, "train": train}
        summary = run_case(title, WORKERS, case, servers=1)
        server = next(node for node in summary["nodes"] if node.get("role") == "server")
        workers = [node for node in summary["nodes"] if node is not server]
        accuracy = summary["consensus"]["test_accuracy"] if summary["consensus"] else float("nan")
        dense = server["pushes"] * server["dense_bytes"]
        rows.append(
            [
                title,
                f"{accuracy:.4f}",
                f"{floor:g}" if floor else "-",
                "-" if not floor else "holds" if accuracy >= floor else "does not hold",
                f"{summary['seconds']:.0f}",
                " ".join(f"{1000 * node['seconds_per_step']['median']:.1f}" for node in workers),
                " ".join(f"{node['wait_seconds']:.1f}" for node in workers),
                f"{1e-6 * server['ingress_bytes']:.1f}",
                f"1/{dense / server['ingress_bytes']:.3g}" if server["ingress_bytes"] else "-",
            ]
        )
    if not chosen or "one machine" in chosen:
        alone = run_case("one machine", 1, {**SINGLE, "data": data, "train": {"passes": PASSES}})
        accuracy = alone["nodes"][0]["test_accuracy"]
        rows.append(["one machine", f"{accuracy:.4f}", "", "", f"{alone['seconds']:.0f}", "", "", "", ""])
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
