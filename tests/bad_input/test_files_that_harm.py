"""Files made to hang, to fill memory, to run a program or to leave their folder: one message each, or no harm at all."""

import io
import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import raybench
from raybench import ledger
from raybench.errors import DataError, ExperimentError, InputError, RaybenchError, RunError, WeightsError
from raybench.experiment import load_experiment
from raybench.manifest import read_manifest
from raybench.records import DatasetSpec
from raybench.results import load_outcomes
from raybench.training.data import load_images
from raybench.training.decoding import decode
from raybench.training.weight_files import read_card
from tests.bad_input.material import Case, call, images, the_message, write
from tests.made_up_run import MadeUp

SOON_SECONDS = 5.0
"""Far more than any of these takes; what hangs takes for ever."""
LONGEST_MESSAGE = 2000
MODEST_BYTES = 100e6

GOOD = """name: small
datasets: [{name: digits, source: digits, image_size: 8, train_sizes: [40]}]
models: [resnet8]
strategies: [linear-probe]
"""

TEXTS = {
    "billion laughs": (GOOD + "a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n", "aliases"),
    "thousands of digits": (GOOD + f"seeds: [{'9' * 5000}]\n", "line 5, column 9: the number 999.* is too large"),
    "hexadecimal digits": (GOOD + f"seeds: [0x{'f' * 5000}]\n", "the number 0xfff.* is too large"),
    "sexagesimal digits": (GOOD + f"training: {{epochs: 1{':59' * 5000}}}\n", "the number 1:59.* is too large"),
    "a seed of 65 bits": (GOOD + f"seeds: [{2**64}]\n", "too large; numbers go up to 9223372036854775807"),
    "a seed of 33 bits": (GOOD + f"seeds: [{2**32}]\n", r"seeds\[0\]: 4294967296 .* below 2147483648"),
    "epochs": (GOOD + f"training: {{epochs: {2**62}}}\n", "training.epochs: 4611686018427387904 .* at most 2147483647"),
    "batch size": (GOOD + "training: {batch_size: 9999999999}\n", "training.batch_size: 9999999999 .* at most"),
    "val size": (GOOD.replace("[40]", "[40], val_size: 9999999999"), "val_size: 9999999999 .* at most"),
    "train size": (GOOD.replace("[40]", "[99999999999999999999]"), "too large"),
    "infinite rate": (GOOD + "training: {learning_rate: 1e999}\n", "inf is not accepted"),
    "infinite epochs": (GOOD + "training: {epochs: 1e999}\n", "training.epochs: inf is not accepted"),
    "key twice": (GOOD + "name: again\n", "the key 'name' is there twice"),
    "deep list": (GOOD + f"seeds: {'[' * 10_000}", "nested more than 30 deep"),
    "deep keys": (GOOD + f"seeds: {'{a: ' * 900}{'}' * 900}", "nested more than 30 deep"),
    "NUL byte": (GOOD + "seeds: [\0]\n", "unacceptable character #x0000"),
    "NUL in a path": (GOOD.replace("source: digits", 'source: "imagefolder:a\\0b"'), "a character that no text holds"),
    "NUL in weights": (GOOD + 'weights: ["a\\0b.pth"]\n', "a character that no text holds"),
    "half a character": (GOOD.replace("digits, im", 'digits, root: "\\ud800", im'), "a character that no text holds"),
    "beyond Unicode": (GOOD + 'seeds: ["\\UFFFFFFFF"]\n', "not valid YAML"),
    "tag without value": (GOOD + "seeds: !!int ''\n", "line 5, column 8: '' is no int"),
    "tag of another value": (GOOD + "seeds: !!bool 'abc'\n", "'abc' is no bool"),
    "date that is none": (GOOD + "seeds: [2001-99-99]\n", "'2001-99-99' is no timestamp"),
    "control characters in a key": (GOOD + '"\\x1b[31m": 3\n', r"\?\[31m: unknown key"),
    "a key without end": (GOOD + f"? {'k' * 90_000}\n: 3\n", "kkk.*unknown key"),
    "mistakes without end": (GOOD + f"seeds: [{'k, ' * 9000}]\n", "8990 more like these"),
    "trials without end": (
        GOOD.replace("[resnet8]", f"[{', '.join(f'm{i}' for i in range(900))}]") + f"seeds: {list(range(900))}\n",
        "810000 trials .* at most 100000",
    ),
    "too large": (GOOD + "#" * 300_000, "larger than 250000 bytes"),
    "a time without end": (GOOD + f"trial_timeout: {'9' * 5000}h\n", "trial_timeout: '999.* is not accepted"),
    "a source without end": (GOOD.replace("source: digits", f"source: {'d' * 9000}"), "at most 4096 characters"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_made_to_harm_is_one_short_message_soon(name: str, tmp_path: Path) -> None:
    text, says = TEXTS[name]
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    began = time.monotonic()
    with pytest.raises(ExperimentError, match=says) as raised:
        load_experiment(file)
    assert time.monotonic() - began < SOON_SECONDS
    assert len(str(raised.value)) < LONGEST_MESSAGE
    assert str(raised.value).startswith(f"{file}: ")


def test_an_experiment_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text("\ufeff" + GOOD, encoding="utf-8")
    assert load_experiment(tmp_path / "experiment.yaml").name == "small"


def test_many_seeds_are_read_soon(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(GOOD + f"seeds: {list(range(20_000))}\n")
    began = time.monotonic()
    assert len(load_experiment(tmp_path / "experiment.yaml").seeds) == 20_000
    assert time.monotonic() - began < SOON_SECONDS


OVERRIDES = {
    f"training.epochs={'9' * 5000}": "too large",
    f"training.epochs=0x{'f' * 5000}": "too large",
    f"training.epochs={'[' * 5000}": "nested more than 30 deep",
    f"training.epochs={'{a: ' * 500}": "nested more than 30 deep",
    "training.epochs=!!int ''": "'' is no int",
    "training.epochs=\0": "#x0000",
    "name=\udcff": "not valid YAML",
    f"{'a.' * 5000}a=1": "give KEY=VALUE",
    "datasets.²=1": "give a place from 0 to 0, not '²'",
    f"datasets.{'9' * 5000}.name=1": "give a place from 0 to 0",
}


@pytest.mark.parametrize("override", OVERRIDES, ids=[ascii(text[:30]) for text in OVERRIDES])
def test_a_value_that_is_made_to_harm_is_one_short_message(override: str, tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text(GOOD)
    with pytest.raises(ExperimentError, match=OVERRIDES[override]) as raised:
        load_experiment(tmp_path / "experiment.yaml", [override])
    assert str(raised.value).startswith("--set ")
    assert len(str(raised.value)) < LONGEST_MESSAGE
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "keys",
    [
        "source: digits, root: 'https://me:hunter2@host/data'",
        "source: 'huggingface:https://me:hunter2@host/data'",
        "source: 'huggingface:hf://hunter2@host/data'",
    ],
)
def test_a_url_with_a_password_is_refused_without_repeating_it(
    keys: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(folder, Case(lines=(f"datasets: [{{name: shapes, image_size: 32, {keys}}}]",), says=()))
    assert call(monkeypatch, "run", file) == 2
    message = the_message(capsys.readouterr().err)
    assert "datasets[0]." in message
    assert "password is not accepted" in message
    assert "hunter2" not in message
    assert sorted(path.name for path in folder.iterdir()) == ["experiment.yaml"]


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


ENDLESS = pytest.mark.parametrize("endless", [fifo, device])


@ENDLESS
def test_an_experiment_that_never_ends_is_refused(endless: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="is no regular file but a FIFO, socket or device"):
        load_experiment(endless(tmp_path / "experiment.yaml"))


@ENDLESS
def test_an_image_that_never_ends_is_refused(endless: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no regular file"):
        decode(endless(tmp_path / "a.png"), 8)


@ENDLESS
def test_a_file_of_a_run_that_never_ends_is_refused(endless: Callable[[Path], Path], tmp_path: Path) -> None:
    run_dir = MadeUp(images=30).write(tmp_path / "run")
    row = next((run_dir / "results").iterdir())
    row.unlink()
    endless(row)
    with pytest.raises(RunError, match="is no regular file"):
        raybench.rank(run_dir)
    (run_dir / "manifest.json").unlink()
    endless(run_dir / "manifest.json")
    with pytest.raises(RunError, match="is no regular file"):
        read_manifest(run_dir)
    with pytest.raises(RunError, match="is no regular file"):
        ledger.load(endless(run_dir / ledger.LEDGER).parent)


@ENDLESS
def test_a_card_that_never_ends_is_refused(endless: Callable[[Path], Path], tmp_path: Path) -> None:
    endless(tmp_path / "w.json")
    with pytest.raises(WeightsError, match="is no regular file"):
        read_card(tmp_path / "w.safetensors")


@ENDLESS
def test_a_table_that_never_ends_is_refused(endless: Callable[[Path], Path], tmp_path: Path) -> None:
    for name in ("table.csv", "table.parquet"):
        with pytest.raises(InputError, match="there is no such file"):
            raybench.rank(endless(tmp_path / name))


@pytest.mark.parametrize("entries", ['{"model": 3}', '{"classes": 5}', '{"image_size": "big"}', "[" * 100_000])
def test_a_card_of_other_values_is_refused(entries: str, tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(entries)
    with pytest.raises(WeightsError, match=r"w\.json: "):
        read_card(tmp_path / "w.safetensors")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes, pixels: bytes | None = None) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = zlib.compress(bytes(height * (3 * width + 1))) if pixels is None else pixels
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


ZEROS = zlib.compress(bytes(300_000_000), 9)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n(touched) (w) file closefile\n%%EOF\n"
BOMBS = {
    "text of a PNG": (png(16, 16, chunk(b"zTXt", b"a\0\0" + ZEROS)), "too large"),
    "international text of a PNG": (png(16, 16, chunk(b"iTXt", b"a\0\1\0\0\0" + ZEROS)), "too large"),
    "profile of a PNG": (png(16, 16, chunk(b"iCCP", b"a\0\0" + ZEROS)), "too large"),
    "many texts of a PNG": (
        png(16, 16, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) * 80),
        "Too much memory",
    ),
    "pixels of a PNG": (png(2**30, 2**30, pixels=b""), "exceeds limit"),
    "pixels of a GIF": (saved(Image.new("1", (16000, 12000)), "GIF"), "exceeds limit"),
    "pixels of a TIFF": (saved(Image.new("1", (16000, 12000)), "TIFF"), "exceeds limit"),
    "no pixels": (png(0, 0, pixels=b""), "not an image"),
    "PostScript, a program": (EPS, "not an image"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_that_is_made_to_harm_is_refused_with_one_line_soon_and_in_little_memory(
    name: str, tmp_path: Path
) -> None:
    content, says = BOMBS[name]
    (tmp_path / "a.jpg").write_bytes(content)
    began = time.monotonic()
    tracemalloc.start()
    with pytest.raises(DataError, match=says) as raised:
        decode(tmp_path / "a.jpg", 8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MODEST_BYTES
    assert time.monotonic() - began < SOON_SECONDS
    assert "\n" not in str(raised.value)


def test_of_pixels_that_unpack_to_more_than_the_image_has_only_those_of_the_image_are_read() -> None:
    assert decode(png(16, 16, pixels=ZEROS), 8).shape == (8, 8, 3)


def test_of_an_animation_the_first_frame_alone_is_read() -> None:
    buffer = io.BytesIO()
    frames = [Image.new("P", (16, 16), shade % 200) for shade in range(3000)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    began = time.monotonic()
    assert (decode(buffer.getvalue(), 8) == decode(frames[0], 8)).all()
    assert time.monotonic() - began < SOON_SECONDS


def test_no_program_is_started_for_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gs", "gswin32c", "gswin64c"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    (tmp_path / "a.png").write_bytes(EPS)
    with pytest.raises(DataError, match="not an image"):
        decode(tmp_path / "a.png", 8)
    assert not (tmp_path / "started").exists()


def test_images_that_are_made_to_harm_are_counted_where_they_are_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images(folder)
    bad = folder / "images/train/a"
    for place, (content, _) in enumerate(BOMBS.values()):
        (bad / f"bomb{place}.jpg").write_bytes(content)
    fifo(bad / "fifo.png")
    device(bad / "zero.png")
    (bad / "folder.png").mkdir()
    (bad / "loop.png").symlink_to("loop.png")
    file = write(folder, Case(says=()))
    assert call(monkeypatch, "plan", file) == 2
    assert "train/a/bomb0.jpg (train split) cannot be read" in the_message(capsys.readouterr().err)
    assert call(monkeypatch, "plan", file, "--set", "datasets.0.on_bad_image=skip") == 0
    assert f"unreadable images left out: {len(BOMBS) + 3}" in " ".join(capsys.readouterr().out.split())


def spec(source: str, root: Path) -> DatasetSpec:
    return DatasetSpec(
        name="mine", source=source, root=str(root), image_size=8, val_size=None, on_bad_image="error"
    )


@pytest.mark.parametrize("name", ["../secret.png", "/secret.png", "a/../../secret.png", "a/b/../../../secret.png"])
def test_a_list_names_no_file_outside_its_folder(name: str, folder: Path) -> None:
    images(folder / "root")
    (folder / "root/x.train").write_text(f"images/train/a/0.jpg 0\n{name} 1\n")
    with pytest.raises(DataError, match=r"x\.train line 2: .* leaves the dataset's folder"):
        load_images(spec("filelist:x", folder / "root"))


def test_links_among_images_are_followed(folder: Path) -> None:
    """Datasets are often folders of links to a shared disk: whoever may make one there can read what it leads to."""
    images(folder / "real")
    (folder / "root").mkdir()
    (folder / "root/images").symlink_to(folder / "real/images")
    assert len(load_images(spec("imagefolder:images", folder / "root")).train) == 12


TABLES: dict[str, tuple[str, str]] = {
    "more cells than names": ("model,test_accuracy\na,0.5,3,4,5\n", "cannot be read"),
    "two columns of a name": ("model,model,test_accuracy\na,b,0.5\n", "two columns are called 'model'"),
    "two columns but for blanks": ("model, model,test_accuracy\na,b,0.5\n", "two columns are called 'model'"),
    "a seed of 100 bits": (f"model,seed,test_accuracy\na,{2**100},0.5\n", "seed is 1267"),
    "a seed of 64 bits": (f"model,seed,test_accuracy\na,{2**64 - 1},0.5\n", "seed is 18446744073709551615"),
    "a size beyond all": ("model,train_size,test_accuracy\na,1e300,0.5\nb,1,0.5\n", "train_size is 1e"),
    "a number without end": (f"model,test_accuracy\na,{'9' * 6000}\n", "test_accuracy is 999"),
    "a giant cell": (f"model,test_accuracy\n{'a' * 1_000_000},0.5\n", "model has more than 10000 characters"),
    "columns without end": (",".join(f"c{i}" for i in range(20_000)) + "\n1\n", "20000 columns"),
    "names without end": (f"{'x' * 100_000},test_accuracy\n1,0.5\n", "no column 'model'"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_is_made_to_harm_is_one_short_message(name: str, tmp_path: Path) -> None:
    text, says = TABLES[name]
    (tmp_path / "table.csv").write_text(text)
    began = time.monotonic()
    with pytest.raises(InputError, match=says) as raised:
        raybench.rank(tmp_path / "table.csv")
    assert time.monotonic() - began < SOON_SECONDS
    assert len(str(raised.value)) < LONGEST_MESSAGE


MAP = pa.map_(pa.string(), pa.int64())
OTHER_TYPES: dict[str, pa.Array] = {
    "bytes": pa.array([b"\x80", b"\x81"]),
    "lists": pa.array([[1], [2, 3]]),
    "structs": pa.array([{"a": 1}, {"a": 2}]),
    "maps": pa.array([[("a", 1)], [("b", 2)]], MAP),
}


@pytest.mark.parametrize("kind", OTHER_TYPES)
def test_columns_that_hold_no_plain_values_are_not_read(kind: str, tmp_path: Path) -> None:
    plain = {"model": ["a", "b"], "test_accuracy": [0.5, 0.6]}
    pq.write_table(pa.table({**plain, "other": OTHER_TYPES[kind]}), tmp_path / "table.parquet")
    assert raybench.rank(tmp_path / "table.parquet")["model"].tolist() == ["b", "a"]
    pq.write_table(pa.table({"model": OTHER_TYPES[kind], "test_accuracy": [0.5, 0.6]}), tmp_path / "table.parquet")
    with pytest.raises(InputError, match="no column 'model'"):
        raybench.rank(tmp_path / "table.parquet")


def test_dates_are_no_accuracies(tmp_path: Path) -> None:
    dates = pa.array([5, 6], pa.timestamp("us"))
    pq.write_table(pa.table({"model": ["a", "b"], "test_accuracy": dates}), tmp_path / "table.parquet")
    with pytest.raises(InputError, match="test_accuracy is 1970"):
        raybench.rank(tmp_path / "table.parquet")


def test_few_bytes_of_parquet_that_stand_for_many_are_refused(tmp_path: Path) -> None:
    many = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_200_000, np.int32)), pa.array(["m" * 1000]))
    table = pa.table({"model": many, "test_accuracy": np.full(len(many), 0.5)})
    pq.write_table(table, tmp_path / "table.parquet", store_schema=False)  # read as texts, not as a dictionary
    assert (tmp_path / "table.parquet").stat().st_size < 1e6
    with pytest.raises(InputError, match="holds more than 1073741824 bytes"):
        raybench.rank(tmp_path / "table.parquet")


@pytest.fixture
def a_run(tmp_path: Path) -> Path:
    return MadeUp(images=30).write(tmp_path / "run")


@pytest.mark.parametrize("folder_name", ["results", "history", "predictions"])
def test_a_file_in_the_place_of_another_trials_is_refused(folder_name: str, a_run: Path) -> None:
    first, second = sorted((a_run / folder_name).iterdir())[:2]
    first.write_bytes(second.read_bytes())
    readers = {"results": raybench.load_results, "history": raybench.load_history, "predictions": load_outcomes}
    with pytest.raises(RunError, match=f"its rows are of trial {second.stem}"):
        readers[folder_name](a_run)
    if folder_name != "history":
        with pytest.raises(RunError, match="delete it to have the trial trained again"):
            raybench.rank(a_run)


def test_a_number_that_the_disk_changed_is_found(a_run: Path) -> None:
    path = sorted((a_run / "results").iterdir())[0]
    value = raybench.load_results(a_run).set_index("trial_id").loc[path.stem, "test_accuracy"]
    content = path.read_bytes()
    stored = struct.pack("<d", float(value))
    assert stored in content
    path.write_bytes(content.replace(stored, struct.pack("<d", 0.99)))
    with pytest.raises(RunError, match=rf"{path.stem}.parquet: cannot be read"):
        raybench.rank(a_run)


def test_a_ledger_that_is_no_text_is_passed_over_line_by_line(a_run: Path) -> None:
    (a_run / ledger.LEDGER).write_bytes(b'\x80\x04\n{"kind": "idle"}\n[1]\n' + b"[" * 100_000 + b"\n")
    assert len(ledger.load(a_run)) == 0


@pytest.mark.parametrize("text", ["[" * 100_000, '{"facts": 3, "created_at": 4, "chosen": 5}'])
def test_a_manifest_of_other_values_is_one_line(text: str, a_run: Path) -> None:
    (a_run / "manifest.json").write_text(text)
    with pytest.raises(RaybenchError, match=r"manifest\.json: cannot be read") as raised:
        read_manifest(a_run)
    assert "\n" not in str(raised.value)


def test_rows_written_before_checksums_are_still_read(a_run: Path) -> None:
    before = raybench.rank(a_run)
    for path in a_run.glob("*/*.parquet"):
        pq.write_table(pq.ParquetFile(path).read(), path, write_statistics=False)
    pd.testing.assert_frame_equal(raybench.rank(a_run), before)
