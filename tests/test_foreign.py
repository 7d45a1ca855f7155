from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raybench.errors import InputError, RunError
from raybench.foreign import Kind, load_source, load_sources, parse_test_images, with_test_images
from raybench.ranking import rank
from raybench.recognize import parse_columns
from raybench.records import Status, TrialResult
from raybench.report.tables import to_csv
from raybench.results import Predictions, write_trial


def write(tmp_path: Path, text: str, name: str = "table.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def write_run(run_dir: Path, trial_id: str = "t1", accuracy: float = 0.5) -> Path:
    row = TrialResult(
        trial_id=trial_id,
        dataset="digits",
        train_size=100,
        model="resnet8",
        weights="random",
        strategy="fine-tune",
        augmentation="none",
        seed=0,
        status=Status.COMPLETED,
        test_accuracy=accuracy,
    )
    predictions = Predictions(
        images=("1", "2"), labels=np.array([0, 1]), predicted=np.array([0, 0]), probabilities=np.full((2, 2), 0.5)
    )
    write_trial(run_dir, row, [], predictions)
    return run_dir


def test_table_of_model_and_accuracy_is_enough(tmp_path: Path) -> None:
    source = load_source(write(tmp_path, "model,test_accuracy\na,0.5\nb,0.6\n"))
    assert source.kind is Kind.RESULTS
    assert source.results["dataset"].tolist() == ["table", "table"]
    assert rank(source.results)["model"].tolist() == ["b", "a"]


def test_parquet_is_read_like_csv(tmp_path: Path) -> None:
    pd.DataFrame({"model": ["a"], "test_accuracy": [0.5]}).to_parquet(tmp_path / "table.parquet")
    assert load_source(tmp_path / "table.parquet").results["model"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("header", "row", "strategy"),
    [
        ("fine_tuned,augmented", "True,True", "fine_tuned+augmented"),
        ("fine_tuned,augmented", "False,True", "augmented"),
        ("fine_tuned,augmented", "False,False", "plain"),
        ("fine_tuned", "", "plain"),
        ("strategy", "lp-ft", "lp-ft"),
        ("strategy,augmented", "lp-ft,True", "lp-ft+augmented"),
        ("optimizer", "adam", "adam"),
        ("dropout", "0.5", "dropout=0.5"),
        ("learning_rate", "0.001", "learning_rate=0.001"),
        ("top5_accuracy,f1,gpu_seconds", "0.9,0.8,12", None),
        ("published_rank", "1", None),
        ("published_note", "best", None),
        ("train_seconds,val_loss", "1,2", None),
    ],
)
def test_columns_that_are_no_metric_name_the_strategy(
    tmp_path: Path, header: str, row: str, strategy: str | None
) -> None:
    path = write(tmp_path, f"model,{header},test_accuracy\na,{row},0.5\nb,{row},0.6\n")
    names = load_source(path).results["strategy"].tolist()
    assert [None if pd.isna(name) else name for name in names] == [strategy, strategy]


def test_booleans_with_gaps_still_name_the_strategy(tmp_path: Path) -> None:
    path = write(tmp_path, "model,tuned,test_accuracy\na,True,0.5\na,False,0.6\nb,,0.6\n")
    assert load_source(path).results["strategy"].tolist() == ["tuned", "plain", "plain"]


def test_seeds_of_one_configuration_are_averaged(tmp_path: Path) -> None:
    path = write(tmp_path, "model,seed,test_accuracy\na,0,0.5\na,1,0.7\n")
    ranking = rank(load_source(path).results)
    assert ranking["seeds"].tolist() == [2]
    assert ranking["test_accuracy"].tolist() == pytest.approx([0.6])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind,test_accuracy\na,0.5\n", "no column 'model'; a results table needs"),
        ("model,figure\na,0.5\n", "no column 'test_accuracy'"),
        ("model,epoch,val_loss\na,1,0.5\n", "no column 'val_accuracy'"),
        ("model,test_accuracy\n", "no rows"),
        ("", "cannot be read"),
        ("model,test_accuracy\na,0.5\nb,84.2\n", "row 2: test_accuracy is 84.2; give a fraction from 0 to 1"),
        ("model,test_accuracy\na,50\nb,842\n", "row 2: test_accuracy is 842; give a percentage from 0 to 100"),
        ("model,test_accuracy\na,0.5\nb,good\n", "row 2: test_accuracy is good; give a fraction"),
        ("model,test_accuracy,train_seconds\na,0.5,fast\n", "row 1: train_seconds is fast; give a number"),
        ("model,test_accuracy,train_size\na,0.5,all\n", "row 1: train_size is all; give a whole number"),
        ("model,test_accuracy,seed\na,0.5,1.5\n", "row 1: seed is 1.5; give a whole number"),
        ("model,test_accuracy,seed\na,0.5,1\na,0.6,\n", "row 2: seed is empty"),
        ("model,test_accuracy\na,0.5\n,0.6\n", "row 2: model is empty"),
        ("model,test_accuracy\na,0.5\nb,0.6\na,0.7\n", "row 3 repeats a configuration .*model a.*'seed' column"),
    ],
)
def test_table_that_cannot_be_ranked_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=rf"table\.csv: {message}"):
        load_source(path)


@pytest.mark.parametrize(
    ("name", "message"), [("absent.csv", "there is no such file or folder"), ("notes.txt", r"\.txt cannot be read")]
)
def test_other_files_are_refused(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path, "hello", "notes.txt")
    with pytest.raises(InputError, match=message):
        load_source(tmp_path / name)


def test_broken_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"broken\.parquet: cannot be read"):
        load_source(write(tmp_path, "not parquet", "broken.parquet"))


def test_history_gives_lowest_loss_highest_accuracy_and_time(tmp_path: Path) -> None:
    text = (
        "model,seed,epoch,val_loss,val_accuracy,train_loss,epoch_seconds\n"
        "a,0,1,0.9,0.5,1.0,2\na,0,2,0.4,0.6,0.8,2\na,0,3,0.5,0.7,0.7,2\na,1,1,,0.1,,\n"
    )
    source = load_source(write(tmp_path, text))
    assert source.kind is Kind.HISTORY
    assert "highest" in source.notes[0]
    first, second = source.results.to_dict("records")
    assert (first["val_loss"], first["val_accuracy"], first["best_epoch"], first["epochs_run"]) == (0.4, 0.7, 2, 3)
    assert (first["train_loss"], first["train_seconds"]) == (0.8, 6)
    assert pd.isna(second["val_loss"])
    assert pd.isna(second["best_epoch"])
    assert pd.isna(second["train_seconds"])


def test_run_directory_is_a_source(tmp_path: Path) -> None:
    source = load_source(write_run(tmp_path / "run"))
    assert source.kind is Kind.RUN
    assert set(source.outcomes) == {"t1"}
    assert rank(source.results, outcomes=source.outcomes)["test_accuracy_low"].notna().all()


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        load_source(tmp_path)


def test_accuracies_in_percent_are_recognised_and_said_to_be(tmp_path: Path) -> None:
    source = load_source(write(tmp_path, "model,test_accuracy\na,84.2\nb,91\n"))
    assert source.results["test_accuracy"].to_list() == pytest.approx([0.842, 0.91])
    assert source.notes == ("In percent, and read so: test_accuracy.",)


def test_a_reader_can_say_which_column_is_which(tmp_path: Path) -> None:
    table = write(tmp_path, "net,acc,rng,model,lr\na,0.5,1,x,0.1\nb,0.6,1,x,0.1\n")
    columns = parse_columns(["model=net", "test_accuracy = acc", "seed=rng"])
    source = load_source(table, columns)
    assert source.results["model"].to_list() == ["a", "b"]
    assert source.results["test_accuracy"].to_list() == [0.5, 0.6]
    assert source.results["seed"].to_list() == [1, 1]
    assert source.results["strategy"].to_list() == ["lr=0.1", "lr=0.1"]
    (note,) = source.notes
    assert note.startswith(
        "Read so: model from net, test_accuracy from acc, seed from rng; the strategy's name tells lr."
    )
    assert note.endswith("Not read: model.")
    with pytest.raises(InputError, match=r"--column seed=dice: there is no such column; there are 'net', 'acc', 'rng'"):
        load_source(table, parse_columns(["seed=dice"]))


def test_a_missing_column_names_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there are 'model', 'figure': name one with --column test_accuracy=NAME"):
        load_source(write(tmp_path, "model,figure\na,0.5\n"))


def test_a_reader_can_name_the_columns_of_a_history_too(tmp_path: Path) -> None:
    text = "model,step_no,vloss,vacc\na,1,0.9,50\na,2,0.4,60\n"
    source = load_source(write(tmp_path, text), parse_columns(["epoch=step_no", "val_loss=vloss", "val_accuracy=vacc"]))
    assert source.kind is Kind.HISTORY
    assert source.results["val_accuracy"].to_list() == [0.6]


def test_ranking_written_to_a_file_can_be_ranked_again(tmp_path: Path) -> None:
    ranking = rank(load_source(write(tmp_path, "model,strategy,test_accuracy\na,x,0.5\nb,y,0.6\n")).results)
    again = rank(load_source(write(tmp_path, to_csv(ranking), "ranking.csv")).results)
    pd.testing.assert_frame_equal(again[["model", "strategy", "rank"]], ranking[["model", "strategy", "rank"]])


def test_one_source_is_read_as_it_is(tmp_path: Path) -> None:
    assert load_sources([write(tmp_path, "model,test_accuracy\na,0.5\n")]).name == "table"


def test_no_source_is_refused() -> None:
    with pytest.raises(InputError, match="no source to rank"):
        load_sources([])


def test_trial_that_two_runs_share_counts_once(tmp_path: Path) -> None:
    both = load_sources([write_run(tmp_path / "a"), write_run(tmp_path / "b")])
    assert len(both.results) == 1
    assert set(both.outcomes) == {"t1"}


def test_other_trials_of_the_same_name_are_told_apart_by_their_source(tmp_path: Path) -> None:
    both = load_sources([write_run(tmp_path / "a"), write_run(tmp_path / "b", trial_id="t2", accuracy=0.6)])
    ranking = rank(both.results, outcomes=both.outcomes)
    assert ranking["strategy"].tolist() == ["fine-tune @b", "fine-tune @a"]


def test_run_and_published_table_are_ranked_together(tmp_path: Path) -> None:
    text = "dataset,train_size,model,test_accuracy\ndigits,100,published,0.9\n"
    both = load_sources([write_run(tmp_path / "a"), write(tmp_path, text)])
    assert rank(both.results)["model"].tolist() == ["published", "resnet8"]


def test_two_published_tables_are_ranked_together(tmp_path: Path) -> None:
    first = write(tmp_path, "dataset,model,test_accuracy\nd,a,0.5\n", "first.csv")
    second = write(tmp_path, "dataset,model,test_accuracy\nd,a,0.6\n", "second.csv")
    assert rank(load_sources([first, second]).results)["strategy"].tolist() == ["@second", "@first"]


def test_sizes_of_test_splits_are_given_for_all_datasets_or_for_each(tmp_path: Path) -> None:
    assert parse_test_images([]) is None
    assert parse_test_images(["166"]) == 166
    assert parse_test_images(["a=166", "b = 20"]) == {"a": 166, "b": 20}
    source = load_source(write(tmp_path, "dataset,model,test_accuracy\na,x,0.5\nb,x,0.6\n"))
    assert with_test_images(source, 166).test_images == {"a": 166, "b": 166}
    assert with_test_images(source, {"b": 20}).test_images == {"b": 20}
    assert with_test_images(source, None) is source
    with pytest.raises(InputError, match="there is no dataset 'c'; there are a, b"):
        with_test_images(source, {"c": 5})


def test_a_source_knows_its_own_test_split_better(tmp_path: Path) -> None:
    source = with_test_images(load_source(write(tmp_path, "model,test_accuracy\na,0.5\n")), 100)
    assert with_test_images(source, 7).test_images == {"table": 100}


@pytest.mark.parametrize("given", [["many"], ["0"], ["a="], ["a=1.5"], ["-3"], ["5", "a=6"]])
def test_what_is_no_number_of_test_images_is_refused(given: list[str]) -> None:
    with pytest.raises(InputError, match="--test-images"):
        parse_test_images(given)
