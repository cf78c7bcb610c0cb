mkdir -p -m 0755 /run/veneer/upper/upper
mkdir -p -m 0700 /run/veneer/upper/work
mkdir -p -m 0755 /sysroot
mount -t overlay -o ro,lowerdir=/run/veneer/layers/0000000000000000000000000000000000000000000000000000000000000000:/run/veneer/base,upperdir=/run/veneer/upper/upper,workdir=/run/veneer/upper/work,redirect_dir=on,index=off,metacopy=off overlay /sysroot
