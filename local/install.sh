#!/bin/sh
# Installs a lock file into .venv: local/install.sh LOCK_FILE
#
# TORCH_INDEX_URL is a package index that has another build of torch, such as https://download.pytorch.org/whl/cpu,
# whose builds have no CUDA and are a tenth of the size. torch's hashes in the lock file are those of PyPI's build, so
# it is then installed by its version alone.
set -eu
lock=$1
pip=".venv/bin/pip --disable-pip-version-check install --quiet"
if [ -n "${TORCH_INDEX_URL:-}" ]; then
  grep -oE '^torch(vision)?==[^ ]+' "$lock" > .venv/torch.txt
  $pip --no-deps --index-url "$TORCH_INDEX_URL" -r .venv/torch.txt
  # Removes these packages together with their hashes.
  sed -E '/^(torch|triton|nvidia-|cuda-)/,/[^\\]$/d' "$lock" > .venv/others.txt
  lock=.venv/others.txt
fi
$pip --require-hashes -r "$lock"
