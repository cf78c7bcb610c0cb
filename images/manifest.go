package images

import "veneer/overlay/rule"

// Format is the manifest format that this version writes and the newest it reads.
const Format = 1

// Names of the files that make up a deployment.
const (
	ManifestName  = "manifest.json"
	SignatureName = "manifest.json.minisig"
)

// Manifest names a set of images that boot together. Its canonical encoding is what the signature covers.
type Manifest struct {
	Format       int         `json:"format"`
	Name         string      `json:"name"`
	Version      string      `json:"version"`
	Epoch        uint64      `json:"epoch"`        // anti-downgrade counter
	Architecture string      `json:"architecture"` // Go's name: amd64, arm64
	Kernel       Kernel      `json:"kernel"`
	Initramfs    File        `json:"initramfs"`
	Root         Root        `json:"root"`
	State        State       `json:"state"`
	Rules        []rule.Rule `json:"rules"` // what happens to single paths, by path
	Corruption   Corruption  `json:"corruption"`
	Images       []Image     `json:"images"` // bottom of the stack first
	Tools        []Tool      `json:"tools"`  // the programs that shaped the bytes, by name
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
	Upper      string          `json:"upper"`       // tmpfs, persistent
	Size       string          `json:"size"`        // of the tmpfs: bytes with K, M, G, or a percentage of RAM
	OnFail     string          `json:"on-fail"`     // poweroff, reboot, halt, shell, ephemeral
	BaseChange rule.BaseChange `json:"base-change"` // of a persistent upper; empty for merge
}

// State is the policy for what outlives a boot.
type State struct {
	Place      string   `json:"place"`      // none, store, or DEVICE[:/DIR] as on the kernel command line
	Missing    string   `json:"missing"`    // wait, fail, ephemeral
	Create     bool     `json:"create"`     // make a partition at the end of the store's disk, or a file system on an empty one
	Grow       bool     `json:"grow"`       // to the room that the disk has
	FileSystem string   `json:"filesystem"` // of what is made: ext4, btrfs, xfs
	Size       string   `json:"size"`       // of what is made: bytes with K, M, G; empty for all there is
	Unlock     string   `json:"unlock"`     // how what is made is encrypted: none, tpm2, key-file, passphrase, random
	KeyFile    string   `json:"key-file"`   // DEVICE:/PATH, of key-file
	Tries      int      `json:"tries"`      // boots that are not blessed before the last good snapshot comes back; 0 for never
	Warning    int      `json:"warning"`    // percent of the room, from where on status warns
	Critical   int      `json:"critical"`   // percent, from where on it is told as an error
	Full       string   `json:"full"`       // at critical: nothing, read-only
	RulePaths  []string `json:"rule-paths"` // globs of paths for which the site may make rules of its own
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
