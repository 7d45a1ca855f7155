"""The manifest: what a run directory is a run of, and on what it ran.

In: an experiment and what preflight learned. Out: `experiment.yaml` and `manifest.json`, written
atomically, and read back as a `Manifest`. A manifest holds plain values only and no part of the environment.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import yaml
from pydantic import TypeAdapter, ValidationError

from raybench.atomic import replacing
from raybench.choices import Choices, processor_name
from raybench.errors import ExperimentError, RunError
from raybench.experiment import Experiment, parse_experiment
from raybench.prices import Price
from raybench.quote import QUOTE
from raybench.records import Facts, Trial
from raybench.regular import check_regular
from raybench.trials import expand
from raybench.yaml_input import describe, read_yaml, shown

MANIFEST = "manifest.json"
EXPERIMENT = "experiment.yaml"
MEND = "delete it and run the experiment's file on this directory again: what was finished is kept"
PACKAGES = ("raybench", "torch", "torchvision", "ray", "numpy", "pandas", "pyarrow", "scikit-learn", "pillow")

_FACTS = TypeAdapter(Facts)
_CHOICES = TypeAdapter(Choices)
_RATES = TypeAdapter(dict[str, float])
_PRICES = TypeAdapter(dict[str, Price])


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a run directory says about itself."""

    run_dir: Path
    experiment: Experiment
    facts: Facts
    created_at: str
    """ISO 8601, UTC: when the run directory was made."""
    chosen: Choices
    """What was measured or chosen, such as threads a trial."""
    rates: Mapping[str, float]
    """What was chosen where the experiment says `learning_rate: auto`: factors of default rates, by search id."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """Of machines, by instance type, when the run was last started."""

    def trials(self) -> list[Trial]:
        """Return the experiment's trials, as they were expanded when it last ran.

        Raises:
            RunError: the manifest and the experiment beside it do not belong together.

        """
        try:
            return expand(self.experiment, self.facts, self.rates)
        except KeyError as error:
            unknown = f"knows nothing of {error.args[0]!r}, which {EXPERIMENT} beside it names"
        except ExperimentError as error:
            unknown = f"does not fit {EXPERIMENT} beside it: {error}"
        raise RunError(
            f"{self.run_dir / MANIFEST}: {unknown}; 'raybench resume {self.run_dir}' looks at the data again"
        )


def write_manifest(
    run_dir: Path,
    experiment: Experiment,
    facts: Facts,
    chosen: Choices,
    rates: Mapping[str, float] | None = None,
    *,
    prices: Mapping[str, Price] | None = None,
) -> None:
    """Write `experiment.yaml` and `manifest.json` of a run; an earlier manifest's date and learning rates are kept."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    path = run_dir / MANIFEST
    created_at = json.loads(path.read_text())["created_at"] if path.exists() else now
    resolved = experiment.model_dump(mode="json")
    data = {
        "name": experiment.name,
        "created_at": created_at,
        "updated_at": now,
        "configuration_sha256": hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest(),
        "versions": {"python": platform.python_version(), **_versions()},
        "hardware": {
            "platform": platform.platform(),
            "processor": processor_name(),
            "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
        },
        "git_commit": _git_commit(),
        "chosen": _CHOICES.dump_python(chosen, mode="json"),
        "learning_rates": {**rates_before(run_dir), **(rates or {})},
        "prices": _PRICES.dump_python(dict(prices or {}), mode="json"),
        "facts": _FACTS.dump_python(facts, mode="json"),
    }
    text = yaml.safe_dump(_plain(experiment), sort_keys=False, allow_unicode=True)
    for place, content in ((run_dir / EXPERIMENT, text), (path, json.dumps(data, indent=1))):
        with replacing(place) as temporary:
            temporary.write_text(content, encoding="utf-8")


def read_manifest(run_dir: Path) -> Manifest:
    """Read a run directory's manifest and experiment; raise `RunError` where it has none that can be read."""
    if not run_dir.is_dir():
        raise RunError(f"{run_dir}: no such run directory; give one that 'raybench run' made")
    path = run_dir / MANIFEST
    try:
        check_regular(path)
        data = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(
            run_dir=run_dir,
            experiment=parse_experiment(read_yaml(run_dir / EXPERIMENT), str(run_dir / EXPERIMENT)),
            facts=_FACTS.validate_python(data["facts"]),
            created_at=data["created_at"],
            chosen=_CHOICES.validate_python(data["chosen"]),
            rates=_RATES.validate_python(data.get("learning_rates", {})),
            prices=_PRICES.validate_python(data.get("prices", {})),
        )
    except FileNotFoundError:
        raise RunError(f"{run_dir}: is no run directory: it has no {MANIFEST}") from None
    except ExperimentError as error:
        raise RunError(str(error)) from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}; {MEND}") from None
    except ValidationError as error:
        raise RunError(f"{path}: cannot be read: {describe(error.errors(include_url=False)[0], [])}; {MEND}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read: {type(error).__name__}: {shown(str(error))}; {MEND}") from None


def chosen_before(run_dir: Path) -> Choices:
    """Return what an earlier run on this directory chose; nothing where there was none."""
    try:
        return _CHOICES.validate_python(json.loads((run_dir / MANIFEST).read_text(encoding="utf-8"))["chosen"])
    except (OSError, ValueError, KeyError, TypeError):
        return Choices()


def rates_before(run_dir: Path) -> dict[str, float]:
    """Return the learning rates that earlier runs on this directory chose: factors of default rates, by search id."""
    try:
        return _RATES.validate_python(json.loads((run_dir / MANIFEST).read_text(encoding="utf-8"))["learning_rates"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def check_belongs(run_dir: Path, experiment: Experiment) -> None:
    """Raise `RunError` where a directory exists that is no run of this experiment."""
    if not run_dir.exists():
        return
    if not run_dir.is_dir():
        raise RunError(f"{run_dir}: is a file; give a folder as --run-dir")
    name = _name_of(run_dir)
    if name is None and any(path.name != QUOTE and not path.name.startswith(".") for path in run_dir.iterdir()):
        raise RunError(f"{run_dir}: holds files but no {MANIFEST}, so it is no run directory; give another --run-dir")
    if name not in {None, experiment.name}:
        raise RunError(
            f"{run_dir}: holds a run of experiment {name!r}, not of {experiment.name!r}; give another --run-dir"
        )


def _name_of(run_dir: Path) -> str | None:
    """Return the name of the experiment that a directory holds a run of; one of its two files may have been lost."""
    manifest, written = run_dir / MANIFEST, run_dir / EXPERIMENT
    if manifest.exists() and written.exists():
        return read_manifest(run_dir).experiment.name
    if written.exists():
        return parse_experiment(read_yaml(written), str(written)).name
    if manifest.exists():
        try:
            return str(json.loads(manifest.read_text(encoding="utf-8"))["name"])
        except (OSError, ValueError, KeyError, TypeError):
            raise RunError(f"{manifest}: cannot be read; {MEND}") from None
    return None


def _plain(experiment: Experiment) -> dict[str, Any]:
    """Return the experiment as it was written, without the defaults, with names in place of one-key parts."""
    data: dict[str, Any] = experiment.model_dump(mode="json", exclude_unset=True)
    for key in ("models", "strategies"):
        data[key] = [part["name"] if list(part) == ["name"] else part for part in data[key]]
    if "scheduler" in data and data["scheduler"] is None:
        data["scheduler"] = "none"
    return data


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git_commit() -> str | None:
    """Return the commit of the folder that raybench was started in, where that is a git checkout."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
