"""Imports OpenVINO without its telemetry, which would tell its makers of each import and conversion.

All of the project imports `openvino` from here. Without the package `openvino_telemetry`, OpenVINO and NNCF
send nothing; to Python, that package is not there from now on. The import also takes half the time.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

__all__ = ["openvino"]
