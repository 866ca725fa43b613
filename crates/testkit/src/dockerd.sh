# shellcheck shell=sh
# Runs as the first process of its own mount, network and process namespaces; `unshare` starts it.
#   $1 the Debian tree   $2 directory for the socket   $3 data root   $4 cgroup parent   and more of dockerd's arguments
# When it is killed the kernel ends everything in its namespaces; nothing of it was ever visible outside.
set -eu
root=$1 sockets=$2 data=$3 cgroup=$4
shift 4

mount --make-rprivate /
mount --bind "$root" "$root"
for place in tmp run etc/docker; do
    mkdir -p "$root/$place"
    mount -t tmpfs tmpfs "$root/$place"
done
mkdir -p "$root/run/sockets" "$root/run/host" "$root/var/lib/docker"
mount --bind "$sockets" "$root/run/sockets"
mount --bind "$data" "$root/var/lib/docker"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"

# A changed root alone (chroot) would keep runc from changing it again.
pivot_root "$root" "$root/run/host"
cd /
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
umount -l /run/host
ip link set lo up

# A dockerd that is killed starts again, as in the guest; one that cannot start gives up.
for _ in 1 2 3 4 5 6 7 8; do
    dockerd --host unix:///run/sockets/docker.sock --data-root /var/lib/docker --exec-root /run/docker \
        --pidfile /run/dockerd.pid --cgroup-parent "/$cgroup" --mtu 65520 "$@" || true
    rm -f /run/dockerd.pid
done
