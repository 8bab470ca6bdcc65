#!/bin/bash
# The user data of a worker's instance. The controller inserts the settings below. They contain no credentials, because
# those come from the instance profile.
#
# On an AMI, the unit image-classifier-settings reads them as data at each boot, and starts the worker long before
# cloud-init runs this script (deploy/boot_settings.py). The script is for instances of the local AWS, which have no
# systemd. There, the machine is shut down when the worker ends.
set -u
if systemctl cat image-classifier-settings &> /dev/null; then exit; fi
settings=$(mktemp)
cat > "$settings" << 'END_OF_WORKER_SETTINGS'
# SETTINGS
END_OF_WORKER_SETTINGS
set -a
# shellcheck source=/dev/null
. "$settings"
set +a
rm "$settings"
export MODEL_CACHE=${MODEL_CACHE:-/opt/image-classifier/model}
cd "${APP_DIR:-/opt/image-classifier}" && .venv/bin/python -m worker
shutdown -h now
