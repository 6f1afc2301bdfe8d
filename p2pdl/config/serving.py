"""What servers grant, and how parameter servers work: the section `server` of the file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from p2pdl.config import texts
from p2pdl.config.names import OptimizerPlace, PolicyName, UpdateRuleName
from p2pdl.config.setting import COUNT_LIMIT, Section, setting


class Server(Section):
    """What a node's server grants to others, and how a parameter server works.

    The keys from `policy` on are used with `strategy: parameter-server` only.
    """

    uploads: int = setting(
        1,
        ge=1,
        le=64,
        unit="pulls",
        meaning="Pulls served at one time; others are told to ask again, and meanwhile ask another node.",
        trade_off="1 lets each pull have the whole link and end early; more serves several slow pullers side by side.",
    )
    copies: int = setting(
        8,
        ge=0,
        le=1024,
        unit="copies",
        meaning="Copies of the model kept for pullers with `mean-threshold` or `top-k`, one each; those used least "
        "recently make room.",
        trade_off="A puller whose copy has gone gets the whole model once more; each copy takes the memory of a model.",
    )
    copies_memory: int = setting(
        1024,
        ge=0,
        le=1048576,
        unit="MiB",
        meaning="Memory of these copies in all, at most.",
        trade_off="As `copies`.",
    )
    memory: int = setting(
        192,
        ge=64,
        le=1048576,
        unit="MiB",
        meaning="Memory that others can make the server process take, beside itself and the copies: messages that do "
        "not end, replies that nobody reads. What needs more is refused or cut off; where that is not enough, the "
        "process ends and is started again. Linux only.",
        trade_off="Small protects the machine; large serves many slow pullers with large ranges at one time. Half of "
        "it is for replies in other codecs than `float32` that are still to be sent.",
    )
    policy: PolicyName = setting(
        "bsp",
        meaning="Which iterations workers may begin: `bsp` when all have pushed the one before; `ssp` at most "
        "`staleness` ahead of the slowest; `asp` at any time; `adsp` at any time, where all push equally often and "
        "train on their own in between.",
        trade_off="`bsp` is large-batch training, as fast as its slowest worker; the others wait less, and push what "
        "was made from older weights.",
    )
    staleness: int = setting(
        3,
        ge=0,
        le=COUNT_LIMIT,
        unit="iterations",
        meaning="How far `ssp` lets a worker be ahead of the slowest one; 0 is `bsp`, pushed one by one.",
        trade_off="More bridges longer pauses of one worker, with older gradients.",
    )
    update_rule: UpdateRuleName = setting(
        "consgd",
        meaning="What the server makes of an update: `consgd` one rate for all, `dynsgd` less the older the weights "
        "that it was made from, `direction-distance` the directions of all workers in the length of their sum, "
        "`adacomp` less for those entries that others have changed meanwhile.",
        trade_off="`consgd` costs nothing; the others make up for stragglers, with memory for each worker.",
    )
    optimizer: OptimizerPlace = setting(
        "auto",
        meaning="Where `train.optimizer` works: `server` applies it to the gradients that workers push (sgd, with or "
        "without momentum); with `worker` each has its own, and pushes by how much it has moved the weights. `auto` is "
        "`worker` under `adsp`, else `server`.",
        trade_off="At the server there is one momentum for all; at the workers every optimizer of Keras will do.",
    )
    rate: float | None = setting(
        None,
        gt=0,
        le=1e6,
        default_text="1 under `bsp`, else 1 / workers",
        meaning="By what each update is multiplied, besides the learning rate. Under `bsp` it is the mean of the "
        "workers' updates that is.",
        trade_off="1 / workers moves as far as one worker would; 1 takes as many full steps as there are pushes.",
    )
    range: Annotated[str, BeforeValidator(texts.range_length)] = setting(
        "all",
        wanted="all, auto, or a whole number of MiB from 1",
        example="auto",
        meaning="How much of the model a worker pushes and pulls after a step. With `all` it waits for that; a number "
        "and `auto` take one range after another in turn, while the next step is computed. `auto` measures, and takes "
        "as long a range as the computation hides. For gradients that are pushed whole: not with a sparsifier, nor "
        "where the optimizer is at the workers.",
        trade_off="`all` is plain training for one worker; ranges keep the worker busy on a slow link, with gradients "
        "of weights that are one step and more old.",
    )
    lease: float = setting(
        10.0,
        gt=0,
        le=86400,
        unit="s",
        meaning="A worker that was not heard of for so long is waited for no more; it takes part again as soon as it "
        "is heard of.",
        trade_off="Short frees the others soon when a worker dies; it must be longer than a worker's slowest step.",
    )
    check_period: float = setting(
        10.0,
        gt=0,
        le=86400,
        unit="s",
        meaning="Time in which all workers of `adsp` push equally often.",
        trade_off="Short keeps the workers' models close together; long lets the slow ones be slower.",
    )
    search_window: float = setting(
        20.0,
        gt=0,
        le=86400,
        unit="s",
        meaning="For how long `adsp` tries each number of pushes while it looks for the best one.",
        trade_off="Long tells better which is best; short finds it sooner.",
    )
    search_period: float = setting(
        300.0,
        gt=0,
        le=604800,
        unit="s",
        meaning="Time from one such search to the next.",
        trade_off="What is best changes as training goes on; while it is looked for, worse ones are tried.",
    )
    pushes: int = setting(
        4,
        ge=1,
        le=COUNT_LIMIT,
        unit="pushes",
        meaning="Pushes of each worker in a `check_period` with which the search begins.",
        trade_off="Near the best number the search is short.",
    )

    @property
    def optimizer_place(self) -> Literal["server", "worker"]:
        """Where the optimizer works: `auto` resolved."""
        if self.optimizer != "auto":
            return self.optimizer
        return "worker" if self.policy == "adsp" else "server"
