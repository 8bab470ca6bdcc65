from datetime import datetime

from pydantic import BaseModel

from cloud.buckets import Bucket, JsonObjects

PREFIX = "workers/"


class WorkerReport(BaseModel):
    """What a worker says of itself. That there is one means: it booted and its model is loaded."""

    instance_id: str
    model: str
    ready_at: datetime
    seen_at: datetime
    images: int = 0
    """Answered so far."""
    busy_seconds: float = 0
    """In which it had images in hand."""
    draining: bool = False


class WorkerReports:
    """The workers' reports, in the state bucket under `workers/<instance-id>`."""

    def __init__(self, state: Bucket) -> None:
        self.state = state
        self._reports = JsonObjects(state, WorkerReport)

    def put(self, report: WorkerReport) -> None:
        self._reports.write(f"{PREFIX}{report.instance_id}", report)

    def get(self, instance_id: str) -> WorkerReport | None:
        return self._reports.get(f"{PREFIX}{instance_id}")

    def seen(self) -> dict[str, datetime]:
        """When each instance that has ever reported did so last."""
        return {key.removeprefix(PREFIX): at for key, at in self.state.listing(PREFIX)}

    def delete(self, instance_id: str) -> None:
        self.state.delete(f"{PREFIX}{instance_id}")
