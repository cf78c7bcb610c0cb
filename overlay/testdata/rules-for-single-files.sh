test -e /sysroot/etc/hostname || touch /sysroot/etc/hostname
mount --bind /run/veneer/state/data/etc-hostname /sysroot/etc/hostname
test -e /sysroot/etc/os-release || touch /sysroot/etc/os-release
mount --bind /run/veneer/base/etc/os-release /sysroot/etc/os-release
mount -o remount,bind,ro /sysroot/etc/os-release
