"""The nodes of a storm: each is a real `p2pdl node`, which a fault proxy may stand before."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from experiments.ports import free_ports
from p2pdl.errors import ProcessDied, StartupError
from p2pdl.node.children import Lifeline
from p2pdl.types import NodeId
from tools.faults import FaultProxy
from tools.storm.processes import END_SECONDS, MARK, children, end_marked

ROOT = Path(__file__).parents[2]
CLUSTER = "storm"


class StormNode:
    """One node: its processes, and the way to it.

    Args:
        name: Its name.
        bind: `host:port` where it listens.
        address: `host:port` at which the others reach it.
        proxy: What stands between the two; None if they are the same.
        folder: The node's own folder.
        output: The file that takes what it says.
        command: Its command line.
        lifeline: Ends it with this process.
        mark: What its processes carry in their environment.

    Attributes:
        exit_codes: What its supervisors have ended with, in order.
    """

    def __init__(
        self,
        name: NodeId,
        bind: str,
        address: str,
        proxy: FaultProxy | None,
        folder: Path,
        output: Path,
        command: list[str],
        lifeline: Lifeline,
        mark: str,
    ) -> None:
        self.name, self.bind, self.address, self.proxy = name, bind, address, proxy
        self.folder = folder
        self._output = output
        self.exit_codes: list[int] = []
        self._command = command
        self._lifeline = lifeline
        self._environment = {**os.environ, MARK: mark}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def supervisor(self) -> int | None:
        """The supervisor's id; None while there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it, as it was started before."""
        with self._output.open("ab") as said:
            self._process = subprocess.Popen(
                [*self._command, "--lifeline", str(self._lifeline.reading)],
                pass_fds=[self._lifeline.reading],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=ROOT,
                env=self._environment,
                # Ctrl-C of the terminal comes to this process alone.
                process_group=0,
            )

    def reap(self) -> int | None:
        """What its supervisor has ended with, said once; None while it runs, and afterwards."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._process = None
        self.exit_codes.append(code)
        return code

    def reap_killed(self) -> None:
        """As `reap`, for a supervisor that was killed: it has no environment any more before it can be waited for."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        self.reap()

    def processes(self) -> dict[str, int]:
        """Ids of its processes by role, the supervisor's included."""
        supervisor = self.supervisor
        return {} if supervisor is None else {"supervisor": supervisor, **children(supervisor)}

    def signal(self, role: str, number: signal.Signals) -> bool:
        """Send a signal to one of its processes; False if there is no such process now."""
        process = self.processes().get(role)
        if process is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
            return True
        return False

    def summary(self) -> dict[str, Any]:
        """What it has left at its end; empty before that."""
        try:
            found: dict[str, Any] = json.loads((self.folder / "summary.json").read_text())
            return found
        except (OSError, ValueError):
            return {}

    @property
    def is_done(self) -> bool:
        """Whether it has done its part of the run."""
        return self.summary().get("state") == "done"

    def last_words(self) -> str:
        """The end of what it has written on its terminal."""
        return self._output.read_text(errors="replace")[-2000:]


class StormCluster:
    """The nodes of one run; whatever happens, none of their processes outlives the context.

    Args:
        folder: A new folder for the run.
        names: The nodes.
        sections: The configuration without `cluster` and `nodes`; relative paths count from `beside`.
        proxied: True to put a fault proxy before each node.
        others: Entries of further nodes in the configuration, which somebody else runs.
        beside: Folder in which the configuration is to lie; the run's own where None.

    Attributes:
        nodes: By name.
        mark: What all of its processes carry in their environment.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[NodeId],
        sections: Mapping[str, Any],
        proxied: bool = False,
        others: Sequence[Mapping[str, str]] = (),
        beside: Path | None = None,
    ) -> None:
        self.mark = secrets.token_hex(8)
        self.nodes: dict[NodeId, StormNode] = {}
        self._folder = folder.absolute()
        self._runs = self._folder / "nodes"
        self._names = names
        self._sections = sections
        self._proxied = proxied
        self._others = others
        self._file = beside.absolute() / f".storm-{self.mark}.json" if beside else self._folder / "peers.json"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StormCluster:
        """Write the configuration and open the proxies; nothing runs yet.

        Raises:
            StartupError: The folder cannot be made, or the configuration not be written.
        """
        try:
            self._runs.mkdir(parents=True)
        except OSError as error:
            raise _unusable(self._runs, error) from None
        with contextlib.ExitStack() as stack:
            lifeline = Lifeline()
            stack.callback(lifeline.close)
            for name, port in zip(self._names, free_ports(len(self._names)), strict=True):
                self.nodes[name] = self._make(name, f"127.0.0.1:{port}", lifeline, stack)
            self._write()
            if self._file.parent != self._folder:
                stack.callback(self._file.unlink)
            # Before the proxies are closed, so that nobody dials them any more.
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs, and close the proxies."""
        self._stack.close()

    def _make(self, name: NodeId, bind: str, lifeline: Lifeline, stack: contextlib.ExitStack) -> StormNode:
        proxy = stack.enter_context(FaultProxy(bind)) if self._proxied else None
        return StormNode(
            name,
            bind,
            proxy.address if proxy is not None else bind,
            proxy,
            self._runs / CLUSTER / name,
            self._folder / f"{name}.out",
            [sys.executable, "-m", "p2pdl", "node", "--config", str(self._file), "--name", name],
            lifeline,
            self.mark,
        )

    def _write(self) -> None:
        entries = [{"name": node.name, "address": node.address, "bind": node.bind} for node in self.nodes.values()]
        configuration = {
            "cluster": {"name": CLUSTER, "runs": str(self._runs)},
            "nodes": [*entries, *self._others],
            **self._sections,
        }
        try:
            self._file.write_text(json.dumps(configuration, indent=2) + "\n")
        except OSError as error:
            raise _unusable(self._file, error) from None

    def _end(self) -> None:
        left = end_marked(self.mark)
        for node in self.nodes.values():
            node.reap_killed()
        if left:
            raise ProcessDied(
                f"processes {left} were killed and are still there", "look at what the kernel says of them"
            )


def _unusable(path: Path, error: OSError) -> StartupError:
    return StartupError(f"{path} cannot be written: {error.strerror}", "choose another folder, or make this one yours")
