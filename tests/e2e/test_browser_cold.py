"""A request to a fleet without instances: the page says at every moment what is done, and why it waits."""

import re
from contextlib import contextmanager, suppress

import psutil
import pytest

from bench.photos import PHOTOS
from local.__main__ import FALLBACK
from local.driver import eventually, running
from tests.support.browser import expect_answers, keep

# After every change of the page: what it says of the request, and of each of its pictures.
WATCH = """() => {
  window.seen = [];
  const words = (all) => [...all].map((it) => it.textContent.trim());
  function look() {
    const results = document.querySelector("#results");
    const sending = document.querySelector("[data-state=sending]");
    if (results) seen.push({
      state: results.dataset.state,
      message: results.querySelector(results.dataset.state === "done" ? "#headline" : "#wait").textContent,
      cards: words(results.querySelectorAll(".answer")),
    });
    else if (sending) seen.push({
      state: "uploading",
      message: sending.querySelector("#total").textContent,
      cards: words(sending.querySelectorAll(".sent")),
    });
  }
  new MutationObserver(look).observe(document, {
    subtree: true, childList: true, characterData: true, attributes: true,
  });
}"""


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """Instances take their time to boot, as on EC2."""
    output = tmp_path_factory.mktemp("cold") / "output"
    settings = {"LOCAL_BOOT_SECONDS": "8", "MAX_IMAGES_PER_INSTANCE": "20", "MAX_INSTANCES": "2"}
    with running(output, **FALLBACK, **settings) as system:
        yield system


@pytest.fixture
def photos(tmp_path):
    """40 of them, so that the work takes a while."""
    paths = []
    for number in range(10):
        for name, (data, _) in PHOTOS.items():
            paths.append(tmp_path / f"{name}-{number}.jpg")
            paths[-1].write_bytes(data)
    return paths


@contextmanager
def frozen(processes):
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.Error):
                process.resume()


def reported(system):
    """Whether any worker has said that it is ready."""
    found = system.client("s3").list_objects_v2(Bucket="output-predictions-state", Prefix="workers/")
    return found["KeyCount"]


def slow(page, bytes_per_second):
    """Uploads, as over a phone's network."""
    conditions = {
        "offline": False,
        "latency": 0,
        "downloadThroughput": -1,
        "uploadThroughput": bytes_per_second,
    }
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", conditions)


def workers(system):
    """Of all instances that were launched, once each has its worker's process."""
    each = [system.processes_of(instance["InstanceId"]) for instance in system.active()]
    return all(each) and [process for some in each for process in some]


def test_at_every_moment_the_page_says_what_is_done_with_each_picture(visit, cold, photos):
    page = visit(cold.url, viewport={"width": 1180, "height": 800})
    page.wait_for_selector("html[data-js]")
    page.set_input_files("#files", photos)
    page.evaluate(WATCH)
    slow(page, bytes_per_second=1_000_000)
    page.click("#submit")
    page.wait_for_selector("#results[data-state=launching]", timeout=60_000)
    eventually(lambda: re.search(r"about \d+ s", page.inner_text("#wait")))
    keep(page, "waiting", full_page=False)
    at_work = eventually(lambda: workers(cold), 60)
    eventually(lambda: reported(cold), 60, every=0.02)
    with frozen(at_work):  # until the page has had the time to say so
        page.wait_for_selector("#results[data-state=classifying]", timeout=30_000)
        keep(page, "classifying", full_page=False)
    expect_answers(page, len(photos))

    seen = page.evaluate("seen")
    for moment in seen:
        assert moment["message"], moment
        assert all(moment["cards"]), moment
        assert len(moment["cards"]) == len(photos)
    states = list(dict.fromkeys(moment["state"] for moment in seen))
    assert states == ["uploading", "queued", "launching", "classifying", "done"]
    said = "\n".join(dict.fromkeys(moment["message"] for moment in seen))
    for words in (
        r"^Uploading: \d.* of \d.* MB$",
        r"^Starting 2 instances: about \d+ s until the first takes work\.$",
        r"^\d instances? classif.* \d+ waiting images?",
        r"\A.*\n(.*\n)*40 of 40 pictures classified\Z",
    ):
        assert re.search(words, said, re.M), said
    on_cards = {words for moment in seen for words in moment["cards"]}
    assert {
        "Waiting to be uploaded",
        "Uploaded",
        "In the queue",
        "Being classified now or soon",
    } <= on_cards


def test_the_estimate_is_calm(visit, cold):
    """It is told in steps of five seconds and only counts down, although the server's own varies a little."""
    page = visit(cold.url)
    said = page.evaluate(
        """async () => {
          const { waitingWords } = await import("/static/wait.js");
          const place = document.createElement("p");
          let now = 0;
          performance.now = () => now;
          const { show } = waitingWords(place);
          const said = [];
          const told = [[0, 40], [2, 45], [5, 38], [12, 30], [20, 20], [36, 9], [39, 6], [41, 60]];
          for (const [time, estimate] of told) {
            now = time * 1000;
            show({ message: `Starting: about ${estimate} s.`, estimate_seconds: estimate });
            said.push(place.textContent);
          }
          return said;
        }"""
    )
    assert [words.removeprefix("Starting: ") for words in said] == [
        "about 40 s.",
        "about 40 s.",
        "about 35 s.",
        "about 30 s.",
        "about 20 s.",
        "a few seconds.",
        "a few seconds.",
        "about 60 s.",
    ]
