"""`p2pdl node` for an entry with `role: server`: starts the parameter server, and starts it again when it has died."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from dataclasses import asdict, replace
from types import FrameType

from p2pdl.config import Configuration
from p2pdl.errors import EXIT_DONE, EXIT_FAILED
from p2pdl.node.children import Lifeline, serving_limits
from p2pdl.node.environment import write_environment
from p2pdl.node.listening import Listener
from p2pdl.node.restarts import Restarts, how_it_ended
from p2pdl.node.resumption import NodeFolder, write_settings
from p2pdl.node.security import keys_folder
from p2pdl.node.server_settings import parameter_server_settings
from p2pdl.node.stopping import GRACE_SECONDS, STOP_SIGNALS, WATCH_SECONDS, code_after
from p2pdl.server.parameter_process import ParameterProcessSettings
from p2pdl.types import NodeId

log = logging.getLogger(__name__)


class ParameterNode:
    """The parent of a parameter server's process.

    Args:
        configuration: The cluster.
        node: The node's name.
        folder: Its run folder.
    """

    def __init__(self, configuration: Configuration, node: NodeId, folder: NodeFolder) -> None:
        self._configuration = configuration
        self._node = node
        self._folder = folder
        self._lifeline = Lifeline()
        self._signals: list[int] = []
        self._restarts = Restarts(configuration.checkpoint.restarts)
        write_settings(folder.path, configuration)
        write_environment(folder.path)

    def run(self) -> int:
        """Start the process and watch it.

        Returns:
            The exit code: 0 done, or stopped by SIGTERM; 130 stopped by Ctrl-C; else what the process ended with.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        process: subprocess.Popen[bytes] | None = None
        resumes = self._folder.resumes
        try:
            while True:
                process = self._start(resumes)
                if process is None:
                    return code_after(self._signals)
                code = self._watch(process)
                if self._signals or code >= 0:
                    return self._verdict(code)
                pause = self._restarts.on_death(time.monotonic())
                how = how_it_ended(code)
                if pause is None:
                    log.error("the parameter server was %s too often within an hour; this node stops", how)
                    return EXIT_FAILED
                log.warning("the parameter server was %s; starting it again from its last checkpoint", how)
                time.sleep(pause)
                resumes = True
        finally:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
            self._lifeline.close()
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _start(self, resumes: bool) -> subprocess.Popen[bytes] | None:
        """Start the process and wait until it listens; None if this node is stopped before."""
        configuration, entry = self._configuration, self._configuration.node(self._node)
        limits = serving_limits(configuration)
        bind = str(entry.listen)

        def argument(ready: int) -> str:
            return ParameterProcessSettings(
                configuration.cluster.name,
                self._node,
                bind,
                str(self._folder.path),
                self._lifeline.reading,
                ready,
                asdict(parameter_server_settings(configuration)),
                str(keys_folder(configuration) or ""),
                configuration.train.steps or 0,
                configuration.checkpoint.every,
                configuration.checkpoint.keep,
                resumes,
                # Every worker pulls at the same time.
                asdict(replace(limits, uploads=max(limits.uploads, len(configuration.founders) + 1))),
            ).to_argument()

        module, what = "p2pdl.server.parameter_process", f"the parameter server {self._node}"
        listener = Listener(module, argument, [self._lifeline.reading], what, bind)
        while (process := listener.poll(WATCH_SECONDS)) is None:
            if self._signals:
                listener.end()
                return None
        log.info("parameter server (%s) on %s; the run's folder is %s", self._policy(), bind, self._folder.path)
        return process

    def _policy(self) -> str:
        server = self._configuration.server
        return f"ssp, staleness {server.staleness}" if server.policy == "ssp" else server.policy

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        asked_at = 0.0
        while (code := process.poll()) is None:
            time.sleep(WATCH_SECONDS)
            if self._signals and not asked_at:
                asked_at = time.monotonic()
                log.info("stopping: saving the weights (Ctrl-C once more to stop at once)")
                process.terminate()
            if self._signals.count(signal.SIGINT) > 1 or (asked_at and time.monotonic() > asked_at + GRACE_SECONDS):
                process.kill()
        return code

    def _verdict(self, code: int) -> int:
        if self._signals:
            return code_after(self._signals)
        if code == EXIT_DONE:
            log.info("done: every worker has finished")
        return code

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(number)
