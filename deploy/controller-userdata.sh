#!/bin/bash
# The user data of the controller's instance. Terraform inserts the settings below. They contain no credentials,
# because those come from the instance profile.
set -u
settings=$(mktemp)
cat > "$settings" << 'END_OF_SETTINGS'
# SETTINGS
END_OF_SETTINGS

if systemctl cat image-classifier-controller &> /dev/null; then
  install -D -m 644 "$settings" /etc/image-classifier/controller.env
  systemctl enable --now image-classifier-controller nginx && exit
fi

# An instance of the local AWS has neither systemd nor nginx.
set -a
# shellcheck source=/dev/null
. "$settings"
set +a
rm "$settings"
cd "${APP_DIR:-/opt/image-classifier}" || exit
exec .venv/bin/python -m gunicorn --config deploy/gunicorn.conf.py controller.wsgi:app
