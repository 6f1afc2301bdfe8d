"""What holds for every test: it leaves nothing behind, and no example fails for being slow on a busy machine."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.processes import children, end, wait_until
from tests.stores import open_stores

settings.register_profile("p2pdl", deadline=None)
settings.load_profile("p2pdl")

GRACE_SECONDS = 3.0


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Fail a test after which a child process, a thread of p2pdl or a store's memory is still there."""
    processes, threads, stores = children(), _threads(), open_stores()
    yield

    def left() -> dict[str, object]:
        found = {
            "processes": children() - processes,
            "threads": _threads() - threads,
            "stores": open_stores() - stores,
        }
        return {what: things for what, things in found.items() if things}

    if not left():
        return
    gc.collect()
    if not wait_until(lambda: not left(), GRACE_SECONDS):
        leaked = left()
        for pid in children() - processes:
            end(pid)
        pytest.fail(f"left behind: {leaked}")


def _threads() -> set[str]:
    return {f"{thread.name} {thread.ident}" for thread in threading.enumerate() if thread.name.startswith("p2pdl-")}
