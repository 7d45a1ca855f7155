"""The README tells the truth: its examples load, its commands exist, its output is what they print."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from raybench.cli import app
from raybench.experiment import parse_experiment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n(.*?)```", README, flags=re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)


def test_the_example_experiment_is_one() -> None:
    whole = next(block for block in YAML if block.startswith("name: photos"))
    experiment = parse_experiment(yaml.safe_load(whole), "README.md")
    assert len(experiment.models) * len(experiment.strategies) * len(experiment.seeds) == 24


@pytest.mark.parametrize("block", [block for block in YAML if block.startswith("name:")])
def test_every_whole_example_is_an_experiment(block: str) -> None:
    assert parse_experiment(yaml.safe_load(block), "README.md").models


def test_the_spelled_out_strategies_are_accepted() -> None:
    whole = yaml.safe_load(next(block for block in YAML if block.startswith("name: photos")))
    spelled = yaml.safe_load(next(block for block in YAML if block.startswith("strategies:")))
    experiment = parse_experiment({**whole, **spelled}, "README.md")
    assert experiment.strategies[1].phases is not None


def test_every_command_in_the_readme_exists_and_none_is_missing() -> None:
    mentioned = set(re.findall(r"raybench (run|[a-z]+)\b(?=[^:\n]*\n|`)", README))
    help_text = CliRunner().invoke(app, ["--help"]).output
    commands = set(re.findall(r"^│ ([a-z]+) ", help_text, flags=re.MULTILINE))
    assert commands
    assert commands <= mentioned | {"schema"}
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^    make ([a-z-]+)", README, flags=re.MULTILINE))))
def test_every_make_target_in_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("block", CONSOLE, ids=lambda block: block.splitlines()[0])
def test_output_in_the_readme_is_what_the_command_prints(block: str) -> None:
    command, expected = block.split("\n", 1)
    arguments = command.removeprefix("$ raybench ").split()
    done = subprocess.run(
        [sys.executable, "-m", "raybench", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    printed = [line.rstrip() for line in done.stdout.strip().splitlines()]
    assert printed == [line.rstrip() for line in expected.strip().splitlines()]


def test_every_path_in_the_repository_table_exists() -> None:
    table = README[README.index("## In this repository") :]
    first_column = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    paths = [path for cell in first_column for path in re.findall(r"`([^`]+)`", cell)]
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path
