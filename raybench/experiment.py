"""An experiment file becomes an `Experiment`: shape and types only.

In: the path of a YAML file and `--set` overrides. Out: a frozen, complete `Experiment`.
Errors name file, key, value and what is accepted. Whether models, data and weights exist, fit and
load is for preflight (`raybench.training.preflight`) to find out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator

from raybench import accepted
from raybench.accepted import ANY
from raybench.errors import ExperimentError
from raybench.experiment_parts import (
    BudgetConfig,
    Count,
    NonNegativeCount,
    NonNegativeFloat,
    Part,
    ResourcesConfig,
    SchedulerConfig,
    check_gpu_of_workers,
    named_scheduler,
    unique,
)
from raybench.learning_rates import FEWEST_VALUES, MOST_VALUES, SearchBudget
from raybench.records import AshaSettings, ResourceRequest
from raybench.strategies import AUGMENT_SUFFIX, BUILT_IN, base_name
from raybench.yaml_input import MAXIMUM_BYTES, MOST_MISTAKES, apply_override, describe, read_yaml, shown

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)]
MOST_TRIALS = 100_000
"""Of an experiment: each is a record in memory, and three files once it has ended."""
LONGEST_TEXT = 4096
"""Characters of a path, as Linux has them."""
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT), BeforeValidator(accepted.without_password)]
Policy = Literal["none", "default", "no-flip", "flip", "trivialaugment", "randaugment"]
Optimizer = Literal["adam", "adamw", "sgd"]
Schedule = Literal["none", "step", "cosine"]
Rate = Literal["auto"] | float

GIGABYTE = 10**9
FILE_SUFFIXES = (".safetensors", ".pth", ".pt")
"""Weights that end so are read from a file."""


def _named(value: Any) -> Any:  # noqa: ANN401 - YAML holds anything
    return {"name": value} if isinstance(value, str) else value


class DatasetConfig(Part):
    """One dataset: where its images come from and how many of them are trained on."""

    name: Name
    """Label in tables."""
    source: Text
    """digits, torchvision:NAME, imagefolder:DIR, filelist:PREFIX, huggingface:NAME or package.module:callable."""
    root: Annotated[str, Field(max_length=LONGEST_TEXT), BeforeValidator(accepted.without_password)] | None = None
    """Folder that the source reads from."""
    image_size: int = Field(default=224, strict=True, ge=8, le=2048)
    """Side of the square images that models see, in pixels."""
    train_sizes: list[Annotated[int | str, BeforeValidator(accepted.train_size)]] = Field(default=["all"], min_length=1)
    """Numbers of training images, or all."""
    augmentation: Policy = "default"
    """What +augment means on this dataset."""
    val_size: Count | None = None
    """Images set aside for validation where the source has no val split; default: min(10 % of train, 2000)."""
    on_bad_image: Literal["error", "skip"] = "error"
    """error: an unreadable image ends preflight; skip: it is left out and counted."""

    @field_validator("train_sizes")
    @classmethod
    def _sizes_stand_once(cls, sizes: list[int | str]) -> list[int | str]:
        unique(sizes, "train size")
        return sizes


class ModelConfig(Part):
    """One architecture."""

    name: Text
    """torchvision name, resnet8/20/32/56, timm:NAME or package.module:callable."""
    head: str | None = None
    """Dotted name of the module to replace; default: the last Linear or 1x1 Conv."""


class _PhaseKeys(Part):
    optimizer: Optimizer | None = None
    learning_rate: Annotated[Rate | None, BeforeValidator(accepted.learning_rate)] = None
    weight_decay: NonNegativeFloat | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    schedule: Schedule | None = None
    step_epochs: Count | None = None
    step_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    warmup_epochs: NonNegativeCount | None = None
    epochs: Count | None = None
    patience: Count | None = None


class PhaseConfig(_PhaseKeys):
    """One stage of a strategy; keys that are absent come from `training`."""

    train: Annotated[Literal["head", "all"] | list[str], BeforeValidator(accepted.train)]
    """head, all, or a list of dotted module names (the head learns with them)."""


class StrategyConfig(Part):
    """A strategy by name, or spelled out as phases."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(\+augment)?$", max_length=100)]
    augment: Annotated[bool | Policy, BeforeValidator(accepted.augment)] = False
    """true: the dataset's policy; or a policy by name."""
    phases: list[PhaseConfig] | None = Field(default=None, min_length=1)


class LearningRateSearchConfig(Part):
    """What `learning_rate: auto` spends on each configuration; the same for all."""

    values: Annotated[int, Field(strict=True, ge=FEWEST_VALUES, le=MOST_VALUES)] = 5
    """Learning rates that are tried: 0.1, 0.3, 1, 3 and 10 times the default."""
    epochs: Count | None = None
    """Of each phase of a try, at most the phase's own; default: 20 % of those, at least 5."""


class TrainingConfig(_PhaseKeys):
    """What phases share unless they say otherwise."""

    epochs: Count = 100
    """Most epochs of a phase."""
    patience: Count | None = None
    """Epochs without a better val loss after which a phase ends; default: 15 % of its epochs, at least 1."""
    batch_size: Count = 32
    optimizer: Optimizer = "adam"
    learning_rate: Annotated[Rate, BeforeValidator(accepted.learning_rate)] = 1e-3
    """A number, or auto: chosen for each configuration by a search of its own."""
    learning_rate_search: LearningRateSearchConfig = LearningRateSearchConfig()
    weight_decay: NonNegativeFloat = 0.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of sgd."""
    schedule: Schedule = "none"
    step_epochs: Count = 7
    """Epochs between two drops of the step schedule."""
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor of each drop of the step schedule."""
    warmup_epochs: NonNegativeCount = 0
    """Epochs of linear warm-up before the schedule begins."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: the loss weighs classes by inverse frequency."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 or float32, whichever trains sooner on the device, as measured before the first trial."""
    deterministic: bool = True
    sync_batchnorm: bool = False
    """With several workers a trial: BatchNorm normalises over the whole batch, not over each worker's part (GPUs)."""

    def phase_defaults(self) -> dict[str, Any]:
        """Return the keys that a phase takes over where it has none of its own."""
        return {key: getattr(self, key) for key in _PhaseKeys.model_fields}


class Experiment(Part):
    """One question: what is compared, how it is trained, and on what."""

    name: Name
    """Identity of the experiment, and the name of its run directory."""
    datasets: list[DatasetConfig] = Field(min_length=1)
    models: list[Annotated[ModelConfig, BeforeValidator(_named)]] = Field(min_length=1)
    weights: list[Text] = Field(default=["random"], min_length=1)
    """random, imagenet, a torchvision weight enum's name, packaged, as-built, or the path of a .pth or .safetensors."""
    strategies: list[Annotated[StrategyConfig, BeforeValidator(_named)]] = Field(min_length=1)
    seeds: list[Annotated[int, Field(strict=True, ge=0, lt=2**31)]] = Field(default=[0], min_length=1)
    training: TrainingConfig = TrainingConfig()
    scheduler: Annotated[SchedulerConfig | None, BeforeValidator(named_scheduler)] = SchedulerConfig()
    """none (patience still ends trials), or asha."""
    resources: ResourcesConfig = ResourcesConfig()
    price_per_hour_usd: Annotated[dict[str, NonNegativeFloat], BeforeValidator(accepted.price_per_hour_usd)] = Field(
        default_factory=dict
    )
    """By instance type; `local` is this machine."""
    budget: BudgetConfig | None = None
    """Where it is reached, nothing starts or goes on that would pass it; the run can go on with a larger one."""
    trial_timeout: Annotated[str | None, BeforeValidator(accepted.trial_timeout)] = None
    """What a trial may take, such as 6h, before it is taken to hang and counts as failed; default: any time."""
    cache_limit_gb: Annotated[float, Field(gt=0, le=1e9)] = 50
    """Most that the cache folder of a machine may hold, in GB: decoded images and features."""

    @field_validator("name")
    @classmethod
    def _name_is_a_folder(cls, name: str) -> str:
        if set(name) == {"."}:
            raise ValueError(f"{name!r} is not accepted; a name needs letters or digits")
        return name

    @field_validator("weights")
    @classmethod
    def _weights_stand_once(cls, weights: list[str]) -> list[str]:
        unique(weights, "choice of weights")
        files = [Path(entry).name for entry in weights if entry.endswith(FILE_SUFFIXES)]
        unique(files, "file name of weights (tables show it)")
        return weights

    @field_validator("seeds")
    @classmethod
    def _seeds_stand_once(cls, seeds: list[int]) -> list[int]:
        unique(seeds, "seed")
        return seeds

    @field_validator("datasets", "models", "strategies")
    @classmethod
    def _names_stand_once(cls, parts: list[Any]) -> list[Any]:
        unique([part.name for part in parts], "name")
        return parts

    @model_validator(mode="after")
    def _strategies_are_known(self) -> Self:
        spelled = {part.name for part in self.strategies if part.phases is not None}
        known = sorted({*BUILT_IN, *spelled})
        for index, part in enumerate(self.strategies):
            if part.phases is None and base_name(part.name) not in known:
                raise ValueError(
                    f"strategies[{index}]: {part.name!r} is not known; give one of {', '.join(known)}, "
                    f"each also with {AUGMENT_SUFFIX}, or spell out its phases"
                )
        return self

    @model_validator(mode="after")
    def _pinned_models_are_there(self) -> Self:
        asked, names = self.resources.accelerator, [model.name for model in self.models]
        unknown = sorted(set(asked) - set(names)) if isinstance(asked, dict) else []
        if unknown:
            raise ValueError(
                f"resources.accelerator: {shown(repr(unknown[0]))} is none of the models; accepted here: "
                f"{', '.join(names)}"
            )
        return self

    @model_validator(mode="after")
    def _workers_have_something_to_do(self) -> Self:
        workers, gpu = self.resources.workers_per_trial, self.resources.gpu
        if workers == 1:
            return self
        if self.training.batch_size < workers:
            raise ValueError(
                f"training.batch_size: {self.training.batch_size} is less than the {workers} of "
                f"resources.workers_per_trial, which share each batch; give at least {workers}"
            )
        check_gpu_of_workers(workers, None if isinstance(gpu, str) else gpu, sync=self.training.sync_batchnorm)
        return self

    @model_validator(mode="after")
    def _can_be_listed(self) -> Self:
        sizes = sum(len(dataset.train_sizes) for dataset in self.datasets)
        trials = sizes * len(self.models) * len(self.weights) * len(self.strategies) * len(self.seeds)
        if trials > MOST_TRIALS:
            raise ValueError(
                f"{trials} trials (training sizes x models x weights x strategies x seeds); an experiment has at most "
                f"{MOST_TRIALS}"
            )
        return self

    def search_budget(self) -> SearchBudget:
        """Return what the search for a learning rate may spend on each configuration."""
        search = self.training.learning_rate_search
        return SearchBudget(values=search.values, epochs=search.epochs)

    def asha_settings(self) -> AshaSettings | None:
        """Return the settings of ASHA, or None under `scheduler: none`."""
        if self.scheduler is None:
            return None
        asha = self.scheduler.asha
        return AshaSettings(
            grace_period=asha.grace_period, reduction_factor=asha.reduction_factor, group_by=tuple(asha.group_by)
        )

    @property
    def cache_limit_bytes(self) -> int:
        """Most that the cache folder of a machine may hold."""
        return int(self.cache_limit_gb * GIGABYTE)

    @property
    def memory_bytes(self) -> int | None:
        """Most of a machine's memory that its trials may take together; None: all but a reserve."""
        asked = self.resources.memory_gb
        return None if isinstance(asked, str) else int(asked * GIGABYTE)

    @property
    def trial_timeout_seconds(self) -> float | None:
        """What a trial may take; None: any time."""
        return None if self.trial_timeout is None else accepted.seconds_of(self.trial_timeout)

    def resource_request(self) -> ResourceRequest:
        """Return what one trial asks of a machine, or each of its workers."""
        gpu, cpu = self.resources.gpu, self.resources.cpu
        return ResourceRequest(
            gpu=None if isinstance(gpu, str) else float(gpu),
            cpu=None if isinstance(cpu, str) else float(cpu),
            accelerators=self._accelerators(),
            workers=self.resources.workers_per_trial,
            sync_batchnorm=self.training.sync_batchnorm,
        )

    def _accelerators(self) -> dict[str, tuple[str, ...]]:
        """Return the kinds of accelerator of each model, where some model is pinned."""
        asked = self.resources.accelerator
        by_model = {each.name: asked.get(each.name, ANY) if isinstance(asked, dict) else asked for each in self.models}
        kinds = {name: [kind] if isinstance(kind, str) else kind for name, kind in by_model.items()}
        pinned = {name: tuple(sorted({*kind} - {ANY})) for name, kind in kinds.items()}
        return pinned if any(pinned.values()) else {}


def load_experiment(path: Path, overrides: Sequence[str] = (), *, base: Path | None = None) -> Experiment:
    """Read an experiment file.

    `overrides` are `KEY=VALUE` texts, applied in order. Relative paths in the file are taken from `base`
    (default: the current folder) and made absolute. Raises `ExperimentError`.
    """
    data = read_yaml(path, MAXIMUM_BYTES)
    for override in overrides:
        apply_override(data, override)
    return absolute_paths(parse_experiment(data, str(path)), base or Path.cwd())


def parse_experiment(data: dict[str, Any], label: str) -> Experiment:
    """Check a mapping against the schema; `label` names it in errors. Raises `ExperimentError`."""
    try:
        return Experiment.model_validate(data)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        lines = [describe(item, _known_keys(item["loc"])) for item in mistakes[:MOST_MISTAKES]]
        lines = [line.removeprefix("the file: ") for line in lines]
        if len(mistakes) > MOST_MISTAKES:
            lines.append(f"{len(mistakes) - MOST_MISTAKES} more like these")
        raise ExperimentError("\n".join(f"{label}: {line}" for line in lines)) from None


def absolute_paths(experiment: Experiment, base: Path) -> Experiment:
    """Return the experiment with absolute paths, so that it means the same from any folder."""
    datasets = []
    for dataset in experiment.datasets:
        kind, separator, rest = dataset.source.partition(":")
        root = str((base / dataset.root).resolve()) if dataset.root is not None else None
        source = dataset.source
        if separator and kind in {"imagefolder", "filelist"} and rest:
            lists = Path(root) if root is not None and kind == "imagefolder" else base
            source = f"{kind}:{(lists / rest).resolve()}"
        datasets.append(dataset.model_copy(update={"root": root, "source": source}))
    weights = [
        str((base / entry).resolve()) if entry.endswith(FILE_SUFFIXES) else entry for entry in experiment.weights
    ]
    return experiment.model_copy(update={"datasets": datasets, "weights": weights})


def _known_keys(location: Sequence[str | int]) -> list[str]:
    """Return the keys accepted at the place where an unknown one was found."""
    part: type[BaseModel] = Experiment
    for key in location[:-1]:
        if isinstance(key, int) or key not in part.model_fields:
            continue
        part = _part_of(part.model_fields[key].annotation) or part
    return list(part.model_fields)


def _part_of(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - annotations are any object
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((part for inner in get_args(annotation) if (part := _part_of(inner))), None)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of an experiment file, for editors."""
    schema = Experiment.model_json_schema()
    # Names stand for the whole part in these lists: `models: [resnet18]`.
    for key, part in (("models", "ModelConfig"), ("strategies", "StrategyConfig")):
        schema["properties"][key]["items"] = {"anyOf": [{"type": "string"}, {"$ref": f"#/$defs/{part}"}]}
    schema["properties"]["scheduler"]["anyOf"].append({"enum": ["none", "asha"]})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "raybench experiment", **schema}


__all__ = ["Experiment", "ExperimentError", "absolute_paths", "json_schema", "load_experiment", "parse_experiment"]
