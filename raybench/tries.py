"""The search for learning rates in a run directory: what was tried, what came of it, what it cost.

In: searches, as `raybench.trials` lists them, and the rows of their tries. Out: one table, the choices that follow from
it, and what each configuration is charged with.

    RUN/search/results, history    of the tries, laid out as those of a run, so that no table of the run holds them
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from raybench.cost import reprice
from raybench.experiment import Experiment
from raybench.learning_rates import DIVERGED, Attempt, Outcome, choose, is_at_edge
from raybench.recipes import recipes_of
from raybench.records import Facts, Status, Trial, TrialResult
from raybench.results import load_results
from raybench.trials import Search, searches_of, weights_label

FOLDER: Final = "search"
"""Of a run directory, where the rows of tries are."""
CONFIGURATION: Final = ["dataset", "train_size", "model", "weights", "strategy"]
"""Columns that name a configuration."""
COLUMNS: Final = [
    *CONFIGURATION,
    *("factor", "learning_rates", "outcome", "val_loss", "chosen", "at_edge", "epochs_run"),
    *("train_seconds", "standalone_cost_usd", "error", "trial_id"),
]
"""Of `search_table`."""
_READ: Final = [
    *("trial_id", *CONFIGURATION, "seed", "status", "error"),
    *("val_loss", "epochs_run", "train_seconds", "standalone_cost_usd"),
    *("standalone_seconds", "device_share", "gpu_fraction", "cpu_share", "instance_type"),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPlan:
    """What a search would take."""

    configurations: int
    factors: tuple[float, ...]
    """What each configuration's default rates are multiplied with."""
    tries: int
    """Of all configurations; a training that two of them share counts once."""
    to_go: int
    """Tries that have not ended."""
    most_epochs: int
    """Of all tries to go."""
    epochs_of_a_try: tuple[int, ...]
    """Each number that there is, ascending, over all phases."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RateOrigins:
    """Where the learning rates of a run come from."""

    fixed: tuple[str, ...]
    """Strategies all of whose learning rates the experiment gives."""
    searched: tuple[str, ...]
    """Strategies with a learning rate that is searched."""
    rates_tried: int
    """Rates tried for each configuration of these."""
    at_edge: tuple[str, ...]
    """Configurations whose rate is the lowest or highest of those tried."""


def rate_origins(run_dir: Path, experiment: Experiment, facts: Facts, rates: Mapping[str, float]) -> RateOrigins:
    """Return where the learning rates of a run come from; see `search_table` for the arguments."""
    recipes = [recipe for dataset in experiment.datasets for recipe in recipes_of(experiment, dataset)]
    names = {recipe.strategy.name: any(recipe.searched) for recipe in recipes}
    table = search_table(run_dir, searches_of(experiment, facts), rates) if any(names.values()) else None
    edges = [] if table is None else table.loc[table["at_edge"], CONFIGURATION].astype(str).to_numpy().tolist()
    return RateOrigins(
        fixed=tuple(name for name, is_searched in names.items() if not is_searched),
        searched=tuple(name for name, is_searched in names.items() if is_searched),
        rates_tried=experiment.search_budget().values,
        at_edge=tuple(
            f"{model} {weights} {strategy} on {train_size} of {dataset}"
            for dataset, train_size, model, weights, strategy in edges
        ),
    )


def search_table(
    run_dir: Path,
    searches: Sequence[Search],
    rates: Mapping[str, float],
    price_per_hour_usd: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Return one row a configuration and learning rate tried, in the order of the searches.

    Args:
        run_dir: of the run.
        searches: that count.
        rates: chosen factors by search id.
        price_per_hour_usd: of a whole machine, by instance type; what a try cost is kept where they do not tell.

    Returns:
        `COLUMNS`: `learning_rates` is a tuple with the rate of each phase; `outcome` is ended, diverged, failed or
        unfinished; `val_loss` is the lowest of any epoch; `at_edge` is true of a chosen rate beyond which nothing was
        tried.

    """
    ended = _rows(run_dir, searches, price_per_hour_usd or {})
    rows = []
    for search in searches:
        attempts = _attempts(search, ended)
        chosen = rates.get(search.search_id)
        for attempt, trial in zip(attempts, search.tries, strict=True):
            row = ended.get(trial.trial_id, {})
            is_chosen = attempt.factor == chosen
            rows.append(
                {
                    **dict(zip(CONFIGURATION, configuration_key(search.tries[0]), strict=True)),
                    "factor": attempt.factor,
                    "learning_rates": tuple(phase.learning_rate for phase in trial.strategy.phases),
                    "outcome": attempt.outcome,
                    "val_loss": np.nan if attempt.val_loss is None else attempt.val_loss,
                    "chosen": is_chosen,
                    "at_edge": is_chosen and is_at_edge(attempt.factor, attempts),
                    "epochs_run": row.get("epochs_run", np.nan),
                    "train_seconds": row.get("train_seconds", np.nan),
                    "standalone_cost_usd": row.get("standalone_cost_usd", np.nan),
                    "error": row.get("error"),
                    "trial_id": trial.trial_id,
                }
            )
    numbers = ["factor", "val_loss", "epochs_run", "train_seconds", "standalone_cost_usd"]
    return pd.DataFrame(rows, columns=COLUMNS).astype(
        {**dict.fromkeys(numbers, float), "train_size": int, "chosen": bool, "at_edge": bool}
    )


def choose_rates(run_dir: Path, searches: Sequence[Search]) -> dict[str, float]:
    """Return the factor that follows from the rows, by search id; none where one is missing or all are hopeless."""
    ended = _rows(run_dir, searches)
    chosen = {search.search_id: choose(_attempts(search, ended)) for search in searches}
    return {search_id: factor for search_id, factor in chosen.items() if factor is not None}


def failure_texts(run_dir: Path, searches: Sequence[Search]) -> dict[tuple[object, ...], str]:
    """Return why searches whose tries all ended have no result, by `configuration_key`."""
    ended = _rows(run_dir, searches)
    texts = {}
    for search in searches:
        attempts = _attempts(search, ended)
        if choose(attempts) is None and all(attempt.outcome != "unfinished" for attempt in attempts):
            lowest = str(ended[search.tries[0].trial_id]["error"]).strip().splitlines()[0]
            texts[configuration_key(search.tries[0])] = (
                f"NoLearningRate: none of the {len(attempts)} rates tried gave a val loss; the lowest of them: {lowest}"
            )
    return texts


def configuration_key(trial: Trial) -> tuple[object, ...]:
    """Return the configuration of a trial, or of a try, as the columns `CONFIGURATION` name it."""
    return (
        trial.dataset.name,
        trial.train_size,
        trial.model.name,
        weights_label(trial.weights),
        trial.strategy.name,
    )


def is_to_run(run_dir: Path, searches: Sequence[Search], *, retry_failed: bool) -> set[str]:
    """Return the ids of the tries that have not ended, and under `retry_failed` of those that failed.

    One that diverged would again: it is a result.
    """
    again = {"unfinished", "failed"} if retry_failed else {"unfinished"}
    ended = _rows(run_dir, searches)
    return {
        trial.trial_id
        for search in searches
        for trial, attempt in zip(search.tries, _attempts(search, ended), strict=True)
        if attempt.outcome in again
    }


def is_result(row: TrialResult) -> bool:
    """Return whether a try says something of its rate: it ended, or its loss was no number any more."""
    return _outcome({"status": row.status, "error": row.error}) in {"ended", "diverged"}


def charge_search(
    results: pd.DataFrame,
    run_dir: Path,
    experiment: Experiment,
    facts: Facts,
    price_per_hour_usd: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Return the results with what the search for each configuration's learning rate took, in every row of it.

    `search_seconds` and `search_cost_usd` are sums over its tries of `train_seconds` and `standalone_cost_usd`, missing
    where one of these is. A try that diverged or failed did no more than the others: it is charged like the costliest
    of them, so that all configurations pay for the whole budget. Tries that configurations share are charged to each.

    New prices make new costs; see `search_table`. Without any search the results come back as they are; a
    configuration whose rates were fixed has missing values.
    """
    searches = searches_of(experiment, facts)
    if not searches:
        return results
    table = search_table(run_dir, searches, {}, price_per_hour_usd)
    for column in ("train_seconds", "standalone_cost_usd"):
        longest = table.groupby(CONFIGURATION, sort=False)[column].transform("max")
        table[column] = table[column].where(~table["outcome"].isin({"diverged", "failed"}), longest)
    sums = (
        table.groupby(CONFIGURATION, sort=False, as_index=False)[["train_seconds", "standalone_cost_usd"]]
        .sum(min_count=len(searches[0].factors))
        .rename(columns={"train_seconds": "search_seconds", "standalone_cost_usd": "search_cost_usd"})
    )
    charged = results.merge(sums, on=CONFIGURATION, how="left")
    charged.index = results.index
    return charged


def plan_search(experiment: Experiment, facts: Facts, run_dir: Path, rates: Mapping[str, float]) -> SearchPlan | None:
    """Return what the search would take; None where no learning rate is `auto`."""
    searches = searches_of(experiment, facts)
    if not searches:
        return None
    tries = {trial.trial_id: trial for search in searches for trial in search.tries}
    open_searches = [search for search in searches if search.search_id not in rates]
    to_go = is_to_run(run_dir, open_searches, retry_failed=False)
    return SearchPlan(
        configurations=len(searches),
        factors=searches[0].factors,
        tries=len(tries),
        to_go=len(to_go),
        most_epochs=sum(tries[trial_id].epochs for trial_id in to_go),
        epochs_of_a_try=tuple(sorted({trial.epochs for trial in tries.values()})),
    )


def _rows(
    run_dir: Path, searches: Sequence[Search], price_per_hour_usd: Mapping[str, float] | None = None
) -> dict[str, dict[str, object]]:
    """Return the rows of the tries that ended, by id."""
    folder = run_dir / FOLDER
    if not (folder / "results").is_dir():
        return {}
    ids = {trial.trial_id for search in searches for trial in search.tries}
    table = load_results(folder, only=ids, columns=_READ)
    rows = (reprice(table, price_per_hour_usd) if price_per_hour_usd else table).to_dict("records")
    return {str(row["trial_id"]): {str(name): value for name, value in row.items()} for row in rows}


def _attempts(search: Search, ended: Mapping[str, Mapping[str, object]]) -> list[Attempt]:
    attempts = []
    for factor, trial in zip(search.factors, search.tries, strict=True):
        row = ended.get(trial.trial_id)
        loss = None if row is None else row["val_loss"]
        attempts.append(
            Attempt(
                factor=factor,
                outcome="unfinished" if row is None else _outcome(row),
                val_loss=loss if isinstance(loss, float) and not np.isnan(loss) else None,
            )
        )
    return attempts


def _outcome(row: Mapping[str, object]) -> Outcome:
    match row["status"]:
        case Status.UNFINISHED:
            return "unfinished"
        case Status.FAILED:
            head = str(row["error"]).strip().splitlines() or [""]
            return "diverged" if DIVERGED in head[0] else "failed"
        case _:
            return "ended"
