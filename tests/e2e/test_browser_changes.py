"""Cancel and retry in a real browser, with the keyboard alone; and what axe-core says of each page."""

import signal

import pytest
from playwright.sync_api import Page

from local.driver import eventually
from tests.support.browser import barriers, expect_answers, keep, send
from tests.support.requests_of_users import fail


def press_until(page: Page, key: str, name: str) -> None:
    """Goes on with the key until what has this name has the focus; then presses Enter."""
    for _ in range(40):
        page.keyboard.press(key)
        if page.evaluate("(document.activeElement.labels?.[0] ?? document.activeElement).innerText") == name:
            page.keyboard.press("Enter")
            return
        if page.evaluate("document.activeElement.ariaLabel") == name:
            page.keyboard.press("Enter")
            return
    raise AssertionError(f"{name!r} is not reached with {key}")


def test_from_choosing_to_trying_again_with_the_keyboard_alone(visit, system, files, no_capacity):
    page = visit(system.url)
    page.wait_for_selector("html[data-js]")
    with page.expect_file_chooser() as chooser:
        press_until(page, "Tab", "Choose pictures")
    chooser.value.set_files(files)
    press_until(page, "Tab", "Remove notes.txt")
    press_until(page, "Tab", "Classify")
    page.wait_for_selector("#results[data-state=stalled]", timeout=60_000)
    assert "EC2 has no capacity right now: trying again in" in page.inner_text("#wait")
    assert page.locator(".pending").all_text_contents() == ["In the queue, but no instance can start"] * 4
    keep(page, "stalled")
    fail(system, page.locator(".card").first.get_attribute("data-image-id"))  # as when no instance comes
    page.locator(".card[data-status=failed]").wait_for(timeout=30_000)
    system.limit(None)
    page.wait_for_selector("#results[data-complete=true]", timeout=90_000)
    again = page.locator("#retry")
    again.wait_for()
    keep(page, "one-failed")

    def tried_again() -> bool:
        press_until(page, "Tab", "Try the failed ones again")
        eventually(lambda: not page.evaluate("document.querySelector('#retry button').disabled"))
        return not again.is_visible() or not page.inner_text("#problem")

    eventually(tried_again)  # the server may just be closing the request
    expect_answers(page, 4)
    assert not again.is_visible()
    press_until(page, "Tab", "Other guesses")
    assert page.locator("details[open] li").count() == 4


def test_a_request_is_cancelled_and_says_so_on_each_card(visit, system, files, no_capacity):
    page = visit(system.url)
    url = send(page, files)
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("#cancel-request button")
    assert page.get_attribute("#results", "data-complete") == "false"
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#cancel-request button")
    page.wait_for_selector("#results[data-complete=true]")
    expect_answers(page, 0, 5)
    assert page.locator(".reason", has_text="This image was cancelled before it was classified.").count() == 4
    assert not page.locator("#cancel-request").is_visible()
    assert not page.locator("#retry").is_visible()  # a cancelled picture is not kept
    keep(page, "cancelled")
    plain = visit(system.url, java_script_enabled=False)
    plain.goto(url)
    expect_answers(plain, 0, 5)


def test_a_request_is_deleted_with_its_pictures_and_forgotten(visit, system, files):
    page = visit(system.url)
    url = send(page, files[:2])
    expect_answers(page, 2)
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("#delete")
    page.reload()
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#delete")
    page.wait_for_url(system.url)
    assert not page.locator("#latest").is_visible()
    prefix = f"{url.rpartition('/')[2]}/"
    for bucket in ("input-images", "output-predictions"):
        found = system.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix)
        assert found["KeyCount"] == 0


def test_what_the_server_has_lost_can_be_sent_again(visit, system, files, no_capacity):
    page = visit(system.url)
    url = send(page, files[:2])
    waiting = page.locator(".pending", has_text="In the queue")
    assert waiting.count() == 2
    request_id = url.rpartition("/")[2]
    inputs = system.client("s3")
    found = inputs.list_objects_v2(Bucket="input-images", Prefix=f"{request_id}/")["Contents"]
    for stored in found:
        inputs.delete_object(Bucket="input-images", Key=stored["Key"])
    [arbiter] = system.arbiters()
    arbiter.send_signal(signal.SIGHUP)
    page.locator("#problem", has_text="The server no longer has this request").wait_for(timeout=60_000)
    assert not page.locator("#waiting").is_visible()
    assert page.locator(".pending").all_text_contents() == ["Not answered"] * 2
    keep(page, "lost")
    page.click("#send-again")
    assert page.locator("#chosen li").count() == 2
    assert page.evaluate("location.pathname") == "/"
    system.limit(None)
    page.click("#submit")
    page.wait_for_url("**/requests/*")
    assert page.url != url
    expect_answers(page, 2)
    previews = page.locator(".card .picture img")
    assert previews.evaluate_all("all => all.every((img) => img.complete && img.naturalWidth > 1)")


def test_cancel_and_retry_work_without_scripts(visit, system, files, no_capacity):
    page = visit(system.url)
    url = send(page, files[:2])
    plain = visit(url, java_script_enabled=False)
    fail(system, plain.locator(".card").first.get_attribute("data-image-id"))
    plain.click("#cancel-request button")
    expect_answers(plain, 0, 2)
    eventually(lambda: tries_again(plain))
    assert plain.url == url
    plain.click("#cancel-request button")
    expect_answers(plain, 0, 2)


def tries_again(page: Page) -> bool:
    page.click("#retry button")
    done = page.locator("#waiting").is_visible()
    if not done:
        page.go_back()
    return done


def test_an_upload_can_be_cancelled_and_sent_again(visit, system, files):
    page = visit(system.url)
    page.wait_for_selector("html[data-js]")
    page.set_input_files("#files", files)
    held = []
    page.route(system.url, lambda route: held.append(route))
    page.click("#submit")
    page.locator("#cancel").wait_for()
    assert page.locator(".sent").first.inner_text()
    page.click("#cancel")
    page.locator("#submit").wait_for()
    assert page.locator(".thumb").count() == 5
    assert len(held) == 1
    page.unroute(system.url)
    page.click("#submit")
    page.wait_for_url("**/requests/*")
    expect_answers(page, 4, 1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_keeps_anybody_out(visit, system, files, no_capacity, scheme):
    page = visit(system.url, color_scheme=scheme, reduced_motion="reduce")
    page.wait_for_selector("html[data-js]")
    assert barriers(page) == []
    page.set_input_files("#files", files)
    assert barriers(page) == []
    page.click("#submit")
    page.wait_for_selector("#results[data-state=stalled]", timeout=60_000)
    assert barriers(page) == []
    keep(page, f"stalled-{scheme}")
    system.limit(None)
    expect_answers(page, 4, 1)
    page.locator("summary").first.click()
    assert barriers(page) == []
    for address in ("fleet", "api", "requests/unknown"):
        page.goto(system.url + address)
        assert barriers(page) == [], address
    page.goto(system.url)
    assert page.locator("#latest").is_visible()
    assert barriers(page) == []
