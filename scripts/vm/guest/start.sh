# Goes on after init.sh inside the guest's root: sets up what every job may expect, runs it, says how it ended. The job's folder is
# /run/vm: job.sh is what to run, mark the line that ends stdout and stderr; what is written there is on the host afterwards.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
busybox=/usr/lib/vm/busybox
for port in /sys/class/virtio-ports/*; do
  case $(cat "$port/name") in
    stdout) exec 7>"/dev/${port##*/}" ;;
    stderr) exec 8>"/dev/${port##*/}" ;;
  esac
done
mark=$(cat /run/vm/mark)
# modprobe, also for what the kernel itself asks for (a netdev's kind, say): the host need not have kmod, nor this kernel's index files.
printf '#!/bin/sh\nexec %s modprobe "$@"\n' "$busybox" >/run/modprobe
chmod 755 /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
hostname vm
ip link set lo up
/run/modprobe -a ib_uverbs rdma_ucm crc32_generic rdma_rxe
. /run/vm/job.sh >&7 2>&8 7>&- 8>&- </dev/null
status=$?
printf '%s %d\n' "$mark" "$status" >&7
printf '%s %d\n' "$mark" "$status" >&8
# The host ends the machine when it has read both.
while :; do sleep 1000; done
