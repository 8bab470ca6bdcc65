from datetime import UTC, datetime, timedelta

from controller.autoscaling.fleet_history import Sample

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def sample(seconds: float, visible: int = 1, **more: int) -> Sample:
    counts = {"in_flight": 0, "starting": 0, "ready": 1, "wanted": 1} | more
    return Sample(at=NOON + timedelta(seconds=seconds), visible=visible, **counts)


def idle(seconds: float) -> Sample:
    return sample(seconds, 0, ready=0, wanted=0)
