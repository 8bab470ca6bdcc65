"""The controller's small replay of the past, beside the simulator, which knows every image."""

import pytest

from bench.simulate import policies, simulate
from bench.simulation.bill import INSTANCE_SECOND
from bench.simulation.parameters import Parameters
from bench.simulation.traces import Trace, make_trace
from controller.autoscaling.fleet_history import SentByMinute, add_sent
from controller.autoscaling.planner import Policy
from controller.autoscaling.replay import Worker, billed_seconds

PARAMETERS = Parameters()


def by_minute(trace: Trace) -> SentByMinute:
    sent: SentByMinute = {}
    for at, blocks in zip(trace.times, trace.images, strict=True):
        add_sent(sent, int(at // 60), 1, int(blocks) * trace.block)
    return sent


@pytest.mark.parametrize("name", ["steady", "burst", "trickle"])
@pytest.mark.parametrize(("number", "scaling"), [(0, "queue"), (1, "rate")])
def test_a_replay_costs_about_what_a_simulation_costs(name: str, number: int, scaling: str) -> None:
    trace = make_trace(name, seed=1)
    parameters = PARAMETERS.in_blocks(trace.block)
    simulated = simulate(trace, policies(trace, parameters)[number], parameters, seed=1).dollars
    policy = Policy(
        PARAMETERS.maximum,
        PARAMETERS.images_per_instance,
        boot_timeout=300,
        silent_after=60,
        scaling=scaling,  # type: ignore[arg-type]
    )
    worker = Worker(PARAMETERS.images_per_second, PARAMETERS.cold_seconds)
    replayed = billed_seconds(by_minute(trace), policy, worker) * INSTANCE_SECOND
    assert replayed == pytest.approx(simulated, rel=0.2)
