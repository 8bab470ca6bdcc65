"""`GET /fleet`, for people and for programs."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from cloud.clock import now
from cloud.errors import CloudError
from cloud.image_id import new_request_id
from controller.app import create_app
from controller.autoscaling.fleet_history import Sample
from controller.autoscaling.fleet_state import Decision
from controller.dashboard.fleet_view import FleetAnswer, InstanceView, Money, abridge
from controller.web.authentication import KnownTokens
from controller.web.dependencies import Dependencies
from tests.support.page import HTML, Page
from tests.support.submissions import submit


def answer(instances: int = 0, **more: object) -> FleetAnswer:
    at = now()
    views = [
        InstanceView(
            instance_id=f"i-{n:017x}",
            name=f"worker-{n}",
            state="ready",
            instance_type="c7i.large",
            market="spot",
            age_seconds=75,
            images=n,
            request_id="6b05",
            model="m",
            engine="openvino",
            precision="int8",
        )
        for n in range(instances)
    ]
    made = {
        "at": at,
        "queue": {"visible": 3, "in_flight": 1, "delayed": 0},
        "max_instances": 1000,
        "max_images_per_instance": 10,
        "instances": views,
        "money": Money(
            instance_seconds=3600, price_per_hour=0.09, dollars=0.09, images=900, dollars_per_1000_images=0.1
        ),
        "decisions": [Decision(at=at, by="h/1", seen={}, wanted=1, launched=["i-1"], why=["<b>why</b>"])],
        "history": [Sample(at=at, visible=3, in_flight=1, starting=0, ready=instances, wanted=1)],
    }
    return FleetAnswer(**made | more)  # type: ignore[arg-type]


class View:
    shown: FleetAnswer | CloudError = answer()

    def recent(self) -> FleetAnswer:
        if isinstance(self.shown, CloudError):
            raise self.shown
        return self.shown


@pytest.fixture
def view() -> View:
    return View()


@pytest.fixture
def client(view, settings) -> FlaskClient:
    services = SimpleNamespace(
        settings=settings, tokens=KnownTokens([]), fleet_view=view, dependencies=Dependencies({})
    )
    return create_app(services).test_client()  # type: ignore[arg-type]


def page(client: FlaskClient, address: str = "/fleet") -> Page:
    return Page(client.get(address, headers=HTML).text)


def test_programs_get_json_browsers_a_page_and_shells_a_text(client):
    for accept, content_type in [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html", "text/html"),
        ("text/plain", "text/plain"),
    ]:
        reply = client.get("/fleet", headers={"Accept": accept})
        assert (reply.status_code, reply.mimetype, reply.headers["Vary"]) == (200, content_type, "Accept")
    assert client.get("/fleet?format=json", headers=HTML).mimetype == "application/json"


def test_the_page_says_what_there_is(client, view):
    view.shown = answer(2)
    text = page(client).text
    for words in (
        "4 images wait, 2 instances up",
        "2 ready",
        "worker-1 i-00000000000000001 ready 1 min 15 s 1 m in int8 with openvino c7i.large, spot 6b05",
        "Launched 1 instance. <b>why</b>.",
        "1 h 0 min of instances at $0.09 an hour: $0.0900 for 900 images.",
        "Per 1,000 images $0.1000",
    ):
        assert words in text


def test_a_new_fleet_says_what_will_happen(client, view):
    idle = {"visible": 0, "in_flight": 0, "delayed": 0}
    money = Money(instance_seconds=0, price_per_hour=1, dollars=0, images=0, dollars_per_1000_images=None)
    view.shown = answer(queue=idle, money=money, decisions=[], history=[])
    text = page(client).text
    assert "Nothing waits, nothing runs" in text
    assert "While it is idle, it costs nothing. An instance is launched when the first image arrives" in text
    view.shown = answer(queue=idle, decisions=[], history=[])
    assert "An idle fleet costs nothing." in page(client).text


def test_the_text_is_for_a_shell(client, view):
    view.shown = answer(1)
    lines = client.get("/fleet", headers={"Accept": "text/plain"}).text.splitlines()
    assert lines[0] == "4 images wait, 1 instance up"
    assert lines[1] == "queue      3 visible, 1 in flight, 0 delayed"
    assert lines[3] == "instance   i-00000000000000000  ready  1 min 15 s  0 images  m in int8 with openvino"
    assert lines[4].endswith("Launched 1 instance. <b>why</b>.")


def test_of_a_thousand_instances_the_page_shows_some_and_says_so(client, view):
    view.shown = answer(1000)
    reply = client.get("/fleet", headers=HTML)
    assert "These are the oldest 100 of 1,000 instances. The JSON has all of them." in Page(reply.text).text
    assert len(reply.data) < 120_000
    assert len(client.get("/fleet").json["instances"]) == 1000


def test_the_page_has_no_script_or_style_of_its_own_and_renews_itself_without_scripts(client, view):
    view.shown = answer(3)
    shown = page(client)
    for tag, attributes in shown.elements:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for name in ("src", "href"):
            assert (attributes.get(name) or "/").startswith(("/", "#"))
    assert shown.one("meta", **{"http-equiv": "refresh"})["content"].endswith("url=/fleet?window=10m")
    assert len(shown.all("h1")) == 1
    charts = shown.all("svg", role="img")
    assert [c["aria-label"] for c in charts] == [
        "In the queue: in flight 1 now, at most 1; waiting 3 now, at most 3.",
        "Instances: ready 3 now, at most 3; starting 0 now, at most 0; wanted 1 now, at most 1.",
    ]


def test_the_window_can_be_chosen(client, view):
    at = now()
    old, older = (
        Sample(at=at - timedelta(minutes=m), visible=m, in_flight=0, starting=0, ready=0, wanted=1)
        for m in (20, 80)
    )
    view.shown = answer(history=[older, old, *answer().history])
    assert len(client.get("/fleet").json["history"]) == 2  # what held at its start, and now
    assert [s["visible"] for s in client.get("/fleet?window=1h").json["history"]] == [80, 20, 3]
    shown = page(client, "/fleet?window=24h")
    assert [a["href"] for a in shown.all("a", **{"aria-current": "true"})] == ["/fleet?window=24h"]


def test_another_window_is_refused_with_those_there_are(client):
    reply = client.get("/fleet?window=2d")
    assert reply.status_code == 400
    assert reply.json["error"]["message"] == "window is '2d', but it should be one of 10m, 1h, 24h."


def test_when_aws_does_not_answer_all_forms_say_so_and_only_the_log_says_why(client, view, caplog):
    view.shown = CloudError("could not read s3://b/fleet/state: down")
    for accept in ("text/html", "application/json", "text/plain"):
        reply = client.get("/fleet", headers={"Accept": accept})
        assert reply.status_code == 503
        assert "The service cannot do this right now" in reply.text
        assert "s3://" not in reply.text
    assert "could not read s3://b/fleet/state: down" in caplog.text


def test_nobody_learns_a_requests_id_from_the_fleet(make):
    services = make()
    request_id = submit(services, "cat.jpg").request_id
    services.autoscaler.reconcile()
    client = create_app(services).test_client()
    for accept in ("text/html", "application/json", "text/plain"):
        reply = client.get("/fleet", headers={"Accept": accept})
        assert reply.status_code == 200
        assert request_id not in reply.text
        assert request_id[:16] in reply.text


def test_only_whole_request_ids_are_abridged():
    request_id = new_request_id()
    assert abridge(f"for {request_id}.") == f"for {request_id[:16]}…."
    assert abridge("i-0123456789abcdef0 6b05") == "i-0123456789abcdef0 6b05"
