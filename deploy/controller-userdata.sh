#!/bin/bash
# The user data of the controller's instance. Terraform inserts below where the settings are: in the parameter store, so
# that other settings do not replace the instance. Credentials come from the instance profile.
set -u
settings=$(mktemp)
cat > "$settings" << 'END_OF_SETTINGS'
# SETTINGS
END_OF_SETTINGS

# Uploads have a volume of their own, so that nothing but the next upload suffers when it is full.
make_spool() {
  local spool=/var/spool/image-classifier
  mountpoint -q "$spool" && return
  fallocate -l 10G "$spool.img" && mkfs.ext4 -q -m 0 "$spool.img" && mkdir -p "$spool" || return
  echo "$spool.img $spool ext4 loop,nodev,noexec,nosuid,nofail,x-systemd.before=image-classifier-controller.service 0 0" >> /etc/fstab
  mount "$spool" && install -d -m 2770 -g www-data "$spool/controller"
}

if systemctl cat image-classifier-controller &> /dev/null; then
  make_spool
  if [ -e /lib/systemd/system/apt-daily-upgrade.timer ]; then
    systemctl enable --now apt-daily.timer apt-daily-upgrade.timer # security updates, by unattended-upgrades
  fi
  install -D -m 644 "$settings" /etc/image-classifier/controller.env
  systemctl enable --now image-classifier-controller nginx
  exit # systemd tries again what does not start
fi

# An instance of the local AWS has neither systemd nor nginx.
cd "${APP_DIR:-/opt/image-classifier}" || exit
set -a
# shellcheck source=/dev/null
. "$settings"
.venv/bin/python -m deploy.parameters "$settings" || exit
# shellcheck source=/dev/null
. "$settings"
set +a
rm "$settings"
exec .venv/bin/python -m gunicorn --config deploy/gunicorn.conf.py controller.wsgi:app
