"""What `raybench rank` writes, and where."""

import json
import sys
from pathlib import Path

import pytest

from raybench import cli

STUDY = str(Path(__file__).parent / "data" / "resnet_cost_performance.csv")


def rank(*arguments: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["raybench", "rank", STUDY, *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
    assert left.value.code == 0


@pytest.mark.parametrize(
    ("name", "begins"),
    [("t.csv", "dataset,train_size,rank,"), ("t.md", "**"), ("t.txt", "resnet_cost_performance, 833")],
)
def test_the_ending_of_the_file_decides_the_format(
    name: str, begins: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rank("--output", str(tmp_path / name))
    assert (tmp_path / name).read_text().startswith(begins)
    assert f"Wrote {tmp_path / name}" in capsys.readouterr().out


def test_a_format_that_is_asked_for_beats_the_ending(tmp_path: Path) -> None:
    rank("--output", str(tmp_path / "t.csv"), "--format", "json")
    assert len(json.loads((tmp_path / "t.csv").read_text())) == 24


def test_markdown_holds_the_pick_and_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    rank("--format", "markdown")
    text = capsys.readouterr().out
    assert text.count("\n- Pick for") == 3
    assert "\n- One seed" in text
