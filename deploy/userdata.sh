#!/bin/bash
# What a worker instance runs at boot. The controller puts the settings in; credentials are no
# settings: they come from the instance profile. When the worker ends, so does the machine.
set -u
# SETTINGS

cd "${APP_DIR:-/opt/image-classifier}" || shutdown -h now
.venv/bin/python -m worker
shutdown -h now
