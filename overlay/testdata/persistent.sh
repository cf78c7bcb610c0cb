mkdir -p -m 0755 /sysroot
mount -t overlay -o lowerdir=/run/veneer/layers/0000000000000000000000000000000000000000000000000000000000000000:/run/veneer/base,upperdir=/run/veneer/state/upper/fs,workdir=/run/veneer/state/upper/work,index=off,nfs_export=off,redirect_dir=off,metacopy=off overlay /sysroot
