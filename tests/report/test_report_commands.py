"""`raybench report` and `raybench compare` on the command line: what they write, what they say, how they end."""

from pathlib import Path

import pytest

from tests.commands import raybench

STUDY = Path(__file__).parent.parent / "data" / "resnet_cost_performance.csv"


def test_report_says_what_it_advises_and_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert raybench("report", STUDY, "--output", tmp_path / "r.html", "--test-images", "166") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Use resnet50 fine_tuned+augmented." in printed
    assert "Wrote" in printed
    assert (tmp_path / "r.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_comparison_is_printed_and_written_where_that_is_asked_for(
    made_up: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raybench("compare", made_up, made_up, "--output", tmp_path / "c.html") == 0
    printed = capsys.readouterr().out
    assert "none can be told apart" in printed
    assert "Conditions" in printed
    assert "What both hold" in (tmp_path / "c.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["report", "nowhere"], "nowhere"),
        (["report", STUDY, "--test-images", "many"], "many"),
        (["report", STUDY, "--column", "model=nothing"], "nothing"),
        (["compare", STUDY, "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_input_ends_in_one_message_and_nothing_written(
    arguments: list[str | Path], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raybench(*arguments, "--output", tmp_path / "r.html") == 2
    message = capsys.readouterr().err
    assert says in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []
