"""Celery: https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/sqs.html

The message of a task is too small for a photo, so the web process puts it into S3, where the results are too.
"""

import os
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
from celery import Celery
from celery.signals import worker_process_init
from flask import Flask, request

from bench.servers import model

ENDPOINT, BUCKET = os.environ["AWS_ENDPOINT_URL"], "celery"
ID, SECRET = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]

tasks = Celery("classify", broker=f"sqs://{ID}:{SECRET}@{urlsplit(ENDPOINT).netloc}", backend="s3")
tasks.conf.update(
    broker_transport_options={"region": "us-east-1", "is_secure": False},
    worker_enable_remote_control=False,
    worker_prefetch_multiplier=64,  # the default of 4 starves workers whose tasks are this short
    s3_endpoint_url=ENDPOINT,
    s3_region="us-east-1",
    s3_access_key_id=ID,
    s3_secret_access_key=SECRET,
    s3_bucket=BUCKET,
)
web = Flask(__name__)
s3 = boto3.client("s3", endpoint_url=ENDPOINT, region_name="us-east-1")
loaded: list[Any] = []


@worker_process_init.connect
def load_model(**_: Any) -> None:
    loaded.append(model.load())


@tasks.task
def classify(key: str) -> str:
    photo = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return loaded[0].classify([loaded[0].prepare(photo)])[0]


@web.post("/")
def upload() -> dict[str, str]:
    key = f"photos/{uuid4()}"
    s3.put_object(Bucket=BUCKET, Key=key, Body=request.get_data())
    return {"label": classify.delay(key).get(timeout=60)}
