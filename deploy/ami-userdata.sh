#!/bin/bash
# What the instance runs that an AMI is made of: deploy/ami.sh, on the code that deploy/make_ami.py has put into a
# bucket. The two addresses are signed, and good for an hour.
# SETTINGS

work=$(mktemp -d)
cd "$work" || exit
(set -o pipefail; curl -fsS "$CODE_URL" | tar xz && bash deploy/ami.sh) > log 2>&1
echo "exit status $?" >> log
cat log # to the console
curl -fsS --retry 5 -T log "$LOG_URL"
cd / && rm -rf "$work"
shutdown -h now
