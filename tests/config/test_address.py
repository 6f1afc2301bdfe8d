from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.config import Address
from p2pdl.config.address import AddressError


@pytest.mark.parametrize(
    ("text", "host", "port", "canonical"),
    [
        ("127.0.0.1:7101", "127.0.0.1", 7101, "127.0.0.1:7101"),
        ("LocalHost:1", "localhost", 1, "localhost:1"),
        ("gpu-3.lab_2.example.org:65535", "gpu-3.lab_2.example.org", 65535, "gpu-3.lab_2.example.org:65535"),
        ("[::1]:7101", "::1", 7101, "[::1]:7101"),
        ("[FD00:0:0::A]:7101", "fd00::a", 7101, "[fd00::a]:7101"),
        ("[fe80::1%eth0]:7101", "fe80::1%eth0", 7101, "[fe80::1%eth0]:7101"),
        ("0.0.0.0:7101", "0.0.0.0", 7101, "0.0.0.0:7101"),
    ],
)
def test_address_parse_good_text(text: str, host: str, port: int, canonical: str) -> None:
    address = Address.parse(text)
    assert (address.host, address.port) == (host, port)
    assert str(address) == canonical
    assert address.zmq == f"tcp://{canonical}"
    assert Address.parse(canonical) == address


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("127.0.0.1:0", "there is no port 0", "a port from 1 to 65535, such as `127.0.0.1:7101`"),
        ("127.0.0.1:99999", "there is no port 99999", "a port from 1 to 65535"),
        ("127.0.0.1:65536", "there is no port 65536", "a port from 1 to 65535"),
        ("127.0.0.1:-1", "there is no port -1", "a port from 1 to 65535"),
        ("127.0.0.1:07101", "there is no port 07101", "a port from 1 to 65535"),
        ("127.0.0.1:http", "the port 'http' is not a number", "a port from 1 to 65535"),
        ("127.0.0.1:71o1", "the port '71o1' is not a number", "a port from 1 to 65535"),
        ("127.0.0.1:٧", "there is no port", "a port from 1 to 65535"),
        ("127.0.0.1:", "the port is missing", "such as `127.0.0.1:7101`"),
        ("localhost", "the port is missing", "write `localhost:7101`"),
        ("7101", "the host is missing", "such as `127.0.0.1:7101`"),
        ("", "the port is missing", "write `127.0.0.1:7101`"),
        (":7101", "the host is missing", "write a host name or an IP address"),
        ("*:7101", "* is not a host", "write `0.0.0.0` to listen"),
        ("256.0.0.1:7101", "256.0.0.1 is not an IPv4 address", "write a host name or an IP address"),
        ("10.0.1:7101", "10.0.1 is not an IPv4 address", "write a host name or an IP address"),
        ("-a.example:7101", "'-a.example' is not a host name", "write a host name"),
        ("a..b:7101", "'a..b' is not a host name", "write a host name"),
        ("two words:7101", "'two words' is not a host name", "write a host name"),
        ("müller:7101", "'müller' is not a host name", "write a host name"),
        ("a" * 64 + ":7101", "is not a host name", "write a host name"),
        ("::1:7101", "an IPv6 address needs brackets", 'write `"[::1]:7101"`'),
        ("fd00::1", "an IPv6 address needs brackets", 'write `"[fd00::'),
        ("[::1]", "the port is missing", 'write `"[::1]:7101"`'),
        ("[::1", "the bracket of the IPv6 address is not closed", 'write `"[::1]:7101"`'),
        ("[127.0.0.1]:7101", "is not an IPv6 address", 'write `"[::1]:7101"`'),
        ("a:b:7101", "'a:b' is not a host", "write a host name"),
        ("tcp://127.0.0.1:7101", "tcp:// does not belong here", "write host:port alone: `127.0.0.1:7101`"),
    ],
)
def test_address_parse_bad_text(text: str, message: str, remedy: str) -> None:
    with pytest.raises(AddressError) as caught:
        Address.parse(text)
    assert message in caught.value.message
    assert remedy in caught.value.remedy


@given(st.one_of(st.text(max_size=40), st.from_regex(r"[\[\]a-f0-9.:%*-]{0,30}", fullmatch=True)))
def test_address_parse_any_text_gives_address_or_address_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except AddressError as error:
        assert error.message and error.remedy
    else:
        assert 1 <= address.port <= 65535
        assert Address.parse(str(address)) == address
        assert Address.parse(address.zmq.removeprefix("tcp://")) == address


@given(st.ip_addresses(), st.integers(1, 65535))
def test_address_parse_every_ip_address_and_port(ip: object, port: int) -> None:
    text = f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}"
    assert Address.parse(text) == Address(str(ip), port)
