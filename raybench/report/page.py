"""Page data in, one self-contained HTML file out: style, script, plotly.js and all figures are inside it.

The page's own policy forbids it any request, so that what a reader opens is all there is. Every text is escaped by the
template; figures carry their data as JSON with nothing in it that HTML would read.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from raybench.atomic import replacing
from raybench.errors import InputError
from raybench.foreign import Kind
from raybench.formats import number_of, safe_text
from raybench.ranking import GROUP
from raybench.report.compare import Comparison
from raybench.report.compare_views import comparison_sections, names
from raybench.report.page_answer import answer
from raybench.report.page_findings import find
from raybench.report.page_material import Material, load_material
from raybench.report.page_parts import Figure, ReportData, Section
from raybench.report.page_sections import sections
from raybench.report.theme import PALETTES

REPORT = "report.html"
"""Name of the report in a run directory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A report that was written."""

    path: Path
    data: ReportData


def write_report(
    paths: Sequence[Path],
    output: Path | None = None,
    *,
    columns: Sequence[str] = (),
    test_images: Sequence[str] = (),
) -> Written:
    """Write the report of sources.

    Args:
        paths: run directories and tables.
        output: where it goes; None: `report.html` in the run directory where there is one source and it is one, else
            `NAME.html` in the current folder.
        columns: what columns are called in sources that raybench did not write, `KEY=NAME`.
        test_images: sizes of test splits that sources do not tell, `[DATASET=]N`.

    Raises:
        InputError: a source cannot be read, or the file cannot be written.
    """
    material = load_material(paths, columns=columns, test_images=test_images)
    path = output or default_output(material)
    data = report_data(material)
    write_page(render(data), path)
    return Written(path=path, data=data)


def default_output(material: Material) -> Path:
    """Return where the report of a material goes where nobody says."""
    if len(material.paths) == 1 and material.source.kind is Kind.RUN:
        return material.paths[0] / REPORT
    return Path("+".join(path.stem if path.is_file() else path.resolve().name for path in material.paths) + ".html")


def write_page(text: str, path: Path) -> None:
    """Write a page; one that is there already is replaced whole."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"--output {path}: cannot be written: {error.strerror}; give another file") from None


def report_data(material: Material) -> ReportData:
    """Return everything that the report of a material says."""
    findings = find(material)
    return ReportData(
        title=safe_text(material.name),
        subtitle=_subtitle(material),
        answer=answer(material, findings),
        sections=sections(material, findings),
    )


def render(data: ReportData) -> str:
    """Return the page as HTML."""
    figures = [*([data.answer.figure] if data.answer.figure else []), *_figures(data.sections)]
    return _rendered("report.html", data=data, figures=figures)


def render_comparison(comparison: Comparison) -> str:
    """Return the page of a comparison as HTML."""
    return _rendered(
        "compare.html",
        figures=(),
        first=safe_text(comparison.first),
        second=safe_text(comparison.second),
        names=names(comparison),
        headline=safe_text(comparison.headline),
        fair=comparison.fair,
        fairness=comparison.fairness,
        sections=comparison_sections(comparison),
    )


def _rendered(template: str, *, figures: Sequence[Figure], **values: object) -> str:
    environment = Environment(
        loader=PackageLoader("raybench.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.finalize = _kept_together
    environment.filters["safe_json"] = _safe_json
    # plotly.js is from a package that is installed here, and holds no end of a script.
    plotly = Markup(get_plotlyjs()) if figures else Markup("")  # noqa: S704
    return environment.get_template(template).render(figures=figures, palettes=PALETTES, plotly=plotly, **values)


def _kept_together(value: object) -> object:
    """A number and its unit stay on one line."""
    return value.replace(" %", "\u00a0%") if isinstance(value, str) else value


def _figures(sections: Sequence[Section]) -> Iterator[Figure]:
    for section in sections:
        yield from (block for block in section.blocks if isinstance(block, Figure))


def _safe_json(value: object) -> Markup:
    r"""JSON that can stand in a script: `<`, `>` and `&` are written as \u003c and so on."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704 - nothing is left in it that HTML reads


def _subtitle(material: Material) -> str:
    groups = material.ranking.groupby(GROUP, dropna=False).size()
    what = number_of(int(groups.max()) if len(groups) else 0, "configuration")
    datasets = material.ranking["dataset"].nunique(dropna=False)
    what += f" on {datasets} datasets" if datasets > 1 else ""
    if len(groups) > datasets:
        what += f" at {material.ranking['train_size'].nunique(dropna=False)} training-set sizes"
    what += f", {number_of(len(material.results), 'trial')}"
    made = ", ".join(run.created_at[:10] for run in material.runs)
    return f"{what}, run of {made}" if made else what
