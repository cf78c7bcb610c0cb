package build

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"

	"veneer/images"
)

// Initramfs is what an initramfs holds, as far as a boot depends on it.
type Initramfs struct {
	Compression   string   `json:"compression"` // zstd, gzip, or none
	Size          int64    `json:"size"`        // of the file, bytes
	Unpacked      int64    `json:"unpacked"`    // bytes
	Entries       int      `json:"entries"`
	Init          int64    `json:"init"`           // size of PID 1, bytes; 0 when there is none
	Defaults      string   `json:"defaults"`       // of the kernel command line
	AllowUnsigned bool     `json:"allow-unsigned"` // veneer.verify=none is honoured
	Variant       string   `json:"variant"`        // of PID 1
	Pins          []string `json:"pins,omitempty"` // digests of others' images that may be booted
	RescueShell   bool     `json:"rescue-shell"`
	TPM           string   `json:"tpm"`     // what a boot asks of a TPM 2.0: none, wanted, required
	Release       string   `json:"release"` // of the kernel whose modules it holds
	Modules       []string `json:"modules"` // in the order in which they can be loaded
	Builtin       []string `json:"builtin"` // wanted, and part of the kernel itself
	Keys          []Key    `json:"keys"`
}

// Key is a trusted public key, and where it was found.
type Key struct {
	Name             string `json:"name"`
	ID               string `json:"id"`
	images.PublicKey `json:"-"`
}

// Places in an initramfs, and limits of what is kept of them.
const (
	initPath      = "init"
	keysDir       = "etc/veneer/keys"
	defaultsPath  = "etc/veneer/cmdline"
	variantPath   = "etc/veneer/variant"
	pinsPath      = "etc/veneer/pins"
	unsignedPath  = "etc/veneer/allow-unsigned"
	tpmPath       = "etc/veneer/tpm"
	modulesIndex  = "lib/modules/index"
	shellPath     = "bin/sh"
	maxKeys       = 64
	maxDefaults   = 4 << 10
	maxPinned     = 32 << 10
	maxPublicKey  = 4 << 10
	maxModuleLine = 64 << 10
	maxModuleList = 16 << 10
)

// ReadInitramfs reads a whole initramfs from r, in bounded memory. size is that of the file.
func ReadInitramfs(r io.Reader, size int64) (Initramfs, error) {
	found := Initramfs{Size: size, TPM: "none", Compression: "none", Modules: []string{}, Builtin: []string{}, Keys: []Key{}}
	a := newArchive(r)
	defer a.Close()
	for {
		e, err := a.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = found.take(a, e)
		}
		if err != nil {
			return found, fmt.Errorf("initramfs: %w", err)
		}
	}
	if a.entries == 0 {
		return found, errors.New("initramfs: no entries in it")
	}
	found.Unpacked, found.Entries = a.unpacked, a.entries
	if a.format != "" {
		found.Compression = a.format
	}
	sort.Slice(found.Keys, func(i, j int) bool { return found.Keys[i].Name < found.Keys[j].Name })
	return found, nil
}

// take keeps what e says. The kernel lets a later entry replace an earlier one of the same name, and so does this.
func (i *Initramfs) take(a *archive, e entry) error {
	regular := e.Mode&0o170000 == 0o100000
	switch {
	case e.Name == initPath:
		i.Init = e.Size
	case e.Name == shellPath:
		i.RescueShell = true
	case e.Name == unsignedPath:
		i.AllowUnsigned = true
	case !regular:
	case e.Name == defaultsPath:
		text, err := readEntry(a, e, maxDefaults)
		i.Defaults = strings.TrimSpace(string(text))
		return err
	case e.Name == tpmPath:
		text, err := readEntry(a, e, maxDefaults)
		i.TPM = strings.TrimSpace(string(text))
		return err
	case e.Name == variantPath:
		text, err := readEntry(a, e, maxDefaults)
		i.Variant = strings.TrimSpace(string(text))
		return err
	case e.Name == pinsPath:
		text, err := readEntry(a, e, maxPinned)
		i.Pins = strings.Fields(string(text))
		return err
	case e.Name == modulesIndex:
		return i.readIndex(a)
	case path.Dir(e.Name) == keysDir && strings.HasSuffix(e.Name, ".pub"):
		return i.addKey(a, e)
	}
	return nil
}

func (i *Initramfs) addKey(a *archive, e entry) error {
	text, err := readEntry(a, e, maxPublicKey)
	if err != nil {
		return err
	}
	key, err := images.ParsePublicKey(text)
	if err != nil {
		return fmt.Errorf("%s: %w", e.Name, err)
	}
	named := Key{path.Base(e.Name), key.ID.String(), key}
	for n := range i.Keys {
		if i.Keys[n].Name == named.Name {
			i.Keys[n] = named
			return nil
		}
	}
	if len(i.Keys) == maxKeys {
		return fmt.Errorf("%s: more than %d keys", keysDir, maxKeys)
	}
	i.Keys = append(i.Keys, named)
	return nil
}

// readIndex reads the list of modules; docs/initramfs.md describes it.
func (i *Initramfs) readIndex(a *archive) error {
	i.Release, i.Modules, i.Builtin = "", []string{}, []string{}
	lines := bufio.NewScanner(a)
	lines.Buffer(nil, maxModuleLine)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		if len(i.Modules)+len(i.Builtin) > maxModuleList {
			return fmt.Errorf("%s: more than %d modules", modulesIndex, maxModuleList)
		}
		switch words[0] {
		case "release":
			i.Release = words[1]
		case "module":
			i.Modules = append(i.Modules, words[1])
		case "builtin":
			i.Builtin = append(i.Builtin, words[1])
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", modulesIndex, err)
	}
	return nil
}

func readEntry(a *archive, e entry, limit int64) ([]byte, error) {
	if e.Size > limit {
		return nil, fmt.Errorf("%s: %d bytes, more than %d", e.Name, e.Size, limit)
	}
	text, err := io.ReadAll(a)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.Name, err)
	}
	return text, nil
}
