"""What the mean threshold does when it is read to the letter.

Claim: keeping `g >= mean(g)`, as Algorithm 1 is written, throws away nearly every negative gradient and training fails;
keeping `|g| >= mean(|g|)` trains as well as no mask at all.
Source: Cui, "Decentralized Deep Learning with Gradient Compression" (2019), Algorithm 1, lines 15 and 16.
Command: python -m experiments.literal_threshold       about 1 minute on two cores
"""

from __future__ import annotations

import sys

from experiments.running import SINGLE, data_file, run_case, table


def main() -> int:
    rows = [["mask", "kept", "train loss", "test accuracy after one pass"]]
    for mask in ("signed", "magnitude", "none"):
        settings = {
            **SINGLE,
            "data": {"source": f"npz:{data_file('mnist.npz')}"},
            "train": {"passes": 1},
            "compress": {"mask": mask},
        }
        node = run_case(mask, 1, settings)["nodes"][0]
        kept = "1.00" if node["density"] is None else f"{node['density']:.2f}"
        rows.append([mask, kept, f"{node['train_loss']:.3f}", f"{node['test_accuracy']:.4f}"])
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
