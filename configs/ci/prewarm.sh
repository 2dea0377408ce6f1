#!/bin/sh
# Has the images of a Compose file on Towline's host, or fails and says why. It needs
# curl only. Any CI system can run it.
# usage: TOWLINE_HOST=https://… TOWLINE_TOKEN=… prewarm.sh [compose.yaml]
set -eu
file=${1:-compose.yaml}
case $TOWLINE_HOST in
unix://*) set -- --unix-socket "${TOWLINE_HOST#unix://}" http://towline ;;
tcp://*) set -- "http://${TOWLINE_HOST#tcp://}" ;;
*) set -- "${TOWLINE_HOST%/}" ;;
esac
# The token goes by the standard input: arguments are seen by all on the host.
if [ -n "${TOWLINE_TOKEN:-}" ]; then
  printf 'header = "Authorization: Bearer %s"\n' "$TOWLINE_TOKEN"
fi | {
  if [ $# -eq 3 ]; then
    url=$3/v1/prewarms?wait=true
    set -- "$1" "$2" "$url"
  else
    set -- "$1/v1/prewarms?wait=true"
  fi
  exec curl --config - --silent --show-error --fail-with-body --max-time 1800 \
    --header 'Accept: text/plain' --header 'Content-Type: application/yaml' --data-binary "@$file" "$@"
}
