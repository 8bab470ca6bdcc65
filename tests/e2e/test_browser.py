"""What a person does in a real browser, and sees."""

import csv

from playwright.sync_api import expect

from local.driver import eventually
from tests.support.browser import RIGHT, expect_answers, keep, send


def test_five_files_of_which_one_is_a_text_show_four_labels_and_one_reason(visit, system, files):
    page = visit(system.url, viewport={"width": 1180, "height": 1040})
    page.wait_for_selector("html[data-js]")
    page.set_input_files("#files", files)
    keep(page, "chosen")
    page.click("#submit")
    page.wait_for_url("**/requests/*")
    expect_answers(page, 4, 1)
    failed = page.locator(".card[data-status=failed]").inner_text()
    assert "notes.txt" in failed
    assert "This is not a picture." in failed
    eventually(lambda: page.locator(".card img").nth(0).evaluate("img => img.naturalWidth"))
    page.locator("summary").first.click()
    assert page.locator("details[open] li").count() == 4
    page.locator("summary").first.click()
    keep(page, "request")
    page.reload()
    expect_answers(page, 4, 1)


def test_it_works_without_scripts(visit, system, files):
    page = visit(system.url, java_script_enabled=False)
    page.set_input_files("#files", files)
    page.click("#submit")
    page.locator(".card[data-status=classified]").nth(3).wait_for(timeout=90_000)
    expect_answers(page, 4, 1)
    keep(page, "no-scripts")


def test_it_fits_a_phone_in_the_dark(visit, system, files):
    page = visit(system.url, viewport={"width": 390, "height": 844}, color_scheme="dark")
    background = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(background) == "rgb(19, 22, 19)"
    send(page, files)
    expect_answers(page, 4, 1)
    keep(page, "phone-dark")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_answers_can_be_taken_away(visit, system, files):
    page = visit(system.url, permissions=["clipboard-read", "clipboard-write"])
    url = send(page, files)
    expect_answers(page, 4, 1)
    with page.expect_download() as download:
        page.click("text=Save CSV")
    text = download.value.path().read_text("utf-8-sig")
    columns, *rows = csv.reader(text.splitlines())
    assert columns[:5] == ["filename", "status", "label", "confidence", "error"]
    assert [row[0] for row in rows] == [file.name for file in files]
    with page.expect_download() as answers:
        page.click("text=Save JSON")
    assert '"filename": "notes.txt"' in answers.value.path().read_text()
    for button, expected in [("Copy CSV", text.splitlines()[1]), ("Copy link", url)]:
        page.click(f"text={button}")
        eventually(lambda: page.evaluate("document.activeElement.textContent") == "Copied")
        assert expected in page.evaluate("navigator.clipboard.readText()")


def test_the_latest_requests_are_remembered_until_they_are_forgotten(visit, system, files):
    page = visit(system.url)
    assert not page.locator("#latest").is_visible()
    first = send(page, files[:1])
    page.goto(system.url)
    second = send(page, files)
    page.click("text=Classify more")
    links = page.locator("#latest a")
    expect(links).to_have_text(["cat.jpg and 4 more", "cat.jpg"])
    assert all(time.startswith("today, ") for time in page.locator("#latest time").all_inner_texts())
    assert [link.evaluate("link => link.href") for link in links.all()] == [second, first]
    links.first.click()
    expect_answers(page, 4, 1)
    other = page.context.new_page()
    other.goto(system.url)
    page.go_back()
    page.click("text=Forget them")
    other.locator("#latest").wait_for(state="hidden")  # the other tab hears of it
    assert not page.locator("#latest").is_visible()


def test_where_storage_is_off_nothing_is_remembered_and_nothing_breaks(visit, system, files):
    page = visit("about:blank")
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('off'); } })"
    )
    page.goto(system.url)
    send(page, files[:1])
    expect_answers(page, 1)
    page.click("text=Classify more")
    page.wait_for_selector("html[data-js]")
    assert not page.locator("#latest").is_visible()


def test_a_first_visit_takes_less_than_100_kilobytes_from_this_server_alone(visit, system):
    page, replies = visit("about:blank"), []
    page.on("response", lambda reply: replies.append(reply))
    page.goto(system.url, wait_until="networkidle")
    assert len(replies) > 10
    assert all(reply.url.startswith(system.url) for reply in replies)
    sizes = [reply.request.sizes() for reply in replies]
    assert sum(size["responseHeadersSize"] + size["responseBodySize"] for size in sizes) < 100_000


def test_the_examples_are_one_click_away(visit, system):
    page = visit(system.url)
    page.wait_for_selector("html[data-js]")
    page.click("#examples")
    page.locator("#chosen li").nth(2).wait_for()
    keep(page, "examples")
    page.click("#submit")
    page.wait_for_url("**/requests/*")
    page.wait_for_selector("#results[data-complete=true]", timeout=90_000)
    assert page.locator("p.guess .label").first.text_content() in RIGHT
    assert page.locator(".card[data-status=classified]").count() == 3
