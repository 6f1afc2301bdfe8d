"""`docs/protocol.md` against the code: every message, field, limit and option, its bytes and its program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import zmq

from p2pdl.codec.indices import BITMAP, GAPS
from p2pdl.codec.sparse_values import VALUE_CODINGS
from p2pdl.config.serving import Server
from p2pdl.protocol.fields import Figures, Finite, Flag, Table, Text, Whole, WholeList
from p2pdl.protocol.held import HELD_VERSIONS, LEASE_SECONDS
from p2pdl.protocol.messages import (
    MESSAGE_TYPES,
    PROTOCOL_VERSION,
    RANGE_SHARDS,
    REFUSALS,
    REPLY_LIMIT,
    STATES,
    Envelope,
    InitialRequest,
    JoinRequest,
    PushRequest,
    RangeReply,
    RangeRequest,
    WorkerRequest,
)
from p2pdl.protocol.pull import ATTEMPTS, PullSettings
from p2pdl.protocol.server_state import ParameterServerSettings
from p2pdl.protocol.serving import SPEC_FRAME_BYTES, SPEC_FRAMES
from p2pdl.server.answer import WITH_PAYLOAD
from p2pdl.sparsifier import Selection, SelectionCoding
from p2pdl.sparsifier.payload import ALL, LEFT_OUT, OVERHEAD
from p2pdl.spec import ALIGNMENT, SHARD_ELEMENTS, WeightSpec, combine_digests, shard_digests, vector_digest
from p2pdl.transport.zeromq import WIDEST_WINDOW, ZmqClient, ZmqServer
from p2pdl.wire import FRAME_LIMIT, HEADER_LIMIT, decode, encode
from tests.processes import ROOT, free_port, server
from tests.stores import dense_spec, new_store, publish, random_vector, writing
from tests.wire.strategies import kinds

TEXT = (ROOT / "docs" / "protocol.md").read_text()
ROW = re.compile(r"^\|(.*)\|$", re.MULTILINE)


def section(heading: str) -> str:
    """The text below a heading, up to the next one of any level."""
    _, found, rest = TEXT.partition(f"\n{heading}\n")
    assert found, f"docs/protocol.md has no heading {heading!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def table(text: str, title: str) -> list[list[str]]:
    """The rows of the first table whose first column has this title."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {title} |"):
            next(lines)
            rows = []
            for row in lines:
                if not (found := ROW.match(row)):
                    break
                rows.append([cell.strip() for cell in found[1].split(" | ")])
            return rows
    raise AssertionError(f"no table of {title!r}")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def written(kind: object) -> str:
    """The type of a field in the page's words."""
    match kind:
        case Whole(0, high):
            return {2**63 - 1: "count", 2**64 - 1: "word"}[high]
        case Finite():
            return "number or nil"
        case Flag():
            return "boolean"
        case Text(limit):
            return f"text {limit}"
        case WholeList(limit, Whole(0, high)) if high == 2**64 - 1:
            return f"list of {limit} words"
        case Figures(limit):
            return f"map of {limit} scalars"
        case Table(limit):
            return f"list of {limit} maps"
    raise AssertionError(kind)


def test_page_has_a_section_for_every_message_and_for_no_other() -> None:
    assert re.findall(r"^### `([\w-]+)`$", TEXT, re.MULTILINE) == list(MESSAGE_TYPES)


@pytest.mark.parametrize("name", MESSAGE_TYPES)
def test_page_lists_every_field_of_a_message_with_its_type(name: str) -> None:
    fields = [(f"`{field}`", written(kind)) for field, kind in kinds(MESSAGE_TYPES[name]).items()]
    if not fields:
        assert "no fields" in section(f"### `{name}`")
        return
    rows = table(section(f"### `{name}`"), "field")
    assert [(row[0], row[1]) for row in rows] == fields
    assert all(len(row) == 3 and row[2] for row in rows)


def test_page_lists_every_state_and_refusal_code() -> None:
    assert [row[0] for row in table(section("### `status-reply`"), "state")] == [f"`{state}`" for state in STATES]
    codes = table(section("### `refusal`"), "code")
    assert [row[0] for row in codes] == [f"`{code}`" for code in REFUSALS]
    assert all(row[2] for row in codes)


def test_page_gives_version_and_limits() -> None:
    assert f"Protocol version: **{PROTOCOL_VERSION}**." in TEXT
    assert [row[:2] for row in table(TEXT, "limit")] == [
        ["header frame", str(HEADER_LIMIT)],
        ["payload frame", str(FRAME_LIMIT)],
    ]
    assert [row[0] for row in table(section("## The header"), "field")] == [
        *("`protocol`", "`type`", "`id`", "`cluster`", "`node`")
    ]
    vector = " ".join(section("## The vector").split())
    assert f"multiple of {ALIGNMENT} elements" in vector
    assert f"{SHARD_ELEMENTS} elements (1 MiB)" in vector and 4 * SHARD_ELEMENTS == SPEC_FRAME_BYTES < FRAME_LIMIT
    span = table(section("### `range`"), "field")
    assert f"multiple of {SHARD_ELEMENTS}" in span[2][2] and f"at most {RANGE_SHARDS} of them" in span[3][2]
    assert f"at most {REPLY_LIMIT} bytes" in section("### `range`")
    assert f"at most {SPEC_FRAMES} of" in section("### `spec-reply`")


def test_page_gives_windows_and_deadlines() -> None:
    pull = section("## A pull")
    expected = dict(table(pull, "expectation"))
    settings = PullSettings()
    assert expected["requests in flight on one connection"].startswith(f"at most {WIDEST_WINDOW};")
    assert f"{LEASE_SECONDS:g} s after" in expected["silence of the client"]
    assert expected["versions held by a server"].startswith(f"at most {HELD_VERSIONS};")
    assert f"{settings.request_timeout:g} s" in expected["silence of the server"]
    assert f"{settings.timeout:g} s" in expected["whole pull"]
    assert ATTEMPTS == 2 and "asked for once more" in pull


def test_page_gives_leases_and_frames_of_workers() -> None:
    workers = section("## Workers")
    assert f"`server.lease`, {Server().lease:g} s" in workers and Server().lease == ParameterServerSettings().lease
    assert [row[0] for row in table(workers, "bytes")] == ["1", "1", "2", "4", "", "the rest"]
    indices, values = (row[1] for row in table(workers, "bytes")[:2])
    codes = {"every entry": ALL, "a bitmap": BITMAP, "gaps": GAPS, "gaps between the entries left out": LEFT_OUT}
    assert all(f" {code} {name}" in indices for name, code in codes.items())
    assert all(f" {place} {name}" in values for place, name in enumerate(VALUE_CODINGS))
    spec = dense_spec(ALIGNMENT)
    [(_, frame)] = SelectionCoding(spec).encode(Selection(np.array([1, 4]), np.array([2.0, 3.0], np.float32)))
    written_out = bytes([BITMAP, 0, 0, 0, 2, 0, 0, 0]) + np.array([2, 3], "<f4").tobytes() + bytes([0b10010, 0])
    assert frame.tobytes() == written_out
    assert 4 * SHARD_ELEMENTS + OVERHEAD <= FRAME_LIMIT
    asked = {kind for kind in get_args(WorkerRequest) if kind in WITH_PAYLOAD}
    assert asked == set(WITH_PAYLOAD) == {JoinRequest, InitialRequest, PushRequest}
    assert "in a `join`, an `initial` and a `push`" in section("## Transport")


@pytest.mark.parametrize("side", ["server", "client"])
def test_page_gives_the_socket_options_in_force(side: str) -> None:
    server_end, client_end = ZmqServer(address := f"127.0.0.1:{free_port()}"), ZmqClient()
    try:
        socket = server_end._socket if side == "server" else client_end._socket(address)
        rows = table(section("## Socket options"), f"{side} option")
        for option, value, fault in rows:
            name = option.strip("`").removeprefix("ZMQ_")
            assert socket.getsockopt(getattr(zmq, name)) == int(value), name
            assert fault
    finally:
        client_end.close()
        server_end.close()


def test_page_leaves_no_socket_option_of_the_code_out() -> None:
    code = (ROOT / "p2pdl" / "transport" / "zeromq.py").read_text()
    client_code, server_code = code.split("class ZmqServer")
    for side, part in (("server", server_code), ("client", client_code)):
        in_code = set(re.findall(r"^ +socket\.(\w+) = ", part, re.MULTILINE)) - {"ipv6"}
        in_page = {row[0] for row in table(section("## Socket options"), f"{side} option")}
        assert in_page == {f"`ZMQ_{name.upper()}`" for name in in_code}


def test_example_in_bytes_is_what_the_code_sends() -> None:
    example = section("## An example in bytes")
    request, header, payload = (bytes.fromhex(block) for block in blocks("hex"))
    rows = next(block for block in blocks("text") if "dense/kernel" in block).splitlines()
    layout = [row.split(" ") for row in rows]
    spec = WeightSpec.layout(
        [
            (name, tuple(map(int, shape.split("x"))), dtype, kind == "trainable")
            for name, shape, dtype, _, kind in layout
        ]
    )
    assert ["\t".join(fields) for fields in layout] == list(spec.rows())
    assert f"{spec.size} elements" in example and spec.digest in example
    vector = np.zeros(spec.size, np.float32)
    kernel, bias, mean = spec.variables
    vector[kernel.span], vector[bias.span], vector[mean.span] = np.arange(12), 1, 0.5
    digests = shard_digests(vector)
    assert f"{digests[0]:#018x}" in example and f"{combine_digests(digests):#018x}" in example
    assert digests[0].to_bytes(8, "little").hex(" ") in example
    assert combine_digests(digests) == vector_digest(vector)
    assert payload == vector.tobytes()
    asked = Envelope(7, "lab", "probe", RangeRequest("00c0ffee00c0ffee", 3, 0, spec.size, "float32", (), True))
    assert decode(request) == asked and encode(asked) == request
    answered = Envelope(7, "lab", "alpha", RangeReply(3, 0, digests, ()))
    assert decode(header) == answered and encode(answered) == header


@pytest.fixture
def client(tmp_path: Path) -> Path:
    [program] = blocks("python")
    path = tmp_path / "client.py"
    path.write_text(program)
    return path


def test_program_pulls_the_weights_of_a_real_server(client: Path, tmp_path: Path) -> None:
    spec = dense_spec(2 * SHARD_ELEMENTS + 48)
    vector = random_vector(spec.size)
    weights = tmp_path / "weights"
    with new_store() as store, writing(store, spec) as writer, server(store) as running:
        command = [sys.executable, str(client), running.address, "lab", str(weights)]
        refused = subprocess.run(command, capture_output=True, text=True)
        assert (refused.returncode, refused.stderr) == (1, "not-ready: the node has not published any weights yet\n")
        publish(writer, vector, step=12)
        pulled = subprocess.run(command, capture_output=True, text=True)
        assert pulled.stdout == f"version 1: {spec.size} elements after 12 steps\n", pulled.stderr
        assert weights.read_bytes() == vector.tobytes()
        command[3] = "other"
        refused = subprocess.run(command, capture_output=True, text=True)
        assert refused.stderr == "cluster: this is cluster 'lab', not 'other'\n"


def test_program_uses_nothing_of_p2pdl(client: Path) -> None:
    program = client.read_text()
    assert "p2pdl" not in program
    assert re.findall(r"^import (\w+)", program, re.MULTILINE) == ["sys", "msgpack", "xxhash", "zmq"]
