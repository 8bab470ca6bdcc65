"""Asks for a batch, and shows how far it is until it is done: `python -m controller.batch s3://bucket/prefix`.

It runs on any machine that has AWS credentials and the settings of the controller. Ctrl-C leaves the batch
running: the controllers go on with it.
"""

import argparse
import sys
import time
from threading import Event, Thread
from typing import Any

from cloud.buckets import Bucket
from cloud.clients import make_clients
from cloud.errors import CloudError
from cloud.image_id import new_shard
from cloud.settings import ControllerSettings, SettingsError
from controller.batches.answer import BatchAnswer
from controller.batches.batches import Batches
from controller.batches.order import Order, read_order
from controller.container import make_batches, make_notices, start_notices
from controller.image_requests.errors import RequestRefused
from controller.image_requests.fair_pool import FairPool
from controller.image_requests.request_ids import RequestIds

LOOK_SECONDS = 2.0
ACTIONS: dict[object, dict[str, Any]] = {
    bool: {"action": "store_true"},
    bool | None: {"action": argparse.BooleanOptionalAction},
}
"""How the options of some types of fields are read: `--requester-pays`, and `--spot` or `--no-spot`."""


def main() -> int:
    try:
        order = read_arguments(sys.argv[1:])
        settings, clients = ControllerSettings.from_environment(), make_clients()
        ids = RequestIds(Bucket(clients.s3, settings.state_bucket), new_shard())
        notices = make_notices(settings, clients, FairPool(1, "answers"))
        start_notices(notices)
        batches = make_batches(settings, clients, ids, tell=notices.tell)
        batch_id = batches.ask(order, client="").batch_id
        print(batch_id, flush=True)
        Thread(target=batches.run, args=[Event()], name="batches", daemon=True).start()
        answer = follow(batches, batch_id)
    except (SettingsError, CloudError, RequestRefused) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nThe batch goes on without this program.")
        return 130
    return 0 if answer.status == "finished" and not answer.failed else 3


def read_arguments(given: list[str]) -> Order:
    """Returns what is asked for. Raises BadBatch when something is wrong, and SystemExit for bad usage."""
    parser = argparse.ArgumentParser(
        "controller.batch", description="Classifies images where they lie in S3."
    )
    for name, field in Order.model_fields.items():
        option = name if field.is_required() else f"--{name.replace('_', '-')}"
        parser.add_argument(option, help=field.description, default=None, **ACTIONS.get(field.annotation, {}))
    arguments = vars(parser.parse_args(given)).items()
    return read_order({name: value for name, value in arguments if value not in (None, "")})


def follow(batches: Batches, batch_id: str) -> BatchAnswer:
    """Prints how far the batch is whenever that changes, until it is complete. Returns the last answer.

    Raises CloudError when the batch has expired meanwhile.
    """
    said = ""
    while True:
        if (answer := batches.answer(batch_id)) is None:
            raise CloudError(f"the batch {batch_id} is no longer stored")
        if answer.message != said:
            said = answer.message
            print(said, flush=True)
        if answer.complete:
            return answer
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
