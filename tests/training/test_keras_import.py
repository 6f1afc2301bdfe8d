"""What is loaded with Keras: in a process of its own, as each process loads it once."""

from __future__ import annotations

import json
import subprocess
import sys

from p2pdl.node.children import trainer_environment
from tests.processes import ROOT

PROGRAM = """
import json, sys
from p2pdl.training.keras_import import UNUSED, load_keras
load_keras()
absent = [name for name in UNUSED if name not in sys.modules]
import p2pdl.node.training_run
still_absent = [name for name in UNUSED if name not in sys.modules]
import keras, sklearn.datasets, matplotlib
load_keras()
print(json.dumps([absent, still_absent, sklearn.datasets.load_digits().images.shape[0], keras.backend.backend()]))
"""


def test_keras_is_there_without_what_training_never_uses_and_users_can_have_that_too() -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, env=trainer_environment(threads=1)
    )
    assert said.returncode == 0, said.stderr
    absent, still_absent, images, backend = json.loads(said.stdout)
    assert absent == still_absent == ["matplotlib", "sklearn"]
    assert (images, backend) == (1797, "tensorflow")
