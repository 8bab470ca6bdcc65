"""What the browser tests share: a real chromium, how it sends pictures, and what is kept of what it shows."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from bench.photos import PHOTOS
from tests.support.programs import need

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


RIGHT = frozenset().union(*(right for _, right in PHOTOS.values()))


@contextmanager
def chromium() -> Iterator[Browser]:
    program = need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=OPTIONS)
        yield browser
        browser.close()


def send(page: Page, files: Sequence[Path]) -> str:
    """The address of the request, whose page is shown then."""
    page.wait_for_selector("html[data-js]")
    page.set_input_files("#files", files)
    page.click("#submit")
    page.wait_for_url("**/requests/*")
    page.wait_for_selector("#results")
    return page.url


def expect_answers(page: Page, classified: int, failed: int = 0) -> None:
    page.wait_for_selector("#results[data-complete=true]", timeout=90_000)
    counts = {s: page.locator(f".card[data-status={s}]").count() for s in ("waiting", "classified", "failed")}
    assert counts == {"waiting": 0, "classified": classified, "failed": failed}
    for label in page.locator(".card[data-status=classified] p.guess .label").all_text_contents():
        assert label in RIGHT
    for reason in page.locator(".reason").all_text_contents():
        assert reason.endswith(".")


def keep(page: Page, name: str, full_page: bool = True) -> None:
    """A screenshot, where CI_ARTEFACTS says; with 256 colours, so that it is small enough for the README."""
    if folder := os.environ.get("CI_ARTEFACTS"):
        shot = Image.open(BytesIO(page.screenshot(full_page=full_page, animations="disabled")))
        shot.convert("RGB").quantize(256).save(Path(folder) / f"{name}.png", optimize=True)


def barriers(page: Page) -> list[str]:
    """Returns what axe-core finds on the page that is serious or critical for people with disabilities."""
    found = Axe().run(page).response["violations"]
    return [
        f"{v['id']}: {v['help']} {[node['target'] for node in v['nodes']]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
