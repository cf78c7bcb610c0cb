mkdir -p /sysroot/etc
mount -t overlay -o lowerdir=/run/veneer/layers/1/etc:/run/veneer/base/etc,upperdir=/run/veneer/state/etc/1/fs,workdir=/run/veneer/state/etc/1/work,index=off,nfs_export=off,redirect_dir=off,metacopy=off overlay /sysroot/etc
mkdir -p /sysroot/home
mount --bind /run/veneer/state/data/home /sysroot/home
chown 0:0 /sysroot/home && chmod 0755 /sysroot/home
mkdir -p /sysroot/var
mount --bind /run/veneer/state/data/var /sysroot/var
mkdir -p /sysroot/var/cache
mount -t overlay -o lowerdir=/run/veneer/base/var/cache,upperdir=/run/veneer/state/data/var-cache/fs,workdir=/run/veneer/state/data/var-cache/work,index=off,nfs_export=off,redirect_dir=off,metacopy=off overlay /sysroot/var/cache
mkdir -p -m 0755 /run/veneer/upper/ephemeral/var-tmp/fs
mkdir -p -m 0700 /run/veneer/upper/ephemeral/var-tmp/work
chown --reference=/run/veneer/base/var/tmp /run/veneer/upper/ephemeral/var-tmp/fs && chmod --reference=/run/veneer/base/var/tmp /run/veneer/upper/ephemeral/var-tmp/fs
mkdir -p /sysroot/var/tmp
mount -t overlay -o lowerdir=/run/veneer/base/var/tmp,upperdir=/run/veneer/upper/ephemeral/var-tmp/fs,workdir=/run/veneer/upper/ephemeral/var-tmp/work,index=off,nfs_export=off,redirect_dir=off,metacopy=off overlay /sysroot/var/tmp
