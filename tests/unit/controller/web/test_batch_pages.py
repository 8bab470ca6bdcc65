"""What the pages of batches say and hold, whatever keys and names are; how they look is for eyes."""

import re
from pathlib import Path

import pytest

from cloud.batches.batch import Manifest
from cloud.batches.store import queue_name
from cloud.failure_code import FailureCode
from cloud.provision import make_queue
from controller.app import create_app
from tests.support.batch_work import (
    SOURCE,
    batch_of,
    failure,
    listed_images,
    photos,
    slices_in,
    tabby,
    work_off,
    work_on,
)
from tests.support.page import HTML, Page
from tests.support.threads import join_threads

HOSTILE = '"><img src=x onerror=alert(1)> é犬 {{7*7}} 100%'
ALLOWED = f"s3://{SOURCE}/cats/"
FORM = {**HTML, "Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def services(make, aws, settings):
    make_queue(aws.sqs, queue_name(settings.request_queue))
    aws.s3.create_bucket(Bucket=SOURCE)
    return make(batch_sources=(ALLOWED,))


@pytest.fixture
def client(services):
    return create_app(services).test_client()


@pytest.fixture
def send(client):
    """Sends the form as a browser does."""

    def send(**fields):
        reply = client.post("/batches", data=fields, headers=FORM)
        join_threads("list-batch")
        return reply

    return send


@pytest.fixture
def listed(send, aws):
    """The address of a batch whose images are listed and wait."""
    photos(aws.s3, *(f"cats/{n}.jpg" for n in range(4)))
    return send(source=ALLOWED, name="My cats", deadline="in 2 hours", budget="2").headers["Location"]


@pytest.fixture
def look(services):
    """Lets the controller find out what has become of the batches."""

    def look():
        for batch in services.batches.newest(""):
            services.batches.watch.know(batch).forget()
        services.batches.keeper.look()

    return look


@pytest.fixture
def finish(services, look):
    """Lets a worker answer all that waits."""

    def finish(answer=tabby):
        work_off(services.batches.store, services.batches.queue, answer)
        look()

    return finish


def get(client, address="/batches") -> Page:
    return Page(client.get(address, headers=HTML).text)


def of_number(*answers):
    """A worker that gives the images of a manifest these answers, one after the other."""
    return lambda position, key: answers[position % len(answers)](position, key)


def test_the_form_leads_to_the_page_of_the_batch(client, listed):
    page = get(client, listed)
    assert page.one("h1", id="headline")
    for words in (
        "0% of 4 images answered",
        "4 images wait for the first instance to take them.",
        "Batches / My cats",
        "Images a second 0.0 Instances 0 Time left, about – Cost so far $",
        "Cost expected –",
        "No image is classified yet.",
        f"Source {ALLOWED}",
        "To be done by",
        "For at most $2.00",
        "All rows, as JSON lines in S3 s3://test-output/batches/",
    ):
        assert words in page.text
    progress = page.one("progress")
    assert (progress["value"], progress["max"]) == ("0", "4")


@pytest.mark.parametrize(
    ("typed", "spot", "said"),
    [("true", True, "Spot instances"), ("false", False, "On-demand instances"), ("", None, None)],
)
def test_the_form_asks_for_a_market_if_one_is_chosen(client, send, typed, spot, said):
    assert [option["value"] for option in get(client).all("option")][-3:] == ["", "true", "false"]
    address = send(source=ALLOWED, spot=typed).headers["Location"]
    assert client.get(address).json["spot"] is spot
    text = get(client, address).text
    assert f"Launched for it {said}" in text if said else "Launched for it" not in text
    refused = Page(send(source="lab", spot=typed).text)
    assert [option["value"] for option in refused.all("option", selected=None)] == [typed]


def test_while_a_batch_is_listed_its_page_does_not_guess_how_many_images_there_are(client, services, look):
    batches = services.batches
    batch = batch_of(batch_id=batches.ids.new(), source=ALLOWED)
    batches.store.put(batch)
    for number, images, said in [(0, "0", ""), (1, "1,000", ": at least 1,000 so far")]:
        batches.store.put_manifest(batch.batch_id, number, Manifest(images=listed_images("cats/1.jpg")))
        look()
        page = get(client, f"/batches/{batch.batch_id}")
        assert f"Listing the images The images under {ALLOWED} are being listed{said}. As of" in page.text
        assert ("max" in page.one("progress")) == bool(said)
        assert f"listing 0 of at least {images} " in get(client).text


def test_while_it_runs_the_page_shows_the_newest_results(client, services, listed, look):
    part, *_ = slices_in(services.batches.queue)
    work_on(services.batches.store, part.with_only([0, 1, 2]), of_number(tabby, failure(FailureCode.BROKEN)))
    look()
    page = get(client, listed)
    for words in (
        "75% of 4 images answered",
        "Classified 2 Failed 1",
        "It failed: broken. broken 1",
        "Until the batch has ended, this is about the newest results.",
        "tabby 75%",
    ):
        assert words in page.text
    assert page.one("div", **{"class": "board"})["data-say"] == "70% answered"


def test_a_finished_batch_shows_what_came_of_it(client, listed, finish):
    finish(of_number(tabby, tabby, tabby, failure(FailureCode.BROKEN)))
    page = get(client, listed)
    for words in (
        "3 of 4 images classified",
        "All 4 images are answered. 1 of them failed.",
        "Time taken",
        "tabby 3 100.0%",
        "It failed: broken. broken 1",
        "Ended at",
    ):
        assert words in page.text
    assert "newest results" not in page.text
    assert page.one("rect", width="100.0%")
    assert [img["src"] for img in page.all("img", loading="lazy")] == [
        f"{listed}/images?key=cats%2F{n}.jpg" for n in range(3)
    ]


def test_the_bars_are_as_long_as_their_labels_are_frequent(client, listed, finish):
    lynx = lambda position, key: tabby(position, key).model_copy(update={"label": "lynx"})  # noqa: E731
    finish(of_number(tabby, tabby, tabby, lynx))
    page = get(client, listed)
    assert "tabby 3 75.0% lynx 1 25.0%" in page.text
    assert [bar["width"] for bar in page.all("rect", height="100%")][:2] == ["100.0%", "33.3%"]


def test_only_the_most_frequent_labels_are_shown_and_the_others_are_counted(client, send, aws, finish):
    photos(aws.s3, *(f"cats/{n}.jpg" for n in range(22)))
    address = send(source=ALLOWED).headers["Location"]
    finish(lambda position, key: tabby(position, key).model_copy(update={"label": f"label {position}"}))
    page = get(client, address)
    assert len(page.all("rect", width="100.0%")) == 20
    assert "2 images have other labels." in page.text


def test_only_while_a_batch_goes_on_its_page_loads_itself_again(client, listed, finish):
    html = client.get(listed, headers=HTML).text
    assert f'<noscript><meta http-equiv="refresh" content="5; url={listed}"></noscript>' in html
    assert 'data-complete="false"' in html
    assert "live.js" in html
    finish()
    html = client.get(listed, headers=HTML).text
    assert "refresh" not in html
    assert 'data-complete="true"' in html
    assert "live.js" not in html


def test_the_page_of_a_finished_batch_looks_for_a_retry_that_is_made_elsewhere(client, listed, finish):
    finish(failure(FailureCode.GAVE_UP))
    html = client.get(listed, headers=HTML).text
    assert "live.js" in html
    assert "refresh" not in html
    board = Page(html).one("div", **{"class": "board"})
    assert (board["data-complete"], board["data-seconds"]) == ("false", "30")
    assert client.post(f"{listed}/retry").status_code == 202
    page = get(client, listed)
    assert page.one("div", **{"class": "board"})["data-seconds"] == "2"
    assert page.one("dl", **{"data-live": "facts"})


def test_a_batch_is_cancelled_after_a_second_look(client, listed, look):
    page = get(client, listed)
    form = page.one("form", action=f"{listed}/cancel")
    assert form["method"] == "post"
    assert page.one("details", **{"class": "confirm"})
    assert client.post(f"{listed}/cancel", headers=FORM).headers["Location"] == listed
    look()
    page = get(client, listed)
    assert "Cancelled: 0 of 4 images classified" in page.text
    assert "It was cancelled." in page.text
    assert not page.all("form", action=f"{listed}/cancel")


@pytest.mark.parametrize(("code", "offered"), [(FailureCode.GAVE_UP, True), (FailureCode.BROKEN, False)])
def test_only_what_may_succeed_is_offered_to_be_tried_again(client, listed, finish, code, offered):
    assert not get(client, listed).all("form", action=f"{listed}/retry")
    finish(of_number(tabby, failure(code)))
    page = get(client, listed)
    assert bool(page.all("form", action=f"{listed}/retry")) == offered
    assert ("Try 2 failed images again" in page.text) == offered


def test_a_second_try_is_followed_like_the_first(client, listed, finish):
    finish(failure(FailureCode.GAVE_UP))
    assert client.post(f"{listed}/retry", headers=FORM).status_code == 303
    assert "What failed was tried again 1×" in get(client, listed).text
    finish()
    assert "4 of 4 images classified" in get(client, listed).text


def test_the_results_can_be_saved_without_scripts(client, listed, finish):
    finish()
    saved = {link["href"]: client.get(link["href"]) for link in get(client, listed).all("a", download=None)}
    assert {f"{listed}?format=csv", f"{listed}?format=jsonl"} <= saved.keys()
    assert all(reply.status_code == 200 for reply in saved.values())


def test_odd_keys_and_names_are_only_text(client, send, aws, finish, jpeg):
    key = f"cats/{HOSTILE}/ a'b\\c&d#?.jpg"
    photos(aws.s3, key, body=jpeg)
    address = send(source=ALLOWED, name=HOSTILE).headers["Location"]
    finish()
    page, of_all = get(client, address), get(client)
    for shown in (page, of_all):
        assert HOSTILE in shown.text
        assert [img for img in shown.all("img") if img.get("src") == "x"] == []
    picture = page.one("img", alt=f"The image {key}")
    assert client.get(picture["src"]).data == jpeg


def test_a_source_without_images_says_so(client, send, look):
    address = send(source=f"{ALLOWED}none/").headers["Location"]
    assert "No images There is nothing under s3://lab-photos/cats/none/." in get(client, address).text
    look()
    page = get(client, address)
    assert "No images There is nothing under s3://lab-photos/cats/none/." in page.text
    assert "What failed" not in page.text


def test_the_list_begins_with_a_form_and_says_that_there_is_nothing_yet(client):
    page = get(client)
    assert "There are none yet." in page.text
    source = page.one("input", id="source")
    assert source["value"] == ALLOWED
    assert page.one("option", value=ALLOWED)
    for field in page.all("input"):
        assert field.get("type") in ("hidden", "checkbox") or page.one("label", **{"for": field["id"]})
    assert "live.js" not in client.get("/batches", headers=HTML).text


def test_the_list_is_no_table_and_says_so(client):
    assert client.get("/batches?format=json").json == {"batches": []}
    refused = client.get("/batches?format=csv")
    assert (refused.status_code, "can only be json" in refused.text) == (400, True)


def test_the_list_shows_the_newest_batch_first_with_its_state(client, listed, finish, send, aws):
    finish()
    photos(aws.s3, "cats/new/1.jpg")
    send(source=f"{ALLOWED}new/", name="Newer")
    text = get(client).text
    assert re.search(r"Newer running 0 of 1 0 .* My cats finished 4 of 4 0", text)
    assert client.get("/batches").json["batches"][0]["name"] == "Newer"


@pytest.mark.parametrize(
    ("typed", "status", "problem"),
    [
        ({"source": "lab-photos"}, 400, "source is 'lab-photos', but it should be s3://bucket/prefix."),
        ({"source": "s3://secrets/"}, 403, "s3://secrets/ is not among the sources that batches may read"),
        ({"source": ALLOWED, "limit": "<b>"}, 400, "limit is '<b>', but it should be a whole number"),
    ],
)
def test_what_is_wrong_is_said_beside_the_form_which_keeps_what_was_typed(
    client, send, typed, status, problem
):
    fields = {"name": HOSTILE, "suffixes": ".jpg", "requester_pays": "true", **typed}
    reply = send(**fields)
    assert (reply.status_code, reply.mimetype) == (status, "text/html")
    page = Page(reply.text)
    assert problem in page.text
    for name, value in fields.items():
        assert page.one("input", name=name)["value"] == value
    assert "checked" in page.one("input", name="requester_pays")
    assert "open" in page.one("details")


def test_a_form_that_is_sent_twice_begins_one_batch(client, send, aws):
    photos(aws.s3, "cats/1.jpg")
    fields = {"source": ALLOWED, "idempotency_key": get(client).one("input", name="idempotency_key")["value"]}
    assert send(**fields).headers["Location"] == send(**fields).headers["Location"]
    other = send(**{**fields, "limit": "1"})
    assert other.status_code == 422
    again = Page(other.text).one("input", name="idempotency_key")["value"]
    assert send(**{**fields, "limit": "1", "idempotency_key": again}).status_code == 303


def test_the_first_page_leads_there_only_if_there_are_sources(client, start):
    for address in ("/", "/batches"):
        links = get(client, address).all("a", href="/batches")
        assert len(links) == 2
        assert [link.get("aria-current") for link in links] == ["page" if address != "/" else None] * 2
    without = start().test_client()
    assert not get(without, "/").all("a", href="/batches")
    assert "BATCH_SOURCES is not set" in get(without, "/batches").text


def test_the_pages_hold_no_script_or_style_of_their_own_and_what_they_refer_to(client, listed, finish):
    finish(of_number(tabby, failure(FailureCode.GAVE_UP)))
    for address in ("/batches", listed):
        page = get(client, address)
        ids = [a["id"] for _, a in page.elements if "id" in a]
        assert len(ids) == len(set(ids))
        assert len(page.all("h1")) == 1
        for tag, attributes in page.elements:
            assert tag != "style"
            assert "style" not in attributes
            assert not [name for name in attributes if name.startswith("on")]
            assert tag != "script" or attributes["src"].startswith("/static/")
            if (found := attributes.get("src") or attributes.get("href") or "").startswith("/static/"):
                assert (Path(__file__).parents[4] / "controller" / found[1:]).is_file()
