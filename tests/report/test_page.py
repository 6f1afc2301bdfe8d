"""The page as a browser will find it: whole, in order, small, and in need of nothing else."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from p2pdl.report.environments import environments_table
from p2pdl.report.page import page
from p2pdl.report.palette import DARK, INK, NAMES, PAPER, SERIES
from p2pdl.report.picture import WIDTH_INCHES, write_files
from p2pdl.report.pictures import draw
from p2pdl.report.reading import read_run
from p2pdl.report.run import Run
from p2pdl.report.verdict import as_json
from tests.report.left_runs import ENVIRONMENT, leave_run, leave_timeline

VOID = {"meta", "link", "br", "img", "input", "hr"}

ONE_RUN = ("loss-steps", "loss-time", "loss-bytes", "accuracy", "step-time", "phases", "traffic", "merges")

ACCURACY_CURVES = ("accuracy-steps", "accuracy-time", "accuracy-bytes")

LIMIT_NBYTES = 5_000_000


class Reader(HTMLParser):
    """Notes tags, names, addresses and text; sees to it that what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.labels: list[str] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.names.append(value or "")
            if name in ("href", "src", "xlink:href", "srcset", "data", "action"):
                self.addresses.append(value or "")
            if tag == "svg" and name == "aria-label":
                self.labels.append(value or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"{tag} was not open"

    def handle_data(self, data: str) -> None:
        self.words += data


def page_of(*runs: Run) -> str:
    return page(runs, draw(runs), "A title")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = leave_run(tmp_path_factory.mktemp("runs") / "lab")
    leave_timeline(folder / "node1", np.linspace(0, 2, 100))
    return read_run(folder, "lab")


def test_page_of_a_run_has_every_picture_and_comes_to_the_point_first(lab: Run) -> None:
    text = page_of(lab)
    read = Reader(text)
    assert read.tags.count("svg") == read.tags.count("figcaption") == len(ONE_RUN)
    order = ["consensus accuracy 0.9500", "Pictures", "Who merged from whom", "Tables", "How to reproduce", '"seed": 7']
    places = [read.words.index(words) for words in order]
    assert places == sorted(places)
    assert "What is missing" not in read.words


def test_page_needs_nothing_from_elsewhere_and_names_are_unique(lab: Run) -> None:
    text = page_of(lab, dataclasses.replace(lab, title="again"))
    read = Reader(text)
    assert "http" not in text and "//" not in re.sub(r"/\*.*?\*/", "", text).replace("<!doctype", "")
    assert all(address.startswith("#") or address == "data:," for address in read.addresses)
    assert {address[1:] for address in read.addresses if address.startswith("#")} <= set(read.names)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(read.names)
    assert len(read.names) == len(set(read.names))
    assert not {"script", "iframe", "img", "object"} & set(read.tags)


def test_pictures_have_the_colours_of_the_page_in_light_and_dark(lab: Run) -> None:
    text = page_of(lab)
    svgs = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    known = {colour for svg in svgs for colour in re.findall(r"#[0-9a-f]{6}\b", svg)}
    assert known == set(), "a colour of its own would not follow the page"
    for name in NAMES.values():
        assert len(re.findall(rf"--{name}: #", text)) == 2
    assert set(re.findall(r"var\(--(\w+)\)", text)) <= set(NAMES.values())


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("is_dark", [False, True])
def test_colours_stand_out_from_the_paper(is_dark: bool) -> None:
    def shown(colour: str) -> str:
        return DARK[colour] if is_dark else colour

    assert contrast(shown(INK), shown(PAPER)) >= 7
    assert all(contrast(shown(colour), shown(PAPER)) >= 3 for colour in SERIES)
    assert len({shown(colour) for colour in SERIES}) == len(SERIES)


def test_what_nodes_and_titles_say_is_text_and_never_markup(lab: Run) -> None:
    evil = dataclasses.replace(lab, title='<script>alert(1)</script> $x$ _ & "quoted"')
    read = Reader(page_of(evil, lab))
    assert "script" not in read.tags
    assert evil.title in read.words


def test_page_of_a_partial_run_says_what_is_missing(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab", lines=3)
    (folder / "summary.json").unlink()
    for path in (folder / "node1").iterdir():
        if path.name != "config.json":
            path.unlink()
    with (folder / "node2" / "metrics.jsonl").open("a") as file:
        file.write('{"seconds": 4.0, "st')
    (folder / "node3" / "summary.json").unlink()
    read = Reader(page_of(read_run(folder, "lab")))
    for words in ("What is missing", "node1: no lines", "node2: the last line", "node3: no summary.json"):
        assert words in read.words
    assert read.tags.count("svg") == len(ONE_RUN)


def test_run_that_left_settings_only_gives_a_page_without_pictures(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab")
    for path in [folder / "summary.json", *folder.glob("*/summary.json"), *folder.glob("*/metrics.jsonl")]:
        path.unlink()
    read = Reader(page_of(read_run(folder, "lab")))
    assert "svg" not in read.tags and "nothing that could be drawn" in read.words


def test_single_line_and_single_node_can_be_drawn(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab", names=("alone",), lines=1)
    assert "svg" in Reader(page_of(read_run(folder, "lab"))).tags


@pytest.mark.parametrize("runs, nodes", [(2, 3), (400, 3), (2, 120)])
def test_page_stays_small_whatever_there_is_to_compare(tmp_path: Path, runs: int, nodes: int) -> None:
    names = tuple(f"node{number}" for number in range(1, nodes + 1))
    run = read_run(leave_run(tmp_path / "lab", names=names), "lab")
    many = [dataclasses.replace(run, title=f"run number {number} with a long title") for number in range(runs)]
    text = page_of(*many)
    assert len(text.encode()) < LIMIT_NBYTES
    assert "svg" in Reader(text).tags


def test_accuracy_is_drawn_over_steps_time_and_bytes_where_nodes_were_evaluated(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab", evaluate_every=4)
    # One node has only been evaluated before its first step, and another was never.
    for name, kept in (("node2", 1), ("node3", 0)):
        path = folder / name / "metrics.jsonl"
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        for line in lines[kept:]:
            line["test_accuracy"] = None
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(folder, "lab")
    pictures = {picture.name: picture for picture in draw([run])}
    assert list(pictures) == [*ONE_RUN[:3], *ACCURACY_CURVES, *ONE_RUN[3:]]
    for name, factor in zip(ACCURACY_CURVES, (10.0, 1.0, 1.0), strict=True):
        [axes] = pictures[name].figure.axes
        # Of two curves that share no place there is no median.
        first, second = axes.get_lines()
        np.testing.assert_allclose(first.get_xdata(), factor * np.arange(0, 21, 4))
        np.testing.assert_allclose(first.get_ydata(), [0.1, *(1 - 0.9 / (1 + np.arange(4, 21, 4)))])
        np.testing.assert_allclose([second.get_xdata(), second.get_ydata()], [[0.0], [0.1]])
        assert axes.get_yscale() == "linear" and axes.get_ylabel() == "test accuracy"
    assert "evaluation: from 0.100 to " in pictures["accuracy-time"].caption


def test_loss_over_time_leaves_evaluations_out(tmp_path: Path) -> None:
    run = read_run(leave_run(tmp_path / "lab", names=("alone",), evaluate_every=2), "lab")
    [picture] = [picture for picture in draw([run]) if picture.name == "loss-time"]
    [line] = picture.figure.axes[0].get_lines()
    np.testing.assert_allclose(line.get_xdata(), np.arange(1, 21))


def test_page_says_what_it_ran_on_and_nodes_of_which_the_same_is_true_share_a_row(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab")
    other = {**ENVIRONMENT, "gpus": ["A card"], "memory_bytes": 78e9}
    (folder / "node3" / "environment.json").write_text(json.dumps(other))
    (folder / "node2" / "environment.json").write_text(json.dumps({**ENVIRONMENT, "load": 3.5}))
    run = read_run(folder, "lab")
    table = environments_table([run])
    assert table is not None
    assert table.heads[:7] == ("nodes", "system", "processor", "cores", "memory", "load", "graphics processors")
    linux, libraries = "Linux 6.1 x86_64", ("0.1.0", "3.11.7", "2.21.0", "3.15.1", "2.4.6", "-", "-")
    assert table.rows == (
        ("node1, node2", linux, "Some CPU @ 2.90GHz", "2", "8 GB", "0.25 to 3.5", "-", *libraries),
        ("node3", linux, "Some CPU @ 2.90GHz", "2", "78 GB", "0.25", "A card", *libraries),
    )
    text = Reader(page_of(run)).words
    assert text.index("How to reproduce") < text.index("Some CPU @ 2.90GHz") < text.index('"seed": 7')
    assert [node["environment"] for node in as_json(run)["nodes"]][2] == other


def test_runs_that_did_not_record_what_they_ran_on_say_so(tmp_path: Path) -> None:
    folder = leave_run(tmp_path / "lab")
    for name, damage in (("node1", None), ("node2", "{"), ("node3", "{}")):
        path = folder / name / "environment.json"
        path.unlink() if damage is None else path.write_text(damage)
    run = read_run(folder, "lab")
    assert environments_table([run]) is None
    assert "What it ran on was not recorded" in Reader(page_of(run)).words
    assert [node["environment"] for node in as_json(run)["nodes"]] == [None] * 3


@pytest.mark.parametrize("found", [{"versions": 3, "machine": []}, {"cores": "<b>", "gpus": 1, "load": None}])
def test_environment_of_any_form_is_shown(tmp_path: Path, found: dict[str, object]) -> None:
    folder = leave_run(tmp_path / "lab", names=("alone",))
    (folder / "alone" / "environment.json").write_text(json.dumps(found))
    run = read_run(folder, "lab")
    table = environments_table([run, run])
    assert table is not None and len(table.rows) == 2 and table.rows[0][:2] == ("lab", "alone")
    assert "b" not in Reader(page_of(run)).tags


def test_pictures_are_the_same_in_every_drawing_and_as_files(lab: Run, tmp_path: Path) -> None:
    first, second = page_of(lab), page_of(lab)
    assert first == second
    written = write_files(draw([lab]), tmp_path / "plots")
    assert [path.name for path in written] == list(
        itertools.chain.from_iterable((f"{name}.svg", f"{name}.png") for name in ONE_RUN)
    )
    for path in written:
        start = path.read_bytes()[:8]
        assert start == b"\x89PNG\r\n\x1a\n" if path.suffix == ".png" else start.startswith(b"<?xml")
    assert WIDTH_INCHES * 72 < 390, "on a telephone, text is not made smaller"
