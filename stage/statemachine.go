package stage

import (
	"context"
	"errors"
	"strings"
	"time"

	"veneer/boot"
)

// ErrNoDevice means that nothing answered to a name before the deadline: the caller may do without it, or make it.
var ErrNoDevice = errors.New("no device answered")

// ErrForeign means that a device answered and holds what no state can live on. What it holds is left as it is.
var ErrForeign = errors.New("the device holds something else")

// ErrNoTool means that the base lacks a program; the message names the Debian package.
var ErrNoTool = errors.New("the base lacks a program")

// ErrLocked means that no key that was tried opens an encrypted device.
var ErrLocked = errors.New("no key opens it")

// StateMachine is what a boot needs of real disks for a state that is kept. root is always the mounted base: its programs are
// what formats, checks and unlocks, each with its arguments alone, without a shell, and under a deadline.
//
//	StateDevice ─Empty→ CreatePartition, EncryptNew, Format
//	            ─crypto_LUKS→ Unlock ─→ Check ─→ mounted by the caller ─→ GrowFileSystem ─→ ProbeUpper
//
// Each of those that write can be cut off at any instant: what it left behind is Empty to StateDevice, and is made anew.
type StateMachine interface {
	StateMaker
	StateKeeper

	// SetKeeper names the program of the tools layer that does what is rare (package keeper); "" ends the one that runs.
	SetKeeper(program string) error
}

// StateMaker makes what is not there.
type StateMaker interface {
	// StateDevice waits like Device. The error is ErrNoDevice if nothing answers; if what answers holds something that is no
	// file system and no container of one, it is ErrForeign. A device that holds nothing is an answer.
	StateDevice(ctx context.Context, ref boot.DeviceRef) (Device, error)

	// LookAt says the same of a device by its path alone: one that was unlocked, or an attached file.
	LookAt(device string) (Device, error)

	// CreatePartition makes a partition in the free room at the end of the disk that store (a partition or a disk) lies on. One
	// that is there already under that name and holds nothing is taken instead; one that holds something is ErrForeign.
	CreatePartition(ctx context.Context, store string, spec PartitionSpec) (Device, error)

	// GrowPartition makes the partition reach to the end of its disk, if no other lies behind it and the table is a GPT, and
	// reports whether it grew by a MiB or more.
	GrowPartition(ctx context.Context, partition string) (grew bool, err error)

	// Format makes a file system on a device that holds nothing, and refuses any other with ErrForeign.
	Format(ctx context.Context, root, device, fsType, label string) error

	// StateFile makes, or finds, an ext4 image file in a directory, grows the file if what is in it is fuller than asked, and
	// attaches it. mounted is to be called once the device is mounted, undo takes it down.
	StateFile(ctx context.Context, root, dir string, spec FileSpec) (device string, mounted func() error, undo func() error, err error)

	// EncryptNew makes LUKS2 on a device that holds nothing and opens it; what it yields holds nothing either.
	EncryptNew(ctx context.Context, root, device string, how UnlockSpec) (mapped string, undo func() error, err error)

	// Destroy destroys the keys of an encrypted device that nobody uses any more, as RequestsDone.Destroy orders. From its first
	// write on the device holds nothing, and whoever makes something on it ends what a stop left undone. The state that is made
	// there is told of it.
	Destroy(ctx context.Context, order string) error
}

// StateKeeper opens what is there.
type StateKeeper interface {
	// ModulesOf is Machine.Modules for what is needed once the base is mounted: what the initramfs lacks, the base has.
	ModulesOf(ctx context.Context, root string, names ...string) error

	// Unlock opens an encrypted device. If no key fits, the error is ErrLocked. With Random it makes the encryption anew.
	Unlock(ctx context.Context, root, device string, how UnlockSpec) (mapped string, undo func() error, err error)

	// Check runs the checker of a file system when the spec and the state of the file system want it. An error means that the
	// file system is not fit to be mounted.
	Check(ctx context.Context, root, device, fsType string, how CheckSpec) (Checked, error)

	// GrowFileSystem makes a mounted ext4, btrfs or xfs as large as its device, and reports whether it grew.
	GrowFileSystem(mountpoint string) (grew bool, err error)

	// ProbeUpper tries whether a directory can hold an upper, see overlay.ProbeUpper.
	ProbeUpper(ctx context.Context, dir string) error
}

// PartitionSpec says what CreatePartition makes.
type PartitionSpec struct {
	Name    string // PARTLABEL, up to 36 UTF-16 units
	Type    string // a GUID; "" is PartitionLinux
	Size    int64  // bytes, rounded up to a MiB; 0 is all the room
	MinSize int64  // bytes; less room is refused
}

// Types of partitions. The first is taken up by nothing on its own; of PartitionVar systemd-gpt-auto-generator makes /var.
const (
	PartitionLinux = "0fc63daf-8483-4772-8e79-3d69d8477de4"
	PartitionVar   = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"
)

// FileSpec says what StateFile makes.
type FileSpec struct {
	Name  string // of the file, in the directory
	Label string // of the ext4 in it
	Size  int64  // bytes of a new file; 0 is 256 MiB
	Max   int64  // bytes that it may grow to; 0 is all the room but an eighth, below Size it never grows
	Full  int    // grow when more than so many per cent of the blocks are taken; 0 is 80
}

// NewFile is what the name of a file ends in while it is being made.
const NewFile = ".new"

// FileStep is by how much a file grows at least.
const FileStep = 64 << 20

// Named reports whether the file may have its name.
func (f FileSpec) Named() bool {
	return f.Name != "" && !strings.ContainsRune(f.Name, '/') && !strings.HasSuffix(f.Name, NewFile)
}

// Wants reports whether a file of size bytes is to grow: used per cent of its file system, which has inner bytes, are taken. A file
// that is larger than what is in it has grown already, and waits for the file system.
func (f FileSpec) Wants(used int, inner, size int64) bool {
	full := f.Full
	if full == 0 {
		full = 80
	}
	return used > full && inner+FileStep/2 >= size
}

// CheckSpec says how eagerly a file system is checked.
type CheckSpec struct {
	Mode   boot.FsckMode
	Repair boot.FsckRepair
	Failed bool // mounting it was tried, and failed
}

// Checked is what a check came to.
type Checked struct {
	Why      string // "" if nothing was run; else what the check was for
	Program  string // that ran
	Repaired bool
}

// UnlockKind says what opens an encrypted device.
type UnlockKind string

// The kinds. Random is a key for this boot only: the state is gone with it.
const (
	UnlockTPM2       UnlockKind = "tpm2"
	UnlockKeyFile    UnlockKind = "key-file"
	UnlockPassphrase UnlockKind = "passphrase"
	UnlockRandom     UnlockKind = "random"
)

// UnlockSpec says how an encrypted device is opened, or made.
type UnlockSpec struct {
	Kind      UnlockKind
	Name      string         // of the mapped device; "" is veneer-state
	Label     string         // EncryptNew: of the LUKS2 header, "" is none
	PCRs      string         // EncryptNew with tpm2: registers, "7" or "4+7"; "" binds to the TPM alone
	KeyDevice boot.DeviceRef // key-file: where the file lies; with tpm2 a second key, for the day that the TPM refuses
	KeyFile   string         // its path on that device
	Tries     int            // of a passphrase; 0 is 3
	Wait      time.Duration  // for KeyDevice
}

// Mapped is the name of the mapped device.
func (u UnlockSpec) Mapped() string {
	if u.Name != "" {
		return u.Name
	}
	return "veneer-state"
}
