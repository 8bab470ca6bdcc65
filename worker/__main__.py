"""python -m worker: takes images from the request queue and classifies them, until SIGTERM or Ctrl-C."""

import argparse
import faulthandler
import logging
import os
import signal
import sys
from functools import partial
from threading import Event

from pydantic.fields import FieldInfo

from cloud import logs
from cloud.buckets import Bucket, InputBucket, OutputBucket
from cloud.clients import Clients, make_clients
from cloud.errors import CloudError
from cloud.model_version import model_version
from cloud.prediction_cache import PredictionCache
from cloud.request_queue import RequestQueue
from cloud.settings import SettingsError, WorkerSettings, default_of
from cloud.signals import stop_on
from cloud.worker_reports import WorkerReports
from worker import instance_metadata, metrics
from worker.consumer import Classifier, Consumer, no_cache
from worker.heartbeat import Heartbeat
from worker.reporter import Reporter

log = logging.getLogger("worker")


def main() -> int:
    options = parse_arguments()
    try:
        settings = WorkerSettings.from_environment()
        if options.fetch_weights:
            logging.basicConfig(level=logging.INFO, format="%(message)s")  # for the person who waits
        else:
            logs.configure(settings.log_level)
        from worker import engine  # here, since torch takes seconds and --help should not

        if options.fetch_weights:
            engine.fetch_weights(settings.model)
            return 0
        clients = make_clients()
        before = version(settings, clients)
        loaded = engine.load_classifier(
            settings.model, settings.weights, settings.labels or None, lambda url: read_s3(clients, url)
        )
    except (SettingsError, CloudError) as error:
        return refuse(error)
    except engine.ClassifierError as error:
        return refuse(error)
    same = before == version(settings, clients)  # nothing was replaced while it was loaded
    return work(settings, clients, loaded, before if same else "")


def version(settings: WorkerSettings, clients: Clients) -> str:
    """Of the model, for the answer cache. Empty if that is off, or it cannot be told."""
    if settings.answer_cache == "off":
        return ""
    try:
        return model_version(settings, clients.s3)
    except CloudError as error:
        log.warning("no answer goes to the cache: %s", error)
        return ""


def work(settings: WorkerSettings, clients: Clients, classifier: Classifier, version: str) -> int:
    stop, ended = stop_on(signal.SIGTERM, signal.SIGINT, signal.SIGHUP), Event()
    metadata, instance_id = instance_metadata.find_metadata(
        os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance_metadata.LINK_LOCAL)
    )
    if metadata:
        instance_metadata.watch(metadata, stop)
    if settings.metrics_port:
        metrics.serve(settings.metrics_port)
    queue = RequestQueue(clients.sqs, settings.request_queue)
    outputs = OutputBucket(clients.s3, settings.output_bucket)
    state = Bucket(clients.s3, settings.state_bucket)
    heartbeat = Heartbeat(queue, settings.visibility_timeout, on_hang=end_at_once)
    heartbeat.start(ended)
    report = Reporter(WorkerReports(state), instance_id, classifier.model)
    report.write()
    log.info("ready", extra={"instance_id": instance_id, "model": classifier.model})
    Consumer(
        queue,
        InputBucket(clients.s3, settings.input_bucket),
        outputs,
        classifier,
        heartbeat,
        instance_id=instance_id,
        max_receives=settings.max_receives,
        idle_seconds=settings.idle_shutdown_seconds,
        on_progress=report,
        remember=partial(PredictionCache(state).put, version) if version else no_cache,
    ).run(stop)
    ended.set()
    report.report.draining = True
    report.write()
    log.info("ended", extra={"instance_id": instance_id, "images": report.report.images})
    return 0


def end_at_once() -> None:
    faulthandler.dump_traceback()
    os._exit(70)


def read_s3(clients: Clients, url: str) -> bytes:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return Bucket(clients.s3, bucket).read(key)[0]


def refuse(error: Exception) -> int:
    print(f"worker: {error}", file=sys.stderr)
    return 2


def parse_arguments() -> argparse.Namespace:
    fields = WorkerSettings.model_fields
    width = max(map(len, fields))
    table = "\n".join(f"  {name.upper():{width}}  {explain(field)}" for name, field in fields.items())
    parser = argparse.ArgumentParser(
        "python -m worker",
        description=__doc__,
        epilog=f"Settings are environment variables:\n{table}\nand AWS's own (AWS_REGION, credentials, …).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--fetch-weights",
        action="store_true",
        help="fetch torchvision's weights of MODEL into torch's cache, and end",
    )
    return parser.parse_args()


def explain(field: FieldInfo) -> str:
    needed = "needed" if field.is_required() else f"default: {default_of(field)}"
    return f"{field.description} ({needed})"


if __name__ == "__main__":
    sys.exit(main())
