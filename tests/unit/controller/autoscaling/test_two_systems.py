"""Two systems in one account and region, whose workers have the same name."""

from cloud.provision import provision
from cloud.request_queue import RequestQueue
from controller.web.services import Services


def active(services: Services) -> list[str]:
    return [i.instance_id for i in services.autoscaler.fleet.instances() if i.active]


def test_an_idle_system_leaves_the_workers_of_another_one_alone(aws, make, settings):
    other = {
        "input_bucket": "other-input",
        "output_bucket": "other-output",
        "state_bucket": "other-state",
        "request_queue": "other-requests",
    }
    provision(aws.s3, aws.sqs, settings.model_copy(update=other))
    idle, busy = make(), make(**other)
    RequestQueue(aws.sqs, "other-requests").send([f"{'1' * 32}/0000-cat.jpg"])
    busy.autoscaler.reconcile()
    launched = active(busy)
    assert len(launched) == 1
    idle.autoscaler.reconcile()
    assert active(busy) == launched
    assert active(idle) == []
