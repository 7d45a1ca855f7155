"""A driver in a process of its own, which a test can interrupt: `python -m tests.scheduling.drive RUN_DIR TRIAL...`."""

import sys
from pathlib import Path

from raybench.events import Event
from raybench.records import AshaSettings, ResourceRequest
from raybench.scheduling.settings import Settings
from raybench.scheduling.tune import run_trials
from tests.scheduling.fakes import EXECUTE, make_trial

ASHA = AshaSettings(grace_period=1, reduction_factor=2, group_by=("dataset", "train_size", "seed"))


def tell(event: Event) -> None:
    sys.stdout.write(f"{event}\n")
    sys.stdout.flush()


def main() -> None:
    settings = Settings(asha=ASHA, resources=ResourceRequest(gpu=None, cpu=1.0), num_cpus=2, execute=EXECUTE)
    trials = [make_trial(trial_id) for trial_id in sys.argv[2:]]
    outcome = run_trials(trials, run_dir=Path(sys.argv[1]), settings=settings, on_event=tell)
    sys.stdout.write(f"{outcome}\n")
    sys.exit(130 if outcome.interrupted else 0)


if __name__ == "__main__":
    main()
