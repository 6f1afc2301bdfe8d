"""`p2pdl report`: what runs have come to, as tables, pictures and one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from p2pdl.cli import COMMANDS
from p2pdl.cli.options import json_option
from p2pdl.cli.report_findings import report_findings
from p2pdl.cli.report_table import report_table
from p2pdl.cli.tables import near, output
from p2pdl.config.source import shown
from p2pdl.report import verdict
from p2pdl.report.found_folders import are_findings
from p2pdl.report.picture import require_matplotlib, write_files
from p2pdl.report.reading import read_runs
from p2pdl.report.tables import nodes_table, runs_table
from p2pdl.report.verdict import missing_of, sentence

if TYPE_CHECKING:
    from p2pdl.report.run import Run

LONGEST_LINE = 300

MOST_TROUBLES = 20


@click.command("report", short_help=COMMANDS["report"])
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    *("--title", "titles"),
    metavar="TEXT",
    multiple=True,
    help="What to call a run; once for each, in their order. Of experiments, the page's heading.",
)
@click.option(
    "--out", metavar="FILE.html", type=click.Path(path_type=Path), help="Write one page that needs nothing else."
)
@click.option(
    "--plots", metavar="FOLDER", type=click.Path(path_type=Path), help="Write each picture as PNG and as SVG."
)
@json_option
def command(
    runs: tuple[Path, ...], titles: tuple[str, ...], out: Path | None, plots: Path | None, as_json: bool
) -> None:
    """Say what runs have come to, and compare them. RUN is a folder that a run has left: runs/<cluster> for all its
    nodes, or runs/<cluster>/<node> for one. Or it is one in which experiments have left what they found:
    runs/experiments/<size> for all of them, or runs/experiments/<size>/<experiment> for one.

    A run that is going on, or did not end well, is reported as far as it goes, with what is missing. Pictures need
    matplotlib: pip install 'p2pdl[report]'.
    """
    if out is not None and out.is_dir():
        raise click.UsageError(f"--out {out} is a folder: name a file in it, such as {out / 'report.html'}")
    if out is not None or plots is not None:
        require_matplotlib()
    if are_findings(runs):
        report_findings(runs, titles, out, plots, as_json)
        return
    if len(titles) > len(runs):
        raise click.UsageError(f"{len(titles)} titles for {len(runs)} runs: give --title once for each RUN at most")
    found = read_runs(runs, titles)
    files = _write(found, out, plots)
    if as_json:
        click.echo(
            json.dumps(
                {"runs": [verdict.as_json(run) for run in found], "files": [str(file) for file in files]}, indent=2
            )
        )
    else:
        _show(found, files)


def _write(runs: list[Run], out: Path | None, plots: Path | None) -> list[Path]:
    if out is None and plots is None:
        return []
    from p2pdl.report.frame import write_page
    from p2pdl.report.page import page
    from p2pdl.report.pictures import draw

    pictures = draw(runs)
    files = []
    if out is not None:
        title = f"Run {runs[0].title}" if len(runs) == 1 else f"{len(runs)} runs compared"
        write_page(out, page(runs, pictures, title))
        files.append(out)
    if plots is not None:
        files += write_files(pictures, plots)
    return files


def _show(runs: list[Run], files: list[Path]) -> None:
    console = output()
    for run in runs:
        console.print(
            Text.assemble((shown(run.title), "bold"), f": {shown(sentence(run), LONGEST_LINE)}"), soft_wrap=True
        )
    if len(runs) > 1:
        console.print(report_table(runs_table(runs)))
    console.print(report_table(nodes_table(runs)))
    troubles = [f"{run.title}: {text}" if len(runs) > 1 else text for run in runs for text in missing_of(run)]
    for text in troubles[:MOST_TROUBLES]:
        console.print(f"missing: {shown(text, LONGEST_LINE)}", style="yellow", soft_wrap=True)
    if len(troubles) > MOST_TROUBLES:
        console.print(f"{len(troubles) - MOST_TROUBLES} more are missing: see --json", soft_wrap=True)
    for file in files:
        console.print(f"wrote {near(file)}", soft_wrap=True)
