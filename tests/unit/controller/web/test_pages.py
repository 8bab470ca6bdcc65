"""What the pages say and hold, whatever the files are called; how they look is for tests/e2e and eyes."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from flask.testing import FlaskClient

from cloud.errors import NotFound
from cloud.image_id import ImageId, is_request_id, new_request_id
from cloud.prediction import Prediction
from controller.app import create_app
from controller.dashboard.wait_estimate import Wait
from controller.web.answers import RequestAnswer
from controller.web.authentication import KnownTokens
from controller.web.dependencies import Dependencies
from controller.web.rate_limits import Quota
from controller.web.wait_limits import WaitLimits
from tests.support.page import HTML, Page
from tests.support.submissions import answer

STATIC = Path(__file__).parents[4] / "controller" / "static"
HOSTILE = '"><img src=x onerror=alert(1)> é犬 {{7*7}} 100%.png'
TOP = [
    ("tabby", 0.624),
    ("Egyptian cat", 0.213),
    ("tiger cat", 0.121),
    ("lynx", 0.011),
    ("Persian cat", 0.004),
]


class Requests:
    """Submissions of which one request is known."""

    def __init__(self) -> None:
        self.id = new_request_id()
        self.answer: RequestAnswer | None = None

    def holds(self, *filenames: str, answers: dict[int, Prediction] | None = None) -> str:
        """Its address, once it has these images and answers."""
        image_ids = [ImageId.make(self.id, number, name) for number, name in enumerate(filenames)]
        self.answer = answer(self.id, image_ids, {p.image_id: p for p in (answers or {}).values()})
        return self.answer.url

    def classified(
        self,
        number: int,
        filename: str,
        top: list[tuple[str, float]] = TOP,
        model: str = "resnet18",
        **more: str,
    ) -> dict[int, Prediction]:
        image_id = ImageId.make(self.id, number, filename)
        return {number: Prediction.classified(image_id, top, model=model, **more)}

    def failed(self, number: int, filename: str, message: str, **more: object) -> dict[int, Prediction]:
        made = Prediction.failed(ImageId.make(self.id, number, filename), "not_an_image", message, **more)
        return {number: made}

    def read(self, request_id: str) -> RequestAnswer | None:
        return self.answer if request_id == self.id else None

    def watched(self, request_id: str) -> None:
        """It is polled by another process."""


class Pictures:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def open_image(self, image_id: str) -> tuple[list[bytes], str]:
        self.asked.append(image_id)
        if image_id.endswith("lost.png"):
            raise NotFound(image_id)
        return [b"picture"], "image/png"


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
def pictures() -> Pictures:
    return Pictures()


@pytest.fixture
def client(requests: Requests, pictures: Pictures) -> FlaskClient:
    settings = SimpleNamespace(max_files=1234, max_upload_mb=50, request_timeout=5, trusted_hosts=())
    forecast = SimpleNamespace(wait=lambda waiting: Wait(state="queued", message=f"{waiting} in the queue."))
    services = SimpleNamespace(
        settings=settings,
        tokens=KnownTokens([]),
        quota=Quota(0),
        polling=requests,
        inputs=pictures,
        request_ids=SimpleNamespace(new=new_request_id, genuine=is_request_id),
        forecast=forecast,
        dependencies=Dependencies({}),
        wait_limits=WaitLimits(1),
    )
    return create_app(services).test_client()  # type: ignore[arg-type]


def get(client: FlaskClient, address: str) -> Page:
    return Page(client.get(address, headers=HTML).text)


@pytest.fixture(params=["/", "answered", "waiting", "unknown"])
def any_page(request: pytest.FixtureRequest, client: FlaskClient, requests: Requests) -> Page:
    requests.holds(HOSTILE, "notes.txt", "b.heic")
    if request.param == "answered":
        requests.holds(HOSTILE, answers=requests.classified(0, HOSTILE))
    address = {"/": "/", "unknown": "/requests/nothing"}.get(request.param, f"/requests/{requests.id}")
    return get(client, address)


def test_the_form_works_without_scripts(client: FlaskClient) -> None:
    page = get(client, "/")
    form = page.one("form")
    assert (form["method"], form["action"], form["enctype"]) == ("post", "/", "multipart/form-data")
    files = page.one("input", id="files")
    assert (files["type"], files["name"]) == ("file", "image_file")
    assert "multiple" in files
    assert files["accept"] == "image/*,.heic,.heif"
    assert page.one("button", type="submit")
    assert "hidden" not in page.one("button", type="submit")


def test_every_field_has_a_label(client: FlaskClient) -> None:
    page = get(client, "/")
    for field in page.all("input"):
        assert page.one("label", **{"for": field["id"] or ""})


def test_the_form_says_what_may_be_sent(client: FlaskClient) -> None:
    page = get(client, "/")
    assert "Up to 1,234 pictures and 50 MB at once." in page.text
    assert page.one("form")["data-max-files"] == "1234"
    assert page.one("form")["data-max-bytes"] == "50000000"
    assert "HEIC" in page.text


def test_an_answer_shows_label_confidence_and_the_other_four(client: FlaskClient, requests: Requests) -> None:
    page = get(client, requests.holds("cat.png", answers=requests.classified(0, "cat.png")))
    assert "tabby 62%" in page.text
    for other in ("Egyptian cat 21%", "tiger cat 12%", "lynx 1%", "Persian cat <1%"):
        assert other in page.text
    assert [bar["width"] for bar in page.all("rect")] == ["62.4%", "21.3%", "12.1%", "1.1%", "0.4%"]
    assert "hidden" not in page.one("details")
    assert "Answered by resnet18 ." in page.text


def test_it_says_what_answered_and_in_which_precision(client: FlaskClient, requests: Requests) -> None:
    answers = {
        **requests.classified(0, "a.png", engine="openvino", precision="int8"),
        **requests.classified(1, "b.png", engine="openvino", precision="int8"),
        **requests.classified(2, "c.png", engine="torch", precision="fp32"),
    }
    page = get(client, requests.holds("a.png", "b.png", "c.png", answers=answers))
    assert "Answered by resnet18 in int8 with openvino, resnet18 in fp32 with torch ." in page.text


@pytest.mark.parametrize(
    ("confidence", "shown"), [(1, "100%"), (0.9996, ">99%"), (0.5, "50%"), (0.0001, "<1%"), (0, "<1%")]
)
def test_a_confidence_is_never_rounded_to_certainty(
    client: FlaskClient, requests: Requests, confidence: float, shown: str
) -> None:
    answers = requests.classified(0, "cat.png", top=[("tabby", confidence)])
    page = get(client, requests.holds("cat.png", answers=answers))
    assert f"tabby {shown}" in page.text
    assert "hidden" in page.one("details")  # there are no other guesses


def test_a_refused_file_shows_why_and_asks_for_no_picture(client: FlaskClient, requests: Requests) -> None:
    answers = requests.failed(0, "notes.txt", "This is <not> a picture.")
    page = get(
        client, requests.holds("notes.txt", "cat.png", answers=answers | requests.classified(1, "cat.png"))
    )
    assert "This is <not> a picture." in page.text
    assert "1 of 2 pictures classified" in page.text
    assert "1 not classified." in page.text
    assert page.one("img", alt="Your picture notes.txt")["src"] == "/static/no-preview.svg"


def test_a_picture_that_a_worker_could_not_decode_is_still_shown(
    client: FlaskClient, requests: Requests
) -> None:
    answers = requests.failed(0, "half.jpg", "The JPEG file stops early.", instance_id="i-1")
    page = get(client, requests.holds("half.jpg", answers=answers))
    assert (
        page.one("img", alt="Your picture half.jpg")["src"] == f"/requests/{requests.id}/images/0000-half.jpg"
    )


def test_cards_are_in_upload_order_with_their_state(client: FlaskClient, requests: Requests) -> None:
    answers = requests.failed(2, "c.txt", "No.") | requests.classified(0, "a.png")
    page = get(client, requests.holds("a.png", "b.png", "c.txt", answers=answers))
    cards = page.all("li", **{"class": "card"})
    assert [card["data-status"] for card in cards] == ["classified", "waiting", "failed"]
    assert [card["data-image-id"] for card in cards] == [
        f"{requests.id}/0000-a.png",
        f"{requests.id}/0001-b.png",
        f"{requests.id}/0002-c.txt",
    ]


def test_a_waiting_request_shows_its_progress(client: FlaskClient, requests: Requests) -> None:
    page = get(client, requests.holds("a.png", "b.png", answers=requests.classified(1, "b.png")))
    progress = page.one("progress")
    assert (progress["value"], progress["max"]) == ("1", "2")
    assert "1 still to come." in page.text
    assert "1 in the queue." in page.text  # the forecast's sentence
    assert page.one("li", **{"aria-current": "step"})["data-step"] == "queued"
    assert page.one("section", id="results")["data-complete"] == "false"
    assert {t["id"] for t in page.all("template")} == {"card-waiting", "card-classified", "card-failed"}


def test_a_file_that_was_refused_is_no_progress(client: FlaskClient, requests: Requests) -> None:
    names = ("cat.png", "notes.txt", "dog.png")
    page = get(client, requests.holds(*names, answers=requests.failed(1, "notes.txt", "This is no picture.")))
    bar = page.one("progress")
    assert (bar["value"], bar["max"], bar["data-refused"]) == ("0", "2", "1")
    tried = requests.failed(1, "notes.txt", "The file is cut.", instance_id="i-1")
    bar = get(client, requests.holds(*names, answers=tried)).one("progress")
    assert (bar["value"], bar["max"]) == ("1", "3")


def test_a_card_that_waits_says_what_is_done_with_it(client: FlaskClient, requests: Requests) -> None:
    page = get(client, requests.holds("a.png", "b.png"))
    assert page.text.count("In the queue") == 4  # a step, two cards, and the template
    results = page.one("section", id="results")
    assert all(results[f"data-{state}"] for state in get_args(Wait.model_fields["state"].annotation))


def test_while_it_waits_a_request_can_be_cancelled(client: FlaskClient, requests: Requests) -> None:
    form = get(client, requests.holds("a.png")).one("form", id="cancel-request")
    assert (form["method"], form["action"]) == ("post", f"/requests/{requests.id}/cancel")
    assert "hidden" not in form
    page = get(client, requests.holds("a.png", answers=requests.classified(0, "a.png")))
    assert "hidden" in page.one("form", id="cancel-request")


@pytest.mark.parametrize(
    ("code", "offered"),
    [("gave_up", True), ("no_workers", True), ("cancelled", False), ("not_an_image", False)],
)
def test_only_what_may_succeed_is_offered_to_be_tried_again(
    client: FlaskClient, requests: Requests, code: str, offered: bool
) -> None:
    failed = Prediction.failed(ImageId.make(requests.id, 0, "a.png"), code, "No.")
    form = get(client, requests.holds("a.png", answers={0: failed})).one("form", id="retry")
    assert (form["method"], form["action"]) == ("post", f"/requests/{requests.id}/retry")
    assert ("hidden" not in form) == offered
    waiting = get(client, requests.holds("a.png", "b.png", answers={0: failed})).one("form", id="retry")
    assert "hidden" in waiting


def test_only_without_scripts_and_while_waiting_a_request_loads_itself_again(
    client: FlaskClient, requests: Requests
) -> None:
    address = requests.holds("a.png")
    html = client.get(address, headers=HTML).text
    assert f'<noscript><meta http-equiv="refresh" content="3; url={address}"></noscript>' in html
    requests.holds("a.png", answers=requests.classified(0, "a.png"))
    html = client.get(address, headers=HTML).text
    assert "refresh" not in html
    assert 'data-complete="true"' in html


def test_a_request_shows_the_address_to_share(client: FlaskClient, requests: Requests) -> None:
    page = get(client, requests.holds("a.png"))
    assert f"http://localhost/requests/{requests.id}" in page.text
    assert page.one("meta", name="robots")["content"] == "noindex"


def test_the_answers_can_be_saved_without_scripts(client: FlaskClient, requests: Requests) -> None:
    page = get(client, requests.holds("a.png"))
    for kind in ("csv", "json"):
        assert (
            page.one("a", download=f"{requests.id}.{kind}")["href"]
            == f"/requests/{requests.id}?format={kind}"
        )


@pytest.mark.parametrize(("code", "hidden"), [("cancelled", "no-label"), ("truncated", "was-cancelled")])
def test_what_was_cancelled_is_no_failure(
    client: FlaskClient, requests: Requests, code: str, hidden: str
) -> None:
    image = ImageId.make(requests.id, 0, "a.png")
    page = get(client, requests.holds("a.png", answers={0: Prediction.failed(image, code, "Why.")}))
    for name in ("no-label", "was-cancelled"):
        assert ("hidden" in page.one("p", **{"class": name})) is (name == hidden)


def test_a_hostile_file_name_is_only_text(
    client: FlaskClient, requests: Requests, pictures: Pictures
) -> None:
    page = get(client, requests.holds(HOSTILE, answers=requests.classified(0, HOSTILE)))
    assert HOSTILE in page.text
    assert [img for img in page.all("img") if img.get("src") == "x"] == []
    picture = page.one("img", alt=f"Your picture {HOSTILE}")
    assert client.get(picture["src"] or "").status_code == 200
    assert pictures.asked == [ImageId.make(requests.id, 0, HOSTILE)]


@pytest.mark.parametrize(
    "name", ["a.png", "a b.png", "a%2Fb#c?d&e.png", "é犬.webp", "..png", "%00.gif", "'quoted'.bmp"]
)
def test_the_page_finds_the_picture_whatever_its_name(
    client: FlaskClient, requests: Requests, pictures: Pictures, name: str
) -> None:
    page = get(client, requests.holds(name))
    picture = page.one("img", alt=f"Your picture {name}")
    assert client.get(picture["src"] or "").data == b"picture"
    assert pictures.asked == [ImageId.make(requests.id, 0, name)]


def test_a_hostile_label_or_reason_is_only_text(client: FlaskClient, requests: Requests) -> None:
    hostile = "<script>alert(1)</script>"
    answers = requests.classified(0, "a.png", top=[(hostile, 0.5), (hostile, 0.5)], model=hostile)
    answers |= requests.failed(1, "b.png", hostile)
    page = get(client, requests.holds("a.png", "b.png", answers=answers))
    assert page.text.count(hostile) == 4
    assert all("src" in script for script in page.all("script"))


@pytest.mark.parametrize(
    ("name", "kind", "placeholder"),
    [
        ("a.heic", "heic", "#heic"),
        ("A.HEIF", "heif", "#heic"),
        ("a.tif", "tiff", "#tiff"),
        ("a.tiff", "tiff", "#tiff"),
    ],
)
def test_a_browser_that_cannot_show_a_format_gets_a_placeholder(
    client: FlaskClient, requests: Requests, name: str, kind: str, placeholder: str
) -> None:
    page = get(client, requests.holds(name))
    assert page.one("source") == {
        "type": f"image/{kind}",
        "srcset": f"/requests/{requests.id}/images/0000-{name}",
    }
    assert page.one("img", alt=f"Your picture {name}")["src"] == f"/static/no-preview.svg{placeholder}"


@pytest.mark.parametrize(("name", "placeholder"), [("a.heic", "#heic"), ("a.tif", "#tiff"), ("a", "")])
def test_an_answer_shows_its_preview_in_place_of_the_placeholder(
    client: FlaskClient, requests: Requests, name: str, placeholder: str
) -> None:
    alt = f"Your picture {name}"
    waiting = get(client, requests.holds(name)).one("img", alt=alt)
    assert placeholder in (waiting["src"] or "")
    previewed = requests.classified(0, name, preview_of=ImageId.make(requests.id, 0, name))
    page = get(client, requests.holds(name, answers=previewed)).one("img", alt=alt)
    assert page["src"] == f"/requests/{requests.id}/previews/0000-{name}"
    assert page["data-fallback"] == "/static/no-preview.svg"
    without = get(client, requests.holds(name, answers=requests.classified(0, name))).one("img", alt=alt)
    original = f"/requests/{requests.id}/images/0000-{name}"
    assert without["src"] == ("/static/no-preview.svg" if placeholder else original)


def test_pictures_are_loaded_when_they_come_into_view(client: FlaskClient, requests: Requests) -> None:
    page = get(client, requests.holds("a.png", "b.heic"))
    assert [img["loading"] for img in page.all("img") if img["alt"]] == ["lazy", "lazy"]


def test_a_refusal_says_what_to_do_and_leads_back(client: FlaskClient) -> None:
    page = Page(client.post("/", headers=HTML, data={}, content_type="multipart/form-data").text)
    assert "No file came with the request." in page.text
    assert "Go back and choose one or more pictures." in page.text
    assert page.one("a", **{"class": "button main"})["href"] == "/"


def test_an_unknown_address_is_repeated_only_as_text(client: FlaskClient) -> None:
    page = get(client, "/requests/<b>nothing")
    assert "There is no request '<b>nothing'." in page.text


def test_pages_hold_no_script_or_style_of_their_own(any_page: Page) -> None:
    for tag, attributes in any_page.elements:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "script" or (attributes["src"] or "").startswith("/static/")


def test_pages_ask_nobody_else_for_anything(any_page: Page) -> None:
    for _, attributes in any_page.elements:
        for name in ("src", "srcset", "href", "action"):
            if (value := attributes.get(name)) is not None:
                assert value.startswith(("/", "#"))
                assert not value.startswith("//")


def test_what_pages_refer_to_is_there(any_page: Page, client: FlaskClient) -> None:
    referred = [a.get("src") or a.get("href") or "" for _, a in any_page.elements]
    for address in {r for r in referred if r.startswith("/static/")}:
        with client.get(address) as reply:
            assert reply.status_code == 200


def test_pages_have_a_title_a_language_one_heading_and_a_way_to_skip(any_page: Page) -> None:
    assert any_page.one("html")["lang"] == "en"
    assert len(any_page.all("h1")) == len(any_page.all("title")) == 1
    assert any_page.one("a", **{"class": "skip"})["href"] == f"#{any_page.one('main')['id']}"
    ids = [a["id"] for _, a in any_page.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_modules_import_only_what_is_there_and_each_is_used() -> None:
    modules = {path.name: path.read_text() for path in STATIC.glob("*.js")}
    imported = {name for text in modules.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    assert imported | {"api.js", "index.js", "live.js", "request.js"} == set(modules)


def test_no_script_makes_html_of_text() -> None:
    for path in STATIC.glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", path.read_text()
        )


def test_a_first_visit_costs_less_than_100_kilobytes(client: FlaskClient) -> None:
    page = client.get("/", headers=HTML).data
    assert len(page) + sum(path.stat().st_size for path in STATIC.iterdir() if path.is_file()) < 100_000
