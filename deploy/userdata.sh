#!/bin/bash
# The user data of a worker's instance. The controller inserts the settings below. They contain no credentials, because
# those come from the instance profile. When the worker ends, the machine is shut down.
set -u
settings=$(mktemp)
cat > "$settings" << 'END_OF_SETTINGS'
# SETTINGS
END_OF_SETTINGS
set -a
# shellcheck source=/dev/null
. "$settings"
set +a
: "${BOOT_TIMEOUT:=300}"

# The AMI has a service, which lets the worker drain when EC2 shuts the machine down. Without it, cloud-init would kill
# the worker.
if systemctl cat image-classifier-worker &> /dev/null; then
  # A dead man's timer: whenever it elapses, it switches the machine off if the worker is not ready. A controller would
  # have replaced such a worker after BOOT_TIMEOUT, but perhaps none runs.
  systemd-run --unit=image-classifier-dead-man --on-active=$((2 * BOOT_TIMEOUT)) \
    --on-unit-active=$((2 * BOOT_TIMEOUT)) --timer-property=AccuracySec=1 \
    sh -c 'systemctl is-active image-classifier-worker || systemctl poweroff'
  install -D -m 644 "$settings" /etc/image-classifier/worker.env
  systemctl start --no-block image-classifier-worker && exit
fi

# An instance of the local AWS has no systemd, and costs nothing if it hangs.
rm "$settings"
export MODEL_CACHE=${MODEL_CACHE:-/opt/image-classifier/model}
cd "${APP_DIR:-/opt/image-classifier}" && .venv/bin/python -m worker
shutdown -h now
