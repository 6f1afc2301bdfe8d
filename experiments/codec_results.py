"""Results of training with several codecs: kept in a folder, compared with each other, shown as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.tables import output, table
from p2pdl.errors import StartupError
from p2pdl.training.recorder import duration

REFERENCE = "float32"


def file_of(folder: Path, codec: str) -> Path:
    """Where the result of a codec is kept."""
    return folder / f"{codec.replace(':', '_')}.json"


def keep(folder: Path, result: Mapping[str, Any]) -> None:
    """Write a result, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    file = file_of(folder, result["codec"])
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(result, indent=2) + "\n")
    os.replace(unfinished, file)


def kept(folder: Path, codec: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of a codec if it is there.

    Args:
        folder: Where results are kept.
        codec: The codec's name on the wire.
        settings: What the result must have been made with.

    Raises:
        StartupError: It was made with other settings.
    """
    file = file_of(folder, codec)
    if not file.exists():
        return None
    result: dict[str, Any] = json.loads(file.read_text())
    made_with = result["settings"]
    different = sorted(key for key in {*made_with, *settings} if made_with.get(key) != settings.get(key))
    if different:
        was = ", ".join(f"{key} {made_with.get(key)} (now {settings.get(key)})" for key in different)
        raise StartupError(f"{file} was made with other settings: {was}", "name another folder with --out")
    return result


def first_reached(looks: Sequence[Mapping[str, Any]], target: float) -> Mapping[str, Any] | None:
    """The first look at which the consensus was as good as the target; None if it never was."""
    return next((look for look in looks if look["accuracy"] >= target), None)


def compared(results: Sequence[Mapping[str, Any]], target: float) -> list[dict[str, Any]]:
    """One row for each result, with ratios to float32's where that is among them.

    Args:
        results: With their `codec`, their `looks`, their `nbytes` and their `consensus_accuracy`.
        target: The consensus accuracy to reach.

    Returns:
        The results without their looks, and with the step and the bytes at which the target was reached
        (`step_at_target`, `nbytes_to_target`), ratios of bytes (`nbytes_to_target_ratio`, `nbytes_ratio`) and the
        difference of the final accuracy in points (`points`); None for what is not known.
    """
    rows = []
    for result in results:
        look = first_reached(result["looks"], target)
        rows.append(
            {
                **{key: value for key, value in result.items() if key not in ("looks", "settings")},
                "step_at_target": look["step"] if look else None,
                "nbytes_to_target": look["nbytes"] if look else None,
            }
        )
    reference = next((row for row in rows if row["codec"] == REFERENCE), None)
    for row in rows:
        for key in ("nbytes_to_target", "nbytes"):
            row[f"{key}_ratio"] = row[key] / reference[key] if reference and reference[key] and row[key] else None
        gained = row["consensus_accuracy"] - reference["consensus_accuracy"] if reference else None
        row["points"] = None if gained is None else 100 * gained
    return rows


def show(rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], target: float) -> None:
    """Print the rows of `compared`."""
    console = output()
    console.print(", ".join(f"{key} {value}" for key, value in settings.items()))
    to_target = (f"steps to {target:g}", "MB to it", "of float32")
    made = table(
        *("codec", *to_target, "consensus", "points", "nodes alone", "MB in all", "of float32 ", "merges", "took"),
        left=("codec",),
    )
    for row in rows:
        nodes = row["node_accuracies"]
        made.add_row(
            row["codec"],
            text(row["step_at_target"], "{}"),
            text(row["nbytes_to_target"], "{:.1f}", 1e-6),
            share(row["nbytes_to_target_ratio"]),
            f"{row['consensus_accuracy']:.4f}",
            text(row["points"], "{:+.2f}"),
            f"{min(nodes):.4f} - {max(nodes):.4f}",
            f"{row['nbytes'] / 1e6:.1f}",
            share(row["nbytes_ratio"]),
            str(sum(row["merges"])),
            duration(row["seconds"]),
        )
    console.print(made)
    merge = max(row["final_merge_nbytes"] for row in rows) / 1e6
    console.print(f"MB are those that a node receives; a final merge, always in float32, is {merge:.1f} MB more")


def text(value: float | None, form: str, factor: float = 1) -> str:
    """A number times a factor in a form, or a dash."""
    return "-" if value is None else form.format(value * factor)


def share(ratio: float | None) -> str:
    """A ratio as one over a number."""
    return "-" if ratio is None else f"1/{1 / ratio:.1f}"
