#!/bin/sh
# After an installation or an upgrade. The service is started by hand the first time,
# and again after an upgrade if it runs.
set -e
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart towline.service || true
fi
