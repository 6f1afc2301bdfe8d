"""What a node's run leaves for people: its model and its summary, each whole or not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from p2pdl.errors import P2pdlError
from p2pdl.files import replace, replacing

SUMMARY_FILE = "summary.json"
MODEL_FILE = "model.keras"


def save_model(folder: Path, model: Any) -> None:
    """Write the model down in Keras' own format.

    Args:
        folder: The node's run folder.
        model: A Keras model.

    Raises:
        P2pdlError: It cannot be written; one that was there before still is.
    """
    try:
        with replacing(folder / MODEL_FILE) as fresh:
            model.save(fresh)
    except OSError as error:
        raise unwritten(folder / MODEL_FILE, error) from None


def save_summary(folder: Path, summary: object) -> None:
    """Write the summary down.

    Args:
        folder: The node's run folder.
        summary: What JSON can write of it, with finite numbers only.

    Raises:
        P2pdlError: It cannot be written; one that was there before still is.
    """
    try:
        replace(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
    except OSError as error:
        raise unwritten(folder / SUMMARY_FILE, error) from None


def unwritten(path: Path, error: OSError) -> P2pdlError:
    """What to say of a result that cannot be written."""
    return P2pdlError(
        f"{path} cannot be written: {error.strerror or error}",
        "make room there and start the node again: it goes on from its last checkpoint, and writes it then",
    )
