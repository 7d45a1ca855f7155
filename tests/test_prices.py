from datetime import date
from pathlib import Path

import pytest

from raybench.errors import InputError
from raybench.prices import ENVIRONMENT, TABLE, Price, per_hour, prices, user_prices_path


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text("local: 0.25\ng5.xlarge: 0.9\n")
    return path


def test_every_price_of_the_table_has_a_source_and_a_date() -> None:
    assert len(TABLE) > 30
    for name, price in TABLE.items():
        assert price.usd_per_hour > 0, name
        assert price.source
        assert price.dated is not None
        assert date.fromisoformat(price.dated) <= date.today()  # noqa: DTZ011 - a day is near enough


def test_the_experiment_counts_before_the_users_file_and_that_before_the_table(user_file: Path) -> None:
    known = prices({"local": 0.4}, user_file)
    assert known["local"] == Price(usd_per_hour=0.4, source="the experiment")
    assert known["g5.xlarge"] == Price(usd_per_hour=0.9, source=str(user_file))
    assert known["g5.2xlarge"] == TABLE["g5.2xlarge"]
    assert per_hour(known)["local"] == 0.4


def test_machines_that_nobody_knows_have_no_price(tmp_path: Path) -> None:
    known = prices({}, tmp_path / "none.yaml")
    assert "local" not in known
    assert "my-workstation" not in known


def test_the_environment_names_the_users_file(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(user_file))
    assert user_prices_path() == user_file
    assert prices({})["local"].usd_per_hour == 0.25


@pytest.mark.parametrize("value", ["cheap", "-1", "true", "[1]", ".inf", ".nan"])
def test_a_price_that_is_none_is_named_with_its_file(user_file: Path, value: str) -> None:
    user_file.write_text(f"local: {value}\n")
    with pytest.raises(InputError, match=r"prices\.yaml: local: .* is not accepted; give USD an hour"):
        prices({}, user_file)


def test_a_named_file_that_is_absent_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "absent.yaml"))
    with pytest.raises(InputError, match="there is no such file"):
        prices({})
