#!/bin/sh
# Installs Debian's chromium and systemd when run as root on such a system. Elsewhere their tests skip and say so.
set -u
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing chromium and systemd for the tests of the dashboard and the unit ..."
  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium systemd >/dev/null
else
  echo "without the packages chromium and systemd the tests of the dashboard and the unit will skip (install them to run these)"
fi
exit 0
