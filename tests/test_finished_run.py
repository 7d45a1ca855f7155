"""The run directory that the benchmark of the ranking makes."""

from pathlib import Path

import raybench
from benchmarks.finished_run import EPOCHS, TEST_IMAGES, Shape, write_run

SHAPE = Shape(datasets=1, train_sizes=2, models=2, strategies=3, seeds=2)


def test_made_run_is_ranked_like_a_real_one(tmp_path: Path) -> None:
    write_run(tmp_path, SHAPE)
    results = raybench.load_results(tmp_path)
    assert len(results) == SHAPE.trials == 24
    assert set(results["status"]) == {"completed"}
    assert len(raybench.load_history(tmp_path)) == 24 * EPOCHS
    assert len(raybench.load_predictions(tmp_path)) == 24 * TEST_IMAGES
    ranking = raybench.rank(tmp_path)
    assert ranking.groupby("train_size").size().tolist() == [SHAPE.configurations] * 2
    assert ranking["pick"].sum() == 2
    assert ranking[["tie_group", "test_accuracy_low", "on_frontier"]].notna().all(axis=None)
