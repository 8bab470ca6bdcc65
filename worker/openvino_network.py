"""Runs baked networks with OpenVINO on the processor. Whoever imports this module loads OpenVINO."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.artefact import ClassifierError, Network
from worker.pixels import Pixels
from worker.quiet_openvino import openvino
from worker.threads import yield_to_others

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's INFERENCE_PRECISION_HINT by precision. A quantised graph itself says what is int8."""


def load_openvino(file: Path, precision: str, cores: int) -> Network:
    """Returns the network in a file, to be run by OpenVINO on the processor.

    It is compiled for `cores` threads that each call it for a batch of their own. On the measured processors,
    that is faster than one batch at a time on all cores (bench/README.md). Raises ClassifierError when the
    network cannot be loaded.
    """
    with ThreadPoolExecutor(1, initializer=yield_to_others) as thread:  # OpenVINO's own threads inherit this
        return thread.submit(compile_network, file, precision, cores).result()


def compile_network(file: Path, precision: str, cores: int) -> Network:
    """Does the work of load_openvino."""
    options = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": cores,
        "NUM_STREAMS": cores,
    }
    try:
        compiled = openvino.Core().compile_model(file, "CPU", options)
    except RuntimeError as error:
        raise ClassifierError(f"OpenVINO cannot load {file}: {error}") from error

    def network(images: Pixels) -> NDArray[np.float32]:
        confidences: NDArray[np.float32] = compiled.create_infer_request().infer(images)[0]
        return confidences

    # Two threads must not make the first call at once, because each would then wait for the other: one for
    # the lock of the interpreter, and one for a lock of OpenVINO's Python module.
    _, *sides = compiled.input().partial_shape
    network(np.zeros((1, *(side.get_length() for side in sides)), np.uint8))
    return network


def supported_precisions() -> list[str]:
    """Returns which of bf16 and int8 this processor has instructions for."""
    names = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [name.lower() for name in names if name in ("BF16", "INT8")]
