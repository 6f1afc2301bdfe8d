"""The names that a file may use are those that the rooms know."""

from __future__ import annotations

from typing import get_args

from p2pdl import sparsifier
from p2pdl.aggregation import UPDATE_RULES
from p2pdl.codec import CODECS
from p2pdl.codec.sparse_values import VALUE_CODINGS
from p2pdl.codec.sparsifier import SPARSIFIERS
from p2pdl.config import names
from p2pdl.merge import MERGE_RULES
from p2pdl.partition import PARTITIONS
from p2pdl.synchronisation import POLICIES
from p2pdl.topology import TOPOLOGIES
from p2pdl.training.batches import AUGMENTS
from p2pdl.training.data.registry import SOURCES
from p2pdl.training.mean_threshold import RULES
from p2pdl.training.models.registry import MODELS
from p2pdl.training.schedule import SCHEDULES


def test_every_name_of_a_room_is_a_name_of_the_file() -> None:
    assert set(get_args(names.TopologyName)) == set(TOPOLOGIES)
    assert set(get_args(names.MergeRuleName)) == set(MERGE_RULES)
    assert set(get_args(names.PartitionName)) == set(PARTITIONS)
    assert set(get_args(names.ModelName)) == set(MODELS)
    assert set(get_args(names.SourceName)) == set(SOURCES)
    assert set(get_args(names.AugmentationName)) == set(AUGMENTS)
    stateless = {name for name in CODECS if not name.endswith("+deflate")}
    assert set(get_args(names.CodecName)) == {*stateless, *SPARSIFIERS, "auto"}
    assert set(get_args(names.ValuesName)) == set(VALUE_CODINGS)
    assert set(get_args(names.ScheduleName)) == set(SCHEDULES)
    assert set(get_args(names.MaskName)) == {*RULES, "none"}
    assert set(get_args(names.PolicyName)) == set(POLICIES)
    assert set(get_args(names.UpdateRuleName)) == set(UPDATE_RULES)
    assert set(get_args(names.SparsifierName)) == set(sparsifier.SPARSIFIERS)
