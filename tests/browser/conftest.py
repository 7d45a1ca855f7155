"""A browser, and the pages that it opens: the report of a real run, and that of a run whose names mean harm."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route, sync_playwright

import raybench
from raybench.report.compare import compare
from raybench.report.page import render_comparison, write_page, write_report
from raybench.report.page_material import load_material
from tests.made_up_run import HOSTILE, MadeUp

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = Path(__file__).parent / "screenshots"
CHROMIUM = Path("/usr/bin/chromium")
QUICK = (
    "training.epochs=4",
    "price_per_hour_usd={local: 0.40}",
    "models=[resnet8]",
    "seeds=[0, 1]",
    "datasets=[{name: digits, source: digits, image_size: 16, train_sizes: [100, 300, all]}]",
)
"""The quickstart, made short: one model, four epochs."""
WIDTHS = {"narrow": 390, "wide": 1440}
"""In pixels."""
SCHEMES = ("light", "dark")


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A page in the browser, and what it did."""

    page: Page
    messages: list[str] = field(default_factory=list)
    """Warnings and errors of its script."""
    requests: list[str] = field(default_factory=list)
    """What it asked for beside itself."""


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the pages by name."""
    folder = tmp_path_factory.mktemp("browser")
    run = raybench.run(ROOT / "experiments/quickstart.yaml", run_dir=folder / "quickstart", overrides=QUICK, quiet=True)
    hostile = HOSTILE.write(folder / "hostile")
    compared = folder / "compare.html"
    other = {"training": {"epochs": 3, "batch_size": 64}, "models": ["resnet8", "resnet32"]}
    two = (MadeUp().write(folder / "before"), MadeUp(experiment=other).write(folder / "after"))
    materials = [load_material([each], epochs=False) for each in two]
    write_page(render_comparison(compare(*materials)), compared)
    study = ROOT / "tests/data/resnet_cost_performance.csv"
    return {
        "quickstart": write_report([run.run_dir]).path,
        "hostile": write_report([hostile]).path,
        "study": write_report([study], folder / "study.html", test_images=["166"]).path,
        "compare": compared,
    }


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start Debian's Chromium; its sandbox needs a user other than root."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def open_page(context: BrowserContext, path: Path) -> Opened:
    """Open a file, refuse whatever else it asks for, and wait until its figures are drawn."""
    opened = Opened(page=context.new_page())

    def heard(message: ConsoleMessage) -> None:
        if message.type not in {"log", "info", "debug"}:
            opened.messages.append(f"{message.type}: {message.text}")

    def asked(route: Route, request: Request) -> None:
        if request.url == path.as_uri():
            route.continue_()
            return
        opened.requests.append(request.url)
        route.abort()

    opened.page.on("console", heard)
    opened.page.on("pageerror", lambda error: opened.messages.append(str(error)))
    opened.page.route("**/*", asked)
    opened.page.goto(path.as_uri())
    wait_until_drawn(opened.page)
    return opened


def wait_until_drawn(page: Page) -> None:
    """Wait for all figures that are not folded away."""
    page.wait_for_function(
        "() => [...document.querySelectorAll('.plot')]"
        ".every(plot => plot.closest('details:not([open])') || plot.querySelector('svg.main-svg'))"
    )
