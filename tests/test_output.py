"""What `raybench rank` writes, and where."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from raybench import cli
from raybench.ranking import RANK_COLUMNS
from tests.made_up_run import MadeUp

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


def test_parquet_holds_the_whole_ranking(tmp_path: Path) -> None:
    rank("--output", str(tmp_path / "t.parquet"))
    rank("--output", str(tmp_path / "T.CSV"))
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert list(table.columns) == RANK_COLUMNS
    assert table["test_accuracy"].to_list() == pytest.approx(pd.read_csv(tmp_path / "T.CSV")["test_accuracy"].to_list())


def test_a_file_without_an_ending_takes_the_format_that_is_asked_for(tmp_path: Path) -> None:
    rank("--output", str(tmp_path / "ranking"), "--format", "csv")
    assert (tmp_path / "ranking").read_text().startswith("dataset,train_size,rank,")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("t.xlsx",), r"t.xlsx: .xlsx is not accepted; give .csv, .parquet, .json, .md or .txt"),
        (("t.xlsx", "--format", "csv"), r"t.xlsx: .xlsx is not accepted"),
        (("ranking",), "ranking: no ending is not accepted; give .csv, .parquet, .json, .md or .txt, or say --format"),
        (
            ("t.parquet", "--format", "csv"),
            "t.parquet: --format csv is text; give another ending, or leave --format out",
        ),
        (("absent/t.parquet",), "absent/t.parquet: cannot be written"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", ["raybench", "rank", STUDY, "--output", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
    assert left.value.code == cli.BAD_INPUT
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_markdown_holds_the_pick_and_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    rank("--format", "markdown")
    text = capsys.readouterr().out
    assert text.count("\n- Pick for") == 3
    assert "\n- One seed" in text


def show(run_dir: Path, table: Path) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["raybench", "show", str(run_dir), "--output", str(table)])
        with pytest.raises(SystemExit) as left:
            cli.main()
    assert left.value.code == 0
    return pd.read_csv(table, dtype=object) if table.suffix == ".csv" else pd.read_parquet(table)


ONE_SIZE = [{"name": "shapes", "source": "imagefolder:shapes", "image_size": 32}]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_rows_of_trials_hold_their_learning_rate_as_a_number_or_as_text_where_phases_differ(
    ending: str, tmp_path: Path
) -> None:
    alike = MadeUp(experiment={"datasets": ONE_SIZE, "training": {"epochs": 3, "learning_rate": 0.004}})
    rows = show(alike.write(tmp_path / "alike"), tmp_path / f"alike{ending}")
    assert set(rows["learning_rate"].astype(float)) == {0.004}
    assert ending == ".csv" or rows["learning_rate"].dtype == float
    several = MadeUp(experiment={"datasets": ONE_SIZE, "strategies": ["lp-ft", "fine-tune"]})
    rows = show(several.write(tmp_path / "several"), tmp_path / f"several{ending}")
    assert rows.groupby("strategy")["learning_rate"].unique().map(list).to_dict() == {
        "lp-ft": ["0.001, 1e-05"],
        "fine-tune": ["0.001"],
    }


def test_a_learning_rate_that_is_not_chosen_yet_is_missing(tmp_path: Path) -> None:
    experiment = {"datasets": ONE_SIZE, "training": {"epochs": 3, "learning_rate": "auto"}}
    run_dir = MadeUp(experiment=experiment, changes=lambda _: None).write(tmp_path / "run")
    rows = show(run_dir, tmp_path / "t.parquet")
    assert len(rows) == 12
    assert rows["learning_rate"].isna().all()
