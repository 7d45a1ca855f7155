"""What someone else's Ray Tune script may look like: it knows nothing of raybench and has its own names.

Run as `python plain_tune_script.py FOLDER`; its results lie in FOLDER/theirs.
"""

import sys

import ray
from ray import tune


def train(config: dict) -> None:  # type: ignore[type-arg]
    """Train nothing: report accuracies that the settings decide, in percent."""
    for epoch in range(3):
        accuracy = {"small_net": 70.0, "big_net": 80.0}[config["net"]["kind"]] + config["rng"]
        xent = [0.9, 0.4, 0.7][epoch]
        tune.report({"holdout": {"acc_pct": accuracy - (epoch - 1) ** 2}, "valid_xent": xent, "gpu_dollars": epoch / 8})


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, configure_logging=False)
    space = {
        "net": {"kind": tune.grid_search(["small_net", "big_net"])},
        "rng": tune.grid_search([0, 1]),
        "batch": 8,
    }
    config = tune.RunConfig(name="theirs", storage_path=sys.argv[1], verbose=0)
    # One process for trial after trial: starting them is what takes time.
    tuning = tune.TuneConfig(reuse_actors=True, max_concurrent_trials=1)
    tune.Tuner(train, param_space=space, tune_config=tuning, run_config=config).fit()
