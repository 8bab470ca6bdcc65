"""Measures one engine in a process of its own.

`python -m bench.engine_run MODEL ENGINE PRECISION FOLDER BATCHES` needs the folder that bench.engine_files
has written. It prints the figures as JSON, and writes the confidences of all photos to the folder.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from worker.artefact import Network

MEASURE_SECONDS = 1.0


def load(model: str, engine: str, precision: str, folder: Path, threads: int) -> tuple[Network, int]:
    """Returns the network, and how many threads should call it at once."""
    if engine == "torch":
        import torch

        from worker.torch_network import load_model, torch_network

        torch.set_num_threads(threads)
        weights = (folder / "weights.txt").read_text()
        return torch_network(load_model(model, weights, None, lambda url: b""), precision), 1
    if engine == "openvino":
        from worker.openvino_network import load_openvino

        return load_openvino(file_of(engine, precision, folder), precision, threads), threads
    return load_onnxruntime(file_of(engine, precision, folder)), threads


def load_onnxruntime(file: Path) -> Network:
    """Returns a network that works in the thread that calls it, as OpenVINO's does here."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def file_of(engine: str, precision: str, folder: Path) -> Path:
    name = "int8" if precision == "int8" else "fp32"
    return folder / f"{name}.{'xml' if engine == 'openvino' else 'onnx'}"


def megabytes(engine: str, precision: str, folder: Path) -> float:
    """Returns the size of the network's files."""
    if engine == "torch":
        file = folder / "weights.pt"
        files = [file if file.exists() else folder / "fp32.bin"]  # published weights are as large as these
    else:
        files = list(folder.glob(f"{file_of(engine, precision, folder).stem}.[xbo]*"))
        files = [file for file in files if (file.suffix == ".onnx") == (engine == "onnxruntime")]
    return sum(file.stat().st_size for file in files) / 1e6


def rate(network: Network, callers: int, pixels: np.ndarray, batch: int) -> float:
    """Returns the images per second when so many threads call the network with batches of this size."""

    def call(number: int) -> int:
        done, until = 0, time.perf_counter() + MEASURE_SECONDS
        while done == 0 or time.perf_counter() < until:
            first = (number * 31 + done) % (len(pixels) - batch + 1)
            network(pixels[first : first + batch])
            done += batch
        return done

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(lambda _: network(pixels[:batch]), range(callers)))
        started = time.perf_counter()
        return sum(pool.map(call, range(callers))) / (time.perf_counter() - started)


def peak_memory() -> float:
    """Returns the most memory that this process has had, in MB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def main(model: str, engine: str, precision: str, folder: Path, batches: list[int]) -> None:
    pixels, cores = np.load(folder / "pixels.npy"), os.cpu_count() or 1
    started = time.perf_counter()
    network, callers = load(model, engine, precision, folder, cores)
    network(pixels[:1])
    start_ms = (time.perf_counter() - started) * 1000
    memory = peak_memory()
    rates = {f"{cores}x{batch}": rate(network, callers, pixels, batch) for batch in batches}
    confidences = [network(pixels[first : first + 8]) for first in range(0, len(pixels), 8)]
    np.save(folder / "confidences.npy", np.concatenate(confidences))
    network, callers = load(model, engine, precision, folder, 1)
    rates |= {f"1x{batch}": rate(network, callers, pixels, batch) for batch in batches}
    size = megabytes(engine, precision, folder)
    print(json.dumps({"rates": rates, "megabytes": size, "start_ms": start_ms, "memory_mb": memory}))


if __name__ == "__main__":
    main(
        sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), [int(one) for one in sys.argv[5].split(",")]
    )
