"""The names that a configuration may use for topologies, merge rules, partitions, models and the rest.

They are written down here, and not read from the rooms that implement them, because reading them there
would load those rooms (one of them TensorFlow) only to check a file.
"""

from __future__ import annotations

from typing import Literal

StrategyName = Literal["gossip", "parameter-server", "single"]
RoleName = Literal["worker", "server"]
TopologyName = Literal["ring", "random", "exponential", "static"]
MergeRuleName = Literal["contribution", "mean"]
ContributionName = Literal["claimed", "measured"]
ScheduleName = Literal["constant", "linear", "cosine"]
MaskName = Literal["magnitude", "signed", "none"]
CodecName = Literal["float32", "bfloat16", "float16", "int8", "mean-threshold", "top-k", "auto"]
ValuesName = Literal["float32", "int8"]
SparsifierName = Literal["none", "threshold", "mean-threshold", "top-fraction", "adacomp", "esgd"]
PolicyName = Literal["bsp", "ssp", "asp", "adsp"]
UpdateRuleName = Literal["consgd", "dynsgd", "direction-distance", "adacomp"]
OptimizerPlace = Literal["auto", "server", "worker"]
PartitionName = Literal["iid", "dirichlet", "by-class", "all"]
MembershipName = Literal["auto", "local", "lan", "wan"]
SecurityName = Literal["auto", "curve", "none"]
AugmentationName = Literal["none", "flip"]
ModelName = Literal["mlp", "cnn", "vgg19"]
SourceName = Literal["digits", "mnist", "cifar10", "cifar100", "fashion_mnist"]
