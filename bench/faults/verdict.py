"""Says what has become of everything that was sent, and which faults explain the images that failed."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from textwrap import wrap
from typing import Any

from bench.faults.load import Seen, Sent
from bench.faults.rules import Hit
from cloud.batches.store import BATCHES
from local.driver import System

FAILED_START = 3  # instances in a row that end before they are ready, after which images are given up
OUTAGE_SECONDS = 300  # of EC2, after which images are given up
LONGEST_PAUSE = 3600  # that a fleet that cannot start is left alone
FAILED_FETCHES = 10  # of an image in S3, after which it is given up
BUCKETS = ("input-images", "output-predictions")
QUEUES = ("image-requests", "image-requests-dead")
LOSE_A_WORKER = {
    "kill a worker",
    "freeze a worker",
    "take a spot instance",
    "kill a worker at a call",
}
LOSE_A_RECEIVE = LOSE_A_WORKER | {"lost replies", "slow calls", "sqs errors", "throttling"}


def explanation(image: dict[str, Any], sent_at: float, hits: Sequence[Hit], max_receives: int) -> str:
    """Returns which faults explain that the image failed, in words, or "" if none do.

    `sent_at` and the times of the hits are in seconds since the epoch.
    """
    code, message = image["error"]["code"], image["error"]["message"]
    answered = datetime.fromisoformat(image["answered_at"]).timestamp() + 2
    if code == "not_an_image":
        return "a text file of the load" if image["filename"].endswith(".txt") else ""
    if code == "gave_up":
        lost = [h for h in hits if sent_at <= h.at <= answered and loses_a_receive(h)]
        return "its messages were lost with their workers" if len(lost) >= max_receives - 1 else ""
    if code == "no_workers" and "fail to start" in message:
        ended = [h for h in hits if answered - LONGEST_PAUSE <= h.at <= answered and h.fault in LOSE_A_WORKER]
        return "its instances were taken before they were ready" if len(ended) >= FAILED_START else ""
    if code == "no_workers" and "could not be launched" in message:
        refused = [h for h in hits if h.at <= answered and h.where == "RunInstances"]
        outage = [h for h in refused if h.at >= answered - OUTAGE_SECONDS - 60]
        return "EC2 failed for minutes" if len(outage) >= 2 else ""
    if code == "no_workers" and "cannot be launched" in message:
        refused = [
            h for h in hits if h.where == "RunInstances" and answered - LONGEST_PAUSE <= h.at <= answered
        ]
        return "EC2 refused a launch for good" if refused else ""
    if code == "storage_failed":
        failed = [h for h in hits if sent_at <= h.at <= answered and h.where == "GetObject"]
        return "S3 failed again and again" if len(failed) >= FAILED_FETCHES else ""
    return ""


def loses_a_receive(hit: Hit) -> bool:
    """Returns whether a message may have been received in vain because of this."""
    return hit.fault in LOSE_A_WORKER or (
        hit.fault in LOSE_A_RECEIVE and hit.where in ("ReceiveMessage", "ChangeMessageVisibilityBatch")
    )


def explained(
    requests: Sequence[Sent], hits: Sequence[Hit], max_receives: int
) -> tuple[Counter[str], list[str]]:
    """Returns how many images failed for each reason, and those that no fault explains."""
    reasons, unexplained = Counter[str](), []
    for sent in requests:
        for image in sent.images_seen:
            if image["error"]:
                why = explanation(image, sent.at, hits, max_receives)
                reasons[f"{image['error']['code']}: {why or 'NOT EXPLAINED'}"] += 1
                if not why:
                    unexplained.append(f"{image['image_id']}: {image['error']}, sent at {sent.at:.0f}")
    return reasons, unexplained


def stored_keys(system: System) -> tuple[set[str], Counter[str]]:
    """Returns the keys in the input bucket, and how often each image-id of the output bucket was written."""
    s3 = system.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKETS[0])
    inputs = {item["Key"] for page in pages for item in page.get("Contents", [])}
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=BUCKETS[1])
    written = Counter(v["Key"] for page in pages for v in page.get("Versions", []))
    return inputs, Counter({key: count for key, count in written.items() if not key.startswith(BATCHES)})


def messages_left(system: System, queues: Sequence[str] = QUEUES) -> int:
    """Returns the number of messages in these queues: the request queue and its dead letters by default."""
    sqs = system.client("sqs")
    names = [f"ApproximateNumberOfMessages{which}" for which in ("", "NotVisible", "Delayed")]
    count = 0
    for queue in queues:
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        count += sum(int(found[name]) for name in names)
    return count


def keys_apart(system: System) -> set[str]:
    """Returns the keys that only one of the two buckets has."""
    inputs, written = stored_keys(system)
    return inputs ^ written.keys()


def instances_left(system: System) -> int:
    return len(system.instances("pending", "running", "shutting-down"))


def figures_and_zeros(
    system: System, seen: Seen, unexplained: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the counts that may be anything, and those that must be zero."""
    inputs, written = stored_keys(system)
    images = [image for sent in seen.accepted for image in sent.images_seen]
    answered = sum(image["status"] != "waiting" for image in images)
    images_sent = sum(sent.images for sent in seen.accepted)
    record = system.record()
    figures = {
        "requests accepted": len(seen.accepted),
        "images sent": images_sent,
        "answered with a label": sum(image["status"] == "classified" for image in images),
        "answered failed, with a reason": sum(bool(image["error"]) for image in images),
        "images stored of requests that were not accepted": len(inputs) - images_sent,
        "replies that were cut": seen.cut,
        "refusals": seen.refused.total(),
        "images said to wait although an answer was seen before": seen.older,
        "instances launched": len(record["instances"]),
        "instances at once, at most": record["most_instances_at_once"],
    }
    zeros = {
        "images lost": images_sent - answered,
        "images answered twice": sum(count > 1 for count in written.values()),
        "answers that changed": len(seen.changed),
        "keys in only one of the buckets": len(keys_apart(system)),
        "failed without a fault that explains it": len(unexplained),
        "instances left running": instances_left(system),
        "messages left": messages_left(system),
        "requests that were never accepted": len(seen.never_accepted),
        "requests without an answer": sum(not sent.complete for sent in seen.accepted),
        "refusals and waits without a sentence": len(seen.without_a_sentence),
        "requests made twice of one Idempotency-Key": len(seen.twice),
    }
    return figures, zeros


def table_of(hits: Sequence[Hit]) -> list[str]:
    """Returns the lines of a table: how often each fault hit, and which calls."""
    lines = []
    for fault, count in sorted(Counter(hit.fault for hit in hits).items()):
        where = Counter(hit.where for hit in hits if hit.fault == fault and hit.where)
        calls = ", ".join(f"{operation} {number}" for operation, number in where.most_common())
        start = f"  {fault:26}{count:6}"
        margin = " " * (len(start) + 2)
        lines += wrap(calls, 110, initial_indent=f"{start}  ", subsequent_indent=margin) or [start]
    return lines
