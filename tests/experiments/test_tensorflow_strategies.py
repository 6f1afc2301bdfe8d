"""What is concluded of TensorFlow's strategies, against figures made by hand."""

from __future__ import annotations

from typing import Any

from experiments.harness.experiment import Size
from experiments.tensorflow_strategies import conclude


def found(accuracy: float) -> dict[str, Any]:
    step = {"median": 0.02, "p90": 0.03}
    return {"accuracy": accuracy, "steps_per_second": 200.0, "bytes_per_step": 4e6, "step": step}


def test_each_strategy_has_to_be_as_accurate_as_our_own_servers() -> None:
    done = conclude(Size.SMALL, {"parameter-server": found(0.9650), "mirrored": found(0.9649)})
    assert [promise.holds for promise in done.promises] == [True, False]
    assert done.tables[0].rows[0] == ["ParameterServerStrategy", "0.9650", "200.0", "20.0", "30.0", "4.0"]
    assert "MultiWorkerMirroredStrategy 0.9649" in done.sentence
    assert [promise.holds for promise in conclude(Size.SMALL, {}).promises] == [None, None]
