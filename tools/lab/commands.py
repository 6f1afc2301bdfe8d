"""What the command line says of hosts: their names, their links, and what runs on each."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from p2pdl.errors import StartupError
from tools.lab.contract import Lab

ALL = "all"
"""In place of a host's name: every host that is not named itself."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PLACE = re.compile(r"\{(host|number|address|bind)(?:\.([\w-]+))?\}")


def host_names(text: str) -> list[str]:
    """The names in `5` (`host1` to `host5`) or in `server,worker1,worker2`.

    Raises:
        StartupError: They are no names, not different, or fewer than two.
    """
    names = [f"host{number}" for number in range(1, int(text) + 1)] if text.isdecimal() else text.split(",")
    for name in names:
        if not NAME.fullmatch(name) or name == ALL:
            raise StartupError(f"{name!r} is no name of a host", "take letters and digits, such as server or worker1")
    if len(set(names)) < len(names):
        raise StartupError(f"two hosts have one name in {text}", "give each host a name of its own")
    if not 2 <= len(names) <= 250:
        raise StartupError(f"{len(names)} hosts are no network", "ask for 2 to 250 hosts")
    return names


def per_host(option: str, words: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """The numbers in `server=300`, `all=100`, for each host that has one; a host's own goes before that of all.

    Raises:
        StartupError: A word is not `HOST=NUMBER`, the number not above zero, or there is no such host.
    """
    given: dict[str, float] = {}
    for word in words:
        name, _, value = word.rpartition("=")
        if name not in (*names, ALL):
            raise StartupError(
                f"{option} {word}: there is no host {name!r}", f"write {ALL}=NUMBER, or {names[0]}=NUMBER"
            )
        try:
            given[name] = float(value)
        except ValueError:
            given[name] = 0.0
        if not 0 < given[name] < float("inf"):
            raise StartupError(f"{option} {word}: {value!r} is no number above zero", f"write for example {name}=100")
    return {name: given.get(name, given.get(ALL, 0.0)) for name in names if name in given or ALL in given}


def commands_in(file: Path) -> dict[str, list[str]]:
    """The commands of a file with a line `HOST: COMMAND` for each host; empty lines and `# ...` count for nothing.

    Raises:
        StartupError: It cannot be read, or a line is something else.
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"{file} cannot be read: {error}", "name a text file with a line HOST: COMMAND") from None
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, command = line.partition(":")
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise StartupError(f"{file}:{number}: {error}", "close the quotation") from None
        if not colon or not words or name.strip() in found:
            raise StartupError(
                f"{file}:{number}: this is not the one command of a host: {line.strip()}",
                "write HOST: COMMAND, once for each host",
            )
        found[name.strip()] = words
    return found


def filled(command: Sequence[str], host: int, names: Sequence[str], lab: Lab) -> list[str]:
    """A command with the hosts' particulars in it.

    Args:
        command: With `{host}`, `{number}`, `{address}` and `{bind}`; `{address.NAME}` is that of another host.
        host: Where it is to run.
        names: Of all hosts.
        lab: The hosts.

    Raises:
        StartupError: It names a host that is not there.
    """

    def particular(match: re.Match[str]) -> str:
        what, name = match[1], match[2] or names[host]
        if name not in names:
            raise StartupError(f"{match[0]}: there is no host {name!r}", f"the hosts are {', '.join(names)}")
        number = names.index(name)
        values: Mapping[str, str] = {
            "host": name,
            "number": str(number),
            "address": lab.address(number),
            "bind": lab.bind(number),
        }
        return values[what]

    return [_PLACE.sub(particular, word) for word in command]
