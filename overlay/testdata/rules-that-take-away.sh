mkdir -p -m 0755 /run/veneer/masks
mkdir -p -m 0000 /run/veneer/masks/dir
chmod 0000 /run/veneer/masks/dir
mkdir -p /sysroot/boot
mount --bind /run/veneer/masks/dir /sysroot/boot
mount -o remount,bind,ro /sysroot/boot
mkdir -p -m 0755 /run/veneer/masks
test -e /run/veneer/masks/file || touch /run/veneer/masks/file
chmod 0000 /run/veneer/masks/file
test -e /sysroot/etc/shadow- || touch /sysroot/etc/shadow-
mount --bind /run/veneer/masks/file /sysroot/etc/shadow-
mount -o remount,bind,ro /sysroot/etc/shadow-
mkdir -p /sysroot/opt
mount -t overlay -o ro,lowerdir=/run/veneer/layers/1/opt:/run/veneer/base/opt overlay /sysroot/opt
mkdir -p /sysroot/usr
mount --bind /run/veneer/base/usr /sysroot/usr
mount -o remount,bind,ro /sysroot/usr
