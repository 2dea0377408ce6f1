#!/bin/sh
# Before a removal (deb: remove; rpm: 0), and not before an upgrade.
set -e
case "$1" in remove | 0) ;; *) exit 0 ;; esac
if [ -d /run/systemd/system ]; then
  systemctl disable --now towline.service towline.socket || true
fi
# What the daemon wrote for the engine goes, if it wrote something.
if [ -e /etc/docker/certs.d/_default/hosts.toml ]; then
  /usr/bin/towline mirror remove --dir /etc/docker/certs.d || true
fi
