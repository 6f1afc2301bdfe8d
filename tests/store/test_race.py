"""A real reader in another process against a writer that publishes as fast as it can."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.processes import ROOT
from tests.stores import dense_spec, new_store, writing

READER = """
import sys
from p2pdl.store.reader import StoreReader
reader = StoreReader(int(sys.argv[1]))
newest, loads = 0, 0
while loads < int(sys.argv[2]):
    snapshot = reader.load()
    if snapshot is None:
        continue
    assert (snapshot.vector == snapshot.info.version % 1000).all(), "torn"
    assert snapshot.info.step == snapshot.info.version >= newest, "went back"
    newest, loads = snapshot.info.version, loads + 1
print("ok")
"""


@pytest.mark.parametrize("elements", [4096, 600_000])
def test_load_in_another_process_is_never_torn_while_publishing(elements: int) -> None:
    spec = dense_spec(elements)
    with new_store() as descriptor, writing(descriptor, spec) as writer:
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(descriptor), "150"],
            pass_fds=(descriptor,),
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        version = skipped = 0
        while reader.poll() is None:
            value = (version + 1) % 1000
            published = writer.publish(
                lambda target, value=value: target.fill(value),  # type: ignore[misc]
                step=version + 1,
                samples=0,
                loss=0.0,
            )
            version, skipped = (published, skipped) if published else (version, skipped + 1)
        output, _ = reader.communicate()
        assert (reader.returncode, output) == (0, b"ok\n")
        assert version > 10 and skipped == 0
