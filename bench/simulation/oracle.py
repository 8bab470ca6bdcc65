"""The least that any plan costs that answers 95% of the images within a given time.

The planner knows every arrival and the work of every image before the trace begins, and that a boot
takes as long as it does in the mean. Computed are two lower bounds on its bill; the greater one counts:

* `flow`: work and instances may be divided at will, so that boots, minimum billing, arrivals and
  deadlines make a linear program over slots of time. Tight where many instances run.
* `presence`: any instance at all has to be there whenever an image is answered, and it may be as fast
  as it likes. Tight where one instance has next to nothing to do.

Both let 5% of the images wait as long as they like, as a 95th percentile does, and round in the
planner's favour. So no policy can be cheaper, and no plan may be as cheap.
"""

from math import ceil

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from bench.simulation.parameters import Parameters
from bench.simulation.traces import Floats, Trace

LATE = 0.05  # share of the images that may be late
SLOTS = 1500
FEW_REQUESTS = 2000  # `presence` takes time with the square of their number, and gains nothing from many
PRICES = 30  # bisections for the price of a late image


def least_cost(trace: Trace, work: Floats, parameters: Parameters, within: float, until: float) -> float:
    """Instance-seconds. `within` is the 95th percentile to keep, `until` when all must be answered."""
    cost = flow(trace.arrivals, work, parameters, within, until)
    if len(trace.times) <= FEW_REQUESTS:
        cost = max(cost, presence(trace, parameters, within))
    return cost


def flow(arrivals: Floats, work: Floats, parameters: Parameters, within: float, until: float) -> float:
    slot = max(1.0, until / SLOTS)
    lead = ceil(parameters.boot_seconds / slot)  # slots before the trace, so that it may begin warm
    slots = lead + ceil(until / slot)
    where = lead + (arrivals / slot).astype(int)
    arriving: Floats = np.bincount(where, weights=work, minlength=slots).astype(float)
    in_time = np.sort(work)[: ceil((1 - LATE) * len(work))].sum()  # the late ones may be the hardest ones
    boot = max(1, int(parameters.boot_seconds // slot))
    least = max(1, int(parameters.minimum_billed // slot))
    deadline = ceil(within / slot - 1e-9)

    one, nothing = sparse.identity(slots, format="csr"), sparse.csr_matrix((slots, slots))

    def before(n: int) -> sparse.csr_matrix:
        """Returns the value of n slots earlier."""
        return sparse.eye(slots, k=-n, format="csr")

    now = one - before(1)  # the change from the slot before
    # Columns: instances that are billed, in the slot's mean; sums so far of launches, of work done in
    # time, of work done late, and of the work that shall be done in time. Each row: not above its right
    # side. A launch falls anywhere within its slot, so that boot and minimum begin with the next one.
    rows: list[tuple[list[sparse.csr_matrix | None], float | Floats]] = [
        ([now, before(2) - one, None, None, None], 0.0),  # more instances only by launches
        ([None, -now, None, None, None], 0.0),
        ([-one, before(1) - before(least), None, None, None], 0.0),  # the minimum is billed
        ([-slot * one, slot * (before(1) - before(boot)), now, now, None], 0.0),  # who boots does no work
        ([None, None, -now, None, None], 0.0),
        ([None, None, None, -now, None], 0.0),
        ([None, None, None, None, -now], 0.0),
        ([None, None, None, None, now], arriving),
        ([None, None, one, None, -one], 0.0),  # nothing is done before it came
        ([None, None, None, one, one], np.cumsum(arriving)),
        ([None, None, -one, None, before(deadline)], 0.0),  # and what shall be in time, is
    ]
    blocks = [sparse.hstack([nothing if b is None else b for b in row], format="csr") for row, _ in rows]
    sides = [np.broadcast_to(side, slots) for _, side in rows]
    zero, last = np.zeros(slots), np.eye(1, slots, slots - 1)[0]
    in_the_end = [
        ([zero, zero, -last, zero, last], 0.0),  # all is done
        ([zero, zero, zero, -last, -last], -arriving.sum() * (1 - 1e-9)),
        ([zero, zero, zero, zero, -last], -in_time * (1 - 1e-9)),
    ]
    blocks += [sparse.csr_matrix(np.concatenate(row)[None]) for row, _ in in_the_end]
    sides += [np.array([side]) for _, side in in_the_end]
    prices = np.concatenate([np.full(slots, slot), np.zeros(4 * slots)])
    found = linprog(prices, sparse.vstack(blocks, format="csc"), np.concatenate(sides), method="highs-ipm")
    if found.status != 0:
        raise RuntimeError(f"the oracle's linear program has no solution: {found.message}")
    return float(found.fun)


def presence(trace: Trace, parameters: Parameters, within: float) -> float:
    """By dynamic programming over the requests, for the best price of a late image (Lagrange's bound)."""
    low, high, best = 0.0, 10 * parameters.minimum_billed, 0.0
    for _ in range(PRICES):
        price = (low + high) / 2
        cost, late = cheapest_visits(trace, parameters, within, price)
        best = max(best, cost - price * LATE * trace.total)
        if late > LATE * trace.total:
            low = price
        else:
            high = price
    return best


def cheapest_visits(trace: Trace, parameters: Parameters, within: float, price: float) -> tuple[float, int]:
    """Returns the cost when each late image costs `price`, and how many are late then.

    A visit answers requests i..j-1: it is there from i's deadline, or j's coming if that is earlier.
    """
    times, images = trace.times, trace.images
    cost, late = np.zeros(len(times) + 1), np.zeros(len(times) + 1, dtype=int)
    for j in range(1, len(times) + 1):
        there = np.maximum(0.0, times[j - 1] - times[:j] - within)
        visit = cost[:j] + np.maximum(parameters.minimum_billed, parameters.boot_seconds + there)
        i = int(visit.argmin())
        cost[j], late[j] = visit[i], late[i]
        skipped = cost[j - 1] + price * images[j - 1]
        if skipped < cost[j]:
            cost[j], late[j] = skipped, late[j - 1] + images[j - 1]
    return float(cost[-1]), int(late[-1])
