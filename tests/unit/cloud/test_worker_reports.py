import pytest

from cloud.clock import now
from cloud.errors import CloudError
from cloud.worker_reports import PREFIX, WorkerReport, WorkerReports


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


def test_a_broken_report_is_named(reports, state):
    state.write(f"{PREFIX}i-1", b"{")
    with pytest.raises(CloudError, match="workers/i-1 is broken"):
        reports.get("i-1")


def test_reports_are_no_predictions(reports, state, inputs, outputs):
    reports.put(report("i-1"))
    assert list(state.keys("")) == ["workers/i-1"]
    assert list(inputs.keys("")) == list(outputs.keys("")) == []
