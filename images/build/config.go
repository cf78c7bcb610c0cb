package build

import (
	"time"

	"veneer/boot"
	"veneer/images"
	"veneer/initramfs"
	"veneer/overlay/identity"
	"veneer/overlay/rule"
)

// DefaultConfigName is the file that `veneer build` reads when it is given none.
const DefaultConfigName = "veneer.toml"

// Config is what a veneer.toml says, checked, with the defaults filled in. Paths are relative to the file's directory until
// Load has resolved them.
type Config struct {
	Name         string `toml:"name"`
	Version      string `toml:"version"`
	Epoch        uint64 `toml:"epoch"`
	Architecture string `toml:"architecture"` // Go's name; empty: that of the kernel
	Source       string `toml:"source"`       // a directory, or a tar archive
	Previous     string `toml:"previous"`     // the manifest of the previous release

	Corruption    images.Corruption `toml:"corruption"`
	Store         string            `toml:"store"` // DEVICE[:/DIR], where the init looks for the store
	Wait          string            `toml:"wait"`  // how long the init waits for devices; empty: its default
	RescueShell   bool              `toml:"rescue-shell"`
	AllowUnsigned bool              `toml:"allow-unsigned"`
	Pins          []string          `toml:"pins"`    // sha256:DIGEST of each image of others that may be booted
	Variant       initramfs.Variant `toml:"variant"` // of PID 1; empty: what the outputs need
	Tools         bool              `toml:"tools"`   // add the layer with the command and its unit
	Outputs       []string          `toml:"outputs"`

	FileSystem FileSystem     `toml:"filesystem"`
	Kernel     KernelConfig   `toml:"kernel"`
	Root       RootConfig     `toml:"root"`
	Keys       KeysConfig     `toml:"keys"`
	Allow      AllowConfig    `toml:"allow"`
	Layers     []LayerConfig  `toml:"layers"` // over the base, the lowest first
	Identity   IdentityConfig `toml:"identity"`
	State      StateConfig    `toml:"state"`
	Etc        EtcConfig      `toml:"etc"`
	Rules      []RuleConfig   `toml:"rules"`
	Boot       BootConfig     `toml:"boot"`
	Trust      TrustConfig    `toml:"trust"`
}

// The file systems of images.
const (
	Squashfs = "squashfs"
	Erofs    = "erofs"
)

// FileSystem says how images are made.
type FileSystem struct {
	Type       string `toml:"type"`       // Squashfs, Erofs
	BlockSize  string `toml:"block-size"` // bytes, or with K or M; of EROFS it is the size of a compressed cluster
	Level      int    `toml:"level"`      // of the compressor; 0: its default
	blockSize  int
	leastBlock int
}

// KernelConfig says where the kernel and its modules come from.
type KernelConfig struct {
	From       string        `toml:"from"`        // "tree", or the path of a kernel image or of a linux-image .deb
	ModulesDir string        `toml:"modules-dir"` // of a kernel image: its lib/modules/RELEASE
	Modules    ModulesConfig `toml:"modules"`
}

// FromTree says that the kernel is the one in the source tree.
const FromTree = "tree"

// ModulesConfig says which modules go into the initramfs.
type ModulesConfig struct {
	Policy string   `toml:"policy"`
	List   []string `toml:"list"`
}

// RootConfig is the policy for the merged root.
type RootConfig struct {
	Upper  string `toml:"upper"`
	Size   string `toml:"size"`
	OnFail string `toml:"on-fail"`

	BaseChange rule.BaseChange `toml:"base-change"` // of a persistent upper

	ToRAM      string          `toml:"toram"`       // auto, yes, no, as veneer.toram=; empty: no
	MediumLost boot.MediumLost `toml:"medium-lost"` // empty: ignore
}

// StateConfig is the policy for what outlives a boot, see images.State.
type StateConfig struct {
	Place      string   `toml:"place"`
	Missing    string   `toml:"missing"`
	Create     bool     `toml:"create"`
	Grow       bool     `toml:"grow"`
	FileSystem string   `toml:"filesystem"`
	Size       string   `toml:"size"`
	Unlock     string   `toml:"unlock"`
	KeyFile    string   `toml:"key-file"`
	Tries      int      `toml:"tries"`
	Warning    int      `toml:"warning"`
	Critical   int      `toml:"critical"`
	Full       string   `toml:"full"`
	RulePaths  []string `toml:"rule-paths"`
}

// EtcPolicy is what happens to /etc as a whole.
type EtcPolicy string

// The policies for /etc.
const (
	EtcMerge     EtcPolicy = "merge"      // changes are kept, and merged with the defaults of a new base
	EtcKeep      EtcPolicy = "keep"       // changes are kept, whatever a new base says
	EtcAllowList EtcPolicy = "allow-list" // changes of the allowed files are kept and merged; others are gone at the next boot
	EtcTransient EtcPolicy = "transient"  // no change is kept
)

// EtcConfig is a short form of the rule for /etc.
type EtcConfig struct {
	Policy  EtcPolicy     `toml:"policy"` // empty: merge where there is a state, transient else
	Allow   []string      `toml:"allow"`
	Deny    []string      `toml:"deny"`
	Entries []string      `toml:"entries"`
	Site    []rule.Action `toml:"site"`
}

// RuleConfig is a rule as a file declares it.
type RuleConfig struct {
	rule.Rule
	Replace bool `toml:"replace"` // takes the place of the rule that the tree has for the path
}

// KeysConfig names minisign keys.
type KeysConfig struct {
	Secret  string   `toml:"secret"`  // signs the manifest
	Trusted []string `toml:"trusted"` // public keys for the initramfs; empty: the one that belongs to Secret
}

// AllowConfig lists the losses that are accepted, in addition to the usual ones that nearly every tree has.
type AllowConfig struct {
	Losses []Loss `toml:"losses"`
	Strict bool   `toml:"strict"` // the usual ones are not accepted either
}

// IdentityConfig says what makes a machine itself: a mode for each preset, and what becomes of what is found in the images.
type IdentityConfig struct {
	Clock          identity.Mode `toml:"clock"`
	RandomSeed     identity.Mode `toml:"random-seed"`
	MachineID      identity.Mode `toml:"machine-id"`
	DBus           identity.Mode `toml:"dbus"`
	Hostname       identity.Mode `toml:"hostname"`
	SSHHostKeys    identity.Mode `toml:"ssh-host-keys"`
	NetworkManager identity.Mode `toml:"network-manager"`
	Bluetooth      identity.Mode `toml:"bluetooth"`
	Strict         bool          `toml:"strict"` // an image may hold nothing of it
	Allow          []Baked       `toml:"allow"`  // but this
}

// settings are the presets with what was said of them, which may be nothing.
func (c IdentityConfig) settings() []identity.Setting {
	return []identity.Setting{{Name: identity.Clock, Mode: c.Clock}, {Name: identity.RandomSeed, Mode: c.RandomSeed}, {Name: identity.MachineID, Mode: c.MachineID},
		{Name: identity.DBus, Mode: c.DBus}, {Name: identity.Hostname, Mode: c.Hostname}, {Name: identity.SSHHostKeys, Mode: c.SSHHostKeys},
		{Name: identity.NetworkManager, Mode: c.NetworkManager}, {Name: identity.Bluetooth, Mode: c.Bluetooth}}
}

// identity is the setting of each preset.
func (c *Config) identity() []identity.Setting {
	return identity.Complete(c.Identity.settings(), c.hasState())
}

// TrustConfig says what vouches for a boot beside the signature of the manifest.
type TrustConfig struct {
	TPM string `toml:"tpm"` // none, wanted, required: it keeps the epoch, and is told what boots
}

// LayerConfig is an image of its own that is stacked over the base.
type LayerConfig struct {
	Name   string `toml:"name"`
	Source string `toml:"source"`
	Allow  []Loss `toml:"allow"` // in addition to those of the base
}

// defaultConfig is what holds where a veneer.toml is silent.
func defaultConfig() Config {
	return Config{
		Corruption: images.EIO,
		Store:      "LABEL=" + storeLabel,
		Tools:      true,
		Outputs:    []string{OutputStore},
		FileSystem: FileSystem{Type: Squashfs},
		Kernel:     KernelConfig{From: FromTree, Modules: ModulesConfig{Policy: "generic"}},
		Root:       RootConfig{Upper: "tmpfs", Size: "50%", OnFail: "reboot"},
		Trust:      TrustConfig{TPM: "none"},
		State:      StateConfig{Place: "none", Missing: "fail", FileSystem: "ext4", Unlock: "none", Warning: 80, Critical: 95},
	}
}

// allowed lists the losses that are accepted of the base and of each layer.
func (c Config) allowed() []Loss {
	if c.Allow.Strict {
		return c.Allow.Losses
	}
	return append(usualLosses(), c.Allow.Losses...)
}

// has reports whether an output was asked for.
func (c Config) has(output string) bool {
	for _, o := range c.Outputs {
		if o == output {
			return true
		}
	}
	return false
}

// variant is the variant of PID 1. The local one boots nothing that others built.
func (c Config) variant() initramfs.Variant {
	if c.Variant != "" {
		return c.Variant
	}
	line := c.asked()
	if c.has(OutputNetboot) || line.Networked != "" {
		return initramfs.Net
	}
	if c.has(OutputISO) || line.Larger != "" || c.wantsLive() || len(c.Pins) > 0 {
		return initramfs.Live
	}
	return initramfs.Local
}

// wantsLive reports whether a key asks for what the local init does not have.
func (c Config) wantsLive() bool {
	return c.Root.ToRAM != "" && c.Root.ToRAM != string(boot.ToRAMNo) || c.Root.MediumLost != "" && c.Root.MediumLost != boot.MediumIgnore
}

// Spec is a build: what to build, where to, and what surrounds it.
type Spec struct {
	Config     Config
	Out        string                 // directory; made if it is not there
	Epoch      *time.Time             // SOURCE_DATE_EPOCH; later times of files are set to it
	Passphrase func() ([]byte, error) // of the secret key; may be nil
	Progress   *Progress              // may be nil
	init       []byte                 // PID 1, for tests; nil is the prebuilt one
}
