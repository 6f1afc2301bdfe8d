"""The names of delta codecs, which strangers may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pdl.codec.delta import DeltaSettings

PIECES = st.sampled_from(["mean-threshold", "top-k", "int8", "float32", ":", "0.01", "1", "1.0", "nan", " ", "_", "0"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mean-threshold", DeltaSettings("mean-threshold", 0.0, "float32")),
        ("mean-threshold:int8", DeltaSettings("mean-threshold", 0.0, "int8")),
        ("top-k:0.01", DeltaSettings("top-k", 0.01, "float32")),
        ("top-k:0.01:int8", DeltaSettings("top-k", 0.01, "int8")),
        ("top-k:1", DeltaSettings("top-k", 1.0, "float32")),
        ("top-k:1e-05", DeltaSettings("top-k", 0.00001, "float32")),
    ],
)
def test_parse_known_names(name: str, expected: DeltaSettings) -> None:
    assert DeltaSettings.parse(name) == expected
    assert expected.name == name


@given(density=st.floats(0.0, 1.0, exclude_min=True), values=st.sampled_from(["float32", "int8"]))
def test_parse_name_of_any_density_gives_the_settings_back(density: float, values: str) -> None:
    settings = DeltaSettings("top-k", density, values)
    assert DeltaSettings.parse(settings.name) == settings


@given(name=st.text(max_size=70) | st.lists(PIECES, max_size=7).map("".join))
def test_parse_any_text_is_refused_or_the_one_name_of_its_settings(name: str) -> None:
    try:
        settings = DeltaSettings.parse(name)
    except ValueError as refusal:
        assert len(str(refusal)) < 1500
        return
    assert settings.name == name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "no sparsifier ''"),
        ("float32", "no sparsifier 'float32'"),
        ("top-k", "needs a density"),
        ("top-k:", "could not convert"),
        ("top-k:0", "density above 0"),
        ("top-k:1.5", "density above 0"),
        ("top-k:nan", "density above 0"),
        ("top-k:0.010", "is written 'top-k:0.01'"),
        ("top-k:1.0", "is written 'top-k:1'"),
        ("top-k: 0.01", "is written 'top-k:0.01'"),
        ("top-k:0.01:float32", "is written 'top-k:0.01'"),
        ("top-k:0.01:int4", "no values 'int4'"),
        ("top-k:0.01:int8:int8", "too many parts"),
        ("mean-threshold:0.5", "no values '0.5'"),
        ("x" * 100, "100 characters"),
    ],
)
def test_parse_wrong_name_says_why(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DeltaSettings.parse(name)


def test_create_density_without_top_k_is_refused() -> None:
    with pytest.raises(ValueError, match="has no density"):
        DeltaSettings("mean-threshold", 0.1, "float32")
