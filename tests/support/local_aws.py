"""Clients of a local AWS that runs in the process of the tests."""

from typing import Any

import boto3
from botocore.config import Config

from local.endpoint import Endpoint

ONE_TRY = Config(retries={"total_max_attempts": 1})


def client_of(endpoint: Endpoint, service: str, config: Config | None = None) -> Any:
    """Returns a boto3 client with the key that the endpoint accepts."""
    return boto3.client(
        service,  # type: ignore[call-overload]
        endpoint_url=endpoint.url,
        region_name=endpoint.region,
        aws_access_key_id=endpoint.key.id,
        aws_secret_access_key=endpoint.key.secret,
        config=config,
    )
