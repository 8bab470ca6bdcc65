"""Serves the metrics to Prometheus."""

from flask import Blueprint, Response, request
from prometheus_client.exposition import choose_encoder

from controller.web.metrics import registry
from controller.web.services import services

metrics = Blueprint("metrics", __name__)


@metrics.get("/metrics")
def show_metrics() -> Response:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return Response(encode(registry(services().fleet_metrics)), content_type=content_type)
