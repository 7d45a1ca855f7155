"""What stands below the first screen: material in, sections out. A section without anything to say is left out."""

from collections.abc import Iterator

import pandas as pd

from raybench.formats import safe_text
from raybench.report.advice import group_name, notes, provisional_note
from raybench.report.figures_history import history_figure
from raybench.report.figures_sizes import size_figure
from raybench.report.machines import machines_note
from raybench.report.page_answer import digits_for, main_group
from raybench.report.page_architectures import architecture_blocks
from raybench.report.page_classes import recall_table
from raybench.report.page_data import data_blocks
from raybench.report.page_environment import environment_section
from raybench.report.page_findings import Findings
from raybench.report.page_material import Material, groups_of
from raybench.report.page_parts import Block, Figure, Paragraph, Section
from raybench.report.page_ranking import ranking_table
from raybench.report.page_rates import rate_blocks
from raybench.report.page_spend import spend_blocks
from raybench.report.page_value import gain_blocks, value_blocks

MOST_ROWS = 1500
"""Rows of all rankings together."""
FEWEST_ROWS = 15
"""Rows of each, however many there are."""
MOST_GROUPS = 60
MOST_FIGURES = 8
"""Figures of one kind."""


def sections(material: Material, findings: Findings) -> list[Section]:
    """Return the parts of the page below its first screen."""
    ranking = material.ranking
    parts = (
        []
        if ranking.empty
        else [
            _ranking(material),
            _worth(material, findings),
            _sizes(material, findings),
            Section(name="gains", title="What each choice buys", link="Gains", blocks=list(gain_blocks(findings))),
            _history(material),
            _classes(material),
            Section(name="architectures", title="Size and speed", link="Models", blocks=architecture_blocks(material)),
            Section(name="spend", title="What the run spent", link="Spending", blocks=list(spend_blocks(material))),
        ]
    )
    return [part for part in (*parts, environment_section(material)) if part is not None and part.blocks]


def _ranking(material: Material) -> Section:
    groups = groups_of(material.ranking)
    main = main_group(material.ranking)
    most = max(FEWEST_ROWS, MOST_ROWS // len(groups))
    blocks: list[Block] = []
    for place, group in enumerate(groups[:MOST_GROUPS]):
        digits = digits_for(material.test_images.get(str(group["dataset"].iloc[0])))
        name = group_name(group.iloc[0])
        is_main = group.index[0] == main.index[0]
        table = ranking_table(group, digits=digits, most=most, folded="" if is_main else name)
        blocks.insert(0 if is_main else len(blocks), table.placed(f"ranking-{place}", name))
    if len(groups) > MOST_GROUPS:
        blocks.append(Paragraph(text=f"The first {MOST_GROUPS} of {len(groups)} rankings; raybench rank has all."))
    blocks += [Paragraph(text=text) for text in _notes(material)]
    return Section(name="ranking", title="Ranking", blocks=blocks)


def _notes(material: Material) -> list[str]:
    """What the rankings cannot conclude."""
    names = dict.fromkeys(str(name) for name in material.ranking["dataset"])
    known = {name: facts.train_images for name in names if (facts := material.facts_of(name)) is not None}
    said = notes(material.ranking, test_images=material.test_images, train_images=known)
    return [*filter(None, [provisional_note(material.results), machines_note(material.results)]), *said]


def _datasets(ranking: pd.DataFrame) -> list[pd.DataFrame]:
    return [rows for _, rows in ranking.groupby("dataset", sort=False)]


def _worth(material: Material, findings: Findings) -> Section:
    blocks = list(value_blocks(findings, main_group(material.ranking)))
    return Section(name="worth", title="What accuracy costs", link="Cost", blocks=blocks)


def _sizes(material: Material, findings: Findings) -> Section:
    blocks: list[Block] = []
    for place, rows in enumerate(_datasets(material.ranking)[:MOST_FIGURES]):
        dataset = rows["dataset"].iloc[0]
        title = _title("Accuracy by training images", rows, material)
        curves = findings.curves[findings.curves["dataset"] == dataset]
        figure = size_figure(rows, curves, name=f"figure-sizes-{place}", title=title)
        if figure is not None:
            blocks.append(figure)
            blocks += data_blocks(findings, dataset, rows)
    return Section(name="sizes", title="How much data", link="Data", blocks=blocks)


def _history(material: Material) -> Section:
    blocks = [*_history_figures(material), *rate_blocks(material)]
    return Section(name="training", title="How training went", link="Training", blocks=blocks)


def _history_figures(material: Material) -> Iterator[Figure]:
    for place, rows in enumerate(_datasets(material.ranking)[:MOST_FIGURES]):
        group = main_group(rows)
        title = f"Val loss and accuracy by epoch, {group_name(group.iloc[0])}"
        figure = history_figure(material, group, name=f"figure-history-{place}", title=title)
        if figure is not None:
            yield figure


def _classes(material: Material) -> Section | None:
    tables = [
        table.placed(f"classes-{place}", group_name(group.iloc[0]))
        for place, rows in enumerate(_datasets(material.ranking)[:MOST_FIGURES])
        if (table := recall_table(material, group := main_group(rows))) is not None
    ]
    return Section(name="classes", title="Which classes are hard", link="Classes", blocks=tables)


def _title(what: str, rows: pd.DataFrame, material: Material) -> str:
    several = len(_datasets(material.ranking)) > 1
    return f"{what}, {safe_text(rows['dataset'].iloc[0])}" if several else what
