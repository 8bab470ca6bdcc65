"""Runs baked networks with OpenVINO on the processor. Whoever imports this module loads OpenVINO."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.artefact import ClassifierError, Network
from worker.preprocessing import Pixels
from worker.quiet_openvino import openvino

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's INFERENCE_PRECISION_HINT by precision. A quantised graph itself says what is int8."""


def load_openvino(file: Path, precision: str, cores: int) -> Network:
    """Returns the network in a file, to be run by OpenVINO on the processor.

    It is compiled for `cores` threads that each call it for a batch of their own. On the measured processors,
    that is faster than one batch at a time on all cores (bench/README.md). Raises ClassifierError when the
    network cannot be loaded.
    """
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

    # OpenVINO's bindings deadlock now and then when several threads make a process's first call at once.
    _, *sides = compiled.input().partial_shape
    network(np.zeros((1, *(side.get_length() for side in sides)), np.uint8))
    return network


def supported_precisions() -> list[str]:
    """Returns which of bf16 and int8 this processor has instructions for."""
    names = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [name.lower() for name in names if name in ("BF16", "INT8")]
