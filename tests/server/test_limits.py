"""The limits that a server process sets itself: memory beyond them is not to be had, and what it needs is."""

from __future__ import annotations

import contextlib
import logging
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from p2pdl.codec.ends import decoder, encoder
from p2pdl.node.children import Lifeline, serving_limits, start_server
from p2pdl.protocol.messages import Envelope, StatusRequest
from p2pdl.protocol.pull import PullSettings
from p2pdl.protocol.serving import Serving, ServingLimits
from p2pdl.puller.inbox import Inbox
from p2pdl.server import limits
from p2pdl.server.answer import Answerer
from p2pdl.spec import SHARD_ELEMENTS, WeightSpec
from p2pdl.wire import encode
from tests.config.cases import GOOD, read
from tests.processes import ROOT, free_port, memory_mib, server, wait_until
from tests.protocol.nodes import node_serving
from tests.puller.pulling import WAIT, requester_of, status_of
from tests.stores import dense_spec, new_store, publish, random_vector, writing

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MIB = 1 << 20
DELTA = "top-k:0.1:int8"


def said(code: str) -> list[str]:
    """What a process of its own says, whose limits are nobody else's."""
    head = "import mmap, os, resource, numpy as np; from p2pdl.server import limits; MIB = 1 << 20\n"
    done = subprocess.run([sys.executable, "-c", head + code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


PROBE = """
def can_have(mib):
    try:
        return bool(np.ones(mib * MIB, np.uint8).size)
    except MemoryError:
        return False
"""


@linux_only
def test_memory_beyond_the_allowance_is_not_to_be_had() -> None:
    code = "limit = limits.MemoryLimit(100 * MIB, lambda: 0)\nprint(can_have(80), can_have(120), can_have(80))"
    assert said(PROBE + code) == ["True", "False", "True"]


@linux_only
def test_memory_that_is_needed_is_added_and_never_taken_back() -> None:
    code = """
needed = [0]
limit = limits.MemoryLimit(100 * MIB, lambda: needed[0])
for now in (0, 300, 50):
    needed[0] = now * MIB
    limit.adapt()
    print(can_have(380))
"""
    assert said(PROBE + code) == ["False", "True", "True"]


@linux_only
def test_store_and_reserved_address_space_do_not_count() -> None:
    code = """
limit = limits.MemoryLimit(100 * MIB, lambda: 0)
store = os.memfd_create("store")
os.ftruncate(store, 1000 * MIB)
mapped = mmap.mmap(store, 1000 * MIB)
mapped[:: MIB] = b"x" * 1000
reserved = mmap.mmap(-1, 1000 * MIB, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
print(can_have(80))
"""
    assert said(PROBE + code) == ["True"]


@linux_only
def test_memory_limit_leaves_the_hard_limit_and_stays_below_it() -> None:
    code = """
own = limits.data_nbytes()
resource.setrlimit(resource.RLIMIT_DATA, (own + 50 * MIB, own + 50 * MIB))
limit = limits.MemoryLimit(100 * MIB, lambda: 0)
print(*(bound - own for bound in resource.getrlimit(resource.RLIMIT_DATA)))
"""
    assert said(code) == [str(50 * MIB)] * 2


@linux_only
def test_data_bytes_grow_with_private_memory() -> None:
    code = "a = limits.data_nbytes(); x = np.ones(200 * MIB, np.uint8); print((limits.data_nbytes() - a) // MIB)"
    assert 199 <= int(said(code)[0]) <= 202


def test_system_without_such_limits_is_told_once_and_nothing_is_limited(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "data_nbytes", lambda: None)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with caplog.at_level(logging.INFO):
        limit = limits.MemoryLimit(MIB, lambda: 0)
        limit.adapt()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert caplog.text.count("server.memory is without effect") == 1


@pytest.mark.parametrize(
    ("soft", "hard", "expected"), [(256, 1000, 1000), (256, 10_000, 4096), (5000, 10_000, 5000), (64, 64, 64)]
)
def test_descriptor_limit_is_raised_as_far_as_the_machine_allows(soft: int, hard: int, expected: int) -> None:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if allowed != resource.RLIM_INFINITY and allowed < hard:
        pytest.skip(f"this machine allows {allowed} descriptors")
    code = f"""
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(limits.raise_descriptor_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert said(code) == [str(expected), str(expected), str(hard)]


def pull_delta(address: str, name: str, spec: WeightSpec) -> None:
    """Pull as often as it takes to get one's turn."""
    end, inbox = decoder(DELTA, spec), Inbox(spec)
    settings = PullSettings(timeout=60, request_timeout=WAIT)
    with requester_of(name) as requester:

        def is_pulled() -> bool:
            inbox.expect(None)
            return requester.pull("alpha", address, spec, settings, inbox.accept, decoder=end).error is None

        assert wait_until(is_pulled, WAIT)


@linux_only
def test_limit_of_a_server_follows_the_model_and_the_copies_that_it_keeps() -> None:
    spec = dense_spec(3 * SHARD_ELEMENTS)
    with new_store() as store, server(store) as running:
        pid = running.process.pid

        def limit() -> int:
            status_of(running.address)
            return resource.prlimit(pid, resource.RLIMIT_DATA)[0]

        with writing(store, spec) as writer:
            publish(writer, random_vector(spec.size))
            before = limit()
            copy = encoder(DELTA, spec).nbytes
            for number, name in enumerate(("beta", "gamma"), 1):
                pull_delta(running.address, name, spec)
                assert limit() == before + number * copy
        descriptors = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert descriptors[0] == min(max(descriptors[0], 4096), descriptors[1])


def data_nbytes(pid: int) -> int:
    return round(MIB * memory_mib(pid, "VmData"))


@linux_only
def test_limit_of_a_server_is_its_own_memory_and_the_allowance() -> None:
    spec = dense_spec(SHARD_ELEMENTS)
    with new_store() as store, writing(store, spec) as writer:
        publish(writer, random_vector(spec.size))
        with server(store) as running:
            status_of(running.address)
            granted = resource.prlimit(running.process.pid, resource.RLIMIT_DATA)[0]
            own = data_nbytes(running.process.pid)
            beyond = granted - own - spec.nbytes
            # Threads that have been started since took their stacks.
            assert ServingLimits.memory_nbytes - 64 * MIB < beyond <= ServingLimits.memory_nbytes


@linux_only
def test_setting_of_the_file_is_the_allowance_of_the_process(tmp_path: Path) -> None:
    granted = serving_limits(read(tmp_path, GOOD + "server: {memory: 100}\n"))
    assert granted.memory_nbytes == 100 * MIB
    lifeline = Lifeline()
    with contextlib.closing(lifeline), new_store() as store:
        server_process = start_server(
            "lab", "alpha", f"127.0.0.1:{free_port()}", store, lifeline, None, granted
        ).ready()
        try:
            limit = resource.prlimit(server_process.pid, resource.RLIMIT_DATA)[0]
            assert 36 * MIB < limit - data_nbytes(server_process.pid) <= 100 * MIB
        finally:
            server_process.kill()
            server_process.wait()


def test_answerer_without_memory_refuses_says_so_once_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    serving = Serving("lab", node_serving(np.zeros(64, np.float32)))
    answerer = Answerer("lab", "alpha", serving)
    request = [memoryview(encode(Envelope(7, "lab", "beta", StatusRequest())))]
    good = serving.on_request

    def fails(*_: object) -> object:
        raise MemoryError("no block of 4 MiB")

    serving.on_request = fails  # type: ignore[method-assign,assignment]
    assert [answerer(request, 0.0).refused for _ in range(3)] == ["internal"] * 3
    serving.on_request = good  # type: ignore[method-assign]
    assert answerer(request, 0.0).refused == ""
    assert caplog.text.count("within the memory that server.memory allows") == 1
    assert "Traceback" not in caplog.text
