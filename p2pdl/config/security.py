"""Who may take part: the section `security` of the file."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, model_validator

from p2pdl.config import texts
from p2pdl.config.names import SecurityName
from p2pdl.config.setting import Section, setting


class Security(Section):
    """Who may take part, and whether all is encrypted. `security: none` is short for `security: {mode: none}`."""

    mode: SecurityName = setting(
        "auto",
        meaning="`curve` encrypts everything (CurveZMQ) and lets only the owners of listed keys in, each under the "
        "name for which its key is listed. `none` neither encrypts nor asks who somebody is. `auto` is `curve` where "
        "there is a list of keys, and `none` where all nodes are on one machine by their addresses; where neither is "
        "so, a node does not start.",
        trade_off="`curve` wants a key on each machine (`p2pdl keygen`), and takes processor time for each byte "
        "(docs/performance.md). With `none`, whoever reaches a node's port can read its weights and give it others.",
    )
    keys: Annotated[str, AfterValidator(texts.filled)] = setting(
        "keys",
        unit="path",
        meaning="Folder of the keys: `NAME.secret` of the nodes of this machine, and `allowed`, the list of those that "
        "may take part. A relative path counts from the folder of the file.",
        trade_off="Beside the file they are easily found; elsewhere they are not copied along with it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _mode_alone(cls, data: Any) -> Any:
        return {"mode": data} if isinstance(data, str) and data in get_args(SecurityName) else data
