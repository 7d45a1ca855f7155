import pytest

from raybench.errors import InputError
from raybench.recognize import KEYS_TEXT, METRICS, SETTINGS, TABLE_METRICS, Columns, parse_columns, recognize


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("test_accuracy", "test_accuracy"),
        ("test/acc", "test_accuracy"),
        ("holdout/acc_pct", "test_accuracy"),
        ("testAccuracy", "test_accuracy"),
        ("metrics/test_top1_acc_overall", "test_accuracy"),
        ("mean_accuracy", "val_accuracy"),
        ("eval_accuracy", "val_accuracy"),
        ("ptl/val_accuracy", "val_accuracy"),
        ("valid_xent", "val_loss"),
        ("loss", "val_loss"),
        ("dev.cross_entropy_loss", "val_loss"),
        ("training/loss", "train_loss"),
        ("training_iteration", "epoch"),
        ("time_total_s", "train_seconds"),
        ("time_this_iter_s", "epoch_seconds"),
        ("gpu_dollars", "standalone_cost_usd"),
        ("top1", "val_accuracy"),
        ("test acc@1", "test_accuracy"),
        ("val_top_1_accuracy", "val_accuracy"),
    ],
)
def test_metric_is_recognised_by_its_words(name: str, key: str) -> None:
    assert recognize([name, "pid", "time_since_restore"], METRICS) == {key: name}


@pytest.mark.parametrize(
    "name",
    [
        "val_accuracy_std",
        "test_top5_accuracy",
        "test_acc@5",
        "val_f1",
        "pid",
        "timestamp",
        "usd_per_hour",
        "test_balanced_accuracy",
    ],
)
def test_other_metrics_are_left_alone(name: str) -> None:
    assert recognize([name], METRICS) == {}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("arch", "model"),
        ("net/kind", "model"),
        ("model_name", "model"),
        ("rng", "seed"),
        ("random_state", "seed"),
        ("n_train", "train_size"),
        ("pretrained", "weights"),
        ("n_imgs", "train_size"),
        ("num_train", "train_size"),
        ("nImages", "train_size"),
        ("samples", "train_size"),
        ("mode", "strategy"),
        ("rep", "seed"),
        ("run_id", "seed"),
        ("fold", "seed"),
    ],
)
def test_setting_is_recognised_by_its_words(name: str, key: str) -> None:
    assert recognize([name, "lr", "model/dropout"], SETTINGS) == {key: name}


def test_better_spellings_win_and_take_their_name() -> None:
    assert recognize(["loss", "val_loss"], METRICS) == {"val_loss": "val_loss", "train_loss": "loss"}
    assert recognize(["accuracy", "test_accuracy"], METRICS) == {
        "test_accuracy": "test_accuracy",
        "val_accuracy": "accuracy",
    }


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("top1", "test_accuracy"),
        ("acc", "test_accuracy"),
        ("acc1", "test_accuracy"),
        ("Top-1 Accuracy (%)", "test_accuracy"),
        ("val_acc", "val_accuracy"),
        ("cost", "standalone_cost_usd"),
        ("price", "standalone_cost_usd"),
        ("cloud_cost", "standalone_cost_usd"),
        ("Time (s)", "train_seconds"),
        ("seconds", "train_seconds"),
    ],
)
def test_in_a_table_of_results_an_accuracy_is_of_the_test_split_and_costs_are_in_usd(name: str, key: str) -> None:
    assert recognize([name, "time (h)", "price_per_hour", "top1_err", "inference_cost"], TABLE_METRICS) == {key: name}


def test_what_a_reader_says_comes_first() -> None:
    assert recognize(["acc", "other"], METRICS, {"test_accuracy": "acc", "seed": "rng"}) == {"test_accuracy": "acc"}


def test_columns_are_given_by_key_and_name() -> None:
    assert parse_columns(["test_accuracy=mean_acc", "model = config/arch"]) == Columns(
        names={"test_accuracy": "mean_acc", "model": "config/arch"}
    )


@pytest.mark.parametrize(
    ("short", "key"),
    [
        ("cost", "standalone_cost_usd"),
        ("time", "train_seconds"),
        ("seconds", "train_seconds"),
        ("accuracy", "test_accuracy"),
        ("images", "train_size"),
        ("size", "train_size"),
    ],
)
def test_columns_have_short_keys(short: str, key: str) -> None:
    assert parse_columns([f"{short}=a"]) == Columns(names={key: "a"})
    assert f"{short} ({key})" in KEYS_TEXT


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("test_accuracy", "'test_accuracy' says no column; give KEY=NAME"),
        ("test_accuracy=", "says no column"),
        ("beauty=acc", "'beauty' is none of raybench's columns; give one of dataset, train_size, model"),
        ("beauty=acc", r"or for short cost \(standalone_cost_usd\), time \(train_seconds\)"),
    ],
)
def test_what_names_no_column_is_refused(given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_columns([given])


def test_two_columns_for_one_key_are_refused() -> None:
    with pytest.raises(InputError, match="test_accuracy is both 'a' and 'b'; name one column"):
        parse_columns(["accuracy=a", "test_accuracy=b"])
