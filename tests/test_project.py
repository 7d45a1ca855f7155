"""The project around the package: experiment files, cluster file, Makefile, packaging, size of modules."""

import ast
import copy
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from raybench.experiment import Experiment, load_experiment
from raybench.prices import TABLE, per_hour
from raybench.strategies import BUILT_IN, base_name, complete_phases

ROOT = Path(__file__).parent.parent
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
MODULES = sorted((ROOT / "raybench").rglob("*.py"))
MOST_LINES = 400
PROVIDED = {"raybench", *sys.stdlib_module_names}


def load(name: str) -> Experiment:
    return load_experiment(ROOT / "experiments" / f"{name}.yaml")


def phases_of(experiment: Experiment, strategy: str) -> list[tuple[str | tuple[str, ...], str, float]]:
    phases = complete_phases(BUILT_IN[base_name(strategy)], experiment.training.phase_defaults())
    return [(phase.train, phase.optimizer, phase.learning_rate) for phase in phases]


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_built_in_experiment_is_the_quickstart_of_the_checkout() -> None:
    built_in = (ROOT / "raybench" / "embedded" / "quickstart.yaml").read_text()
    assert built_in == (ROOT / "experiments" / "quickstart.yaml").read_text(), (
        "cp experiments/quickstart.yaml raybench/embedded/"
    )


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiment_loads_and_its_header_asks_a_question_and_gives_the_command(path: Path) -> None:
    experiment = load_experiment(path)
    header = path.read_text().partition("\nname:")[0]
    assert experiment.name == path.stem
    assert f"raybench run experiments/{path.name}" in header
    assert path.stem == "pretrain-embedded" or "?" in header.splitlines()[0] + header.splitlines()[1]
    assert all(len(line) <= 120 for line in path.read_text().splitlines())


def test_quickstart_compares_eight_configurations_at_three_sizes_with_three_seeds() -> None:
    experiment = load("quickstart")
    assert len(experiment.models) * len(experiment.weights) * len(experiment.strategies) >= 8
    assert experiment.datasets[0].train_sizes[-1] == "all"
    assert len(experiment.datasets[0].train_sizes) == len(experiment.seeds) == 3
    assert experiment.training.epochs >= 10


@pytest.mark.parametrize("name", ["resnet-cost-performance", "fashion-mnist"])
def test_first_study_has_its_grid_and_its_assumed_recipe(name: str) -> None:
    experiment = load(name)
    names = [strategy.name for strategy in experiment.strategies]
    sizes = sum(len(dataset.train_sizes) for dataset in experiment.datasets)
    assert len(experiment.models) * len(names) * sizes == 24
    assert phases_of(experiment, names[0]) == [("head", "adam", 1e-3)]
    assert phases_of(experiment, names[1]) == [("head", "adam", 1e-3), ("all", "adam", 1e-5)]
    assert (experiment.training.epochs, experiment.training.patience, experiment.training.batch_size) == (100, 15, 32)


def test_fashion_mnist_is_asked_at_the_published_sizes() -> None:
    assert load("fashion-mnist").datasets[0].train_sizes == [833, 2280, 19104]


def test_second_study_has_its_assumed_recipe() -> None:
    experiment = load("alexnet-vs-resnet")
    training = experiment.training
    assert [model.name for model in experiment.models] == ["alexnet", "resnet18"]
    assert [base_name(strategy.name) for strategy in experiment.strategies] == ["fine-tune", "linear-probe"]
    assert (training.optimizer, training.learning_rate, training.momentum) == ("sgd", 1e-3, 0.9)
    assert (training.schedule, training.step_epochs, training.step_factor) == ("step", 7, 0.1)
    assert (training.epochs, training.batch_size) == (15, 4)


def test_packaged_weights_are_pretrained_from_nothing_at_the_size_of_the_quickstart() -> None:
    pretraining, quickstart = load("pretrain-embedded"), load("quickstart")
    assert pretraining.weights == ["random"]
    assert [model.name for model in pretraining.models] == [model.name for model in quickstart.models]
    assert pretraining.datasets[0].image_size == quickstart.datasets[0].image_size


@pytest.fixture
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return loaded


@pytest.fixture
def prepared(cluster: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(ROOT)
    util = pytest.importorskip("ray.autoscaler._private.util")
    config: dict[str, Any] = util.prepare_config(copy.deepcopy(cluster))
    util.validate_config(config)
    return config


def test_cluster_file_is_valid_by_rays_own_schema(prepared: dict[str, Any]) -> None:
    assert prepared["provider"]["type"] == "aws"
    assert prepared["setup_commands"]


def test_cluster_trains_on_spot_gpu_workers_and_nothing_on_the_head(prepared: dict[str, Any]) -> None:
    nodes = prepared["available_node_types"]
    head = nodes.pop(prepared["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    prices = per_hour(TABLE)
    assert len({node["node_config"]["InstanceType"] for node in nodes.values()}) == 2
    for node in nodes.values():
        assert node["resources"]["GPU"] >= 1
        assert node["min_workers"] == 0
        assert node["labels"]["ray.io/accelerator-type"]
        assert node["node_config"]["InstanceType"] in prices
        assert node["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}


def test_a_region_and_a_bucket_are_all_that_a_user_fills_in() -> None:
    lines = (ROOT / "cluster.yaml").read_text().splitlines()
    marked = [line.split("#")[0].strip() for line in lines if "# <-" in line]
    assert marked == ["region: us-west-2", "echo 'export RAYBENCH_RUNS=s3://YOUR-BUCKET/runs' >> ~/.bashrc"]


def test_every_node_installs_raybench_with_one_version_of_ray(prepared: dict[str, Any]) -> None:
    for commands in (prepared["head_setup_commands"], prepared["worker_setup_commands"]):
        (installation,) = [line for line in commands if "install -e ~/raybench" in line]
        pinned = dict(re.findall(r"([a-z-]+)==([\d.]+)", installation))
        assert {"ray", "torch", "torchvision", "numpy", "pandas", "pyarrow"} <= pinned.keys()


def test_every_node_asks_for_a_token_and_workers_say_what_they_are(cluster: dict[str, Any]) -> None:
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token ray start" in commands[-1]
    assert "--labels=raybench/instance=" in cluster["worker_start_ray_commands"][-1]


def test_what_the_cluster_copies_is_in_the_checkout(cluster: dict[str, Any]) -> None:
    copied = [local for remote, local in cluster["file_mounts"].items() if remote.startswith("~/raybench")]
    assert {"raybench", "pyproject.toml"} <= set(copied)
    assert all((ROOT / local).exists() for local in copied)


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKELEVEL", "ARGS"}}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


@needs_make
def test_make_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    shown = make("help").stdout
    assert [target for target in phony[1].split() if f"  make {target} " not in shown] == []
    assert make().stdout == shown


@needs_make
@pytest.mark.parametrize(("target", "command"), [("quickstart", ".venv/bin/raybench run"), ("test", "-m pytest")])
def test_quickstart_and_test_set_up_what_they_need_first(tmp_path: Path, target: str, command: str) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    steps = make("--dry-run", target, folder=tmp_path).stdout
    assert steps.index("-m venv .venv") < steps.index("pip install -e '.[dev]'") < steps.index(command)


@needs_make
def test_old_python_is_refused_with_a_message(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\n[ "$1" != -c ]\n')
    old.chmod(0o755)
    done = make("quickstart", f"PYTHON={old}", folder=tmp_path)
    assert done.returncode != 0
    assert "needs Python 3.11 or later" in done.stderr
    assert "'Python 3.9.2'" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("script", [".ci/run", "tests/check_wheel.sh", "tests/browser/install_chromium.sh"])
def test_shell_script_is_executable_and_parses(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", str(ROOT / script)], check=False).returncode == 0


def test_no_module_grows_beyond_what_one_can_read() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def imported_packages(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def test_every_package_that_is_imported_is_asked_for() -> None:
    project = pyproject()["project"]
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
    asked_for = {re.split(r"[\[>=<~! ]", line)[0].lower() for line in [*project["dependencies"], *extras]}
    distributions = importlib.metadata.packages_distributions()
    missing = {
        f"{package} in {path.name}"
        for path in MODULES
        for package in imported_packages(path)
        if package not in PROVIDED and not {name.lower() for name in distributions.get(package, [package])} & asked_for
    }
    assert missing == set()
