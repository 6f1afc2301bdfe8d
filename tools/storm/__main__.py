"""The command line of the storm."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import click

from p2pdl.errors import EXIT_FAILED, P2pdlError
from p2pdl.node.supervisor import EXIT_INTERRUPTED
from tools.storm import report
from tools.storm.events import KINDS
from tools.storm.journal import read
from tools.storm.plan import Plan, folder_for, plan_of, replayed
from tools.storm.promises import Limits
from tools.storm.verdict import brave


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--nodes", type=click.IntRange(min=2), help="Nodes of the cluster.  [default: 8, or those of --config]")
@click.option("--seconds", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Length of the storm.")
@click.option("--seed", type=click.IntRange(min=0), help="Decides what befalls whom, and seeds the training.")
@click.option("--every", type=click.FloatRange(min=0.1), default=4.0, show_default=True, help="Mean seconds from event to event.")
@click.option("--kinds", default=",".join(KINDS), show_default=True, help="What may befall a node.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of each node.  [default: by the storm's length]")
def command() -> None:
    pass
