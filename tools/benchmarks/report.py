"""What the benchmark prints: the machine, and a line for each row, as a table or as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from p2pdl._version import VERSION
from p2pdl.cli.numbers import significant
from p2pdl.cli.tables import output, table
from p2pdl.node.local_nodes import cores
from tools.benchmarks.families import FAMILIES
from tools.benchmarks.measurement import Effort, Result

LIBRARIES = ("numpy", "tensorflow", "tensorflow-cpu", "keras", "pyzmq", "xxhash", "ml-dtypes")
VERDICTS = {True: "met", False: "missed"}


def machine() -> dict[str, Any]:
    """What the figures depend on: cores, load, processor and versions."""
    versions = {"p2pdl": VERSION, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cores": cores(),
        "load": os.getloadavg(),
        "processor": processor(),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
    }


def processor() -> str:
    """The processor's name, as the system knows it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def show(where: dict[str, Any], effort: Effort, results: Sequence[Result]) -> None:
    """Print the figures as a table."""
    console = output()
    load = ", ".join(f"{value:.2f}" for value in where["load"])
    console.print(f"{where['processor']}, {where['cores']} cores, load {load} before, {where['system']}")
    console.print(", ".join(f"{name} {version}" for name, version in where["versions"].items()))
    if effort.trial:
        console.print("A trial at tiny sizes: the figures say nothing of p2pdl.")
    rows = table(
        "row",
        "measured",
        "reference",
        "unit",
        "ratio",
        "from",
        "to",
        "target",
        "",
        "note",
        left=("row", "unit", "", "note"),
    )
    for result in results:
        target = result.row.target
        rows.add_row(
            result.row.name,
            significant(result.measured),
            significant(result.reference),
            result.row.unit,
            *(f"{ratio:.3f}" for ratio in (result.ratio, min(result.ratios), max(result.ratios))),
            str(target or ""),
            VERDICTS[target.is_met(result.ratio)] if target and not effort.trial else "",
            result.found.note,
        )
    console.print(rows)
    console.print(f"Medians of {effort.repeats}; ratio: measured over reference, pair by pair.")
    references: dict[str, list[str]] = {}
    for result in results:
        references.setdefault(result.row.reference, []).append(result.row.name)
    for reference, names in references.items():
        console.print(f"Reference of {', '.join(names)}: {reference}.", soft_wrap=True)


def print_json(where: dict[str, Any], effort: Effort, results: Sequence[Result]) -> None:
    """Print the figures as one JSON object."""
    figures = [result.as_json() for result in results]
    print(json.dumps({"machine": where, "repeats": effort.repeats, "trial": effort.trial, "rows": figures}, indent=2))


def show_rows() -> None:
    """Print what can be measured."""
    console = output()
    for family, members in FAMILIES.items():
        console.print(f"{family}:")
        for row in members:
            name = row.name if row.quick else f"{row.name} *"
            target = f" [{row.target}]" if row.target else ""
            console.print(f"  {name:24}  {row.what}; against {row.reference}{target}", soft_wrap=True)
    console.print("* takes minutes: measured only if named, by its own name, its family's, or `all`")
