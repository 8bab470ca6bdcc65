"""Fleets of hundreds of instances, simulated: what each scaling policy costs, and how long people wait.

    .venv/bin/python -m bench.simulate [--traces steady,burst,…] [--seed N] [--boot-seconds 40] …

It prints a table for each trace and draws bench/plots/<trace>.png. bench/simulation.md says how to read
them.
"""

import argparse
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from math import ceil, inf, isfinite
from pathlib import Path

import numpy as np

from bench.simulation import oracle
from bench.simulation.bill import IDLE_SECOND, IMAGE, INSTANCE_SECOND
from bench.simulation.luck import draw_work
from bench.simulation.others import Fixed, KedaHpa, Plain, TargetTracking
from bench.simulation.ours import Ours
from bench.simulation.parameters import Parameters
from bench.simulation.plots import draw
from bench.simulation.traces import TRACES, Trace, make_trace
from bench.simulation.world import Policy, World
from cloud.prices import DISK_SECOND

PLOTS = Path(__file__).parent / "plots"
GOALS = {"steady": 1.15, "flash": 1.15, "daily": 1.15, "burst": 2.0}
"""The most that rate scaling with a warm pool should cost, over the oracle's cost."""
RATE, KEDA = "rate, warm pool", KedaHpa.name


@dataclass
class Row:
    """What one policy did with one trace. Times are in seconds."""

    policy: str
    dollars: float
    """For instances, and for the disks of those that are stopped."""
    requests: float
    """Dollars for requests to S3 and SQS."""
    p50: float
    p95: float
    most: int
    """Instances at once."""
    launches: int
    unanswered: int
    until: float
    """When the last image was answered, or the trace ended."""
    sizes: list[tuple[float, int]]
    oracle: float = inf
    """The least dollars for instances with the same 95th percentile."""

    @property
    def ratio(self) -> float:
        return self.dollars / self.oracle


def policies(trace: Trace, parameters: Parameters) -> list[Policy]:
    mean, peak = (rate / parameters.images_per_second for rate in (trace.mean(), trace.peak_minute()))
    return [
        Ours("queue", "queue"),
        Ours("rate", "rate"),
        Ours(RATE, "rate", parameters.warm_pool),
        Plain(),
        TargetTracking(),
        KedaHpa(),
        Fixed("fixed, for the mean", ceil(1.25 * mean)),
        Fixed("fixed, for the peak", ceil(1.1 * peak)),
    ]


def simulate(trace: Trace, policy: Policy, parameters: Parameters, seed: int) -> Row:
    world = World(trace, policy, parameters, seed)
    world.run()
    ec2 = world.ec2
    waited = world.answered_at - trace.arrivals
    p50, p95 = np.percentile(waited, [50, 95], method="higher")
    return Row(
        policy=policy.name,
        dollars=ec2.billed() * INSTANCE_SECOND + ec2.disk_seconds(world.now) * DISK_SECOND,
        requests=world.classified * trace.block * IMAGE + ec2.idle_seconds(world.busy_seconds) * IDLE_SECOND,
        p50=float(p50),
        p95=float(p95),
        most=ec2.most,
        launches=ec2.launches,
        unanswered=int(np.count_nonzero(waited > parameters.request_timeout)) * trace.block,
        until=world.now,
        sizes=ec2.sizes,
    )


def simulate_one(name: str, number: int, parameters: Parameters, seed: int) -> Row:
    """With its oracle, whose boots are as short as the policy's shortest ones."""
    trace = make_trace(name, seed)
    parameters = parameters.in_blocks(trace.block)
    policy = policies(trace, parameters)[number]
    row = simulate(trace, policy, parameters, seed)
    if isfinite(row.p95):
        work = draw_work(trace, parameters, seed)
        known = parameters.started_warm() if policy.warm_pool else parameters
        seconds = oracle.least_cost(trace, work, known, row.p95, row.until)
        row.oracle = seconds * INSTANCE_SECOND
    return row


def table(rows: Iterable[Row]) -> str:
    head = f"{'policy':20} {'instances':>10} {'requests':>10} {'oracle':>10} {'cost/oracle':>11}"
    lines = [f"{head} {'p50':>8} {'p95':>8} {'most':>5} {'launches':>8} {'unanswered':>10}"]
    for r in rows:
        dollars = " ".join(f"{f'${amount:.4f}':>10}" for amount in (r.dollars, r.requests, r.oracle))
        figures = f"{r.ratio:11.2f} {r.p50:8.2f} {r.p95:8.2f} {r.most:5} {r.launches:8} {r.unanswered:10}"
        lines.append(f"{r.policy:20} {dollars} {figures}")
    return "\n".join(lines)


def verdict(name: str, rows: Iterable[Row]) -> str:
    """Says whether rate scaling with a warm pool reaches its goals for the trace of this name."""
    by_name = {row.policy: row for row in rows}
    ours, keda = by_name[RATE], by_name[KEDA]
    half = "no worse" if ours.p95 <= keda.p95 / 2 else "worse"
    p95 = f"a p95 {half} than half of {KEDA}'s ({ours.p95:.2f} s, {keda.p95 / 2:.2f} s)"
    if name not in GOALS:
        return f"{RATE}: {ours.ratio:.2f} times the oracle's cost; {p95}"
    within = "within" if ours.ratio <= GOALS[name] else "not within"
    return f"{RATE}: {within} {GOALS[name]:g} times the oracle's cost ({ours.ratio:.2f}); {p95}"


def main() -> None:
    options = parse_arguments()
    names = [f.name for f in fields(Parameters)]
    parameters = Parameters(**{name: getattr(options, name) for name in names})
    started = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name in options.traces.split(","):
            trace = make_trace(name, options.seed)
            count = len(policies(trace, parameters.in_blocks(trace.block)))
            rows = [pool.submit(simulate_one, name, n, parameters, options.seed) for n in range(count)]
            report(trace, [row.result() for row in rows], parameters)
    print(f"{time.monotonic() - started:.0f} s on {os.cpu_count()} cores")


def report(trace: Trace, rows: list[Row], parameters: Parameters) -> None:
    images = trace.total * trace.block
    print(f"{trace.name}: {images} images in {len(trace.times)} requests, {trace.seconds:.0f} s")
    print(table(rows))
    print(verdict(trace.name, rows))
    print(f"{draw(trace, rows, parameters, PLOTS).relative_to(Path.cwd())}\n", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m bench.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", default=",".join(TRACES), help=f"default: {','.join(TRACES)}")
    parser.add_argument("--seed", type=int, default=1, help="of loads, works and boots (default: 1)")
    for field in fields(Parameters):
        if field.name == "shortfalls":
            continue
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            help=f"{field.metadata['meaning']} (default: {field.default:g})",
        )
    parser.add_argument(
        "--shortfall",
        dest="shortfalls",
        action="append",
        type=read_shortfall,
        default=[],
        metavar="FROM:TO:INSTANCES",
        help="EC2 has no more than so many instances from one second to another; may be repeated",
    )
    return parser.parse_args()


def read_shortfall(text: str) -> tuple[float, float, int]:
    start, end, instances = text.split(":")
    return float(start), float(end), int(instances)


if __name__ == "__main__":
    main()
