"""Every experiment runs at its smallest size, and leaves findings that a report can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.__main__ import NAMES, find
from experiments.harness.experiment import Size
from experiments.harness.running import run
from p2pdl.report.findings import FINDINGS_FILE, read_findings

README = Path(__file__).parents[2] / "experiments" / "README.md"


@pytest.mark.parametrize("name", NAMES)
def test_smoke(name: str, tmp_path: Path) -> None:
    one = find(name)
    [found] = run([one], Size.SMOKE, tmp_path)
    assert not [case.error for case in found.cases if case.error]
    assert found.sentence and (found.tables or found.charts)
    assert found == read_findings(tmp_path / "smoke" / name / FINDINGS_FILE)


@pytest.mark.parametrize("name", NAMES)
def test_every_size_is_described_and_can_be_concluded_from_nothing(name: str) -> None:
    one = find(name)
    for size in Size:
        cases = one.cases(size)
        assert cases and len({case.name for case in cases}) == len(cases)
        assert all(case.minutes > 0 for case in cases)
        assert one.conclude(size, {}).sentence
    assert one.minutes(Size.SMOKE) <= 1.0 and one.minutes(Size.SMALL) <= 20.0 <= one.minutes(Size.PAPER) * 20
    assert f"| `{name}` |" in README.read_text()
