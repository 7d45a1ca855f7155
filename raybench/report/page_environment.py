"""On what a run ran and how to repeat it: material in, one section out."""

import shlex
from collections.abc import Iterator

from raybench.formats import safe_text
from raybench.mirror import place_of
from raybench.records import DatasetFacts
from raybench.report.page_material import Material, RunDetails
from raybench.report.page_parts import Block, Code, Column, Paragraph, Row, Section, Table, cells

GIGABYTE = 1e9
MOST_TEXT = 20_000
"""Letters of an experiment file that a page shows."""


def environment_section(material: Material) -> Section:
    """Return what each run says of its machine, its versions and its data, and the file and command to repeat it."""
    return Section(
        name="environment",
        title="Environment, and how to repeat it",
        link="Environment",
        blocks=list(_blocks(material)),
    )


def _blocks(material: Material) -> Iterator[Block]:
    for run in material.runs:
        yield _table(run)
        name = safe_text(run.run_dir.name)
        yield Code(caption=f"Experiment file of {name}", text=_plain(run.experiment_text), folded=True)
        command = f"raybench run experiment.yaml --run-dir {shlex.quote(safe_text(run.run_dir.name) + '-again')}"
        yield Code(caption="The command that repeats it, with the file above as experiment.yaml", text=command)
    if not material.runs:
        names = ", ".join(safe_text(path.name) for path in material.paths)
        yield Paragraph(
            text=f"Read from {names}: a table, which does not say on what it ran. A run directory of raybench does."
        )


def _table(run: RunDetails) -> Table:
    hardware = dict(run.hardware)
    memory = hardware.pop("memory_bytes", None)
    rows = [
        ("run directory", place_of(run.run_dir)),
        ("made", run.created_at),
        *((str(name), str(value)) for name, value in hardware.items() if value is not None),
        *([("memory", f"{float(memory) / GIGABYTE:.0f} GB")] if memory else []),
        ("code", f"commit {run.git_commit}" if run.git_commit else "in no git checkout"),
        ("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
        *((f"dataset {name}", _data(facts)) for name, facts in run.facts.datasets.items()),
    ]
    return Table(
        caption=f"Environment of {safe_text(run.run_dir.name)}",
        columns=[Column(text="what", is_name=True), Column(text="value", is_name=True)],
        rows=[Row(cells=cells(*(safe_text(text) for text in row))) for row in rows],
    )


def _data(facts: DatasetFacts) -> str:
    test = "no" if facts.test_images is None else facts.test_images
    return f"{facts.train_images} train, {facts.val_images} val, {test} test images; fingerprint {facts.fingerprint}"


def _plain(text: str) -> str:
    """A file's text with its line breaks, without other control characters."""
    lines = [safe_text(line.replace("\t", "    ")) for line in text[:MOST_TEXT].splitlines()]
    return "\n".join([*lines, *(["# the rest is left out here"] if len(text) > MOST_TEXT else [])])
