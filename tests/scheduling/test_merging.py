"""Files of trials that ended are joined while others run on real Ray, and nothing of them is lost."""

from pathlib import Path

import pytest

from raybench.compaction import BATCH
from raybench.records import ResourceRequest, Status
from raybench.results import ended_trial_ids, load_history, load_results
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import run_trials
from tests.scheduling.fakes import EXECUTE, Script, make_trial, write_scripts

SETTINGS = Settings(asha=None, resources=ResourceRequest(gpu=None, cpu=1.0), num_cpus=2, execute=EXECUTE)
TRIALS = 110


def rows_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.parquet"))


@pytest.mark.timeout(300)
def test_run_of_many_trials_leaves_few_files_and_every_row(tmp_path: Path) -> None:
    scripts = {f"{number:03d}": Script(losses=(0.5, 0.4), raises=number == 7) for number in range(TRIALS)}
    write_scripts(tmp_path, scripts)
    trials = [make_trial(trial_id, epochs=(2,)) for trial_id in scripts]
    outcome = run_trials(trials, run_dir=tmp_path, settings=SETTINGS, on_event=lambda _: None)
    assert outcome.problems == ()
    assert outcome.statuses["007"] is Status.FAILED
    assert rows_of(tmp_path / "results") == ["007.parquet", "merged-0001.parquet"], "a retry replaces the failed one"
    assert ended_trial_ids(tmp_path) == set(scripts)
    rows = load_results(tmp_path).set_index("trial_id")
    assert rows["status"].to_dict() == {trial_id: status.value for trial_id, status in outcome.statuses.items()}
    assert load_history(tmp_path).groupby("trial_id").size().drop("007").unique().tolist() == [2]
    # Asked to run them again, each trial finds its row among the joined ones, and is not trained anew.
    again = run_trials(trials[:2], run_dir=tmp_path, settings=SETTINGS, on_event=lambda _: None)
    assert set(again.statuses.values()) == {Status.COMPLETED}
    assert len(list((tmp_path / "seen").glob("000-*.json"))) == 1
    assert TRIALS < BATCH, "joined at the end: fewer than a batch"
