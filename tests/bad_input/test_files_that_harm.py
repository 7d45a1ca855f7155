"""Files made to hang, to fill memory, to run a program or to leave their folder: one message each, or no harm."""

import io
import os
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import raybench
from raybench import ledger
from raybench.errors import DataError, ExperimentError, InputError, RunError, WeightsError
from raybench.experiment import load_experiment
from raybench.manifest import read_manifest
from raybench.records import DatasetSpec
from raybench.training.data import load_images
from raybench.training.decoding import decode
from raybench.training.weight_files import read_card
from tests.bad_input.material import LONGEST_MESSAGE, SOON_SECONDS, Case, call, images, the_message, write
from tests.made_up_run import MadeUp

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
    return DatasetSpec(name="mine", source=source, root=str(root), image_size=8, val_size=None, on_bad_image="error")


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
