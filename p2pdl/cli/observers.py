"""What `p2pdl up` writes while its nodes run, where no table can be drawn: messages, and a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from p2pdl.cli import numbers
from p2pdl.config.source import shown
from p2pdl.node.cluster import NodeProgress
from p2pdl.node.node_output import Message
from p2pdl.protocol.messages import StatusReply

LINE_SECONDS = 5.0
LONGEST_LINE = 1000
MESSAGE_STYLES = {"warning": "yellow", "error": "red"}


class Messages:
    """Shows what the nodes have to say that is not mere progress, and nothing else.

    Args:
        console: Where to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._errors: set[str] = set()

    def message(self, message: Message) -> None:
        """See `Observer.message`; the same error of several nodes is shown once."""
        if message.level == "info" or message.text in self._errors:
            return
        if message.level == "error":
            self._errors.add(message.text)
        text = "\n".join(shown(line, LONGEST_LINE) for line in str(message).split("\n"))
        self.console.print(Text(text, style=MESSAGE_STYLES.get(message.level, "")), soft_wrap=True)

    def progress(self, nodes: Sequence[NodeProgress]) -> None:
        """See `Observer.progress`; shows nothing."""


class ProgressLines(Messages):
    """Shows messages, and a line about all nodes every few seconds.

    Args:
        console: Where to.
        now: Source of monotonic seconds.
    """

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console)
        self._now = now
        self._started = now()
        self._next_line = self._started + LINE_SECONDS
        self._last = ""

    def progress(self, nodes: Sequence[NodeProgress]) -> None:
        """See `Observer.progress`."""
        now = self._now()
        if now < self._next_line:
            return
        self._next_line = now + LINE_SECONDS
        text = " | ".join(_summary(node) for node in nodes)
        if text != self._last:
            self._last = text
            self.console.print(f"{numbers.minutes(now - self._started)}  {text}", soft_wrap=True)


def state_of(node: NodeProgress) -> str:
    """A node's state in a word: what its process has come to, or else what it said last."""
    heard = node.heard.status if node.heard else None
    if node.exit_code is not None:
        if heard is not None and heard.state == "stopped":
            return "stopped"
        return "failed" if node.exit_code else "done"
    if node.local:
        return heard.state if heard else "starting"
    return heard.state if heard and node.heard and not node.heard.error else "no answer"


def seconds_left(status: StatusReply) -> Any:
    """What a node estimates; None where there is nothing to estimate from."""
    return status.figures.get("seconds_left") if status.state == "training" and status.step else None


def _summary(node: NodeProgress) -> str:
    state = shown(state_of(node))
    status = node.heard.status if node.heard else None
    if status is None or state != "training":
        return f"{node.name} {state}"
    done = f"step {status.step} of {status.steps}" if status.steps else f"version {status.step}"
    text = f"{node.name} {done}, loss {numbers.loss(status.loss)}"
    left = seconds_left(status)
    return f"{text}, {numbers.minutes(left)} left" if left is not None else text
