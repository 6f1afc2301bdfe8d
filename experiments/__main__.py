"""`python -m experiments`: what is claimed of p2pdl and of what it is compared with, and whether that holds here."""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path

import click
from rich.table import Table

from experiments.harness.experiment import Experiment, Size
from experiments.harness.running import run
from experiments.tables import output
from p2pdl.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, P2pdlError
from p2pdl.report.findings import Findings

NAMES = (
    *("race", "cui_speed", "bandwidth_sweep", "cui_accuracy"),
    *("parameter_servers", "killed_servers", "tensorflow_strategies"),
    *("ablation_masks", "ablation_exchange", "ablation_codecs", "ablation_nodes"),
    *("adacomp_ingress", "esgd_tables", "adsp_straggler", "tsai_ranges", "tsai_updates", "tsai_window"),
    *("killed_nodes", "faulty_minority", "alone", "shaped_pull"),
)
"""The experiments, in the order in which they are run; each is a module of that name."""

RESULTS = Path("runs") / "experiments"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option(
    "--size",
    type=click.Choice([str(one) for one in Size]),
    default=str(Size.SMALL),
    show_default=True,
    help="How much is done.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True, help="The folder of all results."
)
@click.option("--again", is_flag=True, help="Do again what is done already.")
@click.option("--list", "only_list", is_flag=True, help="Say what there is, and run nothing.")
def main(names: tuple[str, ...], size: str, out: Path, again: bool, only_list: bool) -> None:
    """Run the experiments with these NAMEs, or all of them.

    What is done is kept, and not done again: after Ctrl-C, or a case that failed, the same command goes on. A page of
    what is there by now is made by `p2pdl report`.
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise click.UsageError(f"there is no experiment {unknown[0]!r}: --list says which there are")
    experiments = [find(name) for name in NAMES if not names or name in names]
    if only_list:
        _list(experiments, Size(size))
        return
    # As an exception, so that processes and namespaces are removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    code = EXIT_DONE
    try:
        findings = run(experiments, Size(size), out, again)
        _show(findings)
        code = EXIT_FAILED if any(case.state == "failed" for one in findings for case in one.cases) else EXIT_DONE
    except P2pdlError as error:
        click.echo(str(error), err=True)
        code = error.exit_code
    except KeyboardInterrupt:
        click.echo("interrupted: what is done is kept, and the same command goes on from there", err=True)
        code = EXIT_INTERRUPTED
    if (out / size).is_dir():
        click.echo(f"what is known by now: p2pdl report {out / size} --out report.html", err=True)
    sys.exit(code)


def find(name: str) -> Experiment:
    """The experiment of a module."""
    found: Experiment = importlib.import_module(f"experiments.{name}").EXPERIMENT
    return found


def _list(experiments: list[Experiment], size: Size) -> None:
    table = Table("experiment", "what it shows", "cases", "minutes", title=f"--size {size}", title_justify="left")
    for one in experiments:
        table.add_row(one.name, one.title, str(len(one.cases(size))), f"{one.minutes(size):.0f}")
    output().print(table)


def _show(findings: list[Findings]) -> None:
    """Each part of a claim that was decided."""
    console = output()
    for one in findings:
        for promise in one.promises:
            holds = {True: "holds", False: "does not hold", None: "not known"}[promise.holds]
            found = promise.found or "-"
            console.print(
                f"{one.name}: {promise.what}: {found}, wanted {promise.wanted}: {holds}", soft_wrap=True, markup=False
            )


if __name__ == "__main__":
    main()
