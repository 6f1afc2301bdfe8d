"""What every update rule must do, whatever its formula, and the update itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pdl.aggregation import UPDATE_RULES, Update, UpdateRule, make_rule
from p2pdl.errors import CheckpointMismatch
from tests.aggregation.updates import SIZE, WORKERS, dense, sparse, updates

EVERY_RULE = pytest.mark.parametrize("name", UPDATE_RULES)
HISTORIES = st.lists(st.tuples(st.sampled_from(["push", "push", "push", "pull", "forget"]), updates()), max_size=25)


def fresh(name: str) -> UpdateRule:
    rule = make_rule(name, SIZE, rate=0.5)
    for worker in WORKERS:
        rule.on_pull(worker)
    return rule


def play(rule: UpdateRule, history: list[tuple[str, Update]]) -> list[bytes]:
    """Run a history; a worker that was forgotten pulls before its next push."""
    applied = []
    for move, update in history:
        if move == "forget":
            rule.forget(update.worker)
            rule.on_pull(update.worker)
        elif move == "pull":
            rule.on_pull(update.worker)
        else:
            applied.append(rule.scaled(update).tobytes())
    return applied


@EVERY_RULE
@settings(max_examples=30, deadline=None)
@given(history=HISTORIES)
def test_scaled_keeps_shape_dtype_direction_and_the_update(name: str, history: list[tuple[str, Update]]) -> None:
    rule = fresh(name)
    for move, update in history:
        if move != "push":
            play(rule, [(move, update)])
            continue
        update.values.flags.writeable = False
        before = update.values.copy()
        scaled = rule.scaled(update)
        assert scaled.dtype == np.float32
        assert scaled.shape == update.values.shape
        np.testing.assert_array_equal(update.values, before)
        np.testing.assert_array_equal(np.sign(scaled), np.sign(before))


@EVERY_RULE
@settings(max_examples=30, deadline=None)
@given(before=HISTORIES, after=HISTORIES)
def test_restored_rule_goes_on_with_the_same_bits(
    name: str, before: list[tuple[str, Update]], after: list[tuple[str, Update]]
) -> None:
    rule, other = fresh(name), make_rule(name, SIZE, rate=0.5)
    play(rule, before)
    saved = {key: array.copy() for key, array in rule.state().items()}
    other.restore(saved)
    given_back = {key: array.tobytes() for key, array in saved.items()}
    assert play(rule, after) == play(other, after)
    assert {key: array.tobytes() for key, array in saved.items()} == given_back
    states: list[dict[str, Any]] = [{k: v.tobytes() for k, v in r.state().items()} for r in (rule, other)]
    assert states[0] == states[1]


@EVERY_RULE
def test_restore_of_another_state_is_refused_and_changes_nothing(name: str) -> None:
    rule = fresh(name)
    rule.scaled(dense([1.0] * SIZE))
    before = {key: array.copy() for key, array in rule.state().items()}
    wrong = [{"unknown": np.zeros(3)}]
    for key, array in before.items():
        wrong.append({**before, key: array.astype(np.float16)})
        wrong.append({**before, key: np.zeros((*array.shape, 2), array.dtype)})
    for state in wrong:
        with pytest.raises(CheckpointMismatch) as caught:
            rule.restore(state)
        assert caught.value.remedy
        assert {key: array.tobytes() for key, array in rule.state().items()} == {
            key: array.tobytes() for key, array in before.items()
        }


@EVERY_RULE
def test_state_of_another_size_is_refused(name: str) -> None:
    other = make_rule(name, SIZE + 1)
    other.on_pull("a")
    if other.state():
        with pytest.raises(CheckpointMismatch, match="shape"):
            fresh(name).restore(other.state())


@EVERY_RULE
def test_forget_of_an_unknown_worker_is_no_matter(name: str) -> None:
    rule = make_rule(name, SIZE)
    rule.forget("nobody")
    rule.on_pull("a")
    rule.forget("a")
    rule.forget("a")


@EVERY_RULE
def test_one_worker_alone_pulling_before_each_push_is_left_as_it_is(name: str) -> None:
    rule, rng = make_rule(name, SIZE), np.random.default_rng(0)
    for clock in range(20):
        rule.on_pull("a")
        update = dense(rng.normal(size=SIZE).astype(np.float32), clock=clock)
        np.testing.assert_allclose(rule.scaled(update), update.values, rtol=1e-6)


def test_names_are_those_of_the_registry() -> None:
    assert [make_rule(name, SIZE).name for name in UPDATE_RULES] == list(UPDATE_RULES)


def test_make_unknown_name_or_wrong_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="'sgd'.*consgd, dynsgd, direction-distance, adacomp"):
        make_rule("sgd", SIZE)
    with pytest.raises(ValueError, match="above 0, not 0"):
        make_rule("consgd", SIZE, rate=0)


def test_update_knows_its_place() -> None:
    vector = np.arange(SIZE)
    np.testing.assert_array_equal(vector[dense([1, 2, 3], start=4).place], [4, 5, 6])
    np.testing.assert_array_equal(vector[sparse([2, 9], [1, 2]).place], [2, 9])


def test_update_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0, not -1"):
        dense([1.0], staleness=-1)
    with pytest.raises(ValueError, match="2 values for 1 indices"):
        sparse([3], [1.0, 2.0])
