"""`GET /metrics`, from one process; with several, see e2e/test_metrics.py and e2e/test_behind_nginx.py."""

import json
import re
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from botocore.exceptions import EndpointConnectionError

import worker.metrics  # noqa: F401 - the dashboard shows these, too
from cloud.clock import now
from cloud.prices import CallKind
from controller.app import create_app
from controller.autoscaling.boots import Boot
from controller.autoscaling.fleet_state import Decision, OpenBatches
from controller.autoscaling.shared_state import SharedState
from controller.dashboard.fleet_collector import FleetCollector
from tests.support.exposition import faults, read, samples, value

DASHBOARD = Path(__file__).parents[4] / "deploy" / "grafana.json"


@pytest.fixture
def services(make):
    return make()


@pytest.fixture
def client(services):
    return create_app(services).test_client()


@pytest.fixture
def grown(client):
    """How much a sample has grown since the test began; the counters are the whole process's."""
    before = read(client.get("/metrics").text)

    def grown(name: str, **labels: str) -> float:
        return value(read(client.get("/metrics").text), name, **labels) - value(before, name, **labels)

    return grown


def test_names_help_and_units_are_as_prometheus_wants_them(client):
    families = read(client.get("/metrics").text)
    assert len(families) >= 15
    assert faults(families.values()) == []


def test_an_upload_is_counted(client, grown, services, png, work):
    files = {"image_file": [(BytesIO(png), "cat.png"), (BytesIO(b"text"), "notes.txt")]}
    reply = client.post("/", data=files, headers={"Prefer": "respond-async"})
    services.autoscaler.reconcile()
    work()
    watched = services.polling.watched(reply.json["request_id"])
    assert watched is None or watched.finished.wait(10)
    assert grown("classifier_images_total", outcome="classified") == 1
    assert grown("classifier_images_total", outcome="refused") == 1
    assert grown("classifier_images_total", outcome="failed") == 0
    assert grown("classifier_answer_seconds_count") == 1
    assert grown("classifier_upload_seconds_count") == 1
    assert grown("classifier_http_requests_total", route="/", method="POST", status="202") == 1
    assert grown("classifier_http_request_duration_seconds_count", route="/", method="POST") == 1
    assert grown("classifier_instances_launched_total") == 1
    assert grown("classifier_aws_calls_total", service="s3", operation="PutObject") >= 3
    assert grown("classifier_aws_calls_total", service="ec2", operation="RunInstances") == 1
    for kind in (CallKind.S3_PUT, CallKind.S3_GET, CallKind.SQS):
        assert grown("classifier_aws_charged_calls_total", kind=kind) >= 3


def test_addresses_that_do_not_exist_make_no_labels(client, grown):
    for n in range(50):
        client.get(f"/nowhere/{n}")
        client.get(f"/requests/{n}")
        client.open("/", method=f"M{n}")
    text = client.get("/metrics").text
    assert "nowhere/" not in text
    assert 'method="M' not in text
    assert grown("classifier_http_requests_total", route="unknown", status="404") == 50
    assert grown("classifier_http_requests_total", route="/requests/<request_id>", status="404") == 50
    assert grown("classifier_http_requests_total", method="other") == 50


def test_errors_of_aws_are_counted_by_their_code(aws, client, grown):
    with pytest.raises(aws.s3.exceptions.NoSuchKey):
        aws.s3.get_object(Bucket="test-output", Key="nothing")
    assert grown("classifier_aws_errors_total", operation="GetObject", code="NoSuchKey") >= 1


def test_calls_that_nobody_answers_are_counted_as_well(clients, monkeypatch, client, grown):
    def nobody(request):
        raise EndpointConnectionError(endpoint_url="http://nowhere")

    clients.ec2.meta.events.register_first("before-send.ec2", lambda request, **_: nobody(request), "nobody")
    try:
        with pytest.raises(EndpointConnectionError):
            clients.ec2.describe_instances()
    finally:
        clients.ec2.meta.events.unregister("before-send.ec2", unique_id="nobody")
    assert grown("classifier_aws_errors_total", operation="DescribeInstances", code="no_answer") == 1


def test_the_fleet_is_as_the_last_look_saw_it(state):
    shared = SharedState(state)
    seen = {"visible": 5, "in_flight": 2, "delayed": 1, "pending": 3, "running": 4, "stopped": 1}
    with shared.hold(0) as lease:
        lease.state.remember(Decision(at=now(), by="h/1", seen=seen, wanted=7))
        for started, pending in ((False, 5), (False, 7), (True, 1)):
            times = {"pending": pending, "boot": 9, "model": 0.5}
            lease.state.note_stages(Boot(instance_id="i-1", ready_at=now(), started=started, **times))
        lease.state.batches = OpenBatches(open=2, images_left=1200)
        lease.state.ended_seconds = 7200
        lease.state.calls.update(s3_put=2_000_000, s3_get=1_000_000)
    found = {
        f.name: {(*s.labels.values(),): s.value for s in f.samples}
        for f in FleetCollector(SimpleNamespace(get=shared.peek), 0.1).collect()  # type: ignore[arg-type]
    }
    assert found == {
        "classifier_fleet_state_readable": {(): 1},
        "classifier_queue_images": {("visible",): 6, ("in_flight",): 2},
        "classifier_instances": {("pending",): 3, ("running",): 4, ("stopped",): 1},
        "classifier_instances_wanted": {(): 7},
        "classifier_open_batches": {(): 2},
        "classifier_batch_images_left": {(): 1200},
        "classifier_boot_stage_seconds": {
            ("pending", "launch"): 6,
            ("boot", "launch"): 9,
            ("model", "launch"): 0.5,
            ("pending", "start"): 1,
            ("boot", "start"): 9,
            ("model", "start"): 0.5,
        },
        "classifier_cost_dollars": {
            ("instances",): 0.2,
            ("s3_put",): pytest.approx(10, rel=0.001),
            ("s3_get",): 0.4,
            ("sqs",): 0,
        },
    }


def test_a_state_that_cannot_be_read_is_no_zero():
    found = list(FleetCollector(SimpleNamespace(get=lambda: None), 0.1).collect())  # type: ignore[arg-type]
    assert [(f.name, f.samples[0].value) for f in found] == [("classifier_fleet_state_readable", 0)]


def test_outcomes_begin_at_0_so_that_the_first_one_counts(client):
    there = client.get("/metrics").text
    for outcome in ("classified", "failed", "cached", "refused", "unanswered"):
        assert f'classifier_images_total{{outcome="{outcome}"}}' in there
    for outcome in ("classified", "failed", "answered_already", "returned"):
        assert f'classifier_worker_images_total{{outcome="{outcome}"}}' in there


def test_open_metrics_for_those_who_ask_for_it(client):
    reply = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.mimetype == "application/openmetrics-text"
    assert reply.text.endswith("# EOF\n")


def test_the_dashboard_uses_only_metrics_that_there_are(client):
    text = client.get("/metrics").text
    there = samples(read(text))
    assert {f"classifier_worker_{name}" for name in ("images_total", "busy_seconds_total")} <= there
    panels = [p for p in json.loads(DASHBOARD.read_text())["panels"] if "targets" in p]
    used = {m for p in panels for t in p["targets"] for m in re.findall(r"\bclassifier_\w+", t["expr"])}
    assert used <= there
    assert len(used) >= 15
    for panel in panels:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
