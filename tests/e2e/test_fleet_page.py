"""What an operator sees of the fleet while it works, in a real browser."""

import re
import signal

import pytest
import requests
from playwright.sync_api import Page

from local.driver import eventually
from tests.support.browser import keep
from tests.support.requests_of_users import photos


@pytest.fixture
def open_fleet(browser):
    contexts = []

    def open_fleet(url: str, **options) -> Page:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.goto(f"{url}fleet")
        return page

    yield open_fleet
    for context in contexts:
        context.close()


SMALL_COSTS = """() => {
  const figures = document.querySelector(".figures");
  figures.innerHTML = "<div><dt>Cost so far</dt><dd>$0.000023</dd></div>".repeat(7);
  return [...figures.querySelectorAll("dd")].map((dd) => dd.scrollWidth - dd.clientWidth);
}"""


@pytest.mark.parametrize("width", [390, 1180, 1280])
def test_no_figure_runs_into_the_next(system, open_fleet, width):
    page = open_fleet(system.url, viewport={"width": width, "height": 800})
    assert page.evaluate(SMALL_COSTS) == [0] * 7


def test_the_page_follows_a_burst_from_nothing_to_instances_to_nothing(start, open_fleet):
    system = start(LOCAL_BOOT_SECONDS="3")
    refused: list[str] = []
    page = open_fleet(system.url)
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    assert page.inner_text("h1") == "Nothing waits, nothing runs"
    assert "has not had any work yet" in page.inner_text(".lead")
    keep(page, "fleet-new")

    system.post(*photos() * 20, headers={"Prefer": "respond-async"})
    page.locator(".instances tbody tr").first.wait_for(timeout=20_000)
    assert re.search(r"80 images wait, \d instances? (up|starting)", page.inner_text("h1"))
    system.delay("GetObject", 2)  # else they are classified before the page looks again
    page.locator(".state[data-state=ready]").first.wait_for(timeout=60_000)
    keep(page, "fleet-busy")
    system.delay("GetObject", 0)

    page.get_by_text("Nothing waits, nothing runs").first.wait_for(timeout=60_000)
    page.locator(".decisions .done b", has_text="Terminated").first.wait_for(timeout=20_000)
    assert page.locator(".decisions .done b", has_text="Launched").count()
    page.locator(".bill tfoot", has_text="80 images").wait_for(timeout=20_000)
    assert "at most 80" in page.get_attribute(".plot >> nth=0", "aria-label")
    assert page.inner_text("#spoken") == "Nothing waits, nothing runs"
    assert refused == []
    keep(page, "fleet-after")

    # Another process, which has seen none of it, tells the same.
    before = requests.get(f"{system.url}fleet", timeout=20).json()
    (arbiter,) = system.arbiters()
    old = {p.pid for p in system.controllers()}
    arbiter.send_signal(signal.SIGHUP)
    eventually(lambda: (pids := {p.pid for p in system.controllers()}) and not pids & old)
    after = requests.get(f"{system.url}fleet", timeout=20).json()
    assert after["history"][:-1] == before["history"][:-1]
    assert after["money"]["images"] == before["money"]["images"] == 80

    # What is shown is old while nobody answers, or AWS does not, and the page says so; then it goes on.
    page.route("**/fleet?*", lambda route: route.abort())
    page.locator("#problem", has_text="The controller does not answer.").wait_for(timeout=20_000)
    page.unroute("**/fleet?*")
    eventually(lambda: page.inner_text("#problem") == "", 30)


def test_it_can_be_read_without_scripts_and_on_a_phone(system, open_fleet):
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}
    page = open_fleet(system.url, **phone)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_text("Show this as a table").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    keep(page, "fleet-phone-dark")
    plain = open_fleet(system.url, java_script_enabled=False)
    first = plain.inner_text(".board time")
    eventually(lambda: plain.inner_text(".board time >> nth=0") != first, 30)
