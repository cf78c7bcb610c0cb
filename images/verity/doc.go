// Package verity makes and checks the hash trees of dm-verity, in the on-disk format of veritysetup(8): the data, padded to a
// block, a superblock of one block, the levels of the tree from the root down.
//
// It guarantees that memory stays bounded whatever the size of the image, and that a check names the first block that is wrong.
// It trusts no superblock: parameters come from whoever asks, in our case from a signed manifest.
//
// It imports nothing of ours. See Documentation/admin-guide/device-mapper/verity.rst.
package verity
