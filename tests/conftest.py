"""What holds for every test: it leaves nothing behind, and no example fails for being slow on a busy machine."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import settings

from experiments import network
from experiments.harness.data import DATA
from tests.processes import children, end, wait_until
from tests.stores import open_stores

settings.register_profile("p2pdl", deadline=None)
settings.load_profile("p2pdl")

GRACE_SECONDS = 3.0

REQUIREMENTS: dict[str, tuple[Callable[[], bool], str]] = {
    "data": (lambda: (DATA / "mnist.npz").exists(), f"needs the full data sets in {DATA}"),
    "root": (
        lambda: not network.available(),
        "needs root, the right to make network namespaces, and the commands ip and tc",
    ),
}
"""Marks of tests that need something: whether it is there, and what to say where it is not."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run."""
    for mark, (is_met, reason) in REQUIREMENTS.items():
        if not is_met():
            for item in items:
                if item.get_closest_marker(mark):
                    item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that was skipped although what it needs is there has failed."""
    report = yield
    for mark, (is_met, _) in REQUIREMENTS.items():
        if report.skipped and item.get_closest_marker(mark) and is_met():
            report.outcome = "failed"
            report.longrepr = f"skipped although this machine meets the requirement of the mark {mark!r}"
    return report


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
