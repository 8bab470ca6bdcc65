#!/bin/bash
# What a worker instance runs at boot. The controller puts the settings in; credentials are no
# settings: they come from the instance profile. When the worker ends, so does the machine.
set -u
settings=$(mktemp)
cat > "$settings" << 'END_OF_SETTINGS'
# SETTINGS
END_OF_SETTINGS

# The AMI has a unit, which drains when EC2 shuts the machine down; what cloud-init itself runs is just killed.
if systemctl cat image-classifier-worker &> /dev/null; then
  install -D -m 644 "$settings" /etc/image-classifier/worker.env
  systemctl start image-classifier-worker && exit
fi

set -a
# shellcheck source=/dev/null
. "$settings"
set +a
rm "$settings"
cd "${APP_DIR:-/opt/image-classifier}" && .venv/bin/python -m worker
shutdown -h now
