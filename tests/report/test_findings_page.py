"""The page of findings: verdicts first, every picture once, all texts as text, and small whatever there is to show."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.report import frame
from p2pdl.report.allowance import Allowance
from p2pdl.report.cases import environment_tables, folded_settings
from p2pdl.report.chart_pictures import draw_charts
from p2pdl.report.claims import count, experiments_table, found_in_words
from p2pdl.report.experiment_section import section
from p2pdl.report.findings import CaseRecord, Findings, FoundTable, LineChart, Promise, Series
from p2pdl.report.findings_page import default_title, findings_page
from tests.report.left_findings import bar_chart, case, findings, histogram, line_chart, promise
from tests.report.test_page import LIMIT_NBYTES, Reader


def page_of(*experiments: Findings, missing: Sequence[str] = ()) -> str:
    return findings_page(experiments, missing, draw_charts(experiments), default_title(experiments))


def five() -> list[Findings]:
    return [
        findings("good"),
        findings("half", promises=[promise(), promise(False)]),
        findings("bad", promises=[promise(False)], charts=[bar_chart()]),
        findings("seen", promises=[], charts=[]),
        findings("open", charts=[], cases=[case(0), case(1, "failed"), case(2, "missing")]),
    ]


@pytest.fixture(scope="module")
def text() -> str:
    return page_of(*five(), missing=["x/findings.json is damaged"])


def test_page_comes_to_the_point_first(text: str) -> None:
    read = Reader(text)
    order = [
        *("What 5 experiments have found", "5 claims: 1 holds, 1 holds in part, 1 does not hold, 1 is shown"),
        *("All of size small", "does not hold", "what open found", "Of 3 cases 1 is missing and 1 failed"),
        *("What is missing", "x/findings.json is damaged", "Loss over steps", "What good claims.", "Blot and others"),
        *("What was promised", "<= 1/20", "1/166", "✓ yes", "Traffic until 0.97", "Test accuracy", "0.977"),
        *("Two cores only.", "How to reproduce", "python -m experiments good --size small", "The same in all cases"),
        *("3.11.7", "4 GB", "ring, seed 2", "0.5", '"seed": 2', "What half claims.", "✗ no"),
        *("How to reproduce all of it", "took 792 s", "python -m experiments open"),
    ]
    at = 0
    for words in order:
        assert words in read.words[at:], words
        at = read.words.index(words, at)


def test_every_verdict_has_its_word_sign_and_link(text: str) -> None:
    verdicts = re.findall(r'<li><span class="mark (\w+)"><span aria-hidden="true">(.)</span> ([\w ]+)</span>', text)
    assert verdicts == [
        *(("good", "✓", "holds"), ("half", "◐", "holds in part"), ("bad", "✗", "does not hold")),
        *(("plain", "●", "shown"), ("open", "…", "unfinished")),
    ]
    links = re.findall(r'<li>.*?<a href="#([^"]+)">The title of (\w+)</a>', text)
    assert links == [(f"experiment-{name}", name) for name in ("good", "half", "bad", "seen", "open")]


def test_first_picture_is_there_for_screens_and_telephones_and_the_others_once(text: str) -> None:
    read = Reader(text)
    assert read.tags.count("svg") == 3 + 3 + 1 + 1 and read.tags.count("figcaption") == 3 + 3 + 1
    lead = text[text.index('<figure class="lead"') :]
    assert lead.index('<div class="wide"><svg') < lead.index('<div class="narrow"><svg') < lead.index("</figure>")
    assert read.labels == [
        *["Loss over steps"] * 2,
        *("Traffic until 0.97", "Time per step"),
        *("Loss over steps", "Traffic until 0.97", "Time per step"),
        "Traffic until 0.97",
    ]


def test_page_needs_nothing_from_elsewhere_and_names_are_unique(text: str) -> None:
    read = Reader(text)
    assert all(address.startswith("#") or address == "data:," for address in read.addresses)
    assert {address[1:] for address in read.addresses if address.startswith("#")} <= set(read.names)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(read.names)
    assert len(read.names) == len(set(read.names))
    assert not {"script", "iframe", "img", "object"} & set(read.tags)


def test_failed_and_missing_cases_are_listed_with_their_errors(text: str) -> None:
    read = Reader(text)
    assert "no space left on device" in read.words
    assert read.words.count("Cases without a result") == 1


def test_same_page_every_time() -> None:
    assert page_of(*five()[:2]) == page_of(*five()[:2])


def test_one_experiment_gives_the_page_its_title() -> None:
    assert "<h1>The title of good</h1>" in page_of(five()[0])


def test_sizes_are_named_where_they_differ() -> None:
    read = Reader(page_of(findings("a", charts=[]), findings("a", charts=[], size="paper")))
    assert "The title of a (small)" in read.words and "The title of a (paper)" in read.words
    assert "All of size" not in read.words
    assert len(read.names) == len(set(read.names))


def test_experiment_that_has_left_nothing_yet_has_a_page() -> None:
    empty = findings(
        sentence="", promises=[], tables=[], charts=[LineChart("a", "Soon", "", "x", "y", [])], notes=[], cases=[]
    )
    read = Reader(page_of(empty))
    assert "svg" not in read.tags and "Soon: there are no figures to draw." in read.words


EVIL = st.text(st.sampled_from("<>&\"'/ =a\u00e9中$_\u202e{}#;"), min_size=1, max_size=30).filter(str.strip)


def with_text(text: str) -> Findings:
    return Findings(
        *(text, text, text, text, text, text, text),
        promises=[Promise(text, text, text, True)],
        tables=[FoundTable(text, [text], [[text]])],
        charts=[LineChart(text, text, text, text, text, [])],
        notes=[text],
        cases=[
            CaseRecord(text, "failed", None, text, {text: text}, {text: text}),
            CaseRecord(text, "done", 1.0, text, {text: [text]}, {"load": 1}),
        ],
    )


@settings(max_examples=60, deadline=None)
@given(EVIL)
def test_texts_are_text_and_never_markup(text: str) -> None:
    plain = Reader(page_of(with_text("plain"), missing=["plain"]))
    evil = Reader(page_of(with_text(text), missing=[text]))
    assert evil.tags == plain.tags and len(evil.names) == len(plain.names)
    assert evil.words.count(text) >= 12


def test_texts_in_pictures_are_text_as_well() -> None:
    evil = '</text></svg><script>alert(1)</script> $x$ _ & "quoted"'
    chart = LineChart("a", evil, evil, evil, evil, [Series(evil, [1.0, 2.0], [1.0, 2.0])])
    read = Reader(page_of(findings(evil, charts=[chart])))
    assert "script" not in read.tags and read.tags.count("svg") == 2


def test_count_says_how_many_claims_there_are_of_each_verdict() -> None:
    held = [findings(f"e{i}") for i in range(9)]
    assert count(held[:1]) == "1 claim: 1 holds"
    assert count(held) == "9 claims: 9 hold"
    assert count([*held, *five()[1:3]]) == "11 claims: 9 hold, 1 holds in part, 1 does not hold"


def test_sentence_is_followed_by_what_lacks() -> None:
    lacking = [case(0, "missing"), case(1, "missing"), case(2)]
    assert found_in_words(findings(sentence="So far 3.", cases=lacking)) == "So far 3. Of 3 cases 2 are missing."
    assert found_in_words(findings(sentence="", cases=lacking)) == "Of 3 cases 2 are missing."
    assert found_in_words(findings(sentence=" All. ")) == "All."
    assert [row[0] for row in experiments_table(five()).rows][-1] == "unfinished"


def test_common_environment_stands_once_and_what_differs_with_its_case() -> None:
    common, cases = environment_tables(findings())
    assert dict(common.rows) == {  # type: ignore[arg-type]
        "versions.python": "3.11.7",
        "versions.keras": "3.9",
        "cores": "2",
        "memory_bytes": "4 GB",
    }
    assert cases.heads == ("case", "time", "load", "links.mbit")
    assert cases.rows == (
        ("ring, seed 0", "60 s", "0.0", "100"),
        ("ring, seed 1", "61 s", "0.25", "1000"),
        ("ring, seed 2", "62 s", "0.5", "100"),
    )


def test_cases_without_an_environment_do_not_make_all_differ() -> None:
    lacking = CaseRecord("not yet", "missing")
    common, cases = environment_tables(findings(cases=[case(1), case(1), lacking]))
    assert len(common.rows) == 6 and cases.heads == ("case", "time")
    assert cases.rows[-1] == ("not yet", "missing")


def test_settings_are_cut_and_left_out_where_there_is_no_room() -> None:
    cases = [CaseRecord(f"case {i}", "done", 1.0, settings={"long": "x" * 500}) for i in range(10)]
    allowance = Allowance(settings=1000, longest_settings=300)
    parts = list(folded_settings(findings(cases=cases), allowance))
    assert len(parts) == 4 and all("the rest is in findings.json" in part for part in parts[:3])
    assert "The settings of 7 cases more" in parts[-1]


def test_page_stays_small_whatever_the_settings_and_tables() -> None:
    table = FoundTable("t", ["name", "figure"], [["x" * 30, "0.5"]] * 1000)
    cases = [CaseRecord(f"case {i}", "done", 1.0, settings={"long": ["x" * 50] * 100}) for i in range(300)]
    text = page_of(*(findings(f"e{i}", charts=[histogram()], tables=[table], cases=cases) for i in range(12)))
    assert len(text.encode()) < LIMIT_NBYTES
    assert "800 more are in p2pdl report --json" in text


def test_pictures_for_which_there_is_no_room_are_counted() -> None:
    found = findings("a", charts=[bar_chart("one"), histogram(), bar_chart("two")])
    drawn = draw_charts([found])
    room = len(frame.figure(drawn.pictures[0])) + 10
    parts = list(section(found, "a", "a", drawn.charts[0], None, Allowance(pictures=room)))
    assert sum("<svg" in part for part in parts) == 1
    assert any("For 2 charts there is no room" in part for part in parts)


def test_curves_of_many_points_are_thinned() -> None:
    experiments = [findings("a", charts=[line_chart(points=20_000, curves=5)])]
    assert len(page_of(*experiments).encode()) < 150_000
