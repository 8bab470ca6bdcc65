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
from bench.simulation.luck import draw_work
from bench.simulation.others import Fixed, KedaHpa, Plain, TargetTracking
from bench.simulation.ours import Ours
from bench.simulation.parameters import Parameters
from bench.simulation.plots import draw
from bench.simulation.traces import TRACES, Trace, make_trace
from bench.simulation.world import Policy, World

PLOTS = Path(__file__).parent / "plots"
GOAL = 1.15  # times the oracle's cost


@dataclass
class Row:
    """What one policy did with one trace. Times are in seconds."""

    policy: str
    cost: float
    """Instance-seconds."""
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
    """The least cost for the same 95th percentile."""


def policies(trace: Trace, parameters: Parameters) -> list[Policy]:
    mean, peak = (rate / parameters.images_per_second for rate in (trace.mean(), trace.peak_minute()))
    return [
        Ours(),
        Plain(),
        TargetTracking(),
        KedaHpa(),
        Fixed("fixed, for the mean", ceil(1.25 * mean)),
        Fixed("fixed, for the peak", ceil(1.1 * peak)),
    ]


def simulate(trace: Trace, policy: Policy, parameters: Parameters, seed: int) -> Row:
    world = World(trace, policy, parameters, seed)
    world.run()
    waited = world.answered_at - trace.arrivals
    p50, p95 = np.percentile(waited, [50, 95], method="higher")
    return Row(
        policy=policy.name,
        cost=world.ec2.billed(),
        p50=float(p50),
        p95=float(p95),
        most=world.ec2.most,
        launches=world.ec2.launches,
        unanswered=int(np.count_nonzero(waited > parameters.request_timeout)),
        until=world.now,
        sizes=world.ec2.sizes,
    )


def simulate_one(name: str, number: int, parameters: Parameters, seed: int) -> Row:
    """With its oracle."""
    trace = make_trace(name, seed)
    row = simulate(trace, policies(trace, parameters)[number], parameters, seed)
    if isfinite(row.p95):
        work = draw_work(trace, parameters, seed)
        row.oracle = oracle.least_cost(trace, work, parameters, row.p95, row.until)
    return row


def table(rows: Iterable[Row]) -> str:
    head = f"{'policy':20} {'cost':>9} {'oracle':>9} {'cost/oracle':>11} {'p50':>7} {'p95':>8}"
    lines = [f"{head} {'most':>5} {'launches':>8} {'unanswered':>10}"]
    for r in rows:
        figures = f"{r.cost:9.0f} {r.oracle:9.0f} {r.cost / r.oracle:11.2f} {r.p50:7.2f} {r.p95:8.2f}"
        lines.append(f"{r.policy:20} {figures} {r.most:5} {r.launches:8} {r.unanswered:10}")
    return "\n".join(lines)


def verdict(ours: Row, others: Iterable[Row]) -> str:
    better = [f"{other.policy} ({other.p95:.2f} s)" for other in others if other.p95 < ours.p95]
    cost = "within" if ours.cost <= GOAL * ours.oracle else "not within"
    who = f"a p95 worse than {', '.join(better)}" if better else "a p95 no worse than any other's"
    return f"{ours.policy}: {cost} 15 % of the oracle's cost; {who}"


def main() -> None:
    options = parse_arguments()
    names = [f.name for f in fields(Parameters)]
    parameters = Parameters(**{name: getattr(options, name) for name in names})
    started = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name in options.traces.split(","):
            trace = make_trace(name, options.seed)
            count = len(policies(trace, parameters))
            rows = [pool.submit(simulate_one, name, n, parameters, options.seed) for n in range(count)]
            report(trace, [row.result() for row in rows], parameters)
    print(f"{time.monotonic() - started:.0f} s on {os.cpu_count()} cores")


def report(trace: Trace, rows: list[Row], parameters: Parameters) -> None:
    print(f"{trace.name}: {trace.total} images in {len(trace.times)} requests, {trace.seconds:.0f} s")
    print(table(rows))
    print(verdict(rows[0], rows[1:]))
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
