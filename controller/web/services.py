"""The objects that the routes use."""

from dataclasses import dataclass

from flask import current_app

from cloud.buckets import InputBucket, OutputBucket
from cloud.settings import ControllerSettings
from controller.autoscaling.autoscaler import Autoscaler
from controller.batches.batches import Batches
from controller.dashboard.fleet_collector import FleetCollector
from controller.dashboard.fleet_view import FleetView
from controller.dashboard.forecast import Forecast
from controller.image_requests.cancel_retry import CancelRetry
from controller.image_requests.deletion import Deletion
from controller.image_requests.follower import Follower
from controller.image_requests.idempotency import IdempotencyKeys
from controller.image_requests.notices import Notices
from controller.image_requests.polling import Polling
from controller.image_requests.request_ids import RequestIds
from controller.image_requests.submission import Submissions
from controller.web.authentication import KnownTokens
from controller.web.dependencies import Dependencies
from controller.web.rate_limits import Quota
from controller.web.server_sent_events import EventStreams
from controller.web.wait_limits import WaitLimits


@dataclass(frozen=True)
class Services:
    settings: ControllerSettings
    tokens: KnownTokens
    quota: Quota
    inputs: InputBucket
    outputs: OutputBucket
    request_ids: RequestIds
    submissions: Submissions
    polling: Polling
    idempotency_keys: IdempotencyKeys
    autoscaler: Autoscaler
    fleet_view: FleetView
    forecast: Forecast
    cancel_retry: CancelRetry
    deletion: Deletion
    follower: Follower
    event_streams: EventStreams
    wait_limits: WaitLimits
    fleet_metrics: FleetCollector
    dependencies: Dependencies
    batches: Batches
    notices: Notices


def services() -> Services:
    """Returns the services of the app that handles the current HTTP request."""
    found: Services = current_app.extensions["services"]
    return found
