"""Who trains what: the sections `cluster`, `nodes`, `model`, `data` and `train` of the file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator

from p2pdl.config import texts
from p2pdl.config.address import Address
from p2pdl.config.names import (
    AugmentationName,
    PartitionName,
    RoleName,
    ScheduleName,
)
from p2pdl.config.setting import COUNT_LIMIT, Section, setting

Identifier = Annotated[str, AfterValidator(texts.identifier)]
FilledText = Annotated[str, AfterValidator(texts.filled)]
LibraryName = Annotated[str, AfterValidator(texts.library_name)]
AddressToBind = Annotated[Address, PlainValidator(texts.address), PlainSerializer(str)]
AddressToDial = Annotated[Address, PlainValidator(texts.dialled_address), PlainSerializer(str)]


class Cluster(Section):
    """What all nodes of one training run share."""

    name: Identifier = setting(
        wanted=texts.IDENTIFIER_WANTED,
        example="digits",
        meaning="Name of the cluster. A node refuses weights and requests of any other cluster.",
        trade_off="One name per experiment keeps two clusters on the same machines apart.",
    )
    runs: FilledText = setting(
        "runs",
        unit="path",
        meaning="Folder in which each run leaves its folder; a relative path counts from the folder of the file.",
        trade_off="A local disk keeps logging off the network; a shared one collects the results of all machines.",
    )


class NodeEntry(Section):
    """One node: a server process and a trainer process on one machine. The same list goes to every machine."""

    name: Identifier = setting(
        wanted=texts.IDENTIFIER_WANTED,
        example="node1",
        meaning="Name of the node, unique in the cluster. Its part of the data is chosen by its place in the list.",
        trade_off="A short name reads well in tables; it also names the node's folder in a run.",
    )
    address: AddressToDial = setting(
        wanted="host:port that the other machines can dial",
        example="192.168.1.10:7101",
        unit="host:port",
        meaning="Where the other nodes reach this one. `p2pdl node` without `--name` finds its own entry by it. "
        'A literal IPv6 address stands in brackets and in quotes: `"[fd00::1]:7101"`.',
        trade_off="A number works without a name service; a host name follows a machine that changes its number.",
    )
    bind: AddressToBind | None = setting(
        None,
        wanted="host:port to listen on",
        example="0.0.0.0:7101",
        unit="host:port",
        default_text="the node's `address`",
        meaning="Where the node listens, if that is not the address which others dial.",
        trade_off="`0.0.0.0:7101` serves behind a port forwarding or in a container, but on every interface: "
        "whoever reaches the port can read the weights.",
    )

    role: RoleName = setting(
        "worker",
        meaning="Under `strategy: parameter-server` what the node does: a `worker` trains, a `server` holds the "
        "weights. Several servers hold a range of the model each, in the order of the list.",
        trade_off="One server is simple; more share the traffic and the work of many workers.",
    )

    @property
    def listen(self) -> Address:
        """Where the node's server binds."""
        return self.bind or self.address


class Model(Section):
    """The network; every node must build the same one."""

    name: Annotated[str, AfterValidator(texts.model_name)] = setting(
        "mlp",
        wanted=texts.MODEL_WANTED,
        meaning="A built-in model (`mlp`: three dense layers of 512, `cnn`: a small convolutional network, `vgg19`), "
        "or a function of your own, `module:function` with the module beside this file, that returns a Keras model. It "
        "is passed those of `input_shape`, `classes` and `width` that it names; the model ends in one output for each "
        "class.",
        trade_off="Bytes per exchange grow with the model: `mlp` 2 to 9 MB by the size of the input, `vgg19` 80 MB.",
    )
    width: float = setting(
        1.0,
        gt=0,
        le=16,
        unit="factor",
        meaning="Multiplies the units or channels of every hidden layer of a built-in model.",
        trade_off="Parameters, computation and bytes per exchange grow with about the square of it.",
    )
    arguments: dict[str, Any] = setting(
        {},
        wanted="keyword arguments as `{name: value}`",
        meaning="Keyword arguments for a `module:function`; built-in models take none.",
        trade_off="All nodes read them from this file, so the models stay equal; a constant in code has to be kept "
        "equal on every machine.",
    )


class Data(Section):
    """The data set and how the nodes divide it."""

    source: Annotated[str, AfterValidator(texts.source)] = setting(
        "digits",
        wanted=texts.SOURCE_WANTED,
        meaning="`digits` (1797 images of 8x8, comes with a dependency), a data set that Keras downloads, a file with "
        "the arrays `x_train`, `y_train`, `x_test`, `y_test`, or a function of your own, `module:function` with the "
        "module beside this file, that returns `((x_train, y_train), (x_test, y_test))` or a dict of these names. "
        "Labels are class numbers; `uint8` samples are divided by 255 when batches are made. A relative path counts "
        "from the folder of the file.",
        trade_off="`digits` needs no network; the others are loaded whole by every node, then cut to its part.",
    )
    partition: PartitionName = setting(
        "iid",
        meaning="How the training samples are divided: `iid` at random in equal parts, `dirichlet` with skewed "
        "classes, `by-class` with few classes to a node, `all` gives every node everything.",
        trade_off="The more skewed the parts, the more a node depends on exchange. `all` shows a ceiling, not "
        "decentralized training.",
    )
    alpha: float = setting(
        0.3,
        gt=0,
        le=1e6,
        unit="concentration",
        meaning="Concentration of the Dirichlet distribution over nodes, for `partition: dirichlet` only.",
        trade_off="Small is skewed (0.1: a node sees few classes), large tends to `iid` (100: nearly even).",
    )
    augment: AugmentationName = setting(
        "none",
        meaning="`flip` mirrors training images left to right at random.",
        trade_off="Helps with photographs and harms with digits and letters, whose mirror images mean something else.",
    )


class Optimizer(Section):
    """The inner optimizer; the mask of `compress` is applied to the gradients before it."""

    name: LibraryName = setting(
        "sgd",
        wanted="the name of a Keras optimizer",
        meaning="A Keras optimizer by its name: `sgd`, `adam`, `adamw`, `rmsprop` and so on.",
        trade_off="Only weights are exchanged, not the optimizer's own state: `sgd` keeps little of it; that of "
        "`adam` describes weights which a merge has just moved.",
    )
    learning_rate: float = setting(
        0.05,
        gt=0,
        meaning="The optimizer's learning rate.",
        trade_off="Higher learns faster and lets nodes drift further apart between exchanges; too high diverges. "
        "`adam` wants about 0.001.",
    )
    schedule: ScheduleName = setting(
        "constant",
        meaning="How the learning rate falls over the run: not at all, in a line to 0, or along half a cosine to 0.",
        trade_off="A falling rate ends more accurate, with nodes that are closer to each other; a run cut off half-way "
        "has not come to its slow steps, and one that is made longer afterwards takes up a higher rate again.",
    )
    warm_up: float = setting(
        0.0,
        ge=0,
        lt=1,
        unit="share of the steps",
        meaning="How long the learning rate grows from near 0 at the beginning.",
        trade_off="0.05 to 0.1 lets deep models bear a learning rate that would make them diverge at first.",
    )
    arguments: dict[str, Any] = setting(
        default_factory=lambda validated: {"momentum": 0.9} if validated.get("name") == "sgd" else {},
        default_text="`{momentum: 0.9}` with `sgd`, otherwise `{}`",
        wanted="keyword arguments as `{name: value}`",
        example={"momentum": 0.9},
        meaning="Further keyword arguments of the optimizer. Write them anew when you change `name`.",
        trade_off="Momentum speeds training up and keeps pushing in its old direction for a few steps after a merge.",
    )


class Train(Section):
    """What each node does with its own part of the data."""

    passes: float = setting(
        3.0,
        gt=0,
        le=COUNT_LIMIT,
        unit="passes over the node's own part",
        meaning="How long to train: 3 is three epochs of the node's own samples, 0.5 is half of one.",
        trade_off="More passes give better accuracy and take proportionally longer.",
    )
    steps: int | None = setting(
        None,
        ge=1,
        le=COUNT_LIMIT,
        unit="optimizer steps",
        example=1000,
        default_text="not set: `passes` decides",
        meaning="How long to train in steps, in place of `passes`. A file gives one of the two; "
        "`--set train.steps=...` replaces the `passes` of the file, and the other way round.",
        trade_off="The same number of steps on every node, however unequal the parts; `passes` gives the same "
        "number of looks at each sample.",
    )
    batch_size: int = setting(
        64,
        ge=1,
        le=COUNT_LIMIT,
        unit="samples",
        meaning="Samples in each step of one node.",
        trade_off="Larger uses the processor better and exchanges less often per sample; smaller takes more steps "
        "from few data.",
    )
    optimizer: Optimizer = Field(default_factory=Optimizer)
    loss: LibraryName = setting(
        "auto",
        wanted="auto or the name of a Keras loss",
        meaning="A Keras loss by its name. `auto` is sparse categorical cross-entropy, from logits unless the last "
        "layer ends in softmax.",
        trade_off="`auto` fits what the built-in models end in; labels are class numbers with every loss.",
    )
    seed: int = setting(
        0,
        ge=0,
        le=2**31 - 1,
        meaning="Seed of the initial weights, the partition, the batches and the choice of peers; the same for all "
        "nodes, each of which derives its own streams from it.",
        trade_off="A fixed seed repeats partition and initial weights exactly; with overlap the moment of each merge "
        "still varies. Compare methods over several seeds.",
    )
    threads: int = setting(
        0,
        ge=0,
        le=1024,
        unit="threads",
        meaning="Threads with which the trainer computes one operation; 0 takes every core. `p2pdl up` divides the "
        "cores among its nodes where this is 0.",
        trade_off="More than the cores at hand makes every node of the machine slower.",
    )
    profile: bool = setting(
        False,
        meaning="Write `timeline.json` into the node's folder: when it computed, published, merged, waited, evaluated "
        "and pulled, for Chrome's `chrome://tracing` or https://ui.perfetto.dev.",
        trade_off="Shows whether transfers hide behind the computation; takes about 40 microseconds and 600 bytes a "
        "step, 128 MiB at most.",
    )
