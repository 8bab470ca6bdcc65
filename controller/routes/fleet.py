from flask import Blueprint, Response

from controller.replies import as_json, services

fleet = Blueprint("fleet", __name__)


@fleet.get("/fleet")
def show_fleet() -> Response:
    return as_json(services().fleet_view.read().model_dump(mode="json"), 200)
