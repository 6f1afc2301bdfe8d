"""How much room there still is in a page of findings, which stays small whatever there is to show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Allowance:
    """Letters that may still be written; what has been written is taken off.

    Attributes:
        pictures: Of all pictures.
        settings: Of all cases' settings.
        longest_settings: Of the settings of one case; nothing is taken off.
    """

    pictures: int = 3_900_000
    settings: int = 700_000
    longest_settings: int = 20_000
