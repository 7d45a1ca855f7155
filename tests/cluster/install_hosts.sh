#!/usr/bin/env bash
# Installs what makes hosts on this machine where it is missing and can be installed; says what is missing otherwise.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"

missing=()
[[ -x /usr/sbin/sshd ]] || missing+=(openssh-server)
command -v ssh >/dev/null || missing+=(openssh-client)
command -v rsync >/dev/null || missing+=(rsync)
command -v ip >/dev/null || missing+=(iproute2)
command -v curl >/dev/null || missing+=(curl)
((${#missing[@]} == 0)) && exit 0

if [[ "$(id -u)" == 0 ]] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  # The hosts start their own sshd; on this machine none is to listen because of a test.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e "$policy" ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  apt-get install -y -q "${missing[@]}" || { apt-get update -q && apt-get install -y -q "${missing[@]}"; } ||
    echo "${missing[*]} could not be installed; the tests of a cluster are left out"
else
  echo "${missing[*]} missing; as root on Debian: apt-get install ${missing[*]}. Without it, the tests are left out."
fi
