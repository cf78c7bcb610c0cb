mkdir -p -m 0755 /run/veneer/masks/dir-lower
mkdir -p /sysroot/srv/www
mount -t overlay -o lowerdir=/run/veneer/masks/dir-lower,upperdir=/run/veneer/state/data/srv-www/fs,workdir=/run/veneer/state/data/srv-www/work,index=off,nfs_export=off,redirect_dir=off,metacopy=off overlay /sysroot/srv/www
