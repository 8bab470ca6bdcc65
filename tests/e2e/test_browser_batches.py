"""A batch, as a person asks for it and watches it in a real browser."""

import re

import requests
from playwright.sync_api import expect

from bench.photos import PHOTOS
from tests.support.browser import RIGHT, barriers, keep


def test_a_person_names_a_source_and_watches_its_batch_to_the_end(visit, system):
    s3 = system.client("s3")
    for name, (data, _) in PHOTOS.items():
        s3.put_object(Bucket="photos", Key=f"watched/{name}.jpg", Body=data)
    s3.put_object(Bucket="photos", Key="watched/no photo.jpg", Body=b"no picture")

    page, refused = visit(system.url), []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    page.click("text=A bucket of pictures")
    page.fill("#source", "s3://elsewhere/")
    page.fill("#name", "Watched")
    page.click("text=Classify them")
    expect(page.get_by_role("alert").first).to_contain_text("s3://elsewhere/ is not among the sources")
    expect(page.locator("#name")).to_have_value("Watched")
    refused.clear()  # the browser has noted the 403

    page.fill("#source", "s3://photos/watched/")
    page.click("text=Classify them")
    page.wait_for_url("**/batches/*")
    expect(page.get_by_role("heading", level=1)).to_have_text("4 of 5 images classified", timeout=60_000)
    expect(page.locator("#spoken")).to_have_text("4 of 5 images classified")
    expect(page.locator(".failures tbody")).to_contain_text("This is not a picture.")
    for label in page.locator(".card .label").all_text_contents():
        assert label in RIGHT
    page.wait_for_function("[...document.images].every((img) => img.naturalWidth > 0)")
    assert (barriers(page), refused) == ([], [])
    keep(page, "batch")
    page.get_by_role("link", name="Batches").first.click()
    in_list = page.locator(".batches tbody tr").first
    expect(in_list).to_contain_text(re.compile(r"Watched\s+finished\s+4 of 5"))


def test_the_page_of_a_finished_batch_notices_a_retry_that_is_made_elsewhere(visit, system):
    s3, (photo, _) = system.client("s3"), next(iter(PHOTOS.values()))
    s3.put_object(Bucket="photos", Key="archived/1.jpg", Body=photo, StorageClass="GLACIER")
    asked = requests.post(f"{system.url}/batches", json={"source": "s3://photos/archived/"}, timeout=30)
    address = system.url + asked.headers["Location"]

    page = visit(address)
    headline = page.get_by_role("heading", level=1)
    expect(headline).to_have_text("0 of 1 image classified", timeout=60_000)
    expect(page.locator("#pace")).to_contain_text("every 30 seconds")
    s3.put_object(Bucket="photos", Key="archived/1.jpg", Body=photo)
    requests.post(f"{address}/retry", timeout=30).raise_for_status()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as if it was looked at again
    expect(headline).to_have_text("1 of 1 image classified", timeout=60_000)
    expect(page.locator(".facts")).to_contain_text("What failed was tried again1×")
    expect(page.locator("#pace")).to_be_empty()


def test_the_page_of_the_api_asks_for_a_batch_and_carries_its_id_on(visit, system):
    system.client("s3").put_object(Bucket="photos", Key="tried/1.jpg", Body=next(iter(PHOTOS.values()))[0])
    page = visit(f"{system.url}api")
    form = page.locator("#batches_ask form")
    form.locator("textarea").fill('{"source": "s3://photos/tried/", "name": "It\'s tried"}')
    assert form.locator(".command").inner_text() == (
        "curl -H 'Content-Type: application/json' -d"
        """ '{"source": "s3://photos/tried/", "name": "It'\\''s tried"}' """
        f"{system.url}batches"
    )
    form.get_by_role("button").click()
    reply = page.locator("#batches_ask .reply")
    expect(reply).to_contain_text("202")
    [batch_id] = re.findall(r'"batch_id": "([0-9a-f]{32})"', reply.inner_text())
    for asks in ("batches_show_batch", "batches_cancel_batch", "batches_stream_batch"):
        expect(page.locator(f"#{asks} input").first).to_have_value(batch_id)
    page.locator("#batches_stream_batch").get_by_role("button").click()
    expect(page.locator("#batches_stream_batch .reply")).to_contain_text("event: complete", timeout=60_000)
    shown = page.locator("#batches_show_batch")
    for accepted, says in [
        ("text/csv", "tried/1.jpg"),
        ("application/vnd.apache.parquet", "bytes that are no text"),
    ]:
        shown.get_by_label("Accept").select_option(accepted)
        shown.get_by_role("button").click()
        expect(shown.locator(".reply")).to_contain_text(says)
    form.get_by_text("Its fields").click()
    assert barriers(page) == []
