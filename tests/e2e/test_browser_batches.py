"""A batch, as a person asks for it and watches it in a real browser."""

import re

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
