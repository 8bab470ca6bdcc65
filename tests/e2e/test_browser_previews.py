"""What a person sees of pictures whose format the browser cannot show."""

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from bench.photos import PHOTOS
from tests.support.browser import expect_answers, keep, send
from tests.support.pictures import encoded

PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}
PLACEHOLDERS = ("no-preview.svg#heic", "no-preview.svg#tiff", "no-preview.svg")
NAMES = {"é #1.heic": "HEIF", "a.tiff": "TIFF", "photo": "HEIF"}


@pytest.fixture
def hidden(tmp_path: Path) -> list[Path]:
    """A HEIC and a TIFF picture, and a HEIC picture whose name does not say so."""
    for (name, format), (data, _) in zip(NAMES.items(), PHOTOS.values(), strict=False):
        (tmp_path / name).write_bytes(encoded(Image.open(BytesIO(data)), format))
    return [tmp_path / name for name in NAMES]


def expect_placeholders(page: Page) -> None:
    for number, name in enumerate(PLACEHOLDERS):
        picture = page.locator(".picture img").nth(number)
        expect(picture).to_have_js_property("src", page.evaluate(f"new URL('/static/{name}', location).href"))


def expect_previews(page: Page) -> None:
    for number, _ in enumerate(NAMES):
        picture = page.locator(".card .picture img").nth(number)
        expect(picture).to_have_js_property("naturalWidth", 224)
        assert f"/previews/000{number}-" in (picture.get_attribute("src") or "")


def test_the_previews_come_with_the_answers(visit, system, hidden, no_capacity):
    page = visit(system.url, viewport={"width": 1180, "height": 900})
    page.wait_for_selector("html[data-js]")
    page.set_input_files("#files", hidden)
    expect_placeholders(page)
    keep(page, "previews-chosen")
    page.click("#submit")
    page.wait_for_url("**/requests/*")
    page.wait_for_selector("#results")
    expect_placeholders(page)
    keep(page, "previews-waiting")
    phone = visit(page.url, java_script_enabled=False, **PHONE)
    expect(phone.locator(".picture img").first).to_have_attribute("src", f"/static/{PLACEHOLDERS[0]}")
    keep(phone, "previews-waiting-no-scripts")
    system.limit(None)
    expect_answers(page, 3)
    expect_previews(page)
    keep(page, "previews")
    phone.reload()
    expect_previews(phone)
    keep(phone, "previews-no-scripts")


def test_pictures_that_are_answered_at_once_have_their_previews(visit, start, hidden):
    page = visit(start(ANSWER_CACHE="on").url)
    address = page.url
    send(page, hidden)
    expect_answers(page, 3)
    page.goto(address)
    send(page, hidden)
    expect_answers(page, 3)
    assert page.locator(".cached:visible").count() == 3
    expect_previews(page)
