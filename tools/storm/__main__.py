"""The command line of the storm."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from p2pdl.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, P2pdlError, StartupError
from tools.storm import journal, plan, report, schedule
from tools.storm.events import KINDS, Event
from tools.storm.plan import Plan
from tools.storm.promises import GAP_SECONDS, RECOVERY_SECONDS, Limits, consensus, judge
from tools.storm.running import braved


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--nodes", type=click.IntRange(2), help="Nodes of the cluster.  [default: 8, or those of the file]")
@click.option("--seconds", type=click.FloatRange(1), default=120.0, show_default=True, help="Length of the storm.")
@click.option(
    "--every", type=click.FloatRange(0.1), default=4.0, show_default=True, help="Mean seconds between events."
)
@click.option("--seed", type=click.IntRange(0), help="Of the storm and of the training.  [default: a new one, printed]")
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="What may befall a node.")
@click.option("--config", "file", type=click.Path(path_type=Path), help="What to train; addresses are not taken over.")
@click.option(
    "--data",
    type=click.Choice(["auto", "digits", "mnist"]),
    default="auto",
    show_default=True,
    help="What to train without --config; auto is MNIST where it is there.",
)
@click.option("--steps", type=click.IntRange(1), help="Of each node.  [default: those of the file, or by --seconds]")
@click.option("--compare", is_flag=True, help="Run the same without a storm first, and compare the accuracies.")
@click.option("--reference", type=click.FloatRange(0, 1), help="The accuracy to compare with, known from before.")
@click.option("--gap", type=click.FloatRange(0), default=GAP_SECONDS, show_default=True, help="Seconds between steps.")
@click.option("--recovery", type=click.FloatRange(0), default=RECOVERY_SECONDS, show_default=True, help="Seconds.")
@click.option("--patience", type=click.FloatRange(0), default=900.0, show_default=True, help="For the end, in seconds.")
@click.option("--replay", type=click.Path(path_type=Path), help="Let the events of a journal happen again.")
@click.option("--out", type=click.Path(path_type=Path), help="A new folder.  [default: runs/storm-SEED]")
def command(
    nodes: int | None,
    seconds: float,
    every: float,
    seed: int | None,
    kinds: str,
    file: Path | None,
    data: str,
    steps: int | None,
    compare: bool,
    reference: float | None,
    gap: float,
    recovery: float,
    patience: float,
    replay: Path | None,
    out: Path | None,
) -> None:
    """Let a seeded storm of faults rage over a cluster of real nodes, and say which of p2pdl's promises held.

    Nodes are killed, stopped, restarted, cut off, slowed down and sent damaged bytes. Each finishes by itself, goes on
    with its steps while others are struck, and ends with a model as good as that of an undisturbed run. Ctrl-C ends
    everything. A journal tells what befell whom; --replay lets it happen again, also after lines have been cut out.
    """
    # As an exception, so that the nodes are ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if replay is not None:
            settings, events = journal.read(replay)
            chosen = Plan.from_json(settings)
        else:
            seed = random.SystemRandom().randrange(1 << 31) if seed is None else seed
            chosen = planned(nodes, seconds, every, seed, kinds, file, data, steps)
            events = schedule.storm(seed, chosen.nodes, seconds, chosen.kinds, every)
        folder = plan.new_folder(out, chosen.seed)
        code = run(chosen, events, folder, compare, Limits(gap, recovery, reference), patience)
    except P2pdlError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    sys.exit(code)


def planned(
    nodes: int | None,
    seconds: float,
    every: float,
    seed: int,
    kinds: str,
    file: Path | None,
    data: str,
    steps: int | None,
) -> Plan:
    """The plan that the command line makes.

    Raises:
        StartupError: A kind is unknown, or the nodes are not those of the file.
    """
    wanted = kinds.split(",")
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise StartupError(f"there is no kind {', '.join(unknown)}", f"choose from {', '.join(KINDS)}")
    if file is None:
        count = nodes or 8
        names = [f"node{number}" for number in range(1, count + 1)]
        return Plan(seed, names, seconds, every, wanted, plan.default_sections(data, seed, steps, count, seconds))
    names, sections = plan.sections_of(file, seed, steps)
    if nodes not in (None, len(names)):
        raise StartupError(f"{file} has {len(names)} nodes, not {nodes}", "leave out --nodes")
    return Plan(seed, names, seconds, every, wanted, sections, str(file.parent.resolve()))


def run(chosen: Plan, events: Sequence[Event], folder: Path, compare: bool, limits: Limits, patience: float) -> int:
    """Run the storm, and what it is compared with; returns the exit code."""
    click.echo(f"seed {chosen.seed}; {len(events)} events; load {os.getloadavg()[0]:.1f}; {folder}", err=True)
    if compare:
        click.echo("first without a storm:", err=True)
        calm = braved(chosen, [], folder / "undisturbed", patience)
        limits = Limits(limits.gap, limits.recovery, consensus(calm.endings)[0])
        click.echo("and now with it:", err=True)
    verdicts = judge(braved(chosen, events, folder / "storm", patience), limits)
    report.show(verdicts)
    (folder / "verdicts.json").write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=2) + "\n")
    click.echo(f"seed {chosen.seed}; again with --replay {folder / 'storm' / 'journal.jsonl'}")
    return EXIT_FAILED if any(verdict.holds is False for verdict in verdicts) else EXIT_DONE


if __name__ == "__main__":
    command()
