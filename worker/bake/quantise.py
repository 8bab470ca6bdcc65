"""Quantises networks to int8 with NNCF."""

import logging
import random
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO

import numpy as np

from worker.artefact import ClassifierError
from worker.preprocessing import Pixels
from worker.quiet_openvino import openvino


def check_nncf() -> None:
    """Raises ClassifierError when NNCF is not installed."""
    if find_spec("nncf") is None:
        raise ClassifierError(
            "int8 needs NNCF, which is not installed here: pip install nncf, or use another PRECISION."
        )


def quantise(network: openvino.Model, photos: Pixels) -> openvino.Model:
    """Returns the network with int8 weights and activations, whose ranges are those that the photos cause.

    `network` is one of `convert`, and is not changed. The same photos give the same result.
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

        nncf.set_log_level(logging.ERROR)
        return nncf.quantize(
            network.clone(),
            nncf.Dataset(list(photos), lambda photo: photo[np.newaxis]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(photos),
        )
