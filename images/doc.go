// Package images knows what an image is: its ID, the signed manifest that names a set of images, the store that holds them,
// and how a verified block device is made of one (loop and dm-verity).
//
// It guarantees that an image attached by Attach can only yield bytes that the root hash in a verified manifest covers. It
// does not build images: that is images/build, which PID 1 never links.
//
// It imports boot (values) and images/verity (a leaf); stage joins it with overlay.
package images
