"""What Ray Tune would keep of every trial that ended, taken from it: a run's controller in, nothing out.

Ray Tune is made for hundreds of trials. Of each it keeps the trial, in three lists, and a reference to the answer of
every task of an actor for as long as that lives, with the answer: 12 kB a trial, where an actor serves thousands.

All of this is private to Ray Tune: what is not where it was in Ray 2.60 is left alone, and memory grows as it did.
"""

from contextlib import suppress
from typing import Any, Final

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.progress_reporter import TrialProgressCallback

from raybench.scheduling.unsaved import Unsaved

EVERY: Final = 50
"""Trials after which ended ones are let go of."""


def let_go(controller: Any) -> None:  # noqa: ANN401 - Ray Tune's own, which is private
    """Drop trials that ended, and references to answers that were dealt with."""
    with suppress(AttributeError):
        ended = {trial for trial in controller._stopped_trials if trial.status == TuneTrial.TERMINATED}  # noqa: SLF001
        controller._stopped_trials.difference_update(ended)  # noqa: SLF001
        controller._trials_to_cache.difference_update(ended)  # noqa: SLF001
        controller._trials[:] = [trial for trial in controller._trials if trial not in ended]  # noqa: SLF001
    with suppress(AttributeError):
        actors = controller._actor_manager  # noqa: SLF001
        awaited = set(actors._actor_task_events.get_futures())  # noqa: SLF001
        for answers in actors._tracked_actors_to_task_futures.values():  # noqa: SLF001
            answers.intersection_update(awaited)


class NoProgress(Unsaved, TrialProgressCallback):
    """Stands in for what Ray Tune would add: it prints nothing here, and keeps every trial."""

    def __init__(self) -> None:
        """Take nothing."""

    def on_trial_result(self, *_: object, **__: object) -> None:
        """Print nothing, and likewise below."""

    on_trial_error = on_trial_complete = on_trial_result
