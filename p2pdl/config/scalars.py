"""What an unquoted word of the file means: nothing, true or false, a decimal number, or text.

Plain YAML 1.1 reads `0123` as 83, `1:30` as 90 and `1e-3` as text. Here `1e-3` is a number, and whatever YAML
would read as another number than the one written is refused with the advice to quote it.
"""

from __future__ import annotations

import math
import re
import unicodedata

TAG = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT, TEXT = (TAG + kind for kind in ("null", "bool", "int", "float", "str"))
DECEPTIVE = "!deceptive"

TRUE_WORDS, FALSE_WORDS = ("true", "yes", "on"), ("false", "no", "off")

PATTERNS = {
    NULL: re.compile(r"(?:~|null|Null|NULL|)\Z"),
    BOOL: re.compile(r"(?:true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)\Z"),
    INT: re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z"),
    FLOAT: re.compile(
        r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?\Z"
        r"|[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z"
    ),
    DECEPTIVE: re.compile(
        r"[-+]?(?:0[0-9_]+|0x[0-9a-fA-F_]+|0[bo][0-7_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?)\Z"
    ),
}
"""Which unquoted words have which YAML tag; the first that matches counts, and the rest is text."""

KINDS = {NULL: "null to YAML", BOOL: "true or false to YAML", INT: "a number", FLOAT: "a number", DECEPTIVE: "a number"}


class Deceptive(ValueError):
    """A word that must not be taken at its face.

    Args:
        message: What is wrong with it, as in `found X, which ...`.
        remedy: What to write instead.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


def scalar(word: str, tag: str) -> str | int | float | bool | None:
    """The value of a word with one of the tags above.

    Raises:
        Deceptive: It is no finite number, another number than it seems, or holds a control character.
    """
    if tag == NULL:
        return None
    if tag == BOOL:
        return word.lower() in TRUE_WORDS
    if tag in (INT, FLOAT):
        return _number(word, whole=tag == INT)
    if tag == DECEPTIVE:
        raise Deceptive(*_readings(word))
    if has_control_character(word):
        raise Deceptive("contains a control character", "remove it")
    return word


def has_control_character(text: str) -> bool:
    """Whether a text holds what no terminal, file name or message should be given."""
    return any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t" for letter in text)


def _number(word: str, whole: bool) -> int | float:
    digits = word.replace("_", "").lower()
    try:
        number = int(digits) if whole else float(digits.replace(".inf", "inf").replace(".nan", "nan"))
        if math.isfinite(number):
            return number
    except (ValueError, OverflowError):
        pass  # more digits than Python or a float can hold, which is as bad as infinity
    raise Deceptive("is not a finite number", "write a finite number of usual size")


def _readings(word: str) -> tuple[str, str]:
    """How YAML reads a number that is not written in the usual way, and what to write instead."""
    quoted = f'quote it if it is text: `"{word[:40]}"`'
    sign = -1 if word.startswith("-") else 1
    digits = word.lstrip("+-").replace("_", "")
    try:
        reading = _yaml_reading(digits) * sign
    except (ValueError, OverflowError):
        return "some readers of YAML take for a number", quoted
    usual = int(digits) * sign if digits.isdecimal() else reading
    return f"YAML reads as {reading:.15g}", f"{quoted}; as a number write `{usual:.15g}`"


def _yaml_reading(digits: str) -> float:
    if ":" in digits:
        total = 0.0
        for part in digits.split(":"):
            total = total * 60 + float(part)
        return total
    prefixed = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2])
    return float(int(digits[2:], prefixed) if prefixed else int(digits, 8))
