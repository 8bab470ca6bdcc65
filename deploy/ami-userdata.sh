#!/bin/bash
# The user data of the instance from which an AMI is made. It downloads the code that deploy/make_ami.py has put into a
# bucket, runs deploy/ami.sh, and uploads the log. Both URLs are presigned and expire after an hour.
# SETTINGS

work=$(mktemp -d -p /var/tmp) # /tmp may be in memory, which photos and weights would fill
cd "$work" || exit
(set -o pipefail; curl -fsS "$CODE_URL" | tar xz && bash deploy/ami.sh) > log 2>&1
echo "exit status $?" >> log
cat log # shows the log on the console of the instance
curl -fsS --retry 5 -T log "$LOG_URL"
cd / && rm -rf "$work"
shutdown -h now
