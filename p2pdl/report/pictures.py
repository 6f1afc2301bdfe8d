"""All pictures of a report."""

from __future__ import annotations

from collections.abc import Sequence

from p2pdl.report.bars import accuracy_picture, matrix_pictures, phase_picture, step_picture, traffic_picture
from p2pdl.report.curves import accuracy_pictures, loss_pictures
from p2pdl.report.picture import Picture, require_matplotlib
from p2pdl.report.run import Run


def draw(runs: Sequence[Run]) -> list[Picture]:
    """Every picture for which the runs have left something.

    Raises:
        StartupError: matplotlib is not installed.
    """
    require_matplotlib()
    amounts = (accuracy_picture(runs), step_picture(runs), phase_picture(runs), traffic_picture(runs))
    curves = (*loss_pictures(runs), *accuracy_pictures(runs))
    return [*curves, *(picture for picture in amounts if picture is not None), *matrix_pictures(runs)]
