"""`p2pdl node`: starts the server and the trainer, watches both, and ends only when the node is done.

Never imports TensorFlow: it stays small and answers signals at once, whatever the trainer does.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from p2pdl.config import Configuration
from p2pdl.errors import EXIT_DONE, EXIT_FAILED, P2pdlError
from p2pdl.node.children import Lifeline, TrainerSettings, serving_limits, start_server, start_trainer
from p2pdl.node.logs import log_to
from p2pdl.node.run_folder import prepare_node_folder
from p2pdl.server.view import status_block
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS
from p2pdl.store.reader import StoreReader
from p2pdl.types import JsonObject, NodeId

EXIT_INTERRUPTED = 130

WATCH_SECONDS = 0.1

GRACE_SECONDS = 30.0
"""After a request to stop, how long the trainer may take to finish its step and write its summary."""

SERVER_RESTART_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses before a dead server is started again; the last one is repeated."""

log = logging.getLogger(__name__)


def run_node(configuration: Configuration, node: NodeId) -> int:
    """Run one node until it is done.

    Args:
        configuration: The cluster.
        node: The name of the node, claimed by the caller.

    Returns:
        The exit code.

    Raises:
        StartupError: The node cannot start here; nothing has been trained.
    """
    folder = prepare_node_folder(configuration, node)
    log_to(folder / "node.log", node, "node", sys.stderr)
    supervisor = Supervisor(configuration, node, folder)
    return supervisor.run()


class Supervisor:
    """The parent of one node's processes.

    Args:
        configuration: The cluster.
        node: The node's name.
        folder: Its run folder.
    """

    def __init__(self, configuration: Configuration, node: NodeId, folder: Path) -> None:
        self._configuration = configuration
        self._node = node
        self._folder = folder
        entry = configuration.node(node)
        self._bind = str(entry.bind or entry.address)
        self._lifeline = Lifeline()
        self._store = memory.create()
        self._signals: list[int] = []
        self._server: subprocess.Popen[bytes] | None = None
        self._trainer: subprocess.Popen[bytes] | None = None
        self._server_deaths = 0
        self._server_due = 0.0

    def run(self) -> int:
        """Start both processes and watch them.

        Returns:
            The exit code: 0 done, or stopped by SIGTERM; 130 stopped by Ctrl-C; else what the trainer ended with.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            status = Block(self._store, STATUS)
            status.write(status_block(now=time.monotonic(), state="starting"))
            status.close()
            resolved = self._folder / "config.json"
            resolved.write_text(self._configuration.to_json())
            self._server = self._start_server()
            settings = TrainerSettings(
                str(resolved), self._node, str(self._folder), self._store, self._lifeline.reading
            )
            log.info("listening on %s; the run's folder is %s", self._bind, self._folder)
            self._trainer = start_trainer(settings, self._lifeline, self._configuration.train.threads)
            return self._watch(self._trainer)
        finally:
            self._end_all()
            os.close(self._store)
            self._lifeline.close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _watch(self, trainer: subprocess.Popen[bytes]) -> int:
        asked_at = 0.0
        killed = False
        while (code := trainer.poll()) is None:
            # A signal does not cut the sleep short; an event set in its handler could deadlock.
            time.sleep(WATCH_SECONDS)
            self._keep_server()
            if self._signals and not asked_at:
                asked_at = time.monotonic()
                log.info("stopping: finishing the step (Ctrl-C once more to stop at once)")
                trainer.terminate()
            at_once = self._signals.count(signal.SIGINT) > 1 or len(self._signals) > 2
            too_slow = asked_at and time.monotonic() > asked_at + GRACE_SECONDS
            if (at_once or too_slow) and not killed:
                killed = True
                why = (
                    "stopped at once"
                    if at_once
                    else f"the trainer did not stop within {GRACE_SECONDS:g} s and is ended"
                )
                log.warning("%s; what it has trained is lost", why)
                trainer.kill()
        return self._verdict(code)

    def _verdict(self, code: int) -> int:
        if self._signals:
            if code < 0:
                self._write_summary("stopped", "stopped before the trainer could write its summary")
            return EXIT_INTERRUPTED if self._signals[0] == signal.SIGINT else EXIT_DONE
        if code >= 0:
            if code != EXIT_DONE:
                self._write_summary("failed", f"the trainer ended with exit code {code}; node.log says why")
            return code
        name = signal.Signals(-code).name
        step = self._last_status().get("step", 0)
        hint = " (the system ends processes so when memory runs out)" if name == "SIGKILL" else ""
        error = f"the trainer process was ended by {name} at step {step}{hint}; this node stops"
        log.error("%s\n  -> see %s; start the node again to train from the beginning", error, self._folder / "node.log")
        self._write_summary("failed", error)
        return EXIT_FAILED

    def _keep_server(self) -> None:
        if self._server is not None and self._server.poll() is not None:
            code = self._server.returncode
            self._server = None
            pause = SERVER_RESTART_SECONDS[min(self._server_deaths, len(SERVER_RESTART_SECONDS) - 1)]
            self._server_deaths += 1
            self._server_due = time.monotonic() + pause
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            log.warning("the server process ended (%s); starting it again over the same weights", how)
        if self._server is None and time.monotonic() >= self._server_due:
            try:
                self._server = self._start_server()
                log.info("the server process answers again on %s", self._bind)
            except P2pdlError as error:
                self._server_due = time.monotonic() + SERVER_RESTART_SECONDS[-1]
                log.warning("%s; training goes on, trying again in %g s", error.message, SERVER_RESTART_SECONDS[-1])

    def _start_server(self) -> subprocess.Popen[bytes]:
        cluster = self._configuration.cluster.name
        log_file = self._folder / "node.log"
        limits = serving_limits(self._configuration)
        return start_server(cluster, self._node, self._bind, self._store, self._lifeline, log_file, limits)

    def _last_status(self) -> JsonObject:
        reader = StoreReader(self._store)
        block = reader.status()
        reader.close()
        status: JsonObject = json.loads(block) if block else {}
        return status

    def _write_summary(self, state: str, error: str) -> None:
        path = self._folder / "summary.json"
        if path.exists():
            return
        status = self._last_status()
        summary = {
            "node": self._node,
            "strategy": self._configuration.strategy,
            "state": state,
            "error": error,
            "steps": status.get("step", 0),
            "samples": status.get("samples", 0),
            "train_loss": status.get("loss"),
            "restarts": self._server_deaths,
        }
        path.write_text(json.dumps(summary, indent=2) + "\n")

    def _end_all(self) -> None:
        for process in (self._trainer, self._server):
            if process is None:
                continue
            if process.poll() is None:
                process.terminate() if process is self._server else process.kill()
            try:
                process.wait(timeout=5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)
