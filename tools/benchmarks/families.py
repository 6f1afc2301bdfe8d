"""Every row by its family, and how one of them is measured in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from p2pdl.errors import ProcessDied
from tools.benchmarks import codecs, encryption, memory, publication, pull, push, server, sparsifiers, steps
from tools.benchmarks.measurement import Effort, Found, Row
from tools.benchmarks.role import answer, orders
from tools.benchmarks.worker import Worker

FAMILIES: dict[str, tuple[Row, ...]] = {
    "pull": pull.ROWS,
    "encryption": encryption.ROWS,
    "publication": publication.ROWS,
    "codecs": codecs.ROWS,
    "sparsifiers": sparsifiers.ROWS,
    "server": server.ROWS,
    "push": push.ROWS,
    "memory": memory.ROWS,
    "steps": steps.ROWS,
}

ALL = "all"
"""The word for every row."""

SHOWN_BYTES = 3000
"""Of what the processes of a row have written, should they fail."""


def rows() -> dict[str, Row]:
    """Every row by its name."""
    return {row.name: row for family in FAMILIES.values() for row in family}


def chosen(names: Sequence[str]) -> list[Row]:
    """The rows of some names, each once, in the order of the families.

    Args:
        names: Names of rows or families, or `all`; with none of them, the rows that take seconds.

    Raises:
        KeyError: There is no row or family of a name.
    """
    if not names:
        return [row for row in rows().values() if row.quick]
    wanted: set[str] = set()
    for name in names:
        if name == ALL:
            wanted |= rows().keys()
        elif name in FAMILIES:
            wanted |= {row.name for row in FAMILIES[name]}
        else:
            wanted.add(rows()[name].name)
    return [row for row in rows().values() if row.name in wanted]


def measure(row: Row, effort: Effort) -> Found:
    """Measure a row in a process of its own, so that none depends on those measured before.

    Raises:
        ProcessDied: It could not be measured; the end of what its processes have written is part of the message.
    """
    settings = {"name": row.name, "repeats": effort.repeats, "trial": effort.trial}
    with tempfile.TemporaryFile() as log:
        try:
            with Worker(measure_here, log, **settings) as worker:
                found = worker.ask("measure")
        except ProcessDied as error:
            log.seek(0)
            written = log.read()[-SHOWN_BYTES:].decode(errors="replace")
            raise ProcessDied(f"{written}{row.name}: {error.message}", error.remedy) from None
    return Found([(measured, reference) for measured, reference in found["pairs"]], found["details"], found["note"])


def measure_here(name: str, repeats: int, trial: bool) -> None:
    """Role that measures a row."""
    for _ in orders():
        found = rows()[name].measure(Effort(repeats, trial))
        answer(pairs=found.pairs, details=found.details, note=found.note)
