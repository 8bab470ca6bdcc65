"""Quantises networks to int8 with NNCF."""

import logging
import random
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO

import numpy as np

from worker.artefact import ClassifierError
from worker.pixels import Pixels
from worker.quiet_openvino import openvino


def check_nncf() -> None:
    """Raises ClassifierError when NNCF is not installed."""
    if find_spec("nncf") is None:
        raise ClassifierError(
            "int8 needs NNCF, which is not installed here: pip install nncf, or use another PRECISION."
        )


def quantise(network: openvino.Model, photos: Pixels) -> openvino.Model:
    """Returns the network with int8 weights and activations, whose ranges are those that the photos cause.

    `network` is one of `convert`, and is not changed. Its first and last layer stay in fp32, which costs a
    tenth of the speed and makes more labels those of fp32 (docs/decisions.md). The same photos give the same
    result.
    """
    check_nncf()
    random.seed(0)
    np.random.seed(0)
    with (
        warnings.catch_warnings(),
        redirect_stdout(StringIO()),
        redirect_stderr(StringIO()),
    ):  # NNCF draws bars
        warnings.simplefilter("ignore")
        import nncf  # not at the top of the file, because it takes seconds to load, and may be missing

        # nncf.set_log_level would also change the level of handlers that others share with it.
        logging.getLogger("nncf").setLevel(logging.ERROR)
        return nncf.quantize(
            network.clone(),
            nncf.Dataset(list(photos), lambda photo: photo[np.newaxis]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(photos),
            ignored_scope=nncf.IgnoredScope(names=first_and_last_layer(network)),
        )


def first_and_last_layer(network: openvino.Model) -> list[str]:
    """Returns the names of the first and the last convolution or matrix product of a network."""
    layers = [
        operation.get_friendly_name()
        for operation in network.get_ordered_ops()
        if operation.get_type_name() in ("Convolution", "GroupConvolution", "MatMul")
    ]
    return [layers[0], layers[-1]]
