"""The records that travel between the steps of the pipeline.

Plain frozen dataclasses without behaviour: what is trained (`Trial`), what one epoch gave
(`EpochRecord`), what a trial ended with (`TrialResult`), and what preflight learned about the
data and weights (`Facts`). The columns of the Parquet files are the fields of these records.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

SCHEMA_VERSION = 1
"""Version of the results, history and predictions tables."""


class Status(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"
    """Reached its last epoch or ran out of patience."""
    STOPPED = "stopped"
    """Ended early by ASHA: its test score is a lower bound."""
    FAILED = "failed"
    """Raised an error, which is kept in the row."""
    UNFINISHED = "unfinished"
    """Not ended yet: interrupted or out of budget."""


class Verdict(StrEnum):
    """What a trial does after an epoch."""

    GO_ON = "go on"
    STOP = "stop"
    """End here, for good: the best epoch so far is scored."""
    PAUSE = "pause"
    """Keep everything and make room: a later run goes on from here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSpec:
    """Where images come from and how they are prepared."""

    name: str
    """Label of the dataset in tables."""
    source: str
    """`digits`, `torchvision:NAME`, `imagefolder:DIR`, `filelist:PREFIX`, `huggingface:NAME` or `package:callable`."""
    root: str | None
    """Folder that the source reads from; None where the source needs none."""
    image_size: int
    """Side of the square images that models see, in pixels."""
    val_size: int | None
    """Images set aside from train where the source has no val split; None: min(10 % of train, 2000)."""
    on_bad_image: str
    """`error`, or `skip` to leave unreadable images out and count them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Which architecture, and where its head is."""

    name: str
    """torchvision name, resnet8/20/32/56, `timm:NAME` or `package.module:callable`; also its label."""
    head: str | None
    """Dotted name of the module to replace; None: the last Linear or 1x1 Conv."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """One stage of a strategy: which layers learn, and how."""

    train: str | tuple[str, ...]
    """`head`, `all`, or dotted module names (the head always learns as well)."""
    optimizer: str
    """`adam`, `adamw` or `sgd`."""
    learning_rate: float
    weight_decay: float
    momentum: float
    """Used by sgd only."""
    schedule: str
    """`none`, `step` or `cosine`."""
    step_epochs: int
    """Epochs between two drops of the `step` schedule."""
    step_factor: float
    """Factor of one drop of the `step` schedule."""
    warmup_epochs: int
    """Epochs over which the learning rate rises linearly to its value, before the schedule begins."""
    epochs: int
    """At most this many."""
    patience: int
    """Epochs without a better val loss after which the phase ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy:
    """A named list of phases plus an augmentation policy."""

    name: str
    augmentation: str
    """Resolved policy: `none`, `default`, `no-flip`, `flip`, `trivialaugment` or `randaugment`."""
    phases: tuple[Phase, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """What all phases of all trials share."""

    batch_size: int
    label_smoothing: float
    class_weights: str
    """`none` or `balanced` (inverse class frequency of the training subset)."""
    precision: str
    """`auto`, `float32` or `bfloat16`."""
    deterministic: bool
    sync_batchnorm: bool = False
    """Whether BatchNorm normalises over the whole batch where several workers train a trial."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A configuration and a seed: the unit that is trained."""

    trial_id: str
    """Hash of everything that decides the outcome; see `raybench.trials`."""
    dataset: DatasetSpec
    train_size: int
    """Training images of the subset."""
    model: ModelSpec
    weights: str
    """`random`, `imagenet`, a torchvision weight enum's name, `packaged`, `as-built` or a path."""
    strategy: Strategy
    training: TrainingSettings
    seed: int
    first_phase_id: str | None = None
    """Id of the trial that ends where this one's first phase does, where that phase trains the head alone: its own for
    a linear probe. Trials that share it train that phase once; None: nothing is shared."""

    @property
    def epochs(self) -> int:
        """Most epochs the trial can take, over all phases."""
        return sum(phase.epochs for phase in self.strategy.phases)


@dataclass(frozen=True, kw_only=True, slots=True)
class AshaSettings:
    """Asynchronous successive halving: when a trial is stopped because of others in its group."""

    grace_period: int
    """Epochs of a strategy's last phase before the first decision."""
    reduction_factor: int
    """One trial in this many goes on at each rung; a rung decides once it holds as many values."""
    group_by: tuple[str, ...]
    """Columns that trials share to be compared: of `dataset`, `train_size`, `seed`, `model`, `weights`, `strategy`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourceRequest:
    """What one trial asks of a machine."""

    gpu: float | None
    """GPUs or a fraction of one; None: where there are GPUs, as much of one as pays, else none (`auto`)."""
    cpu: float | None
    """CPU cores; None: as many as pay (`auto`)."""
    accelerators: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kinds of accelerator that a model's trials may run on, by the model's name, as Ray labels machines; any kind
    where there is none, and for every model of an empty mapping."""
    workers: int = 1
    """Processes that train a trial together, each of which asks for that much."""
    sync_batchnorm: bool = False
    """Whether they normalise together, which torch can on GPUs alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """How a model's steps are computed on one kind of device: chosen by measuring, once a machine, then kept."""

    channels_last: bool = False
    """Whether images and weights lie in memory as [b, h, w, c]: the same numbers up to rounding, often sooner."""
    bfloat16: bool = False
    """Whether forward passes run under autocast to bfloat16 where `precision` is `auto`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """What a phase takes an image, in seconds, while nothing else runs on the device."""

    train_seconds: float
    """A training image, each epoch: preparing it, forward, backward and the optimizer's part of a step."""
    val_seconds: float
    """A val image, each epoch."""
    feature_seconds: float = 0.0
    """An image that a frozen backbone sees once; 0 where there is none, or each epoch computes it anew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inference:
    """How fast a model predicts, while nothing else runs on the device; images lie in memory."""

    images_per_second: float
    """In batches."""
    latency_seconds: float
    """Of one image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """Most memory that a trial is expected to take."""

    host_bytes: int
    """Of the machine's, by its process itself: see `raybench.process_memory`."""
    gpu_bytes: int = 0
    """Of the GPU's, by tensors, without images that stay there; 0 where it computes on a CPU."""
    gpu_share: float = 0.0
    """That, as a part of the GPU's memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """What the scheduler gave to one trial, on the node where it runs: of several workers, all that they have."""

    cpu_share: float
    """Part of the node's CPU cores that the trial may count as its own, 0 to 1; above 1 where it has those of others
    as well."""
    gpu_fraction: float
    """GPUs or a fraction of one; 0: the trial runs on the CPU, whatever else the node has."""
    threads: int
    """Threads for a worker's computations."""
    workers: int = 1
    """Processes that train the trial together, joined by torch's process group."""
    rank: int = 0
    """Which of these this one is."""
    retries: int = 0
    """Times that this run started the trial before: each one ended with the loss of its worker."""
    node: str | None = None
    """Host name."""
    instance_type: str | None = None
    """What the node is labelled with; None where it has no label."""
    price_per_hour_usd: float | None = None
    """Of the whole node; None where its instance type is unknown or has no price."""
    cache_limit_bytes: int | None = None
    """Most that the node's cache folder may hold; None: what its disk holds."""
    several_machines: bool = False
    """Whether trials of the run may run on other machines as well."""
    tuning: Tuning | None = None
    """Of the trial's model; None: nothing was measured, so the usual choice for the device is taken."""
    device_share: float | None = None
    """Part of the node, 0 to 1, that the trial would have to itself alone: whole GPUs, or its part of the cores."""
    paces: Mapping[str, Pace] = field(default_factory=dict)
    """Of the trial's phases, by `raybench.pace.pace_key`; empty where nothing was measured."""
    inference: Inference | None = None
    """Of the trial's model; None where nothing was measured."""
    footprint: Footprint | None = None
    """What the trial was expected to take; None where nothing was measured."""
    gpu_memory_share: float | None = None
    """Part of the GPU's memory that the process may take; None: as much as there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRecord:
    """One row of the history table."""

    trial_id: str
    phase: int
    """Index of the phase, from 1."""
    epoch: int
    """From 1, over all phases."""
    train_loss: float
    """Mean cross-entropy over the epoch's training images, in nats, with label smoothing and class weights if set."""
    train_accuracy: float
    val_loss: float
    """Mean cross-entropy over the val split, in nats, without smoothing or weights."""
    val_accuracy: float
    learning_rate: float
    epoch_seconds: float
    """Training and validation of this epoch; in the first one on a frozen backbone, with what its features are charged
    with (see `TrialResult.feature_seconds`)."""
    images_per_second: float
    """Training images over the training part of the epoch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """One row of the results table. None means unknown or not applicable, never zero."""

    trial_id: str
    dataset: str
    train_size: int
    model: str
    weights: str
    strategy: str
    augmentation: str
    seed: int
    status: Status
    error: str | None = None
    epochs_run: int | None = None
    best_epoch: int | None = None
    """Epoch with the lowest val loss over all phases; its weights were scored."""
    train_loss: float | None = None
    """Of the best epoch, like the val columns."""
    val_loss: float | None = None
    val_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy: float | None = None
    test_balanced_accuracy: float | None = None
    """Mean of the recalls of the classes that the test split holds."""
    test_macro_f1: float | None = None
    test_per_class_recall: tuple[float | None, ...] | None = None
    """In the order of the dataset's classes; None for a class without test images."""
    train_seconds: float | None = None
    """Training, validation and `feature_seconds`; neither queueing nor checkpoints nor the test split."""
    feature_seconds: float | None = None
    """What features of a frozen backbone are charged with, whether they were computed or found: this trial's train and
    val images (val alone where train images are augmented) x measured seconds an image. None where there are none."""
    wall_seconds: float | None = None
    gpu_fraction: float | None = None
    cpu_share: float | None = None
    accelerator: str | None = None
    """`cpu` or the GPU's name."""
    instance_type: str | None = None
    node: str | None = None
    peak_memory_bytes: int | None = None
    """Of the GPU, by tensors, or of the machine, by the trial's process itself: without what it maps from files."""
    standalone_cost_usd: float | None = None
    parameters: int | None = None
    trainable_parameters: int | None = None
    """Of the last phase."""
    model_bytes: int | None = None
    inference_images_per_second: float | None = None
    inference_latency_seconds: float | None = None
    standalone_seconds: float | None = None
    """What `train_seconds` would be with nothing else on the device: images over images per second measured alone."""
    device_share: float | None = None
    """Part of the node that the trial would have to itself then: whole GPUs, or its part of the cores."""
    build_seconds: float | None = None
    """Of `wall_seconds`, for what later trials find done: decoded images, and features of frozen backbones."""
    predicted_memory_bytes: int | None = None
    """What `peak_memory_bytes` was expected to be; None where nothing was measured."""
    workers: int | None = None
    """Processes that trained it together; None in rows of an earlier raybench, which had one. `gpu_fraction`,
    `cpu_share` and `device_share` are of all of them, `peak_memory_bytes` of the one that took most."""
    retries: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetFacts:
    """What preflight saw of one dataset."""

    name: str
    fingerprint: str
    """Hash over relative path, byte size and label of every image, image_size and the split rule."""
    classes: tuple[str, ...]
    train_images: int
    val_images: int
    test_images: int | None
    """None where the source has no test split."""
    train_class_counts: tuple[int, ...]
    """In the order of `classes`."""
    skipped_images: tuple[str, ...] = ()
    """Unreadable images left out under `on_bad_image: skip`."""
    warnings: tuple[str, ...] = ()
    """What would mislead: duplicates across splits, classes under ten images, a missing split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsFacts:
    """What preflight saw of one model with one choice of weights."""

    model: str
    weights: str
    digest: str
    """Hash of the bytes of the weight file, or the name where there is no file."""
    note: str = ""
    """What is worth telling: tensors matched, what the weights were pretrained on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What preflight learned; with the experiment it determines the trials."""

    datasets: dict[str, DatasetFacts] = field(default_factory=dict)
    """By dataset name."""
    weights: dict[str, WeightsFacts] = field(default_factory=dict)
    """By `MODEL WEIGHTS`, one space between."""
