"""Commented configurations to start from."""

from __future__ import annotations

from importlib.resources import files

from p2pdl.config.texts import nearest
from p2pdl.errors import StartupError

PRESETS = {
    "gossip": "template.yaml",
    "cui-ps": "cui-ps.yaml",
    "downpour": "downpour.yaml",
    "adacomp": "adacomp.yaml",
    "esgd": "esgd.yaml",
    "adsp": "adsp.yaml",
    "tsai": "tsai.yaml",
}
"""File beside this one by the name of the preset; all but the first are systems with a parameter server."""


def template(preset: str = "gossip") -> str:
    """The text of a commented configuration.

    Args:
        preset: A key of `PRESETS`.

    Raises:
        StartupError: There is no such preset.
    """
    if preset not in PRESETS:
        known = ", ".join(PRESETS)
        better = nearest(preset, list(PRESETS))
        remedy = f"did you mean {better}?" if better else f"use one of these: {known}"
        raise StartupError(f"there is no preset {preset!r}; there are: {known}", remedy)
    return files("p2pdl.config").joinpath(PRESETS[preset]).read_text(encoding="utf-8")
