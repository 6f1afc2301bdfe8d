"""What the configuration says about the parameter servers, for both sides."""

from __future__ import annotations

from p2pdl.aggregation import OptimizerSettings
from p2pdl.config import Configuration
from p2pdl.protocol.server_state import ParameterServerSettings
from p2pdl.synchronisation import PolicySettings


def values_of(configuration: Configuration) -> str:
    """How the values of a push are coded: as selected entries are, or as whole weights are."""
    compress = configuration.compress
    if compress.sparsifier != "none":
        return compress.values
    return "int8" if compress.codec == "int8" else "float32"


def parameter_server_settings(configuration: Configuration) -> ParameterServerSettings:
    """What the core of a parameter server needs of the configuration."""
    server, optimizer = configuration.server, configuration.train.optimizer
    momentum = float(optimizer.arguments.get("momentum", 0.0))
    at_server = "momentum" if momentum else "sgd"
    rate = server.rate
    if rate is None and server.policy == "bsp":
        rate = 1.0
    return ParameterServerSettings(
        server.policy,
        PolicySettings(
            server.staleness, server.check_period, server.search_window, server.search_period, server.pushes
        ),
        server.update_rule,
        at_server if server.optimizer_place == "server" else "none",
        OptimizerSettings(optimizer.learning_rate, momentum, bool(optimizer.arguments.get("nesterov", False))),
        rate,
        values_of(configuration),
        server.lease,
        len(configuration.founders),
        configuration.gossip.start_wait,
    )


def mask_warning(configuration: Configuration) -> str:
    """What is to be said where the file asks for a mask that nobody applies; empty if there is nothing."""
    compress, server = configuration.compress, configuration.server
    is_written = "mask" in compress.model_fields_set and compress.mask != "none"
    if configuration.strategy != "parameter-server" or server.optimizer_place == "worker" or not is_written:
        return ""
    return (
        f"compress.mask: {compress.mask} is part of a worker's optimizer, and the optimizer is at the server: nothing "
        "is masked\n  -> `compress: {sparsifier: mean-threshold}` pushes what a mask keeps; `mask: none` says what "
        "is done"
    )
