"""python -m worker: classifies the images in the request queue, until it gets SIGTERM or Ctrl-C."""

import argparse
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from threading import Event

from pydantic.fields import FieldInfo

from cloud import logs
from cloud.batches.store import BatchStore, queue_name
from cloud.buckets import Bucket, InputBucket, OutputBucket
from cloud.call_counts import call_counts
from cloud.clients import WorkerClients, make_worker_clients
from cloud.errors import CloudError
from cloud.misspelt_settings import misspelt_settings
from cloud.model_version import model_choice, model_version
from cloud.prediction_cache import CacheWriter
from cloud.request_queue import RequestQueue
from cloud.settings import SettingsError, WorkerSettings, default_of
from cloud.signals import stop_on
from cloud.worker_reports import WorkerReports
from worker import instance_metadata, metrics
from worker.artefact import ClassifierError
from worker.consumer import Consumer
from worker.decoder import CannotStart, Decoder
from worker.decoder_limits import QUICK
from worker.engine import load_classifier
from worker.heartbeat import Heartbeat, read_timeout
from worker.pipeline import Classifier, Pipeline
from worker.reporter import Reporter
from worker.slices import Slices
from worker.steps import Steps
from worker.systemd import notify_ready
from worker.threads import EXIT_STATUS, run_or_end

log = logging.getLogger("worker")


def main() -> int:
    parse_arguments()
    try:
        settings = WorkerSettings.from_environment()
        logs.configure(settings.log_level)
        for misspelt in misspelt_settings(os.environ):
            log.warning(misspelt)
        decoders = [Decoder(QUICK) for _ in os.sched_getaffinity(0)]  # they start while the model is loaded
        clients = make_worker_clients(read_timeout(settings.visibility_timeout))
        choice = cached_choice(settings, clients)
        classifier = load_classifier(settings, clients.s3)
        for decoder in decoders:
            decoder.wait_until_ready()
    except (SettingsError, CloudError, ClassifierError, CannotStart) as error:
        return refuse(error)
    if choice != cached_choice(settings, clients):
        choice = ""  # the weights or labels were replaced while they were loaded
    version = model_version(choice, classifier.engine, classifier.precision) if choice else ""
    return work(settings, clients, classifier, version, decoders)


def cached_choice(settings: WorkerSettings, clients: WorkerClients) -> str:
    """Returns what stands for the model, under which its predictions are cached.

    Returns "" when predictions are not cached, or when this cannot be determined.
    """
    if settings.answer_cache == "off":
        return ""
    try:
        return model_choice(settings, clients.s3)
    except CloudError as error:
        log.warning("no answer goes to the cache: %s", error)
        return ""


def work(
    settings: WorkerSettings,
    clients: WorkerClients,
    classifier: Classifier,
    version: str,
    decoders: Sequence[Decoder],
) -> int:
    """Processes messages until the worker is told to stop or is idle. Returns the exit status.

    `version` is that of the model, under which its predictions are cached, or "" when they are not.
    """
    stop, ended = stop_on(signal.SIGTERM, signal.SIGINT, signal.SIGHUP), Event()
    metadata, instance_id = instance_metadata.find_metadata(
        os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance_metadata.LINK_LOCAL)
    )
    if metadata:
        instance_metadata.watch(metadata, stop)
    if settings.metrics_port:
        metrics.serve(settings.metrics_port)
    queue = RequestQueue(clients.sqs, settings.request_queue, settings.visibility_timeout)
    state = Bucket(clients.s3, settings.state_bucket)
    hangs_after = 2 * settings.visibility_timeout
    heartbeat = Heartbeat(
        queue, settings.visibility_timeout, on_hang=end_at_once, on_beat=partial(end_after, hangs_after)
    )
    heartbeat.start(ended)
    reporter = Reporter(WorkerReports(state), instance_id, classifier, call_counts)
    steps = Steps(
        InputBucket(clients.s3, settings.input_bucket),
        OutputBucket(clients.s3, settings.output_bucket),
        classifier,
        instance_id,
        settings.max_receives,
        version,
    )
    cache = CacheWriter(state, version)
    pipeline = Pipeline(classifier, heartbeat, decoders)

    def on_progress(images: int, seconds: float) -> None:
        reporter.add(images, seconds, pipeline.classified)
        cache.write_if_due()

    log.info("ready", extra=steps.origin())
    notify_ready()
    consumer = Consumer(
        queue,
        steps,
        pipeline,
        slices=slices_of_batches(settings, clients, pipeline),
        idle_seconds=settings.idle_shutdown_seconds,
        on_progress=on_progress,
        remember=cache.add,
    )
    run_or_end(consumer.run, stop)
    cache.write()
    ended.set()
    faulthandler.cancel_dump_traceback_later()
    reporter.end()
    log.info("ended", extra={"instance_id": instance_id, "images": reporter.report.images})
    return 0


def slices_of_batches(settings: WorkerSettings, clients: WorkerClients, pipeline: Pipeline) -> Slices | None:
    """Returns what works on slices, or None when there are no batches."""
    if not settings.batch_sources:
        return None
    queue = RequestQueue(clients.sqs, queue_name(settings.request_queue), settings.visibility_timeout)
    buckets = (Bucket(clients.s3, name) for name in (settings.state_bucket, settings.output_bucket))
    return Slices(queue, BatchStore(*buckets), clients.s3, pipeline, settings.max_receives)


def end_after(seconds: float) -> None:
    """Ends the process after so many seconds, unless this is called again before.

    That needs no thread of Python, so it also works when none can run.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)


def end_at_once() -> None:
    """Ends a process whose main thread hangs, with a traceback of all threads on stderr."""
    faulthandler.dump_traceback()
    os._exit(EXIT_STATUS)


def refuse(error: Exception) -> int:
    """Prints why the worker cannot start. Returns the exit status."""
    print(f"worker: {error}", file=sys.stderr)
    return 2


def parse_arguments() -> None:
    fields = WorkerSettings.model_fields
    width = max(map(len, fields))
    table = "\n".join(f"  {name.upper():{width}}  {explain(field)}" for name, field in fields.items())
    parser = argparse.ArgumentParser(
        "python -m worker",
        description=__doc__,
        epilog=f"Settings are environment variables:\n{table}\nand AWS's own (AWS_REGION, credentials, …).",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()


def explain(field: FieldInfo) -> str:
    """Returns a setting's description with its default, for --help."""
    needed = "needed" if field.is_required() else f"default: {default_of(field)}"
    return f"{field.description} ({needed})"


if __name__ == "__main__":
    sys.exit(main())
