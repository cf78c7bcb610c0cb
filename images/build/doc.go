// Package build turns root file system trees into what `veneer build` puts out: verified images, a manifest, its signature, the
// initramfs and the store that holds them. It also makes the keys and checks what was built.
//
// It guarantees that the same input and tools give the same bytes, whatever the machine, user, time zone, umask or order of
// directories; that whatever a format or a tool cannot keep of a tree is an error that names the path, unless veneer.toml
// allows that loss by name; that the source is only read; and that outputs appear by rename: a build that fails or is
// stopped leaves what was there before.
//
// It does not make the file systems itself: mksquashfs, mkfs.erofs, mke2fs and debugfs do, and their versions are recorded in
// the manifest. Other versions of them may give other bytes.
//
// It runs on the build host only. cmd/veneer is above it; images, images/verity and initramfs are below.
package build
