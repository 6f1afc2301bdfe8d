"""The names of graphics processors, whether their makers say them or not."""

from __future__ import annotations

from types import SimpleNamespace

import tensorflow as tf

from p2pdl.training.devices import gpu_names


def test_names_are_the_makers_or_else_those_of_tensorflow(monkeypatch):
    details = {"/gpu:0": {"device_name": "A card", "compute_capability": (9, 0)}, "/gpu:1": {}}
    devices = [SimpleNamespace(name=name, device_type="GPU") for name in details]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices if kind == "GPU" else [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details[device.name])
    assert gpu_names() == ["A card", "/gpu:1"]
