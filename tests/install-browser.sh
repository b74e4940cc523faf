#!/bin/sh
# Installs Debian's chromium when run as root on such a system. Elsewhere the browser test skips and says so.
set -u
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing chromium for the dashboard's test ..."
  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null
else
  echo "chromium is not installed; the browser test will skip (install the package 'chromium' to run it)"
fi
exit 0
