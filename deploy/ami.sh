#!/bin/bash
# Installs controller and worker on a fresh Debian, Ubuntu or Amazon Linux, so that an AMI can be made of the machine.
# Run this once, as root:
#
#     tar c cloud controller worker deploy requirements.txt | ssh admin@HOST 'tar x && sudo deploy/ami.sh'
#
# These can be set in its environment (`sudo NAME=value deploy/ami.sh`):
#
#     MODEL, ENGINE, PRECISION  the settings of the worker; its ImageNet weights are downloaded, and it is baked here and
#                               tried on a picture
#     WEIGHTS_FILE              a state dict to use instead of the ImageNet weights
#     LABELS_FILE               the class names for the state dict, one per line, if they are not those of ImageNet
#     PHOTOS                    a folder of photos with which PRECISION=auto and PRECISION=int8 are baked
#     TORCH_INDEX_URL           the package index for torch; use https://pypi.org/simple for instances with a GPU. Only
#                               files from there are checked against the hashes in the locks.
#     VENV_OPTIONS              --system-site-packages, to use a torch that is already installed on the machine
#
# The environment of the services has no torch, unless ENGINE is torch or OpenVINO cannot run the model here.
set -euo pipefail
cd "$(dirname "$0")/.."

APP=/opt/image-classifier
TORCH_INDEX_URL=${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu} # builds without CUDA
export MODEL=${MODEL:-resnet18} WEIGHTS=imagenet LABELS='' ENGINE=${ENGINE:-openvino} PRECISION=${PRECISION:-auto}
export TORCH_HOME=$APP/weights MODEL_CACHE=$APP/model PHOTOS=${PHOTOS:+$(realpath "$PHOTOS")}
export TMPDIR=/var/tmp # /tmp may be in memory, and torch for GPUs is some gigabytes
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# What the machine of a worker does without while it boots, whatever the distribution: updates, clean-up, snaps, and the
# last two stages of cloud-init. On a controller they all run.
NOT_ON_WORKERS="apt-daily apt-daily-upgrade unattended-upgrades dpkg-db-backup man-db e2scrub_all e2scrub_reap fstrim
  motd-news update-notifier-download snapd snapd.seeded dnf-makecache cloud-config cloud-final"
umask 022

say() { printf '\n== %s\n' "$*"; }

install_system_packages() {
  if command -v apt-get > /dev/null; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3 python3-venv nginx unattended-upgrades
    # The controller's user data starts these. A worker lives for minutes, and should spend them on images.
    systemctl disable apt-daily.timer apt-daily-upgrade.timer
  elif command -v dnf > /dev/null; then
    dnf install -qy python3.11 nginx e2fsprogs # the volume for uploads is of ext4
    id www-data &> /dev/null || useradd --system --shell /sbin/nologin www-data # the user in nginx.conf
  else
    echo "there is neither apt-get nor dnf: only Debian, Ubuntu and Amazon Linux are supported" >&2
    return 1
  fi
}

find_python() {
  local python
  for python in python3.11 python3; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
      command -v "$python"
      return
    fi
  done
  echo "there is no Python 3.11 or later: use Debian 12, Ubuntu 24.04, Amazon Linux 2023 or a later version" >&2
  return 1
}

copy_files() {
  install -d "$APP" "$TORCH_HOME" "$MODEL_CACHE"
  cp -r cloud controller worker deploy requirements.txt "$APP"
  rm -rf "$APP/deploy/terraform" # it may hold the state of the plan
  chmod -R a+rX "$APP" # the services have users of their own
  if [ -n "${WEIGHTS_FILE:-}" ]; then
    WEIGHTS=$TORCH_HOME/$(basename "$WEIGHTS_FILE")
    install -m 644 "$WEIGHTS_FILE" "$WEIGHTS"
  fi
  if [ -n "${LABELS_FILE:-}" ]; then
    LABELS=$TORCH_HOME/$(basename "$LABELS_FILE")
    install -m 644 "$LABELS_FILE" "$LABELS"
  fi
}

# Makes the virtual environment $1 with all that the services need to serve a baked model.
make_environment() {
  "$PYTHON" -m venv --clear "$1"
  "$1/bin/pip" install --quiet --require-hashes -r worker/requirements.txt -r controller/requirements.txt
}

# Makes the virtual environment $1 of the lock $2, which has torch, and of what the controller needs. The other arguments
# are options of pip.
make_environment_with_torch() {
  local lock=$2 others=$2
  local pip=("$1/bin/pip" install --quiet "${@:3}")
  # shellcheck disable=SC2086 # there may be several options
  "$PYTHON" -m venv --clear ${VENV_OPTIONS:-} "$1"
  if [ "$TORCH_INDEX_URL" != https://pypi.org/simple ]; then
    grep -oE '^torch(vision)?==[^ ]+' "$lock" > torch.txt
    "${pip[@]}" --no-deps --index-url "$TORCH_INDEX_URL" -r torch.txt
    # Removes these packages together with their hashes.
    sed -E '/^(torch|triton|nvidia-|cuda-)/,/[^\\]$/d' "$lock" > others.txt
    others=others.txt
  fi
  "${pip[@]}" --require-hashes -r "$others" -r controller/requirements.txt
  if [ "$MODEL" = efficientnet_lite0 ]; then
    sed -n '/^efficientnet/,/[^\\]$/p' requirements.txt > lite0.txt
    "${pip[@]}" --no-deps --require-hashes -r lite0.txt
  fi
  rm -f torch.txt others.txt lite0.txt
}

install_units() {
  cp deploy/*.service /etc/systemd/system
  systemctl enable -q image-classifier-worker # it starts where the user data has the settings of a worker
  local unit
  for unit in $NOT_ON_WORKERS; do
    install -D -m 644 deploy/not-on-workers.conf "/etc/systemd/system/$unit.service.d/not-on-workers.conf"
  done
  cp deploy/nginx.conf /etc/nginx/nginx.conf
  install -d /var/spool/image-classifier # of nginx and the controller, for uploads
  nginx -t -q
  systemctl disable nginx # the user data of the controller enables it
}

# Bakes the model in a virtual environment of its own, which is deleted. Sets `engine` to what will run the model.
bake() {
  make_environment_with_torch "$APP/.bake" worker/bake/requirements.txt --no-compile # it is used once
  .bake/bin/python -m worker.bake
  chmod -R a+rX "$MODEL_CACHE" # the services have users of their own
  if grep -qE '"engine": ?"torch"' "$MODEL_CACHE"/*/manifest.json; then engine=torch; fi
  baked_in=$(size .bake)
  rm -rf .bake
}

classify_a_picture() {
  local seen
  .venv/bin/python -m deploy.classify deploy/cat.jpg > /dev/null # with torch, this downloads the weights
  # Then again as a user who cannot write here, like the service of the worker.
  seen=$(runuser -u nobody -- .venv/bin/python -m deploy.classify deploy/cat.jpg)
  echo "$seen"
  if [ "$WEIGHTS" = imagenet ] && ! [[ ${seen%%$'\n'*} =~ tabby|tiger\ cat|Egyptian\ cat ]]; then
    echo "the picture shows a cat, but the model has not recognized it" >&2
    return 1
  fi
}

size() { du -sh "$1" | cut -f1; }

tidy() {
  if [ "$engine" = openvino ]; then
    rm -rf "$TORCH_HOME/hub" # the downloaded weights are in the baked model
    # This converts models, and OpenVINO loads it whenever it is there: 4 MB from a cold disk.
    rm -rf "$APP"/.venv/lib/python3*/site-packages/openvino/tools
  fi
  if command -v apt-get > /dev/null; then apt-get clean; else dnf clean all -q; fi
  if command -v cloud-init > /dev/null; then cloud-init clean --logs; fi
}

[ "$(id -u)" = 0 ] || { echo "ami.sh must be run as root" >&2; exit 1; }
say "system packages"; install_system_packages
PYTHON=$(find_python)
say "application"; copy_files
cd "$APP"
"$PYTHON" -m compileall -q cloud controller worker deploy # the services cannot write here
say "units"; install_units
say "the model"
engine=$ENGINE baked_in=""
if [ "$engine" = openvino ]; then bake; fi
if [ "$engine" = torch ]; then
  make_environment_with_torch "$APP/.venv" worker/torch-requirements.txt
else
  make_environment "$APP/.venv"
fi
tidy
classify_a_picture
say "sizes"
echo "the environment of the services: $(size .venv)"
if [ -n "$baked_in" ]; then
  echo "the baked model: $(size "$MODEL_CACHE")"
  echo "the environment that baked it, which is deleted: $baked_in"
fi
say "ready to be imaged; MODEL=$MODEL WEIGHTS=$WEIGHTS LABELS=$LABELS ENGINE=$ENGINE PRECISION=$PRECISION"
