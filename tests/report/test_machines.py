"""What a ranking says where trials ran on machines of several kinds."""

from typing import Any

import pandas as pd
import pytest

from raybench.report.machines import kinds_of_machine, machines_note


def results(*rows: dict[str, Any]) -> pd.DataFrame:
    same = {"dataset": "digits", "train_size": 50, "status": "completed", "standalone_cost_usd": 0.001}
    return pd.DataFrame([same | row for row in rows])


A10G, H100 = {"accelerator": "NVIDIA A10G"}, {"accelerator": "NVIDIA H100"}
SMALL, LARGE = ({"accelerator": "cpu", "instance_type": name} for name in ("c6i.large", "c6i.xlarge"))


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (A10G | {"instance_type": "g5.xlarge"}, "NVIDIA A10G"),
        (SMALL, "c6i.large"),
        ({"accelerator": "cpu", "instance_type": None}, "cpu"),
        ({"accelerator": None, "instance_type": "g5.xlarge"}, ""),
        ({}, ""),
    ],
)
def test_kind_of_machine_is_where_a_trials_seconds_go(row: dict[str, Any], kind: str) -> None:
    assert list(kinds_of_machine(results(row))) == [kind]


def test_times_of_several_kinds_are_never_ranked_together_without_a_word() -> None:
    said = machines_note(results(A10G, A10G, H100))
    assert said is not None
    assert "(digits, 50 training images): NVIDIA A10G (2 trials) and NVIDIA H100 (1 trial)" in said
    assert said.endswith("Times are not alike; compare costs, which count each machine at its price.")


def test_where_a_price_is_unknown_time_is_said_to_stand_in_for_it() -> None:
    said = machines_note(results(SMALL, LARGE | {"standalone_cost_usd": None}))
    assert said is not None
    assert "c6i.large" in said
    assert "give price_per_hour_usd" in said


@pytest.mark.parametrize(
    "rows",
    [
        [A10G, A10G | {"instance_type": "g5.2xlarge"}],
        [A10G, H100 | {"train_size": 833}],
        [A10G, {"accelerator": None, "instance_type": "g5.xlarge"}],
        [{}, {}],
    ],
    ids=["one GPU in two machines", "never ranked together", "a trial that failed before it told", "unknown"],
)
def test_alike_machines_and_rankings_of_one_kind_are_passed_over(rows: list[dict[str, Any]]) -> None:
    assert machines_note(results(*rows)) is None
