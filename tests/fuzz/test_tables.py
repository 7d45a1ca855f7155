"""Whatever bytes are given as a table of results: they are ranked, or refused with one short message."""

import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import raybench
from tests.fuzz.damage import attempt, damaged, examples

LONGEST_MESSAGE = 6000
RESULTS = pd.DataFrame(
    {
        "model": ["resnet8", "resnet20", "resnet8", "resnet20"],
        "seed": [0, 0, 1, 1],
        "train_size": [50, 50, 50, 50],
        "test_accuracy": [0.81, 0.85, 0.83, 0.84],
        "val_loss": [0.5, 0.4, 0.45, 0.41],
        "train_seconds": [3.0, 5.0, 3.1, 5.2],
        "dropout": [0.1, 0.1, 0.1, 0.1],
    }
)


def parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


EPOCHS = RESULTS.drop(columns="test_accuracy").assign(epoch=[1, 1, 1, 1], val_accuracy=[0.6, 0.7, 0.65, 0.72])
CELLS = 'model,test_accuracy,seed\r\n"a""b",nan,1\n\'=1+1\',1e999,2\n\ufeffx,0x10,3\nb;c,50%,-1\n'.encode()
TABLES = {
    ".csv": [RESULTS.to_csv(index=False).encode(), EPOCHS.to_csv(index=False).encode(), CELLS],
    ".parquet": [parquet(RESULTS), parquet(EPOCHS)],
}


@pytest.mark.parametrize("suffix", TABLES)
@examples()
@given(data=st.data())
def test_any_bytes_are_a_table_or_refused_with_one_short_message(
    suffix: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.getbasetemp() / f"table{suffix}"
    file.write_bytes(data.draw(damaged(TABLES[suffix])))
    done = attempt(lambda: raybench.rank(file))
    if done.value is None:
        assert done.message
        assert len(done.message) <= LONGEST_MESSAGE
    else:
        assert done.value["test_accuracy"].dropna().between(0, 1).all()


@pytest.mark.parametrize("suffix", TABLES)
def test_what_is_damaged_here_is_a_table_at_first(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"table{suffix}"
    file.write_bytes(TABLES[suffix][0])
    assert len(raybench.rank(file)) == 2
