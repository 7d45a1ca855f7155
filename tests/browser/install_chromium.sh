#!/usr/bin/env bash
# Installs Debian's Chromium where it is missing and can be installed; says what is missing otherwise.
set -euo pipefail

[[ -x /usr/bin/chromium ]] && exit 0
if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -q chromium || { apt-get update -q && apt-get install -y -q chromium; } ||
    echo "chromium could not be installed; the tests of the report in a browser are left out"
else
  echo "/usr/bin/chromium is missing; as root on Debian: apt-get install chromium. Without it, the tests are left out."
fi
