"""Cases are kept as soon as they are done, done again only where they must be, and concluded whatever is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.harness.experiment import Case, Conclusion, Desk, Experiment, Figures, Results, Size, experiment
from experiments.harness.promises import at_least
from experiments.harness.records import Records
from experiments.harness.running import run
from p2pdl.errors import StartupError
from p2pdl.report.findings import FINDINGS_FILE, read_findings

HEAD = """Numbers are as large as they are said to be.

Claim: one and two make
three.

Source: arithmetic.
"""


class Sums:
    """An experiment whose cases note that they were done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.numbers = {"one": 1, "two": 2}
        self.fails: BaseException | None = None

    def cases(self, size: Size) -> list[Case]:
        def case(name: str, number: int) -> Case:
            def work(desk: Desk) -> Figures:
                assert not list(desk.folder.iterdir())
                (desk.folder / "left").write_text(name)
                desk.say(0.5, "half")
                desk.note(link="loopback")
                if name == "two" and self.fails is not None:
                    raise self.fails
                self.done.append(name)
                return {"number": number}

            return Case(name, f"the number {name}", {"number": number}, work)

        return [case(name, number) for name, number in self.numbers.items()]

    def conclude(self, size: Size, results: Results) -> Conclusion:
        known = [results[name]["number"] for name in self.numbers if name in results]
        total = sum(known) if len(known) == len(self.numbers) else None
        return Conclusion(f"They make {total}.", [at_least("sum", 3, total)])

    @property
    def experiment(self) -> Experiment:
        return experiment("tests.sums", HEAD, self.cases, self.conclude)


def test_head_says_what_is_claimed_and_why() -> None:
    one = Sums().experiment
    assert (one.name, one.title) == ("sums", "Numbers are as large as they are said to be")
    assert (one.claim, one.source) == ("One and two make three.", "Arithmetic.")
    assert one.command(Size.SMALL) == "python -m experiments sums --size small" and one.minutes(Size.SMALL) == 2.0
    with pytest.raises(ValueError, match="Claim:"):
        experiment("sums", "Nothing.", Sums().cases, Sums().conclude)


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    sums = Sums()
    [found] = run([sums.experiment], Size.SMOKE, tmp_path)
    assert found.verdict == "holds" and found.sentence == "They make 3." and found.promises[0].found == "3"
    assert found == read_findings(tmp_path / "smoke" / "sums" / FINDINGS_FILE)
    [first, second] = found.cases
    assert (first.state, first.settings, first.environment["link"]) == ("done", {"number": 1}, "loopback")
    assert {"versions", "load"} <= set(second.environment)
    assert (tmp_path / "smoke" / "sums" / "left" / "one" / "left").read_text() == "one"
    run([sums.experiment], Size.SMOKE, tmp_path)
    assert sums.done == ["one", "two"]
    sums.numbers["two"] = 5
    [found] = run([sums.experiment], Size.SMOKE, tmp_path)
    assert sums.done == ["one", "two", "two"] and found.promises[0].found == "6"
    run([sums.experiment], Size.SMOKE, tmp_path, again=True)
    assert sums.done == ["one", "two", "two", "one", "two"]
    run([sums.experiment], Size.SMALL, tmp_path)
    assert len(sums.done) == 7, "each size has results of its own"


def test_a_case_that_fails_is_told_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sums = Sums()
    sums.fails = StartupError("there is no two", "make one")
    [found] = run([sums.experiment], Size.SMOKE, tmp_path)
    assert found.verdict == "unfinished" and found.promises[0].holds is None
    assert [case.state for case in found.cases] == ["done", "failed"]
    assert "there is no two" in found.cases[1].error and "make one" in found.cases[1].error
    assert "there is no two" in capsys.readouterr().err
    sums.fails = None
    [found] = run([sums.experiment], Size.SMOKE, tmp_path)
    assert found.verdict == "holds" and sums.done == ["one", "two"]


def test_an_interruption_leaves_what_was_done_and_its_findings(tmp_path: Path) -> None:
    sums = Sums()
    sums.fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run([sums.experiment], Size.SMOKE, tmp_path)
    found = read_findings(tmp_path / "smoke" / "sums" / FINDINGS_FILE)
    assert [case.state for case in found.cases] == ["done", "missing"] and found.verdict == "unfinished"
    sums.fails = None
    run([sums.experiment], Size.SMOKE, tmp_path)
    assert sums.done == ["one", "two"]


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    sums = Sums()
    run([sums.experiment], Size.SMOKE, tmp_path)
    path = tmp_path / "smoke" / "sums" / "cases" / "one.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    run([sums.experiment], Size.SMOKE, tmp_path)
    assert sums.done == ["one", "two", "one"] and json.loads(path.read_text())["figures"] == {"number": 1}


def test_a_case_whose_needs_are_not_met_is_not_begun(tmp_path: Path) -> None:
    def work(desk: Desk) -> Figures:
        raise AssertionError("begun")

    one = Case("one", "the number one", {}, work, needs=lambda: "there is no data")
    sums = Sums()
    [found] = run([experiment("sums", HEAD, lambda size: [one], sums.conclude)], Size.SMOKE, tmp_path)
    assert found.cases[0].state == "failed" and "there is no data" in found.cases[0].error


def test_two_at_a_time_do_not_write_to_one_folder(tmp_path: Path) -> None:
    sums = Sums()
    inner: list[BaseException] = []

    def work(desk: Desk) -> Figures:
        with pytest.raises(StartupError, match="other experiments") as error:
            run([sums.experiment], Size.SMOKE, tmp_path)
        inner.append(error.value)
        return {"number": 1}

    one = experiment("outer", HEAD, lambda size: [Case("one", "one", {}, work)], sums.conclude)
    run([one], Size.SMOKE, tmp_path)
    assert inner and not sums.done


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupError, match="cannot be made"):
        Records(tmp_path / "file", Sums().experiment, Size.SMOKE).prepare()


@pytest.mark.parametrize("name", ["", "a/b", "..x/y", "a b"])
def test_names_of_cases_are_names_of_files(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        Case(name, "x", {}, lambda desk: {})
