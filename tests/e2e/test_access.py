"""The running system where tokens are set, in a real browser and for programs; and the page of the API."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, Page

from bench.photos import PHOTOS
from local.__main__ import FALLBACK
from local.driver import ROOT, System, running
from tests.support.browser import keep
from tests.support.schemathesis_run import find_faults

TOKEN = "tests-0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def restricted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    output = tmp_path_factory.mktemp("restricted") / "output"
    settings = {"API_TOKENS": f"tests:{TOKEN}", "IMAGES_PER_MINUTE": "100000"}
    with running(output, **FALLBACK, **settings) as system:
        yield system
    logs = [output, *(ROOT / ".local" / str(system.port)).rglob("*.log")]
    assert len(logs) > 1
    assert not [log for log in logs if TOKEN in log.read_text(errors="replace")]


@pytest.fixture
def open_page(browser: Browser, restricted: System) -> Iterator[Page]:
    context = browser.new_context(java_script_enabled=False)
    yield context.new_page()
    context.close()


def sign_in(page: Page) -> None:
    page.fill("#token", TOKEN)
    page.click("button[type=submit]")
    page.locator("#token").wait_for(state="detached")
    page.wait_for_load_state()


def test_a_person_signs_in_once_without_scripts_and_comes_back_by_a_foreign_link(
    open_page: Page, restricted: System
):
    page = open_page
    photo = {"image_file": ("notes.txt", b"no picture")}
    assert requests.post(restricted.url, files=photo, timeout=60).status_code == 401
    url = requests.post(restricted.url, files=photo, headers=BEARER, timeout=60).json()["url"]
    page.goto(restricted.url.rstrip("/") + url)
    keep(page, "sign-in")
    page.fill("#token", "wrong-0123456789abcdef")
    page.click("button[type=submit]")
    assert "not known here" in page.inner_text("#problem")
    sign_in(page)
    page.wait_for_selector(".card[data-status=failed]")
    assert page.url.endswith(url)

    link = f'<a href="{restricted.url.rstrip("/")}{url}">the answers</a>'
    page.route("http://elsewhere.example/", lambda route: route.fulfill(content_type="text/html", body=link))
    page.goto("http://elsewhere.example/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.click("a")
    page.wait_for_selector(".card[data-status=failed]")
    assert page.url.endswith(url)
    assert any("/sign-in?" in address for address in asked), "the browser kept the cookie back at first"

    page.click("text=Sign out")
    page.wait_for_selector("#token")
    page.goto(restricted.url)
    assert page.locator("#token").count() == 1


def test_the_page_of_the_api_sends_what_is_filled_in_and_shows_the_command(
    browser: Browser,
    restricted: System,
    tmp_path: Path,
):
    context = browser.new_context()
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{restricted.url}api")
    sign_in(page)
    photo = tmp_path / "it's a cat.jpg"
    photo.write_bytes(next(iter(PHOTOS.values()))[0])
    form = page.locator("#upload_classify form")
    form.locator("input[type=file]").set_input_files(photo)
    form.locator("input:not([type=file])").first.fill("respond-async")
    assert form.locator(".command").inner_text() == (
        "curl -H \"Authorization: Bearer $TOKEN\" -H 'Prefer: respond-async' -H 'Accept: application/json'"
        f" -F 'image_file=@it'\\''s a cat.jpg' {restricted.url}"
    )
    form.locator("button").click()
    reply = page.locator("#upload_classify .reply")
    reply.locator("pre", has_text="202").wait_for()
    assert "location: /requests/" in reply.inner_text().lower()
    keep(page, "api")
    [carried] = re.findall(r"/requests/([0-9a-f]{32})\n", reply.locator("pre").first.inner_text())
    for asks in ("requests_show_request", "requests_show_image", "events_stream_events"):
        assert page.locator(f"#{asks} input").first.input_value() == carried
    page.locator("#requests_show_request input").first.fill("0" * 32)
    page.locator("#requests_show_request button").click()
    page.locator("#requests_show_request .reply", has_text="There is no request").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [p for p in problems if "404" not in p] == []
    context.close()


def test_nothing_is_answered_without_a_token_but_what_the_document_says(restricted: System, tmp_path: Path):
    token = ["--header", f"Authorization: Bearer {TOKEN}"]
    checks = "ignored_auth,status_code_conformance,content_type_conformance,not_a_server_error"
    find_faults(restricted, tmp_path, *token, "--checks", checks, "--phases", "examples,coverage")
