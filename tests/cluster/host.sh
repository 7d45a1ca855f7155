#!/usr/bin/env bash
# The first process of a host: its own view of this machine's files, its address, an sshd.
#
#   host.sh NAME ADDRESS PREFIX_LENGTH GATEWAY FOLDER LIFE_SECONDS INSTANCE_TYPE PYTHON [SHOWN...]
#
# `unshare` starts it in namespaces of its own. FOLDER holds keys, /etc/hosts and the folder that all hosts share;
# SHOWN are folders that have to be seen wherever they lie, such as the interpreter of a virtual environment. A line on
# standard input says that the network is there; when standard input ends, or after so many seconds, so does the host.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
name=$1 address=$2 prefix_length=$3 gateway=$4 folder=$5 life_seconds=$6 instance_type=$7 python=$8
shift 8

hostname "$name"
root="$folder/roots/$name"
mkdir -p "$root"
mount -t tmpfs -o mode=755 tmpfs "$root"
for entry in /*; do
  case "$entry" in
    /proc | /tmp | /root | /run | /shared | /etc) continue ;;
  esac
  if [[ -L "$entry" ]]; then
    cp -a "$entry" "$root"
  elif [[ -d "$entry" ]]; then
    mkdir "$root$entry"
    mount --rbind "$entry" "$root$entry"
  fi
done
cp -a /etc "$root"
mkdir -m 1777 "$root/tmp"
mkdir -m 700 "$root/root"
mkdir -p "$root"/{proc,run/sshd,shared,.machine}
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs tmpfs "$root/var/log"
mount --bind "$folder/shared" "$root/shared"
for shown in "$@"; do
  [[ -d "$root$shown" ]] && continue
  mkdir -p "$root$shown"
  mount --bind "$shown" "$root$shown"
done
cp /etc/skel/.bashrc /etc/skel/.profile "$root/root"
mkdir -m 700 "$root/root/.ssh"
cp "$folder/keys/user.pub" "$root/root/.ssh/authorized_keys"
if [[ "$name" == op ]]; then cp "$folder/keys/user" "$root/root/.ssh/key"; fi
cp "$folder/keys/host" "$root/etc/ssh/host_key"
touch "$root"/var/log/{lastlog,wtmp} "$root/run/utmp" # sshd wants to write who came
rm -f "$root/etc/resolv.conf"
echo "nameserver 127.0.0.1" >"$root/etc/resolv.conf" # nothing listens there, so that no name is waited for
cp "$folder/hosts" "$root/etc/hosts"
sed -i 's/^root:[^:]*:/root:*:/' "$root/etc/shadow" # a locked account may not log in by key either
cat >"$root/etc/ssh/sshd_config" <<CONFIG
HostKey /etc/ssh/host_key
PidFile none
UsePAM no
UseDNS no
PasswordAuthentication no
MaxStartups 100
MaxSessions 100
PrintLastLog no
CONFIG
pivot_root "$root" "$root/.machine"
umount -l /.machine
rmdir /.machine
cd /root

read -r # until the network is there
ip link set lo up
ip address add "$address/$prefix_length" dev eth0
ip link set eth0 up
ip route add default via "$gateway" # which nobody answers at; Ray finds its own address by way of a route
if [[ -n "$instance_type" ]]; then
  ip address add 169.254.169.254/32 dev lo
  "$python" "$here/metadata.py" "$instance_type" &
fi
/usr/sbin/sshd -D -e &
touch /run/ready
# A shell that waits takes leave of whatever process has lost its parent; one that reads would not.
exec 3<&0
timeout "$life_seconds" cat <&3 &
wait $!
