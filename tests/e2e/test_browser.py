"""What a person does in a real browser, and sees."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.system import System
from tests.photos import PHOTOS
from tests.programs import need

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*OPTIONS, "--disable-sync"])
        yield browser
        browser.close()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Four photos and a text file."""
    found = []
    for name, (data, _) in PHOTOS.items():
        found.append(tmp_path / f"{name}.jpg")
        found[-1].write_bytes(data)
    found.insert(2, tmp_path / "notes.txt")
    found[2].write_text("no picture")
    return found


@pytest.fixture
def open_page(browser: Browser, system: System):
    """Opens the page; `screenshot(name)` is kept as an artefact where CI_ARTEFACTS says so."""
    contexts = []

    def open_page(**options) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.goto(system.url)
        return page

    yield open_page
    for context in contexts:
        context.close()


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("CI_ARTEFACTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def expect_four_labels_and_one_reason(page: Page) -> None:
    page.locator(".card[data-status=classified]").nth(len(PHOTOS) - 1).wait_for(timeout=60_000)
    page.locator(".card[data-status=failed]").wait_for(timeout=60_000)
    labels = page.locator(".card[data-status=classified] p.guess .label").all_inner_texts()
    assert len(labels) == len(PHOTOS)
    for label, (_, right) in zip(labels, PHOTOS.values(), strict=True):
        assert label in right
    assert "notes.txt" in page.locator(".card[data-status=failed]").inner_text()
    assert page.locator(".card[data-status=failed] .reason").inner_text().endswith(".")
    assert page.locator(".card[data-status=waiting]").count() == 0


def test_five_files_of_which_one_is_a_text_show_four_labels_and_one_reason(open_page, files):
    page = open_page()
    page.wait_for_selector("html[data-js]")
    page.set_input_files("#files", files)
    keep(page, "chosen")
    page.click("#submit")
    page.wait_for_url("**/requests/*")
    expect_four_labels_and_one_reason(page)
    keep(page, "answered")
    page.reload()
    expect_four_labels_and_one_reason(page)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("no-scripts", {"java_script_enabled": False}),
        ("phone-dark", {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}),
    ],
)
def test_it_works_without_scripts_and_on_a_phone(open_page, files, name, options):
    page = open_page(**options)
    if options.get("java_script_enabled", True):
        page.wait_for_selector("html[data-js]")
    page.set_input_files("#files", files)
    page.click("#submit")
    expect_four_labels_and_one_reason(page)
    keep(page, name)
    if options.get("java_script_enabled", True):
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
