"""Compares torch, OpenVINO and ONNX Runtime, at each precision, with the models of the setting MODEL.

    .venv/bin/python -m bench.engines [--photos DIR] [--models resnet18,…]

Each engine runs in a process of its own. It prints a table and writes bench/plots/engines.png. The rows of
ONNX Runtime need the packages in bench/requirements.txt. bench/README.md says how to read the table.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench.arguments import parser_with_photos
from bench.photos import different_photos
from local.driver import ROOT

MODELS = ("resnet18", "resnet50", "resnet152", "resnext50_32x4d", "wide_resnet50_2", "efficientnet_lite0")
KINDS = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
)
BATCHES = (1, 8)
CALIBRATION, MEASURED = 100, 100
PLOT = ROOT / "bench" / "plots" / "engines.png"
SECONDS = 600


@dataclass(frozen=True)
class Row:
    model: str
    engine: str
    precision: str
    rates: dict[str, float]
    """Images per second by `<threads>x<batch>`."""
    agreement: float
    difference: float
    """The largest difference of a confidence from that of torch in fp32."""
    megabytes: float
    start_ms: float
    memory_mb: float


def main() -> None:
    parser = parser_with_photos(__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help=f"(default: {','.join(MODELS)})")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if kind[0] != "onnxruntime" or find_spec("onnxruntime")]
    if len(kinds) < len(KINDS):
        print("Without ONNX Runtime; for its rows: pip install -r bench/requirements.txt")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        for number, photo in enumerate(different_photos(CALIBRATION + MEASURED, options.photos)):
            (folder / "photos" / f"{number:04}.jpg").write_bytes(photo)
        print(f"{os.cpu_count()} cores, {MEASURED} photos; threads x images in a batch\n")
        print(header())
        for model in options.models.split(","):
            child("bench.engine_files", model, folder, str(CALIBRATION), *{engine for engine, _ in kinds})
            expected = None
            for engine, precision in kinds:
                row, confidences = measure(model, engine, precision, folder, expected)
                expected = confidences if expected is None else expected
                rows.append(row)
                print(line(row), flush=True)
    draw(rows)
    print(f"\n{PLOT.relative_to(ROOT)}")


def child(module: str, *arguments: object) -> str:
    """Returns what `python -m module` prints."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def measure(
    model: str, engine: str, precision: str, folder: Path, expected: np.ndarray | None
) -> tuple[Row, np.ndarray]:
    """Returns the figures of one engine, and its confidences. `expected` are those of torch in fp32."""
    batches = ",".join(map(str, BATCHES))
    found: dict[str, Any] = json.loads(child("bench.engine_run", model, engine, precision, folder, batches))
    confidences = np.load(folder / "confidences.npy")
    expected = confidences if expected is None else expected
    row = Row(
        model,
        engine,
        precision,
        agreement=float((confidences.argmax(1) == expected.argmax(1)).mean()),
        difference=float(np.abs(confidences - expected).max()),
        **found,
    )
    return row, confidences


def header() -> str:
    rates = "".join(f"{key:>9}" for key in keys())
    rest = "".join(f"{name:>9}" for name in ("agrees", "differs", "size", "start", "memory"))
    return f"{'model':20}{'engine':13}{'':6}{rates}{rest}"


def keys() -> list[str]:
    return [f"{threads}x{batch}" for threads in sorted({1, os.cpu_count() or 1}) for batch in BATCHES]


def line(row: Row) -> str:
    rates = "".join(f"{row.rates[key]:9.1f}" for key in keys())
    return (
        f"{row.model:20}{row.engine:13}{row.precision:6}{rates}{row.agreement:9.0%}{row.difference:9.1g}"
        f"{row.megabytes:6.0f} MB{row.start_ms:6.0f} ms{row.memory_mb:6.0f} MB"
    )


def draw(rows: list[Row]) -> None:
    models = list(dict.fromkeys(row.model for row in rows))
    kinds = list(dict.fromkeys((row.engine, row.precision) for row in rows))
    figure, axes = plt.subplots(figsize=(11, 4.5), layout="constrained")
    width = 0.8 / len(kinds)
    torch = {row.model: max(row.rates.values()) for row in rows if (row.engine, row.precision) == kinds[0]}
    for number, kind in enumerate(kinds):
        ratios = [
            max(row.rates.values()) / torch[row.model] for row in rows if (row.engine, row.precision) == kind
        ]
        axes.bar([at + number * width for at in range(len(models))], ratios, width, label=" ".join(kind))
    axes.set_xticks([at + 0.4 - width / 2 for at in range(len(models))], models)
    axes.set(ylabel="images/s, torch in fp32 = 1")
    axes.legend(ncols=4, frameon=False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110)


if __name__ == "__main__":
    main()
