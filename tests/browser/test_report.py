"""The pages in a browser: nothing goes wrong, nothing is asked for, and all of it can be read and reached."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import SCHEMES, SCREENSHOTS, WIDTHS, Opened, open_page, wait_until_drawn

PAGES = ("quickstart", "hostile", "study", "compare")
UP = 450
"""Pixels that the keyboard may go up, to the head of the next column."""
pytestmark = pytest.mark.timeout(900)  # the first test waits for a real run

# Contrast of every piece of text with what lies behind it; colours are computed by the browser itself.
CONTRASTS = """
() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(rgba(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || element.closest('script, style') || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const below = behind(element);
    const ink = over(rgba(element instanceof SVGElement ? style.fill : style.color), below);
    const [high, low] = [light(ink), light(below)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 ? 3 : 4.5;  // WCAG 2.2, success criterion 1.4.3
    const contrast = (high + 0.05) / (low + 0.05);
    found.push({text: text.slice(0, 40), size, contrast, faint: contrast < least});
  }
  return found;
}
"""


@pytest.fixture(params=PAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(browser: Browser, reports: dict[str, Path], name: str, width: str, scheme: str) -> Iterator[Opened]:
    viewport = {"width": WIDTHS[width], "height": 900}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]
    yield open_page(context, reports[name])
    context.close()


@pytest.fixture
def quickstart(browser: Browser, reports: dict[str, Path]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": WIDTHS["wide"], "height": 900}, color_scheme="light")
    yield open_page(context, reports["quickstart"]).page
    context.close()


def test_page_opens_quietly_asks_for_nothing_and_fits(opened: Opened, name: str, width: str, scheme: str) -> None:
    page = opened.page
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    wait_until_drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") == WIDTHS[width]
    assert page.title() != "taken"
    assert opened.messages == []
    assert opened.requests == []


def test_all_text_can_be_read_against_what_lies_behind_it(opened: Opened) -> None:
    opened.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    wait_until_drawn(opened.page)
    texts = opened.page.evaluate(CONTRASTS)
    assert len(texts) > 30
    assert [each for each in texts if each["faint"]] == []


def test_figures_tell_their_numbers_under_the_pointer(quickstart: Page) -> None:
    plot = quickstart.locator("#figure-frontier")
    plot.scroll_into_view_if_needed()
    star = plot.locator(".scatterlayer .trace .point").last.bounding_box()
    assert star is not None
    quickstart.mouse.move(star["x"] + star["width"] / 2, star["y"] + star["height"] / 2)
    label = plot.locator(".hoverlayer .hovertext")
    label.first.wait_for()
    assert "%" in (label.first.text_content() or "")


def test_legend_hides_a_configuration_in_both_plots(quickstart: Page) -> None:
    plot = quickstart.locator("#figure-history-0")
    plot.scroll_into_view_if_needed()
    before = plot.locator(".scatterlayer .trace").count()
    plot.locator(".legendtoggle").first.click()
    quickstart.wait_for_function(
        "count => document.querySelectorAll('#figure-history-0 .scatterlayer .trace').length === count", arg=before - 2
    )


def test_keyboard_reaches_the_answer_the_links_and_what_is_folded(quickstart: Page) -> None:
    quickstart.keyboard.press("Tab")
    assert quickstart.evaluate("document.activeElement.className") == "skip"
    assert quickstart.locator(".skip").bounding_box() is not None
    seen = []
    for _ in range(60):
        quickstart.keyboard.press("Tab")
        place = quickstart.evaluate(
            "() => { const at = document.activeElement; const box = at.getBoundingClientRect();"
            " return [at.tagName, at.textContent.trim().slice(0, 30), box.top + scrollY,"
            " getComputedStyle(at).outlineStyle] }"
        )
        if place[0] == "BODY":
            break
        seen.append(place)
    assert [place[0] for place in seen[:4]] == ["A"] * 4, "the links to sections come first"
    assert "SUMMARY" in [place[0] for place in seen]
    assert all(place[3] != "none" for place in seen), "where the keyboard is can be seen"
    tops = [place[2] for place in seen]
    assert all(later >= earlier - UP for earlier, later in pairwise(tops)), "from top to bottom"


def test_a_fold_opens_by_keyboard(quickstart: Page) -> None:
    summary = quickstart.locator("summary").first
    summary.focus()
    quickstart.keyboard.press("Enter")
    assert quickstart.locator("details[open] table").first.is_visible()


@pytest.mark.parametrize(("name", "width", "scheme"), [("quickstart", "narrow", "light")], indirect=True)
def test_tables_that_do_not_fit_scroll_in_their_own_box_by_keyboard(opened: Opened) -> None:
    boxes = opened.page.locator(".box[tabindex='0']:visible")
    assert boxes.count() > 0
    boxes.first.focus()
    opened.page.keyboard.press("ArrowRight")
    opened.page.wait_for_function("() => document.activeElement.scrollLeft > 0")


def test_colours_of_figures_follow_the_scheme(quickstart: Page) -> None:
    ink = "() => getComputedStyle(document.querySelector('#figure-frontier .xtitle')).fill"
    light = quickstart.evaluate(ink)
    quickstart.emulate_media(color_scheme="dark")
    quickstart.wait_for_function(f"before => ({ink})() !== before", arg=light)


def test_paper_gets_light_colours_and_everything_that_is_folded(quickstart: Page, reports: dict[str, Path]) -> None:
    quickstart.emulate_media(color_scheme="dark")
    quickstart.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert quickstart.locator("details:not([open])").count() == 0
    quickstart.emulate_media(media="print", color_scheme="dark")
    background = quickstart.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(255, 255, 255)"
    pdf = quickstart.pdf(path=reports["quickstart"].with_suffix(".pdf"))
    assert pdf.startswith(b"%PDF")
    quickstart.evaluate("dispatchEvent(new Event('afterprint'))")
    assert quickstart.locator("details[open]").count() == 0


def test_page_says_all_it_has_to_say_without_its_script(browser: Browser, reports: dict[str, Path]) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(reports["quickstart"].as_uri())
    assert page.locator("h1").inner_text().startswith("Use ")
    assert page.locator("table:visible").count() > 3
    context.close()
