"""Shows operators the queue, the instances, the autoscaler's decisions and the costs."""

from datetime import timedelta

from flask import Blueprint, Response, render_template, request
from werkzeug.exceptions import BadRequest

from controller.dashboard import fleet_chart, fleet_text
from controller.dashboard.fleet_view import FleetAnswer
from controller.web.negotiation import PAGE, Form, wanted_form
from controller.web.replies import as_json
from controller.web.services import services

fleet = Blueprint("fleet", __name__)

WINDOWS = {"10m": timedelta(minutes=10), "1h": timedelta(hours=1), "24h": timedelta(hours=24)}
NAMES = {"10m": "10 minutes", "1h": "1 hour", "24h": "24 hours"}
ROWS_SHOWN = 100  # instances on the page; the JSON has all of them
DECISIONS_SHOWN = 20  # on the page
BOOTS_SHOWN = 10  # on the page
TABLE_ROWS = 20  # in the table of the history


@fleet.get("/fleet")
def show_fleet() -> Response:
    """Shows the fleet. `?window=` sets the length of the history: 10m (the default), 1h or 24h.

    Raises BadRequest for any other window.
    """
    name = request.args.get("window") or "10m"
    if name not in WINDOWS:
        raise BadRequest(f"window is {name!r}, but it should be one of {', '.join(WINDOWS)}.")
    window, form = WINDOWS[name], wanted_form(request, PAGE)
    answer = services().fleet_view.recent().lately(window)
    if form is Form.HTML:
        response = Response(page(answer, name, window), mimetype="text/html")
    elif form is Form.JSON:
        response = as_json(answer.model_dump(mode="json"), 200)
    else:
        response = Response(fleet_text.as_text(answer), mimetype="text/plain")
    response.headers["Vary"] = "Accept"
    return response


def page(answer: FleetAnswer, name: str, window: timedelta) -> str:
    start = answer.at - window
    history = answer.history
    return render_template(
        "fleet.html",
        fleet=answer,
        new=not answer.instances and not answer.money.instance_seconds,
        windows=NAMES,
        window=name,
        charts=[
            fleet_chart.queue_chart(history, start, answer.at),
            fleet_chart.instances_chart(history, start, answer.at),
        ],
        ticks=fleet_chart.ticks(window, 2),
        table=fleet_chart.table(history, start, answer.at, TABLE_ROWS),
        shown=answer.instances[:ROWS_SHOWN],
        decisions=fleet_text.told(answer.decisions, DECISIONS_SHOWN),
        boots=answer.boots[:BOOTS_SHOWN],
        medians=fleet_text.stage_medians(answer.boots),
        words=fleet_text,
    )
