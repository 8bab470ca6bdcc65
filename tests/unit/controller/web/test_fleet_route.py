"""`GET /fleet`, for people and for programs."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from cloud.clock import now
from cloud.errors import CloudError
from cloud.image_id import new_request_id
from controller.app import create_app
from controller.autoscaling.boots import Boot
from controller.autoscaling.fleet_history import Sample
from controller.autoscaling.fleet_state import Decision, OpenBatches
from controller.dashboard.bill import bill
from controller.dashboard.fleet_view import FleetAnswer, InstanceView, abridge
from controller.dashboard.scaling_costs import ScalingCosts
from controller.web.authentication import KnownTokens
from controller.web.dependencies import Dependencies
from tests.support.page import HTML, Page
from tests.support.submissions import submit

CALLS = {"s3_put": 1960, "s3_get": 1, "sqs": 500}


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
        "money": bill(3600, 0, CALLS, images=900, price_per_hour=0.09, charged=True),
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


def test_the_page_says_how_many_images_are_left_of_batches_while_one_is_open(client, view):
    assert "Images left of batches" not in page(client).text
    view.shown = answer(batches=OpenBatches(open=1, images_left=1200))
    assert "Images left of batches 1,200" in page(client).text
    view.shown = answer(batches=OpenBatches(open=1, images_left=1000, listing=True))
    assert "Images left of batches at least 1,000" in page(client).text


def test_the_page_says_what_there_is(client, view):
    view.shown = answer(2)
    text = page(client).text
    for words in (
        "4 images wait, 2 instances up",
        "2 ready",
        "worker-1 i-00000000000000001 ready 1 min 15 s 1 m in int8 with openvino c7i.large, spot 6b05",
        "Launched 1 instance. <b>why</b>.",
        "Cost so far $0.1000 Per 1,000 images $0.1111",
        "Instances 1 h 0 min $0.0900 90.0% $0.1000",
        "S3 PUT and LIST 1,960 calls $0.0098 9.8% $0.0109",
        "S3 GET 1 call $0.000000 0.0% $0.000000",
        "SQS 500 calls $0.000200 0.2% $0.000222",
        "Total 900 images $0.1000 100.0% $0.1111",
        "An instance costs $0.09 an hour, and each start counts as at least one minute.",
        "at the list prices of us-east-1, November 2026.",
    ):
        assert words in text
    assert "local AWS" not in text


def test_a_bill_that_nobody_has_to_pay_says_so(client, view):
    view.shown = answer(money=bill(3600, 0, CALLS, images=900, price_per_hour=0.09, charged=False))
    text = page(client).text
    assert "This is a local AWS, which costs nothing. The bill is what AWS would have charged." in text
    assert "Cost on AWS $0.1000" in text
    shell = client.get("/fleet", headers={"Accept": "text/plain"}).text
    assert "cost       $0.1000 on AWS for 900 images" in shell


def in_states(*states: str) -> FleetAnswer:
    """A fleet whose instances are in these states, with nothing in the queue."""
    made = answer(len(states), queue={"visible": 0, "in_flight": 0, "delayed": 0})
    views = [i.model_copy(update={"state": s}) for i, s in zip(made.instances, states, strict=True)]
    return made.model_copy(update={"instances": views})


@pytest.mark.parametrize(
    ("states", "headline"),
    [
        (["ready", "draining"], "Nothing waits, 2 instances up"),
        (["pending", "running"], "Nothing waits, 2 instances starting"),
        (["pending", "ready", "stopped"], "Nothing waits, 2 instances, 1 of them starting"),
        (["shutting-down", "ready"], "Nothing waits, 1 instance up"),
        (["shutting-down", "stopping", "stopped"], "Nothing waits, 2 instances shutting down"),
        (["stopped"], "Nothing waits, nothing runs"),
    ],
)
def test_the_headline_agrees_with_the_table(client, view, states, headline):
    view.shown = in_states(*states)
    assert page(client).one("h1")
    assert headline in page(client).text


def test_instances_with_nothing_to_do_are_worth_a_hint_at_the_setting(client, view):
    hint = "1 instance has not answered an image, because the others were done first."
    view.shown = in_states("ready", "shutting-down")  # the first has no image, the other has one
    assert f"{hint} A MAX_IMAGES_PER_INSTANCE of more than 10 launches fewer." in page(client).text
    assert hint in client.get("/fleet", headers={"Accept": "text/plain"}).text
    view.shown = answer(2)
    assert hint not in page(client).text, "images still wait"
    view.shown = in_states("ready")
    assert hint not in page(client).text, "one is not too many"


def test_a_new_fleet_says_what_will_happen(client, view):
    idle = {"visible": 0, "in_flight": 0, "delayed": 0}
    money = bill(0, 0, {}, images=0, price_per_hour=1, charged=True)
    view.shown = answer(queue=idle, money=money, decisions=[], history=[])
    text = page(client).text
    assert "Nothing waits, nothing runs" in text
    assert "While it is idle, it costs next to nothing." in text
    assert "An instance is launched when the first image arrives" in text
    view.shown = answer(queue=idle, decisions=[], history=[])
    assert "An idle fleet costs next to nothing." in page(client).text


def test_the_stages_of_the_last_boots_are_shown_in_all_forms(client, view):
    full = Boot(instance_id="i-7", ready_at=now(), detect=0.4, api=1, pending=5, boot=9, model=0.6, total=16)
    start = Boot(instance_id="i-8", ready_at=now(), started=True, pending=2, boot=3, model=0.5)
    view.shown = answer(boots=[start, full])
    text = page(client).text
    assert "Median of launches 0.40 s 1.00 s 5.00 s 9.00 s 0.60 s 16.00 s" in text
    assert "– – 2.00 s 3.00 s 0.50 s – i-8 (started again)" in text
    assert client.get("/fleet").json["boots"][1]["pending"] == 5
    lines = client.get("/fleet", headers={"Accept": "text/plain"}).text.splitlines()
    assert "starts     pending 2.00 s, boot 3.00 s, model 0.50 s" in lines
    assert [line for line in lines if line.startswith("launches   detect 0.40 s, api 1.00 s")]


def test_a_fleet_without_boots_says_so(client):
    assert "No worker has told yet how long its start took." in page(client).text


def test_the_page_says_what_each_way_of_scaling_would_have_cost(client, view):
    assert "SCALING=" not in page(client).text, "while that is not known"
    view.shown = answer(scaling="rate", scaling_costs=ScalingCosts(images=1234, queue=2.5, rate=0.5))
    text = page(client).text
    assert (
        "For the 1,234 images of the last 24 hours, the instances would have cost about $2.50 with"
        " SCALING=queue and $0.5000 with SCALING=rate; it is rate now."
    ) in text
    assert "Instances are launched for the images that wait and for how fast they come" in text
    assert client.get("/fleet").json["scaling_costs"] == {"images": 1234, "queue": 2.5, "rate": 0.5}


def test_a_stopped_instance_is_shown_as_such_with_what_it_costs(client, view):
    idle = {"visible": 0, "in_flight": 0, "delayed": 0}
    stopped = answer(1).instances[0].model_copy(update={"state": "stopped"})
    money = bill(3600, 730 * 3600, {}, images=900, price_per_hour=0.09, charged=True)
    view.shown = answer(queue=idle, money=money).model_copy(update={"instances": [stopped]})
    text = page(client).text
    for words in (
        "Nothing waits, nothing runs",
        "1 stopped. Stopped instances cost only their disks.",
        "Instances 0 of 1,000",
        "worker-0 i-00000000000000000 stopped",
        "Disks of stopped instances 30 days $1.28",
    ):
        assert words in text
    text = client.get("/fleet", headers={"Accept": "text/plain"}).text
    assert "Disks of stopped instances" in text


def test_the_text_is_for_a_shell(client, view):
    view.shown = answer(1)
    lines = client.get("/fleet", headers={"Accept": "text/plain"}).text.splitlines()
    assert lines[0] == "4 images wait, 1 instance up"
    assert lines[1] == "queue      3 visible, 1 in flight, 0 delayed"
    assert lines[2] == "cost       $0.1000 for 900 images, $0.1111 per 1,000"
    assert lines[3] == "           Instances  1 h 0 min  $0.0900  90.0%"
    assert lines[7] == "instance   i-00000000000000000  ready  1 min 15 s  0 images  m in int8 with openvino"
    assert lines[8].endswith("Launched 1 instance. <b>why</b>.")


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
