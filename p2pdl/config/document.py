"""Writes docs/configuration.md from the sections: `python -m p2pdl.config.document > docs/configuration.md`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic.fields import FieldInfo

from p2pdl.config.loader import read_text
from p2pdl.config.model import Settings
from p2pdl.config.reading import validate
from p2pdl.config.setting import note, section_of, setting_paths, wanted, written
from p2pdl.config.source import dotted
from p2pdl.errors import ConfigurationError

BAD_EXAMPLE = """\
cluster:
  name: Digits
nodes:
  - name: node1
    address: 192.168.1.10:71010
  - name: node1
    adress: 192.168.1.11:7101
train:
  learning_rate: 1e-3
  batch_size: 64.0
gossip:
  topology: rnig
  timeout: 30s
compress:
  mask: off
"""
"""A file with a mistake in nearly every line."""

INTRODUCTION = """\
# Configuration

One YAML file, the same on every machine, describes the cluster: `p2pdl node --config peers.yaml`.
`p2pdl init` writes one with every key and a comment on each, and `p2pdl check --config peers.yaml` tries it out.
Only `cluster.name` and `nodes` are required; every other key has the default that is given below.
(This page is generated from the code that checks the file: `python -m p2pdl.config.document`.)

## How mistakes are reported

A configuration is checked whole before anything starts. All mistakes are reported at once, each with its file and
line, the key, what was found and, after the arrow, what to write; the exit code is 2. From this file

```yaml
{bad}```

comes

```text
{errors}
```

YAML has traps of its own, which are reported the same way rather than followed:

- A key that is written twice in one section is refused; plain YAML keeps the last one.
- `NO`, `off` and `yes` are truth values and `123` is a number; where text is wanted they need quotes: `"NO"`.
- `0123`, `0x1F` and `1:30`, which YAML reads as 83, 31 and 90, are refused: quote them or write the decimal number.
- `1e-3` is a number here; plain YAML takes it for text.
- Text that starts with a bracket needs quotes, and so does an IPv6 address: `"[fd00::1]:7101"`.
- Anchors (`&`), aliases (`*`) and tags (`!`) are refused.

## `--set`

`--set section.key=value` replaces one setting of the file and may be repeated; of two for the same key the last one
counts. The value is YAML, and the entries of a list are counted from 0:

```sh
p2pdl node --config peers.yaml --set train.passes=10 --set gossip.topology=ring
p2pdl up --config peers.yaml --set 'gossip.clamp=[0.2, 0.8]' --set nodes.0.address=127.0.0.1:7201
```

Mistakes in a flag are reported together with those of the file and begin with `--set`. A setting that must be equal on
all machines (the name, the model, the seed, the nodes) has to be set so on all of them.

## Environment

No setting is read from the environment: the file and its flags are the whole configuration, and a run can be repeated
from them. Keras and TensorFlow read variables of their own, such as `KERAS_HOME` for the folder in which Keras keeps
the data sets that it downloads, and `TF_ENABLE_ONEDNN_OPTS`. For the processes
that it starts p2pdl sets `MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_` and what TensorFlow needs, unless you have
set it.
"""


def page() -> str:
    """The whole page, in Markdown."""
    introduction = INTRODUCTION.format(bad=BAD_EXAMPLE, errors=example_errors())
    return introduction + "".join(f"\n{block}\n" for block in _blocks())


def example_errors() -> str:
    """What the loader says about `BAD_EXAMPLE`."""
    try:
        validate(read_text(BAD_EXAMPLE, Path("peers.yaml")))
    except ConfigurationError as error:
        return str(error)
    raise AssertionError("the bad example has no mistake")


def _blocks() -> Iterator[str]:
    for location, field in setting_paths(Settings):
        path = dotted(location)
        section = section_of(field)
        if section is not None:
            yield f"{'#' * (len(location) + 1)} {path}\n\n{inspect.cleandoc(section.__doc__ or '')}"
        if note(field, "trade_off"):
            level = "" if section is not None else f"{'#' * min(len(location) + 1, 4)} {path}\n\n"
            yield f"{level}{_facts(field)}\n\n{field.description}\n\nTrade-off: {note(field, 'trade_off')}"


def _facts(field: FieldInfo) -> str:
    facts = [f"- Value: {wanted(field)}"]
    if note(field, "unit"):
        facts.append(f"- Unit: {note(field, 'unit')}")
    facts.append(f"- Default: {_default(field)}")
    return "\n".join(facts)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "none, it is required"
    return str(note(field, "default_text")) or f"`{written(field.get_default())}`"


if __name__ == "__main__":
    sys.stdout.write(page())
