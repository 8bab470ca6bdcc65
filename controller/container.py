"""Creates the objects of the controller and connects them."""

import atexit
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

from cloud.batches.store import BatchStore, queue_name
from cloud.buckets import Bucket, InputBucket, OutputBucket
from cloud.call_counts import UnbookedCalls, call_counts
from cloud.clients import Clients
from cloud.notices import Notice, Topic
from cloud.prediction_cache import PredictionCache
from cloud.request_queue import RequestQueue
from cloud.settings import ControllerSettings
from cloud.worker_reports import WorkerReports
from controller.autoscaling.autoscaler import Autoscaler
from controller.autoscaling.ec2_fleet import Fleet, LaunchPlan
from controller.autoscaling.fleet_history import FleetHistory
from controller.autoscaling.instance_ledger import InstanceLedger
from controller.autoscaling.observer import Observer
from controller.autoscaling.planner import Policy
from controller.autoscaling.shared_state import SharedState
from controller.autoscaling.user_data import render
from controller.batches.batches import Batches
from controller.dashboard.fleet_collector import FleetCollector
from controller.dashboard.fleet_view import FleetView
from controller.dashboard.forecast import Forecast
from controller.dashboard.latest_state import LatestState
from controller.dashboard.scaling_costs import ScalingReplay
from controller.image_requests.cancel_retry import CancelRetry
from controller.image_requests.deduplication import Deduplication
from controller.image_requests.deletion import Deletion
from controller.image_requests.fair_pool import FairPool
from controller.image_requests.follower import Follower
from controller.image_requests.idempotency import IdempotencyKeys
from controller.image_requests.journal import Journal
from controller.image_requests.notices import Notices
from controller.image_requests.outbox import Outbox
from controller.image_requests.polling import Polling
from controller.image_requests.recovery import Recovery
from controller.image_requests.request_ids import RequestIds
from controller.image_requests.stored_requests import StoredRequests
from controller.image_requests.submission import Submissions
from controller.web.authentication import KnownTokens
from controller.web.dependencies import Dependencies
from controller.web.rate_limits import Quota
from controller.web.server_sent_events import EventStreams
from controller.web.services import Services
from controller.web.wait_limits import WaitLimits

UPLOAD_THREADS, ANSWER_THREADS = 32, 16  # together fewer than a client's connections (cloud/clients.py)
PUBLISHERS = 4  # threads that publish notices
LAST_RUN_SECONDS = 3.0  # how long an exiting process waits for the autoscaler's current run
USER_DATA = Path(__file__).parent.parent / "deploy" / "userdata.sh"


def assemble(settings: ControllerSettings, clients: Clients) -> Services:
    inputs = InputBucket(clients.s3, settings.input_bucket)
    outputs = OutputBucket(clients.s3, settings.output_bucket)
    state = Bucket(clients.s3, settings.state_bucket)
    queue = RequestQueue(clients.sqs, settings.request_queue)
    journal = Journal(state, inputs, outputs)
    uploads, answers = FairPool(UPLOAD_THREADS, "uploads"), FairPool(ANSWER_THREADS, "answers")
    stored = StoredRequests(inputs, outputs, answers)
    deduplication = Deduplication(settings, clients.s3, PredictionCache(state, answers), outputs, answers)
    wake_autoscaler = Event()
    notices = make_notices(settings, clients, answers)
    polling = Polling(
        stored, journal, deduplication, notices, settings.request_timeout, wake_autoscaler=wake_autoscaler.set
    )
    outbox = Outbox(queue, uploads)
    submissions = Submissions(inputs, outputs, outbox, journal, deduplication, polling, uploads)
    plan = launch_plan(settings, clients.ec2.meta.region_name)
    fleet = Fleet(clients.ec2, settings.state_bucket, settings.worker_name, plan)
    recovery = Recovery(queue, outputs, journal, take_over=notices.take_over)
    shared = SharedState(state, unbooked=UnbookedCalls(call_counts))
    reports = WorkerReports(state)
    history = FleetHistory(state)
    policy = Policy(
        max_instances=settings.max_instances,
        max_images_per_instance=settings.max_images_per_instance,
        boot_timeout=settings.boot_timeout,
        silent_after=silent_after(settings.visibility_timeout),
        scaling=settings.scaling,
        batch_share=settings.batch_share,
        dollars_per_hour=settings.price_per_hour,
        spot=settings.market == "spot",
    )
    request_ids = RequestIds(state, journal.shard)
    batches = make_batches(settings, clients, request_ids, wake_autoscaler.set, notices.tell)
    ledger = InstanceLedger(reports)
    observer = Observer(queue, fleet, ledger, journal, recovery, polling.waiting, batches.loads)
    autoscaler = Autoscaler(
        observer, policy, fleet, shared, history, recovery, wake_autoscaler, settings.warm_pool
    )
    fleet_view = FleetView(
        queue,
        fleet,
        shared,
        reports,
        history,
        max_instances=settings.max_instances,
        max_images_per_instance=settings.max_images_per_instance,
        price_per_hour=settings.price_per_hour,
        replay=ScalingReplay(policy, settings.price_per_hour),
        charged=is_aws(clients.s3.meta.endpoint_url),
    )
    access = KnownTokens(settings.tokens)
    latest = LatestState(shared)
    forecast = Forecast(latest, policy)
    dependencies = Dependencies(
        {"input bucket": inputs, "output bucket": outputs, "state bucket": state, "request queue": queue}
    )
    return Services(
        settings,
        access,
        Quota(settings.images_per_minute),
        inputs,
        outputs,
        request_ids,
        submissions,
        polling,
        IdempotencyKeys(state),
        autoscaler,
        fleet_view,
        forecast,
        CancelRetry(queue, stored, journal, polling, recovery, notices),
        Deletion(stored, journal, settings.visibility_timeout),
        Follower(polling, stored),
        EventStreams(forecast),
        WaitLimits(settings.web_threads),
        FleetCollector(latest, settings.price_per_hour),
        dependencies,
        batches,
        notices,
    )


def make_notices(settings: ControllerSettings, clients: Clients, pool: Executor) -> Notices:
    inputs, outputs = (
        InputBucket(clients.s3, settings.input_bucket),
        OutputBucket(clients.s3, settings.output_bucket),
    )
    state = Bucket(clients.s3, settings.state_bucket)
    return Notices(state, StoredRequests(inputs, outputs, pool), Topic(settings.notify_topic))


def make_batches(
    settings: ControllerSettings,
    clients: Clients,
    request_ids: RequestIds,
    wake_autoscaler: Callable[[], None] = lambda: None,
    tell: Callable[[Notice], None] = lambda notice: None,
) -> Batches:
    buckets = Bucket(clients.s3, settings.state_bucket), Bucket(clients.s3, settings.output_bucket)
    return Batches(
        clients.s3,
        BatchStore(*buckets),
        RequestQueue(clients.sqs, queue_name(settings.request_queue)),
        request_ids,
        settings.batch_sources,
        settings.price_per_hour,
        wake_autoscaler,
        tell,
        tries_seconds=settings.max_receives * settings.visibility_timeout,
    )


def is_aws(endpoint: str) -> bool:
    """Returns whether the URL is one of AWS, which charges what is called there."""
    return f".{urlsplit(endpoint).hostname}".removesuffix(".cn").endswith(".amazonaws.com")


def launch_plan(settings: ControllerSettings, region: str) -> LaunchPlan:
    return LaunchPlan(
        ami_id=settings.ami_id,
        instance_types=settings.instance_type,
        market=settings.market,
        subnet_ids=settings.subnet_ids,
        security_group_ids=settings.security_group_ids,
        instance_profile=settings.instance_profile,
        key_name=settings.key_name,
        launch_template=settings.launch_template,
        user_data=render(USER_DATA.read_text(), {**settings.for_workers(), "AWS_REGION": region}),
    )


def silent_after(visibility_timeout: float) -> float:
    """Returns the seconds without a report after which a worker is considered dead.

    A worker that hangs exits by itself after two visibility timeouts. If it cannot, the controller terminates
    its instance after three.
    """
    return max(60.0, 3 * visibility_timeout)


def start_autoscaler(autoscaler: Autoscaler) -> None:
    """Starts the autoscaler in a thread. Must be called after a fork, because threads do not survive one.

    When the process exits, the autoscaler gets LAST_RUN_SECONDS to finish its run and release its lease.
    """
    stop = Event()
    thread = Thread(target=autoscaler.run, args=[stop], name="autoscaler", daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        autoscaler.wake.set()
        thread.join(LAST_RUN_SECONDS)

    atexit.register(end)


def start_batches(batches: Batches) -> None:
    """Keeps open batches going in a thread, if there may be any. Must be called after a fork, too."""
    if batches.on:
        stop = Event()
        Thread(target=batches.run, args=[stop], name="batches", daemon=True).start()


def start_notices(notices: Notices) -> None:
    """Publishes notices in threads, if there is a topic. Must be called after a fork, too."""
    if notices.on:
        Thread(target=notices.run, args=[Event()], name="notices", daemon=True).start()
        for _ in range(PUBLISHERS):
            Thread(target=notices.publish, name="publish", daemon=True).start()
