"""A larger request in a real browser, and what comes in its way."""

import pytest
from playwright.sync_api import Error

from bench.photos import PHOTOS
from local.driver import eventually
from tests.support.browser import expect_answers, keep, send

BAD = {
    "notes.txt": b"no picture",
    "cut.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 40,
    "clip.mp4": b"\0\0\0\x18ftypmp42" + b"\0" * 40,
}


@pytest.fixture
def thirty(tmp_path):
    """27 photos, and 3 files among them that are none."""
    good = [data for data, _ in PHOTOS.values()]
    contents = {f"photo-{number:02}.jpg": good[number % len(good)] for number in range(27)}
    names = sorted(contents)
    for place, name in zip((4, 11, 20), BAD, strict=True):
        names.insert(place, name)
    paths = []
    for name in names:
        paths.append(tmp_path / name)
        paths[-1].write_bytes((contents | BAD)[name])
    return paths


def test_thirty_pictures_are_answered_in_two_browsers_although_the_controller_dies(visit, system, thirty):
    page, asked = visit(system.url), []
    page.on("request", lambda request: asked.append(request.url))
    url = send(page, thirty)
    watcher = visit(url)
    assert watcher.locator(".card").count() == 30
    before = len(asked)
    for process in system.controllers():
        process.kill()
    assert page.get_attribute("#results", "data-complete") == "false"
    eventually(lambda: answers(watcher, url))
    watcher.reload()
    for shown in (page, watcher):
        expect_answers(shown, 27, 3)
        assert shown.locator(".filename").all_text_contents() == [file.name for file in thirty]
        assert shown.inner_text("#problem") == ""
    assert any(address.startswith(url) and "/images/" not in address for address in asked[before:])
    labels = page.locator(".card[data-status=classified] p.guess .label").all_text_contents()
    good = list(PHOTOS.values())
    assert all(label in good[number % len(good)][1] for number, label in enumerate(labels))
    keep(page, "thirty")


def answers(page, url: str) -> bool:
    try:
        return page.request.get(url).ok
    except Error:
        return False


def test_where_no_stream_comes_through_the_page_asks_instead(visit, system, files):
    page = visit(system.url)
    refused = []

    def refuse(route):
        refused.append(route.request.url)
        route.fulfill(status=503, json={"error": {"code": "service_unavailable", "message": "Too many."}})

    page.route("**/events", refuse)
    send(page, files)
    expect_answers(page, 4, 1)
    assert len(refused) == 1


def test_the_network_may_be_gone_for_a_while(visit, system, files):
    page = visit(system.url)
    page.wait_for_selector("html[data-js]")
    page.set_input_files("#files", files)
    page.context.set_offline(True)
    page.click("#submit")
    page.locator("#problem", has_text="The connection was lost. Check it, then classify again.").wait_for()
    assert page.locator(".thumb").count() == 5  # nothing that was chosen is lost
    page.context.set_offline(False)
    page.click("#submit")
    page.wait_for_url("**/requests/*")
    expect_answers(page, 4, 1)
    page.go_back()
    page.wait_for_selector("#files", state="attached")


def test_what_is_too_large_is_said_before_it_is_sent(visit, system, tmp_path):
    page = visit(system.url)
    page.wait_for_selector("html[data-js]")
    many = [tmp_path / f"{number}.png" for number in range(1001)]
    for path in many:
        path.write_bytes(b"x")
    page.set_input_files("#files", many)
    assert "1001 pictures are too many: at most 1000 at once." in page.inner_text("#problem")
    assert page.locator("#submit").is_disabled()
    page.locator(".remove").last.click()
    assert page.inner_text("#problem") == ""
    assert page.locator("#submit").is_enabled()
