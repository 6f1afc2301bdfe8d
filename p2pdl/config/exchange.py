"""How nodes exchange: the sections `gossip`, `compress` and `metrics` of the file."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from p2pdl.config import texts
from p2pdl.config.names import (
    CodecName,
    ContributionName,
    MaskName,
    MergeRuleName,
    SparsifierName,
    TopologyName,
    ValuesName,
)
from p2pdl.config.setting import COUNT_LIMIT, Section, setting

Interval = Annotated[tuple[float, float], Field(strict=False), AfterValidator(texts.ordered_interval)]
NodeNames = Annotated[tuple[str, ...], Field(strict=False)]


class Gossip(Section):
    """From whom a node pulls weights, when, and how it merges them; used with `strategy: gossip`.

    Workers of a parameter server use `timeout`, `request_timeout`, `range_size`, `window`, `start_wait`, `linger` and
    `final_merge` of these.
    """

    topology: TopologyName = setting(
        "random",
        meaning="Who pulls from whom: `ring` from the one before it in the list, `random` from nodes drawn anew "
        "each time, `exponential` from the one 1, 2, 4, ... places before it in turn, `static` "
        "from the neighbours in `graph`.",
        trade_off="Averaging 512 nodes to a variance of 1e-4 takes about 7 rounds with three random peers, 9 with "
        "`exponential`, 14 with one random peer and more than 400 with `ring`, which in turn needs the fewest "
        "connections.",
    )
    peers: int = setting(
        1,
        ge=1,
        le=COUNT_LIMIT,
        unit="nodes",
        meaning="From how many nodes each exchange pulls; for `topology: random` only, and fewer than there are nodes.",
        trade_off="More mix faster, and each costs the bytes of a whole model.",
    )
    graph: dict[str, NodeNames] | None = setting(
        None,
        wanted="for each node the list of nodes that it pulls from, such as {node1: [node2], node2: [node1]}",
        default_text="not set",
        meaning="The neighbours that each node pulls from; required by `topology: static`, refused by the others. "
        "Every node has an entry; an empty list pulls from nobody.",
        trade_off="Follows the real links between machines, and no longer adapts: where all neighbours of a node are "
        "down it trains alone.",
    )
    merge: MergeRuleName = setting(
        "contribution",
        meaning="Weight of a neighbour's model: `mean` gives one half; `contribution` gives "
        "`own_loss / (own_loss + peer_loss)`, so that the better model counts for more.",
        trade_off="`contribution` gains where nodes differ much; it believes the loss that a peer states, within "
        "`clamp`. `mean` believes nobody.",
    )
    clamp: Interval = setting(
        (0.1, 0.9),
        wanted="two numbers [low, high] with 0 <= low <= high <= 1",
        meaning="Limits of the weight that `contribution` may give to a neighbour.",
        trade_off="Wide lets a much better model take over at once; narrow limits what a peer with a false loss can "
        "do. [0.5, 0.5] is the mean.",
    )
    contribution: ContributionName = setting(
        "claimed",
        meaning="Whose word `merge: contribution` takes for a neighbour's loss: `claimed` the neighbour's, held within "
        "what the others claim; `measured` nobody's, this node measures its own loss and that of the neighbour's "
        "weights on the batch that it trains on next.",
        trade_off="`measured` leaves nothing to lie about; each merge takes the forward part of two steps, and the "
        "memory of one more model.",
    )
    clip: float | None = setting(
        3.0,
        gt=0,
        le=1e6,
        unit="usual distances",
        meaning="Weights that are further away than so many times the usual distance are drawn near before they are "
        "merged; those more than 20 times as far away are refused. `null` merges whatever is finite.",
        trade_off="Small holds off a neighbour gone bad, and slows down one that has learnt much that is new; at 3 "
        "honest neighbours are hardly ever drawn near.",
    )
    exchange_every: int = setting(
        1,
        ge=1,
        le=COUNT_LIMIT,
        unit="steps",
        meaning="Steps between the starts of two pulls. With `overlap` a new pull starts only when the last one ended.",
        trade_off="1 keeps the nodes closest; more saves traffic, and the nodes drift further apart between merges.",
    )
    overlap: bool = setting(
        True,
        meaning="Pull while the step computes, and merge what has arrived; `false` is the paper's order: update, "
        "request, wait for the answer or the time-out, merge.",
        trade_off="`true` hides the network behind the computation and merges weights that are a few steps old; "
        "`false` merges fresh weights, and every step waits for the slowest link.",
    )
    downloads: int = setting(
        1,
        ge=1,
        le=16,
        unit="pulls",
        meaning="Pulls at one time, where an exchange has several peers; those that begin together are merged "
        "together, when the last of them has ended.",
        trade_off="1 lets each pull have the whole link; more is for peers behind slower links than one's own. Each "
        "takes the memory of a model.",
    )
    fraction: Annotated[str, BeforeValidator(texts.fraction)] = setting(
        "1/1",
        wanted="1/k with a whole number k",
        example="1/4",
        meaning="Share of the model that one exchange moves and merges; `1/k` takes the k parts in turn.",
        trade_off="A small share saves bytes and time in each exchange, and each part is merged more rarely. Parts are "
        "whole MiB: a model of 4 MB has 4 at most.",
    )
    timeout: float | None = setting(
        None,
        gt=0,
        le=86400,
        unit="s",
        example=30,
        default_text="learnt",
        meaning="Longest time for a pull; then the node counts a failure and goes on. `null` learns it for each link: "
        "the median of recent pulls and 8 times their median deviation, from 5 s to 10 min; at first 20 times what the "
        "slowest other link takes, and 120 s where none is known.",
        trade_off="A number must exceed the bytes of a pull over the link's rate (80 MB at 300 Mbit/s: 2.2 s). With "
        "`overlap: false` a dead peer costs this time.",
    )
    request_timeout: float | None = setting(
        None,
        gt=0,
        le=86400,
        unit="s",
        example=10,
        default_text="learnt",
        meaning="Longest time without an answer within a pull. `null` learns it in the same way, from 5 s to 2 min; "
        "15 s where no link is known.",
        trade_off="Short notices a dead peer early; too short gives up on a busy one. One that exceeds `timeout` "
        "never comes to bear.",
    )
    range_size: int = setting(
        2,
        ge=1,
        le=4,
        unit="MiB",
        meaning="Bytes in one range request on a link that carries them within a second; otherwise 1.",
        trade_off="Large has fewer round trips; small holds up a server with several clients for a shorter time, and "
        "loses less when a transfer breaks.",
    )
    window: int = setting(
        2,
        ge=1,
        le=16,
        unit="requests",
        meaning="Range requests in flight at once within one pull.",
        trade_off="More hides the round trip of a long link; each takes one `range_size` of memory at both ends.",
    )
    start_wait: float = setting(
        30.0,
        ge=0,
        le=86400,
        unit="s",
        meaning="Longest time that a node waits at its start for peers which are evidently starting as well.",
        trade_off="Long lets slow machines begin together; 0 starts at once and takes what is there.",
    )
    linger: float = setting(
        300.0,
        ge=0,
        le=604800,
        unit="s",
        meaning="Longest time that a node which has done its steps keeps serving the others before the final merge.",
        trade_off="Long waits for slow machines, so that their weights are in the consensus; short frees this one.",
    )
    final_merge: bool = setting(
        True,
        meaning="End with the average of the final weights of all live nodes which have finished, weighted by their "
        "samples, so that every node has the consensus model.",
        trade_off="Costs one pull from every other node and waits up to `linger`; brings a few tenths of a point with "
        "even data and many points with skewed data.",
    )

    @property
    def parts(self) -> int:
        """k of the fraction 1/k."""
        return int(self.fraction.partition("/")[2])


class Compress(Section):
    """What is left out: of the gradients before the optimizer applies them, and of the weights on the wire."""

    mask: MaskName = setting(
        "magnitude",
        meaning="The mean threshold, variable by variable: `magnitude` keeps a gradient where its magnitude is at "
        "least the mean magnitude, `signed` reads the rule to the letter (the value at least the mean value), "
        "`none` keeps everything.",
        trade_off="`magnitude` keeps less than half of the gradients as a rule and costs little accuracy; `signed` "
        "drops nearly every negative gradient and hardly learns. Without effect where the optimizer is at a parameter "
        "server; in a script `p2pdl.MeanThreshold` masks.",
    )
    error_feedback: bool = setting(
        False,
        meaning="Add what the mask dropped to the next step's gradients; without effect under `mask: none`.",
        trade_off="Nothing is lost for good, and small steady gradients count in the end; takes one more copy of the "
        "model in memory.",
    )

    codec: CodecName = setting(
        "float32",
        meaning="How this node pulls weights. `float32` as they are; `bfloat16`, `float16` and `int8` in fewer bits; "
        "`mean-threshold` and `top-k` send what has changed most since the last pull, and nothing that they leave out "
        "is ever lost; `auto` chooses for each link, so that a pull fits between two exchanges. To a "
        "parameter server all entries of an update travel as `int8` with `int8` here, and otherwise as `float32`.",
        trade_off="Bytes of a pull: 16-bit codecs 1/2, `int8` 1/4, `mean-threshold` about 1/7, `top-k` at a density "
        "of 0.01 about 1/200, the latter two with `values: int8`. They cost both ends a copy of the model for each "
        "other, and merge only what has arrived.",
    )
    values: ValuesName = setting(
        "int8",
        meaning="How `mean-threshold`, `top-k` and a sparsifier send the entries that they have chosen.",
        trade_off="`int8` takes a quarter of the bytes, and what it rounds off is sent later; `float32` is exact at "
        "once.",
    )
    density: float = setting(
        0.02,
        ge=0.0001,
        le=1,
        meaning="Share of the entries that `top-k` sends in each pull.",
        trade_off="Small saves bytes; large lets more of each neighbour in.",
    )
    sparsifier: SparsifierName = setting(
        "none",
        meaning="Which entries of its update a worker sends to a parameter server: all with `none`; those of at least "
        "`threshold`; those of at least their variable's mean magnitude (`mean-threshold`); the greatest share "
        "`kept` of the model (`top-fraction`) or of each variable (`adacomp`); a share drawn by what has helped "
        "before (`esgd`). Used with `strategy: parameter-server`.",
        trade_off="Fewer entries are fewer bytes at the server's end, where all workers' meet; what is not sent waits "
        "in the worker, but for `mean-threshold`, which drops it, and `esgd`, which lets it fade.",
    )
    kept: float = setting(
        0.01,
        gt=0,
        le=1,
        meaning="Share of the entries that `top-fraction`, `adacomp` and `esgd` send.",
        trade_off="Small saves bytes; large loses less time between a gradient and its effect.",
    )
    threshold: float = setting(
        0.001,
        gt=0,
        le=1e6,
        meaning="Least magnitude that the sparsifier `threshold` sends.",
        trade_off="Right for one model and one stage of training only: gradients shrink while it stays.",
    )
    deflate: bool = setting(
        False,
        meaning="Pack the frames of `float32`, `bfloat16`, `float16` or `int8` without loss (zlib) where that saves "
        "5 % or more.",
        trade_off="Saves 5 to 25 % of the bytes for about 15 ms of both processors for each MB: it pays below some "
        "50 Mbit/s.",
    )


class Metrics(Section):
    """What a node writes down while it trains."""

    interval: float = setting(
        1.0,
        gt=0,
        le=86400,
        unit="s",
        meaning="Time between two lines of `metrics.jsonl`.",
        trade_off="Short shows more detail and writes larger files.",
    )
    evaluate_every: float = setting(
        0.0,
        ge=0,
        le=86400,
        unit="s",
        meaning="Training time between two evaluations of a node's own weights on the test data, whose results are in "
        "`metrics.jsonl`: before the first step, after the last, and in between. 0 evaluates at the end only.",
        trade_off="Short draws a finer curve; the node trains nothing meanwhile, and a worker under `bsp` holds up the "
        "others.",
    )
    evaluation_samples: int = setting(
        10000,
        ge=1,
        le=COUNT_LIMIT,
        unit="samples",
        meaning="Each evaluation uses at most so many samples.",
        trade_off="More gives a finer figure (10000 samples: about 0.2 points of standard error at 96 %) and takes "
        "longer.",
    )
