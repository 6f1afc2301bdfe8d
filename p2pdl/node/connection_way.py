"""Steps of a check up to the first bytes from the other end: the name, the route, and whether ZeroMQ listens there."""

from __future__ import annotations

import errno
import os

from p2pdl.config import Address
from p2pdl.node.connection_sighting import Attempt, Expectation, Sighting, Step
from p2pdl.types import printable


def name(expected: Expectation, seen: Sighting) -> Step | None:
    if seen.resolved is None:
        return None
    host, hosts = seen.address.host, ", ".join(seen.resolved.hosts)
    if not seen.resolved.hosts:
        return Step(
            "name",
            False,
            f"the name {host} leads nowhere: {seen.resolved.error}",
            f"correct the address under `nodes` in {expected.file}, or enter the name in the name service or in "
            "/etc/hosts of this machine; a number such as 192.168.1.10 needs neither",
            "no such name",
        )
    if not seen.dialled:
        return Step(
            "name",
            False,
            f"the name {host} has addresses of IPv6 only ({hosts}), and names are dialled over IPv4",
            f'write the address as a number: `"[{seen.resolved.hosts[0]}]:{seen.address.port}"`',
            "no such name",
        )
    return Step("name", True, f"{host} is {hosts}" if hosts != host else f"{host} is a number")


def route(expected: Expectation, seen: Sighting) -> Step | None:
    if seen.attempts is None:
        return None
    taken = seen.dialled
    attempt = next(attempt for attempt in seen.attempts if attempt.host == taken)
    if attempt.error == 0:
        return Step("route", True, f"{taken} accepts connections on port {seen.address.port}")
    better = [other.host for other in seen.attempts if other.error == 0]
    failed = _refused(seen, attempt)
    if better:
        place = f'"[{better[0]}]:{seen.address.port}"' if ":" in better[0] else f"{better[0]}:{seen.address.port}"
        return Step(
            "route",
            False,
            f"{failed.detail}; another address of that name, {better[0]}, accepts connections",
            f"the first address of a name over IPv4 is dialled: write `{place}` under `nodes`, or mend the name",
            failed.result,
        )
    return failed


def _refused(seen: Sighting, attempt: Attempt) -> Step:
    place, port = Address(attempt.host, seen.address.port), seen.address.port
    match attempt.error:
        case errno.ECONNREFUSED:
            detail = f"{place} refuses connections: nothing listens there"
            remedy = (
                f"start {seen.name} on that machine; if it runs, compare its log, which says where it listens, with "
                f"its address; a firewall that rejects port {port} looks the same"
            )
            return Step("route", False, detail, remedy, "not running")
        case errno.ETIMEDOUT:
            detail = f"{place} has not answered a connection within {attempt.seconds:.1f} s"
            remedy = (
                f"is the machine on, and is this its address? If so, a firewall drops TCP port {port}: open it there"
            )
        case errno.ENETUNREACH:
            detail = f"this machine has no route to the network of {attempt.host}"
            remedy = "is this machine connected, and to the network or VPN that the address belongs to?"
        case errno.EHOSTUNREACH:
            detail = f"no machine answers for {attempt.host} (no route to host)"
            remedy = "is the machine on and in this network, and is this its address?"
        case code:
            detail = f"a connection to {place} fails: {os.strerror(code)}"
            remedy = "look for a firewall on this machine that forbids it"
    return Step("route", False, detail, remedy, "unreachable")


def greeting(expected: Expectation, seen: Sighting) -> Step | None:
    greeting, address = seen.greeting, seen.address
    if greeting is None:
        return None
    if greeting.mechanism == expected.mechanism:
        secured = "with encryption" if greeting.mechanism == "CURVE" else "without encryption"
        return Step("greeting", True, f"ZeroMQ {secured} ({greeting.mechanism})")
    if greeting.other:
        return Step(
            "greeting",
            False,
            f"something else listens on {address}: it looks like {greeting.other}",
            f"give {seen.name} a port of its own, or correct its port under `nodes`",
            "not a node",
        )
    if greeting.closed:
        return Step(
            "greeting",
            False,
            f"{address} accepts connections and closes them at once",
            "a proxy or a port forwarding without a node behind it does so: is the node running, and does the port "
            "lead to where it listens?",
            "not a node",
        )
    if not greeting.mechanism:
        return Step(
            "greeting",
            False,
            f"{address} accepts connections and says nothing for {greeting.seconds:.1f} s",
            "a node answers at once: the process there is stopped or hangs, or it is another program",
            "silent",
        )
    return _other_mechanism(expected, seen, greeting.mechanism)


def _other_mechanism(expected: Expectation, seen: Sighting, mechanism: str) -> Step:
    if mechanism == "CURVE":
        detail = f"{seen.address} wants encryption, and {expected.file} has none"
        remedy = "give every node the same `security`, and this one its keys: `p2pdl keygen` makes them"
    elif expected.mechanism == "CURVE":
        detail = f"{seen.address} speaks without encryption ({mechanism}), and {expected.file} asks for it"
        remedy = f"start {seen.name} with the same file and with its keys, if that is {seen.name}"
    else:
        detail = f"{seen.address} asks for {printable(mechanism)}, which no node does"
        remedy = f"give {seen.name} a port of its own, or correct its port under `nodes`"
    return Step("greeting", False, detail, remedy, "refuses")
