"""`p2pdl node`: starts the server and the trainer, starts again what has died, and ends only when the node is done.

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
from collections.abc import Mapping, Sequence
from types import FrameType

from p2pdl.config import Configuration
from p2pdl.errors import EXIT_DONE, EXIT_FAILED, NameTaken, P2pdlError
from p2pdl.node.children import Lifeline, TrainerSettings, start_trainer
from p2pdl.node.environment import write_environment
from p2pdl.node.logs import log_to
from p2pdl.node.membership import remember, remembered
from p2pdl.node.parameter_node import ParameterNode
from p2pdl.node.restarts import Restarts, how_it_ended
from p2pdl.node.results import SUMMARY_FILE, save_summary
from p2pdl.node.resumption import NodeFolder, open_node_folder, write_settings
from p2pdl.node.security import warning
from p2pdl.node.server_keeper import ServerKeeper
from p2pdl.node.server_settings import mask_warning
from p2pdl.node.stopping import GRACE_SECONDS, STOP_SIGNALS, WATCH_SECONDS, code_after
from p2pdl.node.trainer_process import EXIT_CRASHED
from p2pdl.server.view import status_block
from p2pdl.store import memory
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS, VIEW
from p2pdl.store.reader import StoreReader
from p2pdl.store.view import MemberView
from p2pdl.types import JsonObject, NodeId

REMEMBER_SECONDS = 5.0
"""How often the members are written down while they change."""

log = logging.getLogger(__name__)


def run_node(
    configuration: Configuration,
    node: NodeId,
    *,
    fresh: bool = False,
    join: Mapping[str, NodeId] | None = None,
    notes: Sequence[str] = (),
) -> int:
    """Run one node until it is done.

    Args:
        configuration: The cluster.
        node: The name of the node, claimed by the caller.
        fresh: True to begin a new run where one has not ended.
        join: Live nodes besides those of the file: name by address, empty where the name is not known.
        notes: What is to be said once there is a log.

    Returns:
        The exit code.

    Raises:
        StartupError: The node cannot start here; nothing has been trained.
    """
    folder = open_node_folder(configuration, node, fresh)
    log_to(folder.path / "node.log", node, "node", sys.stderr)
    for note in (*notes, warning(configuration), mask_warning(configuration)):
        if note:
            log.warning("%s", note)
    if configuration.node(node).role == "server":
        return ParameterNode(configuration, node, folder).run()
    return Supervisor(configuration, node, folder, join or {}).run()


class Supervisor:
    """The parent of one node's processes.

    Args:
        configuration: The cluster.
        node: The node's name.
        folder: Its run folder.
        join: Live nodes besides those of the file: name by address, empty where the name is not known.
    """

    def __init__(
        self, configuration: Configuration, node: NodeId, folder: NodeFolder, join: Mapping[str, NodeId]
    ) -> None:
        self._configuration = configuration
        self._node = node
        self._folder = folder.path
        self._lifeline = Lifeline()
        self._store = memory.create()
        self._signals: list[int] = []
        resolved, shared = write_settings(self._folder, configuration)
        write_environment(self._folder)
        self._settings = TrainerSettings(
            str(resolved), node, str(self._folder), self._store, self._lifeline.reading, folder.resumes
        )
        self._server = ServerKeeper(
            configuration,
            node,
            self._store,
            self._lifeline,
            self._folder,
            shared,
            remembered(self._folder) | {name: address for address, name in join.items() if name},
            [address for address, name in join.items() if not name],
        )
        self._members = MemberView(Block(self._store, VIEW))
        self._remembered: object = None
        self._remember_at = 0.0
        self._trainer: subprocess.Popen[bytes] | None = None
        self._restarts = Restarts(configuration.checkpoint.restarts)
        self._crashed_at = -1

    def run(self) -> int:
        """Start both processes and watch them.

        Returns:
            The exit code: 0 done, or stopped by SIGTERM; 130 stopped by Ctrl-C; else what the trainer ended with.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        try:
            while not self._server.listens(WATCH_SECONDS):
                if self._signals:
                    self._write_summary("stopped", "stopped before it began to train")
                    return code_after(self._signals)
            going_on = ", going on with the run there" if self._settings.resumes else ""
            log.info("listening on %s; the run's folder is %s%s", self._server.address, self._folder, going_on)
            while True:
                self._say_starting()
                self._trainer = start_trainer(self._settings, self._lifeline, self._configuration.train.threads)
                code = self._watch(self._trainer)
                pause = self._pause_before_restart(code)
                if pause is None:
                    return self._verdict(code)
                self._wait(pause)
                self._settings = self._settings.again()
        finally:
            self._end_all()
            self._members.close()
            os.close(self._store)
            self._lifeline.close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _say_starting(self) -> None:
        status = Block(self._store, STATUS)
        status.write(status_block(now=time.monotonic(), state="starting"))
        status.close()

    def _watch(self, trainer: subprocess.Popen[bytes]) -> int:
        """Wait for the trainer to end; returns its exit code."""
        asked_at = 0.0
        killed = False
        while (code := trainer.poll()) is None:
            self._look_around()
            if (self._signals or self._members.superseded) and not asked_at:
                asked_at = time.monotonic()
                self._say_why_it_stops()
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
                log.warning("%s; what it has trained since its last checkpoint is lost", why)
                trainer.kill()
        return code

    def _look_around(self) -> None:
        # A signal does not cut the sleep short; an event set in its handler could deadlock.
        time.sleep(WATCH_SECONDS)
        self._server.keep()
        members = self._members.members
        if members is not self._remembered and time.monotonic() >= self._remember_at:
            self._remembered = members
            self._remember_at = time.monotonic() + REMEMBER_SECONDS
            try:
                remember(self._folder, (member for member in members.values() if member.name != self._node))
            except OSError as error:
                log.warning("whom this node knows cannot be written down: %s; training goes on", error.strerror)

    def _wait(self, seconds: float) -> None:
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at and not self._signals:
            self._look_around()

    def _say_why_it_stops(self) -> None:
        if self._signals:
            log.info("stopping: finishing the step and saving (Ctrl-C once more to stop at once)")
        else:
            address = str(self._configuration.node(self._node).address)
            log.error("%s; saving what it has trained", NameTaken(self._node, address, self._members.superseded or ""))

    def _pause_before_restart(self, code: int) -> float | None:
        """Seconds before the trainer is started again; None if it is not."""
        if self._signals or self._members.superseded or not (code < 0 or code == EXIT_CRASHED):
            return None
        step = int(self._last_status().get("step", 0))
        how = how_it_ended(code) if code < 0 else "failed"
        hint = " (the system ends processes so when memory runs out)" if code == -signal.SIGKILL else ""
        # A fault of the program comes back at the same place: once more is enough to be sure.
        stuck = code == EXIT_CRASHED and step <= self._crashed_at
        self._crashed_at = step if code == EXIT_CRASHED else -1
        pause = None if stuck else self._restarts.on_death(time.monotonic())
        if pause is not None:
            log.warning(
                "the trainer %s at step %d%s; starting it again from its last checkpoint%s",
                how,
                step,
                hint,
                f" in {pause:g} s" if pause else "",
            )
            return pause
        why = "at the same place as before" if stuck else f"for the {self._restarts.deaths}. time within an hour"
        log.error(
            "the trainer %s at step %d%s, %s; this node stops\n  -> see %s; start the node again to go on from its "
            "last checkpoint",
            how,
            step,
            hint,
            why,
            self._folder / "node.log",
        )
        return None

    def _verdict(self, code: int) -> int:
        if self._members.superseded:
            self._write_summary("stopped", f"its name is in use by a node at {self._members.superseded}")
            return EXIT_FAILED
        if self._signals:
            self._write_summary("stopped", "stopped before the trainer could write its summary")
            return code_after(self._signals)
        if code < 0:
            how = f"the trainer process was {how_it_ended(code)}"
        else:
            how = f"the trainer ended with exit code {code}; node.log says why"
        if code != EXIT_DONE:
            self._write_summary("failed", how)
        return code if code >= 0 and code != EXIT_CRASHED else EXIT_FAILED

    def _last_status(self) -> JsonObject:
        reader = StoreReader(self._store)
        block = reader.status()
        reader.close()
        status: JsonObject = json.loads(block) if block else {}
        return status

    def _write_summary(self, state: str, error: str) -> None:
        path = self._folder / SUMMARY_FILE
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
            "restarts": self._server.deaths + self._restarts.deaths,
        }
        try:
            save_summary(self._folder, summary)
        except P2pdlError as failure:
            log.warning("%s", failure)

    def _end_all(self) -> None:
        if self._trainer is not None:
            if self._trainer.poll() is None:
                self._trainer.kill()
            self._trainer.wait()
        self._server.end()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)
