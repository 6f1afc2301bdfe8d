"""`python -m p2pdl.node.trainer_process SETTINGS`: started by the supervisor, never by hand."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType

from p2pdl.config import Configuration
from p2pdl.errors import P2pdlError
from p2pdl.lifeline import end_with_parent
from p2pdl.node.children import TrainerSettings
from p2pdl.node.logs import keep_native_noise_out, log_to
from p2pdl.training.keras_import import load_keras

EXIT_CRASHED = 70
"""A fault of the program, which the trainer did not foresee: unlike the others it may not come back."""

log = logging.getLogger(__name__)


def main(settings: TrainerSettings) -> int:
    """Train one node; returns the exit code."""
    end_with_parent(settings.lifeline)
    signals: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        # No lock may be taken here: the handler can run in the middle of anything.
        signals.append(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    log_path = Path(settings.folder) / "node.log"
    terminal = keep_native_noise_out(log_path)
    log_to(log_path, settings.node, "trainer", terminal)
    try:
        # Loads TensorFlow, which takes seconds; nothing before these lines needs it.
        load_keras()
        from p2pdl.node.training_run import TrainingRun

        configuration = Configuration.from_json(Path(settings.configuration).read_text())
        TrainingRun(configuration, settings, lambda: bool(signals)).run()
        return 0
    except P2pdlError as error:
        log.error("%s", error)
        return error.exit_code
    except Exception as error:
        log.error("the trainer failed: %s: %s\n  -> the traceback is in %s", type(error).__name__, error, log_path)
        # A full disk, perhaps the very fault, must not hide how this ends.
        with contextlib.suppress(OSError), log_path.open("a") as file:
            traceback.print_exc(file=file)
        return EXIT_CRASHED


if __name__ == "__main__":
    sys.exit(main(TrainerSettings.from_argument(sys.argv[1])))
