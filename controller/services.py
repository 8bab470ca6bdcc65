"""What the controller is made of, put together."""

import atexit
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from cloud.buckets import InputBucket, OutputBucket
from cloud.clients import Clients
from cloud.fleet_reports import FleetReports
from cloud.request_queue import RequestQueue
from cloud.settings import Settings
from cloud.tokens import read_tokens
from controller.access import Access
from controller.autoscaler import Autoscaler
from controller.fleet import Fleet, LaunchPlan
from controller.fleet_history import FleetHistory
from controller.fleet_state import SharedState
from controller.fleet_view import FleetView
from controller.following import Following
from controller.forecast import Forecast
from controller.idempotency import IdempotencyKeys
from controller.known_answers import KnownAnswers
from controller.latest_state import LatestState
from controller.ledger import Ledger
from controller.long_waits import LongWaits
from controller.look import Policy
from controller.metrics import FleetCollector
from controller.open_requests import OpenRequests
from controller.polling import Polling
from controller.quota import Quota
from controller.recovery import Recovery
from controller.second_thoughts import SecondThoughts
from controller.stored_requests import StoredRequests
from controller.streams import Streams
from controller.submission import Submissions
from controller.userdata import render

LAST_LOOK_SECONDS = 2.0  # that the end of a process waits for
USER_DATA = Path(__file__).parent.parent / "deploy" / "userdata.sh"


@dataclass(frozen=True)
class Services:
    settings: Settings
    access: Access
    quota: Quota
    inputs: InputBucket
    submissions: Submissions
    polling: Polling
    idempotency_keys: IdempotencyKeys
    autoscaler: Autoscaler
    fleet_view: FleetView
    forecast: Forecast
    second_thoughts: SecondThoughts
    following: Following
    streams: Streams
    long_waits: LongWaits
    fleet_metrics: FleetCollector
    dependencies: dict[str, Any]
    """By name, what must be reachable; each has a `check()`."""

    def start(self) -> None:
        """The autoscaler's thread; after a fork, never before. At exit it ends its look and its lease."""
        stop = Event()
        thread = Thread(target=self.autoscaler.run, args=[stop], name="autoscaler", daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            self.autoscaler.wake.set()
            thread.join(LAST_LOOK_SECONDS)

        atexit.register(end)


def assemble(settings: Settings, clients: Clients) -> Services:
    inputs = InputBucket(clients.s3, settings.input_bucket)
    outputs = OutputBucket(clients.s3, settings.output_bucket)
    queue = RequestQueue(clients.sqs, settings.request_queue)
    open_requests = OpenRequests(inputs, outputs)
    pool = ThreadPoolExecutor(32, thread_name_prefix="s3")
    stored = StoredRequests(inputs, outputs, pool)
    known_answers = KnownAnswers(settings, clients.s3, outputs, pool)
    polling = Polling(stored, open_requests, known_answers, settings.request_timeout)
    submissions = Submissions(inputs, outputs, queue, open_requests, known_answers, polling, pool)
    fleet = Fleet(clients.ec2, settings.worker_name, launch_plan(settings, clients.ec2.meta.region_name))
    recovery = Recovery(queue, outputs, open_requests)
    shared, reports = SharedState(outputs), FleetReports(outputs)
    history = FleetHistory(outputs)
    autoscaler = Autoscaler(
        queue=queue,
        fleet=fleet,
        shared=shared,
        history=history,
        ledger=Ledger(reports, settings.boot_timeout, silent_after(settings.visibility_timeout)),
        open_requests=open_requests,
        recovery=recovery,
        policy=Policy(settings.max_instances, settings.max_images_per_instance),
        waiting=polling.waiting,
    )
    polling.look_at_fleet = autoscaler.wake.set
    fleet_view = FleetView(
        queue,
        fleet,
        shared,
        reports,
        history,
        max_instances=settings.max_instances,
        max_images_per_instance=settings.max_images_per_instance,
        price_per_hour=settings.price_per_hour,
    )
    access = Access(read_tokens(settings.api_tokens.get_secret_value()))
    latest = LatestState(shared, pool)
    forecast = Forecast(latest, autoscaler.policy)
    dependencies = {"input bucket": inputs, "output bucket": outputs, "request queue": queue}
    return Services(
        settings,
        access,
        Quota(settings.images_per_minute),
        inputs,
        submissions,
        polling,
        IdempotencyKeys(inputs),
        autoscaler,
        fleet_view,
        forecast,
        SecondThoughts(queue, stored, open_requests, polling, recovery),
        Following(polling, stored),
        Streams(forecast),
        LongWaits(settings.web_threads),
        FleetCollector(latest),
        dependencies,
    )


def launch_plan(settings: Settings, region: str) -> LaunchPlan:
    return LaunchPlan(
        ami_id=settings.ami_id,
        instance_types=split(settings.instance_type),
        market=settings.market,
        subnet_ids=split(settings.subnet_ids),
        security_group_ids=split(settings.security_group_ids),
        instance_profile=settings.instance_profile,
        key_name=settings.key_name,
        launch_template=settings.launch_template,
        user_data=render(USER_DATA.read_text(), {**settings.for_workers(), "AWS_REGION": region}),
    )


def silent_after(visibility_timeout: float) -> float:
    """Seconds. A worker that hangs ends itself after two visibility timeouts; if it cannot, after three."""
    return max(60.0, 3 * visibility_timeout)


def split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
