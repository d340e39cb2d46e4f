#!/bin/busybox sh
# The guest's first process: reaches the host's root by 9p, lays the guest's packages and a tmpfs over it, and goes on in there.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod "$module"; done
share() { /bin/busybox mount -t 9p -o "trans=virtio,version=9p2000.L,msize=524288,cache=$3,$4" "$1" "$2"; }
share hostroot /host loose ro
share tools /tools loose ro
/bin/busybox mount -t tmpfs -o mode=755 rw /rw
/bin/busybox mkdir /rw/upper /rw/work
/bin/busybox mount -t overlay -o lowerdir=/tools:/host,upperdir=/rw/upper,workdir=/rw/work root /root
for folder in proc sys dev; do /bin/busybox mount --move /$folder /root/$folder; done
/bin/busybox mount -t tmpfs -o mode=755 run /root/run
/bin/busybox mkdir /root/run/vm
share job /root/run/vm none rw
exec /bin/busybox switch_root /root /bin/sh /run/vm/start.sh
