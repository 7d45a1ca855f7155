"""Tell which image classifier, trained how, on how many images, gives the best accuracy for its cost.

The pipeline, one module a noun:

    experiment.py   a YAML file                      -> Experiment
    training/       data, models, weights exist      -> Facts (preflight)
    trials.py       Experiment + Facts               -> Trials, each with an id that says what it is
    rate_search.py  learning_rate: auto              -> rates, the best of a few short tries each
    scheduling/     Trials on Ray Tune, ASHA         -> one training each, stopped early where hopeless
    training/       a Trial                          -> epochs, then its score on the test split
    results.py      rows, epochs, predictions        -> Parquet, one file a trial; compaction.py joins them
    ranking.py      results                          -> ranking, ties, frontier, pick
    value.py        results                          -> costs, frontier, winners under each budget
    gains.py        results                          -> what each choice buys, pair by pair
    curves.py       results at three sizes or more   -> accuracy at others, images that a point more needs
    report/         ranking                          -> tables and sentences

For notebooks:

    import raybench
    run = raybench.run("experiment.yaml")
    raybench.rank(run.run_dir)
    raybench.weigh(run.run_dir, charge="both", predictions=1_000_000)
    raybench.pair_gains(run.run_dir)
    raybench.more_images(run.run_dir)
    raybench.load_results(run.run_dir)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raybench.api import (
        Run,
        budgets,
        load_history,
        load_predictions,
        load_results,
        load_search,
        mean_gains,
        more_images,
        pair_gains,
        predict_sizes,
        rank,
        resume,
        run,
        weigh,
    )

__all__ = [
    "Run",
    "budgets",
    "load_history",
    "load_predictions",
    "load_results",
    "load_search",
    "mean_gains",
    "more_images",
    "pair_gains",
    "predict_sizes",
    "rank",
    "resume",
    "run",
    "weigh",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever is exported
    """Import the public functions when first used: the command line's help needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module 'raybench' has no attribute {name!r}")
    from raybench import api  # noqa: PLC0415 - imports pandas and scipy

    return getattr(api, name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
