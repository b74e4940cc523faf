#!/bin/sh
# Installs Debian's chromium and systemd, and promtool out of its package prometheus (of whose server nothing is installed),
# when run as root on such a system. Elsewhere their tests skip and say so.
set -u
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing chromium, systemd and promtool for the tests of the dashboard, the unit and the alerts ..."
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium systemd >/dev/null
  folder=$(mktemp -d)
  (cd "$folder" && apt-get download -qq prometheus >/dev/null 2>&1 && dpkg -x prometheus_*.deb . \
    && install -m 0755 usr/bin/promtool /usr/local/bin/promtool)
  rm -rf "$folder"
else
  echo "without chromium, systemd and promtool the tests of the dashboard, the unit and the alerts will skip (install them to run these)"
fi
exit 0
