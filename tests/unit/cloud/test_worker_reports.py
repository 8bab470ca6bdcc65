import json

import pytest

from cloud.clock import now
from cloud.worker_reports import LARGEST_REPORT, PREFIX, WorkerReport, WorkerReports
from tests.support.aws_errors import raising, refusal


@pytest.fixture
def reports(state) -> WorkerReports:
    return WorkerReports(state)


def report(instance_id: str, images: int = 0) -> WorkerReport:
    return WorkerReport(
        instance_id=instance_id, model="resnet18", ready_at=now(), seen_at=now(), images=images
    )


def test_who_has_reported_is_ready(reports):
    assert reports.seen() == {}
    reports.put(report("i-1"))
    reports.put(report("i-2"))
    assert set(reports.seen()) == {"i-1", "i-2"}


def test_the_last_report_is_the_one_that_counts(reports):
    reports.put(report("i-1", images=1))
    latest = report("i-1", images=7)
    reports.put(latest)
    assert reports.get("i-1") == latest


def test_who_has_not_reported_has_no_report(reports):
    assert reports.get("i-1") is None


def test_a_report_that_is_deleted_is_gone(reports):
    reports.put(report("i-1"))
    reports.delete("i-1")
    assert reports.seen() == {}


@pytest.mark.parametrize(
    "change",
    [
        {"ready_at": "2026-11-27T12:00:00"},
        {"images": 10**400},
        {"images": -1},
        {"busy_seconds": "nan"},
        {"busy_seconds": 1e300},
        {"calls": {"s3_put": 10**400}},
        {"calls": {"other": 1}},
        {"model": "x" * LARGEST_REPORT},
        {"boot": {"kernel_at": "2026-11-27T12:00:00", "process_at": "2026-11-27T12:00:00"}},
    ],
)
def test_a_report_that_no_worker_writes_is_none(reports, state, change, caplog):
    body = {**report("i-1").model_dump(mode="json"), **change}
    state.write(f"{PREFIX}i-1", json.dumps(body).encode())
    assert reports.get("i-1") is None
    assert "workers/i-1 is broken" in caplog.text


def test_a_report_in_an_archive_is_none(reports, state, caplog):
    body = report("i-1").model_dump_json().encode()
    state.write(f"{PREFIX}i-1", body, StorageClass="GLACIER")
    assert reports.get("i-1") is None
    assert "workers/i-1 is broken" in caplog.text


def test_a_report_that_is_encrypted_with_a_key_of_its_writer_is_none(reports, aws, on_call):
    reports.put(report("i-1"))
    on_call(aws.s3, "GetObject", raising(refusal("InvalidRequest", "GetObject")))
    assert reports.get("i-1") is None


def test_the_report_of_another_instance_is_none_of_this_one(reports, state):
    state.write(f"{PREFIX}i-1", report("i-2").model_dump_json().encode())
    assert reports.get("i-1") is None


def test_reports_are_no_predictions(reports, state, inputs, outputs):
    reports.put(report("i-1"))
    assert list(state.keys("")) == ["workers/i-1"]
    assert list(inputs.keys("")) == list(outputs.keys("")) == []


def test_no_worker_is_infinitely_fast(reports, state):
    body = {**report("i-1", images=10**9).model_dump(mode="json"), "busy_seconds": 1e-310}
    state.write(f"{PREFIX}i-1", json.dumps(body).encode())
    assert reports.get("i-1").busy_seconds == 0, "then its speed is not known"


@pytest.mark.parametrize("error", [refusal("SlowDown", "GetObject"), ArithmeticError("no time")])
def test_a_report_that_cannot_be_read_is_none_whatever_the_reason(reports, aws, on_call, caplog, error):
    reports.put(report("i-1"))
    on_call(aws.s3, "GetObject", raising(error))
    assert reports.get("i-1") is None
    assert caplog.records
