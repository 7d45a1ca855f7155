"""What the driver keeps of trials, without a running Ray."""

from collections import deque
from pathlib import Path

from ray.tune.experiment import Trial as TuneTrial

from raybench.scheduling.driver import Announcer, Problems


def test_nothing_that_ray_tune_kept_of_reports_outlives_the_trial(tmp_path: Path) -> None:
    trial = TuneTrial("run_trial", stub=True)
    trial.run_metadata.last_result = {"time_total_s": 1.0}
    trial.run_metadata.metric_analysis["time_total_s"] = {"last": 1.0}
    trial.run_metadata.metric_n_steps["time_total_s"] = {"5": deque([1.0])}
    announcer = Announcer(trials={}, run_dir=tmp_path, on_event=lambda _: None, problems=Problems())
    announcer.on_trial_complete(0, [trial], trial)
    assert not trial.run_metadata.last_result
    assert not trial.run_metadata.metric_analysis
    assert not trial.run_metadata.metric_n_steps
