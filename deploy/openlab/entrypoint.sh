#!/bin/sh
# Start of every OpenLab container. Each gateway needs a name of its own, also where several run from one service:
# the container's own name is one. It is what agents see in lab/v1/srv/{gateway}/state. The token of the time series
# goes into a file in memory, because addresses must not carry it and some programs only take files.
set -eu
if [ -z "${OPENLAB_GATEWAY_NAME:-}" ]; then
    OPENLAB_GATEWAY_NAME="gw-$(cat /etc/hostname)"
    export OPENLAB_GATEWAY_NAME
fi
if [ -n "${SERIES_TOKEN:-}" ]; then
    (umask 077 && printf '%s' "$SERIES_TOKEN" >/tmp/series-token)
    unset SERIES_TOKEN
fi
exec "$@"
