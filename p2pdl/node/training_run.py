"""What a trainer process does, from the configuration to the final model."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from p2pdl.clock import MonotonicClock
from p2pdl.config import Configuration
from p2pdl.errors import P2pdlError
from p2pdl.node.checkpointing import RunCheckpoints
from p2pdl.node.children import TrainerSettings
from p2pdl.node.employment import Employment
from p2pdl.node.environment import note_gpus
from p2pdl.node.live_figures import exchange_text
from p2pdl.node.participation import Participation, profile_of, summary_of
from p2pdl.node.results import save_model, save_summary
from p2pdl.node.training_settings import preparation_settings
from p2pdl.puller.gathering import FinalMerge
from p2pdl.server.view import status_block
from p2pdl.store.block import Block
from p2pdl.store.layout import STATUS
from p2pdl.training import preparation
from p2pdl.training.devices import gpu_names
from p2pdl.training.divergence import confirm_finite
from p2pdl.training.evaluate import Evaluation, evaluate, evaluate_in_batches
from p2pdl.training.evaluations import Evaluations
from p2pdl.training.exchange_counters import ExchangeCounters
from p2pdl.training.gradient import GradientStep
from p2pdl.training.judgement import Judgement
from p2pdl.training.loop import Progress, train
from p2pdl.training.recorder import Recorder, duration, finite
from p2pdl.training.step import Step
from p2pdl.types import JsonObject

WORSE = 0.05
"""Accuracy that a final merge may cost before something must be wrong with a node: it brings some as a rule."""

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
"""How often the status is written during an evaluation."""


class TrainingRun:
    """One node's training, from its data to its summary.

    Args:
        configuration: The cluster.
        settings: What the supervisor has passed on.
        stopping: True when the node is to end early.
    """

    def __init__(self, configuration: Configuration, settings: TrainerSettings, stopping: Callable[[], bool]) -> None:
        self._configuration = configuration
        self._settings = settings
        self._node = settings.node
        self._folder = Path(settings.folder)
        self._stopping = stopping
        self._clock = MonotonicClock()
        self._status = Block(settings.store, STATUS)
        self._status_at = -math.inf
        self._state = "starting"
        self._progress = Progress()
        preparation.use_threads(configuration.train.threads)
        note_gpus(self._folder, gpu_names())
        self._parts = preparation.Preparation(preparation_settings(configuration, self._node))
        self._recorder = Recorder(
            self._folder / "metrics.jsonl", configuration.metrics.interval, self._parts.steps, self._clock
        )
        self._timeline = profile_of(configuration, self._node, self._folder)
        self._checkpoints = RunCheckpoints(
            self._folder, configuration.checkpoint, self._parts.model, self._parts.optimizer, self._clock
        )
        self._seconds_before = self._evaluation_seconds_before = 0.0
        self._participation: Participation | Employment | None = None
        self._step: Step = self._parts.step
        self._gradient: GradientStep | None = None
        if configuration.strategy == "parameter-server":
            if configuration.server.optimizer_place == "server":
                self._step = self._gradient = GradientStep(self._parts.model, self._parts.loss)
            self._participation = Employment(
                configuration, self._node, self._parts.model, self._gradient, self._clock, self._timeline, stopping
            )
        if configuration.strategy == "gossip":
            self._participation = Participation(
                configuration,
                self._node,
                settings.store,
                self._parts.model,
                self._clock,
                self._timeline,
                Judgement(self._parts.model, self._parts.loss, self._parts.batches.batch),
                stopping,
            )
        self._evaluations = Evaluations(
            configuration.metrics.evaluate_every,
            self._evaluate_in_batches,
            self._participation.exchange if self._participation else None,
            self._clock,
            stopping,
            self._keep_status_fresh,
            self._timeline,
        )

    def run(self) -> None:
        """Train, meet the others, merge for the last time, and write what the run leaves."""
        try:
            self._run()
        finally:
            self._checkpoints.close()
            if self._timeline is not None:
                self._timeline.close()

    def _run(self) -> None:
        self._parts.warm_up()
        if self._settings.resumes:
            self._resume()
        if not self._progress.step:
            self._evaluations.before_training()
        if self._participation is not None:
            self._participation.warm_up()
            self._enter("ready")
            self._participation.start_together(self._pause)
        if not self._stopping():
            self._enter("training")
            log.info(
                "training %s, %s parameters, on %d of %d samples: %d steps of %d",
                self._configuration.model.name,
                f"{self._parts.model.count_params():,}",
                self._parts.partition_size,
                self._parts.dataset_size,
                self._parts.steps,
                self._configuration.train.batch_size,
            )
            self._progress = train(
                self._step,
                self._parts.batches.batch,
                self._parts.steps,
                self._participation.exchange if self._participation else None,
                self._recorder,
                self._report,
                self._stopping,
                self._clock,
                self._timeline,
                self._checkpoints.restore_good,
                self._progress,
                self._save,
                self._evaluations,
                self._set_pace,
                self._confirm,
            )
        seconds = self._seconds()
        if self._stopping():
            self._stop(seconds)
        else:
            self._finish(seconds)

    def _resume(self) -> None:
        found = self._checkpoints.resume()
        if found is None:
            log.info("there is no checkpoint to go on from: training begins anew")
            return
        self._progress, counters = found.progress, found.counters
        self._seconds_before = found.seconds
        self._evaluation_seconds_before = self._progress.evaluation_seconds
        if self._participation is not None:
            self._participation.exchange.resume(
                self._progress.step, self._progress.samples, self._progress.loss, counters
            )

    def _seconds(self) -> float:
        """Seconds of training, those before a break included."""
        return self._seconds_before + (self._recorder.elapsed if self._progress.step else 0.0)

    def _save(self, progress: Progress) -> None:
        self._checkpoints.after_step(progress, self._counters(), self._seconds)

    def _counters(self) -> ExchangeCounters:
        return self._participation.exchange.counters if self._participation else ExchangeCounters()

    def _stop(self, seconds: float) -> None:
        self._enter("stopped")
        # Saved first: servers that do not answer may take all of the time that there is.
        self._checkpoints.save_now(self._progress, self._counters(), self._seconds)
        if self._participation is not None:
            self._participation.close()
        log.info("stopped after %d of %d steps", self._progress.step, self._parts.steps)
        try:
            save_model(self._folder, self._parts.model)
            self._write_summary(seconds, "stopped", None, None, None)
        except P2pdlError as error:
            # The run goes on from its checkpoint; of a failure of that one the log has told.
            log.warning("%s", error)

    def _finish(self, seconds: float) -> None:
        merged: FinalMerge | None = None
        before: dict[str, Evaluation] | None = None
        if self._participation is not None:
            self._participation.exchange.finish()
        # Waiting for the others may take long: whatever happens meanwhile, no step is to be done twice.
        self._checkpoints.save_now(self._progress, self._counters(), self._seconds)
        self._enter("finished")
        results = self._evaluate()
        log.info(
            "done: %d steps in %s; test accuracy %.4f", self._progress.step, duration(seconds), results["test"].accuracy
        )
        if self._participation is not None and self._configuration.gossip.final_merge:
            merged = self._participation.merge_finally(self._progress.samples, self._pause)
            if merged is None:
                log.warning("stopped before the servers' final weights had come; keeping those that are here")
            else:
                before = results
                if len(merged.nodes) > 1 or self._configuration.strategy == "parameter-server":
                    results = self._evaluate()
                log.info(
                    "final merge of %s: test accuracy %.4f (%.4f before)",
                    ", ".join(merged.nodes),
                    results["test"].accuracy,
                    before["test"].accuracy,
                )
                if results["test"].accuracy < before["test"].accuracy - WORSE:
                    log.warning(
                        "the common model is less accurate than this node's own weights were\n  -> the summaries of %s "
                        "say whose were how good before; gossip.final_merge: false keeps each node's own",
                        ", ".join(merged.nodes),
                    )
        try:
            save_model(self._folder, self._parts.model)
        finally:
            # Somebody may still be pulling this node's final weights, also where its own disk is full.
            if self._participation is not None:
                self._enter("merged")
                self._participation.wait_until_served(merged, self._pause)
                self._participation.close()
        self._write_summary(seconds, "done", results, before, merged)

    def _set_pace(self, step: int) -> None:
        """The learning rate of a step: where the optimizer is at a server, the gradient is made smaller instead."""
        if self._gradient is None:
            self._parts.set_pace(step)
        else:
            self._gradient.share = self._parts.schedule.share(step)

    def _confirm(self, step: int) -> None:
        confirm_finite(step, (variable.numpy() for variable in self._parts.model.variables))

    def _evaluate(self) -> dict[str, Evaluation]:
        limit = self._configuration.metrics.evaluation_samples
        started = self._clock.now()
        results = {
            name: evaluate(self._parts.model, x, y, self._parts.loss, limit)
            for name, (x, y) in self._parts.evaluation_sets().items()
        }
        if self._timeline is not None:
            self._timeline.record("trainer", "evaluate", started, self._clock.now())
        return results

    def _evaluate_in_batches(self) -> Iterator[Evaluation]:
        """On the test set alone."""
        limit = self._configuration.metrics.evaluation_samples
        return evaluate_in_batches(self._parts.model, *self._parts.test_set, self._parts.loss, limit)

    def _pause(self, seconds: float) -> bool:
        self._write_status()
        time.sleep(seconds)
        return self._stopping()

    def _enter(self, state: str) -> None:
        self._state = state
        self._write_status()

    def _report(self, progress: Progress) -> None:
        progress.density = self._parts.density()
        self._progress = progress
        self._write_status()
        figures = self._figures()
        found = self._evaluations.at(progress.step)
        line = {
            "time": time.time(),
            "node": self._node,
            "step": progress.step,
            **figures,
            "test_accuracy": found.accuracy if found else None,
            "test_loss": found.loss if found else None,
            # As `seconds`: since this process began to train.
            "evaluation_seconds": round(progress.evaluation_seconds - self._evaluation_seconds_before, 3),
        }
        if self._participation is not None:
            line["links"] = self._participation.links()
        self._recorder.write_line(line)
        if self._timeline is not None:
            self._timeline.flush()
        self._recorder.progress(progress.step, progress.loss, exchange_text(figures))

    def _figures(self) -> JsonObject:
        figures: JsonObject = {
            "samples": self._progress.samples,
            "smoothed_loss": self._progress.loss,
            "seconds_per_step": self._recorder.recent_seconds_per_step(),
            "seconds_left": self._recorder.seconds_left(self._progress.step),
            "density": self._progress.density,
            "compute_seconds": self._progress.compute_seconds,
            "trainer_restarts": self._settings.restarts,
            "restores": self._progress.restores,
            **self._checkpoints.figures(),
        }
        if self._participation is not None:
            figures |= self._participation.figures()
        return figures

    def _keep_status_fresh(self) -> None:
        if self._clock.now() >= self._status_at + STATUS_SECONDS:
            self._write_status()

    def _write_status(self) -> None:
        self._status_at = self._clock.now()
        latest = self._evaluations.latest
        block = status_block(
            now=self._clock.now(),
            state=self._state,
            step=self._progress.step,
            steps=self._parts.steps,
            samples=self._progress.samples,
            loss=self._progress.loss,
            figures=finite(  # type: ignore[arg-type]
                {
                    "process": os.getpid(),
                    **self._figures(),
                    "test_accuracy": latest.accuracy if latest else None,
                }
            ),
            peers=self._participation.peer_rows() if self._participation else [],
        )
        self._status.write(block)

    def _write_summary(
        self,
        seconds: float,
        state: str,
        results: dict[str, Evaluation] | None,
        before: dict[str, Evaluation] | None,
        merged: FinalMerge | None,
    ) -> None:
        summary: JsonObject = {
            "node": self._node,
            "strategy": self._configuration.strategy,
            "state": state,
            "steps": self._progress.step,
            "samples": self._progress.samples,
            "seconds": seconds,
            "seconds_per_step": self._recorder.seconds_per_step(),
            "compute_seconds": self._progress.compute_seconds,
            "exchange_seconds": self._progress.exchange_seconds,
            "evaluation_seconds": self._progress.evaluation_seconds,
            "smoothed_loss": self._progress.loss,
            "density": self._progress.density,
            "trainer_restarts": self._settings.restarts,
            "restores": self._progress.restores,
            **self._checkpoints.figures(),
            **scores(results),
            "before_final_merge": scores(before) if before else None,
            "final_merge": merged.figures() if merged else None,
        }
        summary |= self._participation.summary() if self._participation else summary_of(ExchangeCounters())
        save_summary(self._folder, finite(summary))


def scores(results: dict[str, Evaluation] | None) -> JsonObject:
    """Losses and accuracies under the names of the summary; null where nothing was evaluated."""
    figures: JsonObject = {}
    for name in ("train", "test"):
        figures[f"{name}_loss"] = results[name].loss if results else None
        figures[f"{name}_accuracy"] = results[name].accuracy if results else None
    return figures
