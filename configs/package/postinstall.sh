#!/bin/sh
# After an installation or an upgrade. The service is started by hand the first time,
# and again after an upgrade if it runs.
set -e
if [ -d /run/systemd/system ]; then
  systemd-sysusers towline.conf
  systemctl daemon-reload
  systemctl try-restart towline.service || true
fi
# The first time: deb has no version before, rpm counts one package.
if [ "$1" = configure ] && [ -z "$2" ] || [ "$1" = 1 ]; then
  echo "To start Towline: systemctl enable --now towline.socket towline.service"
fi
