package images

// Format is the manifest format that this version writes and the newest it reads.
const Format = 1

// Names of the files that make up a deployment.
const (
	ManifestName  = "manifest.json"
	SignatureName = "manifest.json.minisig"
)

// Manifest names a set of images that boot together. Its canonical encoding is what the signature covers.
type Manifest struct {
	Format       int        `json:"format"`
	Name         string     `json:"name"`
	Version      string     `json:"version"`
	Epoch        uint64     `json:"epoch"`        // anti-downgrade counter
	Architecture string     `json:"architecture"` // Go's name: amd64, arm64
	Kernel       Kernel     `json:"kernel"`
	Initramfs    File       `json:"initramfs"`
	Root         Root       `json:"root"`
	Corruption   Corruption `json:"corruption"`
	Images       []Image    `json:"images"` // bottom of the stack first
	Tools        []Tool     `json:"tools"`  // the programs that shaped the bytes, by name
}

// Kernel is the kernel of the set.
type Kernel struct {
	Release string `json:"release"` // as uname -r prints it
	File
}

// File is a file of the set that firmware or a boot loader reads.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`   // bytes
	SHA256 string `json:"sha256"` // lower-case hex
}

// Root is the policy for the merged root.
type Root struct {
	Upper  string `json:"upper"`   // "tmpfs"
	Size   string `json:"size"`    // of the tmpfs: bytes with K, M, G, or a percentage of RAM
	OnFail string `json:"on-fail"` // poweroff, reboot, halt, shell
}

// Corruption is what dm-verity does when a block read after boot does not match its hash.
type Corruption string

// The corruption policies, named after the dm-verity options that carry them out; EIO is dm-verity's default.
const (
	EIO     Corruption = "eio"
	Restart Corruption = "restart"
	Panic   Corruption = "panic"
)

// Role is the place of an image in the stack.
type Role string

// The roles. Tools lies under the base, so that whatever the base says about a path wins over it; layers lie over the base
// in the order of the manifest.
const (
	RoleTools Role = "tools"
	RoleBase  Role = "base"
	RoleLayer Role = "layer"
)

// Image is one image of the set.
type Image struct {
	Role       Role   `json:"role"`
	Name       string `json:"name"` // for people; the ID is what counts
	ID         string `json:"id"`   // the dm-verity root hash, lower-case hex
	Size       int64  `json:"size"` // of the whole file, bytes
	FileSystem string `json:"filesystem"`
	Verity     Verity `json:"verity"`
}

// Verity holds the parameters that dm-verity needs beside the root hash. They are signed, so the superblock in the image is
// only for people and their tools: the init never reads it.
type Verity struct {
	Algorithm  string `json:"algorithm"`   // "sha256"
	BlockSize  int    `json:"block-size"`  // of data and hash blocks, bytes: 4096
	DataBlocks int64  `json:"data-blocks"` // blocks of the file system
	HashOffset int64  `json:"hash-offset"` // of the veritysetup superblock, bytes; the hash tree starts one block later
	Salt       string `json:"salt"`        // hex, empty for none
}

// Tool is a program that shaped the bytes of an image.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}
