"""What a link teaches: lighter pulls after time-outs and back again, and the codec that fits the interval."""

from __future__ import annotations

import numpy as np
import pytest

from p2pdl.codec import CODECS
from p2pdl.codec.ends import encoder, shard_nbytes
from p2pdl.protocol.deadlines import PULL_BOUNDS, SILENCE_BOUNDS
from p2pdl.protocol.link import EASE, FIRST_RUNG, LADDER, PROBE_PULLS, RECENT_RATES, Link, LinkSettings, density
from p2pdl.protocol.messages import REPLY_LIMIT
from p2pdl.protocol.serving import range_limit
from p2pdl.spec import SHARD_ELEMENTS
from tests.protocol.nodes import MODEL, model_vector

MIB = 1 << 20
EVERY_CODEC = [*CODECS, *LADDER[3:], "top-k:0.05", "mean-threshold", "mean-threshold:int8"]


def link_of(codec: str, **settings: object) -> Link:
    return Link(LinkSettings(codec=codec, **settings), shards=8)  # type: ignore[arg-type]


def succeed(link: Link, seconds: float = 0.1, interval: float = 1.0, times: int = 1) -> None:
    for _ in range(times):
        link.on_success(seconds, seconds, round(8 * MIB * density(link.codec)), interval)


def is_narrow(link: Link) -> bool:
    settings = link.pull_settings()
    return (settings.range_shards, settings.window) == (1, 1)


@pytest.mark.parametrize("wanted", [1, 2, 4, 16])
@pytest.mark.parametrize("codec", sorted({*EVERY_CODEC, *LADDER}))
def test_pull_settings_stay_within_what_a_reply_may_hold(codec: str, wanted: int) -> None:
    link = link_of(codec, range_shards=wanted, window=3)
    for granted, seconds in ((1, 1e-4), (wanted, 1e4), (wanted, 1e4), (1, 1e4)):
        settings = link.pull_settings()
        assert settings.window == 3
        assert 1 <= settings.range_shards <= range_limit(codec)
        assert settings.range_shards * shard_nbytes(codec) <= REPLY_LIMIT
        # As many bytes as asked for, if the link carries them in a second, in whole shards; at least one of them, at
        # most what a reply holds.
        assert settings.range_shards == min(range_limit(codec), max(1, granted * MIB // shard_nbytes(codec)))
        link.on_success(seconds, seconds, round(8 * MIB * density(codec)), 1.0)


@pytest.mark.parametrize("codec", EVERY_CODEC)
def test_explicit_codec_stays_whatever_a_pull_takes(codec: str) -> None:
    link = link_of(codec)
    for seconds in (0.001, 1.0, 1000.0):
        succeed(link, seconds, times=PROBE_PULLS + 1)
        assert (link.codec, link.reason) == (codec, "as configured")
        assert link.pull_settings().window == LinkSettings().window


def test_explicit_codec_becomes_narrow_then_stronger_step_by_step() -> None:
    link = link_of("float32")
    assert link.on_timeout()
    assert (link.codec, is_narrow(link)) == ("float32", True)
    assert "smaller ranges, one at a time" in link.reason
    for rung in LADDER[1:]:
        assert link.on_timeout()
        assert (link.codec, is_narrow(link)) == (rung, True)
        assert link.reason == f"pulls did not end in time: {rung}"
    assert not link.on_timeout()
    assert link.codec == LADDER[-1]


@pytest.mark.parametrize(
    "codec, stronger",
    [
        ("bfloat16", "int8"),
        ("float16+deflate", "int8"),
        ("int8", "top-k:0.1:int8"),
        ("mean-threshold", "int8"),
        ("mean-threshold:int8", "top-k:0.1:int8"),
        ("top-k:0.05", "top-k:0.1:int8"),
        ("top-k:0.05:int8", "top-k:0.02:int8"),
    ],
)
def test_stronger_is_the_plainest_codec_that_sends_less(codec: str, stronger: str) -> None:
    link = link_of(codec)
    link.on_timeout()
    assert link.codec == codec
    assert link.on_timeout()
    assert link.codec == stronger
    # The way back leads to what is configured at once: nothing on the ladder lies between.
    succeed(link, times=PROBE_PULLS)
    assert (link.codec, is_narrow(link)) == (codec, True)


def test_codec_stronger_than_the_ladder_has_nothing_to_go_to() -> None:
    link = link_of("top-k:0.001:int8")
    assert link.on_timeout()
    assert not link.on_timeout()
    assert link.codec == "top-k:0.001:int8"


def test_explicit_codec_recovers_one_step_after_so_many_pulls() -> None:
    link = link_of("float32")
    for _ in range(4):
        link.on_timeout()
    for codec in ("top-k:0.1:int8", "int8", "bfloat16"):
        assert link.codec == codec
        succeed(link, times=PROBE_PULLS - 1)
        assert link.codec == codec
        succeed(link)
        assert "back towards what is configured" in link.reason
    assert (link.codec, is_narrow(link)) == ("float32", True)
    succeed(link, times=PROBE_PULLS - 1)
    assert is_narrow(link)
    succeed(link)
    assert (link.codec, is_narrow(link)) == ("float32", False)
    assert link.on_timeout() and is_narrow(link)


def test_timeout_starts_the_count_anew() -> None:
    link = link_of("float32")
    link.on_timeout()
    link.on_timeout()
    succeed(link, times=PROBE_PULLS - 1)
    link.on_timeout()
    assert link.codec == "int8"
    succeed(link, times=PROBE_PULLS - 1)
    assert link.codec == "int8"
    succeed(link)
    assert link.codec == "bfloat16"


def test_auto_begins_with_a_quarter_of_the_bytes() -> None:
    link = link_of("auto")
    assert (link.codec, link.reason, LADDER[FIRST_RUNG]) == ("int8", "not measured yet", "int8")
    assert link.mbit_per_second is None


def test_auto_sends_less_while_pulls_exceed_the_interval() -> None:
    link = link_of("auto")
    for before, after in zip(LADDER[FIRST_RUNG:], LADDER[FIRST_RUNG + 1 :], strict=False):
        succeed(link, seconds=3.0, interval=2.0)
        assert link.codec == after
        assert link.reason == f"a pull in {before} takes 3 s of 2 s: too long"
    succeed(link, seconds=3.0, interval=2.0)
    assert link.codec == LADDER[-1]
    assert link.reason == f"a pull in {LADDER[-1]} takes 3 s of 2 s: nothing is smaller"


def test_auto_sends_more_where_a_plainer_codec_is_expected_to_fit() -> None:
    link = link_of("auto")
    succeed(link, seconds=0.1)
    assert link.codec == "bfloat16"
    assert link.reason == "a pull in int8 takes 0.1 s of 1 s: bfloat16 may fit too"
    succeed(link, seconds=0.2)
    assert link.codec == "float32"
    succeed(link, seconds=0.4, times=2 * PROBE_PULLS)
    assert link.codec == "float32"
    assert link.reason == "a pull in float32 takes 0.4 s of 1 s: fits"


@pytest.mark.parametrize("rung", range(1, len(LADDER)))
def test_auto_goes_up_exactly_where_the_expected_time_is_easy(rung: int) -> None:
    growth = density(LADDER[rung - 1]) / density(LADDER[rung])
    for seconds, expected in ((0.99 * EASE / growth, rung - 1), (1.01 * EASE / growth, rung)):
        link = link_of("auto")
        while link.codec != LADDER[rung]:
            slow = LADDER.index(link.codec) < rung
            succeed(link, seconds=2.0 if slow else 0.001)
        succeed(link, seconds=seconds)
        assert link.codec == LADDER[expected]


def test_auto_probes_a_plainer_codec_after_many_pulls_that_fit_and_goes_back_if_it_does_not() -> None:
    link = link_of("auto")
    succeed(link, seconds=0.9, times=PROBE_PULLS - 1)
    assert (link.codec, link.reason) == ("int8", "a pull in int8 takes 0.9 s of 1 s: fits")
    succeed(link, seconds=0.9)
    assert link.codec == "bfloat16"
    succeed(link, seconds=1.7)
    assert link.codec == "int8"
    succeed(link, seconds=0.9, times=PROBE_PULLS - 1)
    assert link.codec == "int8"


def test_auto_becomes_narrow_then_stronger_after_timeouts_too() -> None:
    link = link_of("auto")
    assert link.on_timeout()
    assert (link.codec, is_narrow(link)) == ("int8", True)
    for rung in LADDER[FIRST_RUNG + 1 :]:
        assert link.on_timeout()
        assert link.codec == rung
    assert not link.on_timeout()


def test_rate_is_the_median_of_recent_pulls() -> None:
    link = link_of("float32")
    for _ in range(5):
        link.on_success(1.0, 0.1, 100 * 10**6, 1.0)
    for seconds in np.linspace(2.0, 10.0, RECENT_RATES):
        link.on_success(float(seconds), 0.1, 10**6, 1.0)
    assert link.mbit_per_second == pytest.approx(8.0 / 6.0)
    link.on_success(0.0, 0.0, 10**6, 1.0)
    assert link.mbit_per_second is not None and np.isfinite(link.mbit_per_second)


def test_configured_deadlines_stand_whatever_is_learnt() -> None:
    link = link_of("float32", timeout=7.0, request_timeout=3.0)
    succeed(link, seconds=100.0, times=5)
    link.on_timeout()
    settings = link.pull_settings()
    assert (settings.timeout, settings.request_timeout) == (7.0, 3.0)


def test_deadlines_are_learnt_and_double_after_a_timeout() -> None:
    link = link_of("float32")
    assert link.pull_settings().timeout == PULL_BOUNDS.initial
    assert link.pull_settings().request_timeout == SILENCE_BOUNDS.initial
    for _ in range(9):
        link.on_success(40.0, 10.0, 8 * MIB, 1.0)
    settings = link.pull_settings()
    assert (settings.timeout, settings.request_timeout) == (80.0, 20.0)
    link.on_timeout()
    settings = link.pull_settings()
    assert (settings.timeout, settings.request_timeout) == (160.0, 40.0)


def test_deadline_grows_with_the_bytes_of_a_plainer_codec() -> None:
    link = link_of("auto")
    link.on_success(40.0, 5.0, 2 * MIB, 1000.0)
    assert link.codec == "bfloat16"
    # 8 shards at 2 bytes an element are 4 MiB.
    assert link.pull_settings().timeout == pytest.approx(2.0 * 40.0 * 2)


@pytest.mark.parametrize("codec", EVERY_CODEC)
def test_density_is_about_what_a_codec_sends_once_both_ends_have_a_copy(codec: str) -> None:
    server = encoder(codec, MODEL)
    vector, known, nbytes = model_vector(0), [0, 0], 0
    for version in range(2):
        payloads = []
        for number in range(2):
            payload, known[number] = server.encode(number, vector, version, known[number], 0)
            payloads.append(payload.size)
        nbytes, vector = payloads[0], vector + model_vector(1, 0.1)
    # About: what deflating saves is left out, and the fewer the entries, the more an index costs.
    assert nbytes / (4 * SHARD_ELEMENTS) == pytest.approx(density(codec), rel=0.35)
