import json
import logging
from types import SimpleNamespace

import pytest

from cloud.call_counts import CallCounts
from cloud.errors import CloudError
from cloud.prices import CallKind
from cloud.worker_reports import WorkerReport, WorkerReports
from worker.reporter import Reporter

CLASSIFIER = SimpleNamespace(model="m", engine="openvino", precision="fp32")


@pytest.fixture
def calls() -> CallCounts:
    return CallCounts()


@pytest.fixture
def reporter(state, calls) -> Reporter:
    return Reporter(WorkerReports(state), "i-1", CLASSIFIER, calls)  # type: ignore[arg-type]


def stored(reporter: Reporter) -> WorkerReport:
    found = reporter.reports.get("i-1")
    assert found
    return found


def test_a_report_has_all_calls_so_far_with_the_one_that_writes_it(reporter, calls):
    calls.add(CallKind.SQS)
    reporter.write()
    assert stored(reporter).calls == {"sqs": 1, "s3_put": 1}
    calls.add(CallKind.S3_PUT)  # the one before
    reporter.end()
    assert stored(reporter).calls == {"sqs": 1, "s3_put": 2}
    assert stored(reporter).draining


def test_a_report_is_written_at_once_and_then_every_few_seconds(reporter):
    reporter.add(2, 0.5, classified=1)
    reporter.add(3, 0.5, classified=4)
    assert stored(reporter).images == 2
    reporter.end()
    found = stored(reporter)
    assert (found.images, found.busy_seconds, found.classified) == (5, 1.0, 4)


def test_a_report_that_cannot_be_written_is_a_warning(reporter, monkeypatch, caplog):
    def fail(report):
        raise CloudError("S3 is down")

    monkeypatch.setattr(reporter.reports, "put", fail)
    with caplog.at_level(logging.WARNING):
        reporter.write()
    assert "S3 is down" in caplog.text


def test_a_report_of_an_older_worker_has_no_calls(state):
    at = "2026-11-01T00:00:00Z"
    old = {"instance_id": "i-1", "model": "m", "ready_at": at, "seen_at": at}
    state.write("workers/i-1", json.dumps(old).encode())
    found = WorkerReports(state).get("i-1")
    assert found is not None
    assert found.calls == {}


def test_a_worker_that_never_was_ready_does_not_report_its_end(reporter):
    reporter.end()
    assert reporter.reports.get("i-1") is None
