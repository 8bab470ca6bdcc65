"""A picture for each trace: the fleet's size over time, and cost against waiting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from bench.simulation.parameters import Parameters
from bench.simulation.traces import Trace

COLOURS = ("#0072b2", "#56b4e9", "#cc79a7", "#d55e00", "#e69f00", "#009e73", "#999999", "#444444")
MARKERS = "ovPsD^<>"
COLUMNS = 600  # points of time in a picture


class Row(Protocol):
    policy: str
    dollars: float
    p95: float
    oracle: float
    sizes: list[tuple[float, int]]


def draw(trace: Trace, rows: Sequence[Row], parameters: Parameters, folder: Path) -> Path:
    """Writes <folder>/<trace>.png."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    draw_sizes(left, trace, rows, parameters)
    draw_costs(right, rows)
    figure.suptitle(f"{trace.name}: {trace.total * trace.block:,} images in {trace.seconds / 3600:.1f} hours")
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    folder.mkdir(exist_ok=True)
    path = folder / f"{trace.name}.png"
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)
    return path


def draw_sizes(axes: Axes, trace: Trace, rows: Sequence[Row], parameters: Parameters) -> None:
    edges = np.linspace(0, trace.seconds, COLUMNS + 1)
    images, _ = np.histogram(trace.arrivals, edges)
    busy = images * trace.block / np.diff(edges) / parameters.images_per_second
    axes.fill_between(edges[:-1] / 60, busy, step="post", color="#dddddd", label="needed by the load")
    for row, colour in zip(rows, COLOURS, strict=True):
        times, sizes = np.array(row.sizes).T
        # The most within each column, so that no peak is lost.
        column = np.searchsorted(times, edges[1:], side="right") - 1
        before = np.append(0, column[:-1])
        most = [sizes[i : j + 1].max() for i, j in zip(before, column, strict=True)]
        axes.step(edges[:-1] / 60, most, where="post", color=colour, linewidth=1.2)
    axes.set(xlabel="minutes", ylabel="instances (grey: needed by the load)")
    axes.set_yscale("symlog", linthresh=2)
    axes.set_ylim(bottom=0)


def draw_costs(axes: Axes, rows: Sequence[Row]) -> None:
    bound = sorted((row.p95, row.oracle) for row in rows if np.isfinite(row.oracle))
    axes.plot(*zip(*bound, strict=True), color="black", linestyle=":", label="oracle")
    for row, colour, marker in zip(rows, COLOURS, MARKERS, strict=True):
        axes.scatter(row.p95, row.dollars, color=colour, marker=marker, s=60, label=row.policy, zorder=3)
    axes.set(xscale="log", yscale="log", xlabel="95th percentile of the time to answer, seconds")
    axes.set_ylabel("dollars of instances and disks")
    axes.grid(which="both", alpha=0.2)
