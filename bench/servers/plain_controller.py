"""The controller of the system that this one succeeds: see "Plain" in bench/simulation.md.

It stores the photos of an upload under a prefix of their own, sends a message for each, launches the
instances that the visible messages call for, and lists the prefix in the output bucket once a second until
every photo has its label there. The workers run already, so nothing is left to launch, and nothing is
terminated.
"""

import os
import time
from math import ceil
from uuid import uuid4

import boto3
from flask import Flask, request

INPUT, OUTPUT, QUEUE, AMI = "plain-input", "plain-output", "plain", "ami-12c6146b"
MAX_INSTANCES, IMAGES_PER_INSTANCE = int(os.environ["WORKERS"]), 10
POLL_SECONDS = 1.0

web = Flask(__name__)
s3, sqs, ec2 = boto3.client("s3"), boto3.client("sqs"), boto3.client("ec2")
queue_url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]


@web.post("/")
def upload() -> dict[str, list[str]]:
    prefix, files = uuid4().hex, request.files.getlist("image_file")
    keys = [f"{prefix}/{file.filename}" for file in files]
    for key, file in zip(keys, files, strict=True):
        s3.put_object(Bucket=INPUT, Key=key, Body=file.read())
        sqs.send_message(QueueUrl=queue_url, MessageBody=key)
    launch()
    wait(prefix, len(keys))
    return {"labels": [s3.get_object(Bucket=OUTPUT, Key=key)["Body"].read().decode() for key in keys]}


def launch() -> None:
    """Launches an instance for each ten visible messages, less those that run."""
    name = "ApproximateNumberOfMessages"
    attributes = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=[name])["Attributes"]
    running = ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
    count = sum(len(reservation["Instances"]) for reservation in running["Reservations"])
    missing = min(MAX_INSTANCES, ceil(int(attributes[name]) / IMAGES_PER_INSTANCE)) - count
    if missing > 0:
        ec2.run_instances(ImageId=AMI, MinCount=missing, MaxCount=missing)


def wait(prefix: str, photos: int) -> None:
    """Lists the labels of an upload, of at most 1,000 photos, until all of them are there."""
    while s3.list_objects_v2(Bucket=OUTPUT, Prefix=f"{prefix}/")["KeyCount"] < photos:
        time.sleep(POLL_SECONDS)
