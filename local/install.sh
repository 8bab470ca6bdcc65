#!/bin/sh
# Installs a lock file into .venv: local/install.sh LOCK_FILE
#
# uv, which is in the lock too, installs the rest in a fifth of the time that pip takes.
#
# TORCH_INDEX_URL is a package index that has another build of torch, such as https://download.pytorch.org/whl/cpu,
# whose builds have no CUDA and are a tenth of the size. torch's hashes in the lock file are those of PyPI's build, so
# it is then installed by its version alone.
set -eu
lock=$1
sed -nE '/^uv==/,/[^\\]$/p' "$lock" > .venv/uv.txt
.venv/bin/pip --disable-pip-version-check install --quiet --require-hashes -r .venv/uv.txt
uv=".venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps" # the lock names every package
if [ -n "${TORCH_INDEX_URL:-}" ]; then
  grep -oE '^torch(vision)?==[^ ]+' "$lock" > .venv/torch.txt
  $uv --index-url "$TORCH_INDEX_URL" -r .venv/torch.txt
  # Removes these packages together with their hashes.
  sed -E '/^(torch|triton|nvidia-|cuda-)/,/[^\\]$/d' "$lock" > .venv/others.txt
  lock=.venv/others.txt
fi
$uv --require-hashes -r "$lock"
