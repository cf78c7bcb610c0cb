package build

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"veneer/boot"
	"veneer/images"
)

// storeLabel is the label of the file system that the output "store" is, unless the key "store" names another.
const storeLabel = "VENEER"

// maxLabel is what ext4 keeps of one.
const maxLabel = 16

// label is that of the store's file system: the one that the init looks for.
func (c *Config) label() string {
	if ref, err := boot.ParseStoreRef(c.Store); err == nil && ref.Device.Kind == boot.ByLabel {
		return ref.Device.Value
	}
	return storeLabel
}

// firstSerial is the serial of the one deployment in a store that build makes.
const firstSerial = "1"

// The ext4 file system of a store, in blocks of 4 KiB.
const (
	storeBlock   = 4096
	storeJournal = 4 << 20 // bytes: the least that mke2fs makes
	storeInodes  = 1024
	storeSlack   = 16 << 20 // for what the running machine files there: boot records and requests

	stateBytes = 512 << 20 // of a state in the store, where nobody said how much; a file with holes, until it is written
	bytesInode = 16 << 10  // of a state, for each file that it can hold
)

// storeConfig takes the place of /etc/mke2fs.conf, which is each host's own. Everything in it is understood by Linux 4.9.
const storeConfig = `[defaults]
	base_features = sparse_super,large_file,filetype,dir_index,ext_attr
	enable_periodic_fsck = 0
	blocksize = 4096
	inode_size = 256
	inode_ratio = 65536
[fs_types]
	ext4 = {
		features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
	}
`

// placed is a file in a store: where it lies there, and where its content is, below the staging directory.
type placed struct{ name, from string }

// makeStore writes an ext4 file system with a store in it to the file outStore in the directory dir, with room for a state. mke2fs makes it empty and
// debugfs fills it, in our order and without root: mke2fs -d would take over owners, change times and the order of a
// directory of the host.
func makeStore(ctx context.Context, tools map[string]string, dir, label string, files []placed, manifest []byte, state int64, epoch time.Time) error {
	inodes := storeInodes + state/bytesInode
	size, err := storeSize(dir, files, state, inodes)
	if err != nil {
		return err
	}
	const conf, script = "mke2fs.conf", "script.debugfs"
	for name, content := range map[string]string{conf: storeConfig, script: storeScript(files)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	id := uuidOf(manifest)
	env := []string{
		"MKE2FS_CONFIG=" + conf,
		// 0 would mean the time of day.
		"E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(max(1, epoch.Unix()), 10),
	}
	mke2fs := command{dir: dir, env: env, argv: []string{tools["mke2fs"], "-q", "-F", "-t", "ext4", "-L", label, "-U", id,
		"-E", "hash_seed=" + id + ",root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard",
		"-m", "0", "-N", strconv.FormatInt(inodes, 10), "-J", "size=" + strconv.Itoa(storeJournal>>20), outStore, strconv.FormatInt(size/1024, 10) + "k"}}
	if err := mke2fs.run(ctx); err != nil {
		return fmt.Errorf("make %s: %w", outStore, err)
	}
	// debugfs succeeds whatever happens; only its messages tell.
	debugfs := command{dir: dir, env: env, argv: []string{tools["debugfs"], "-w", "-f", script, outStore}, quiet: true,
		ignore: func(line string) bool { return strings.HasPrefix(line, "debugfs ") }} // its version
	if err := debugfs.run(ctx); err != nil {
		return fmt.Errorf("fill %s: %w", outStore, err)
	}
	out := filepath.Join(dir, outStore)
	if err := os.Chmod(out, 0o644); err != nil {
		return err
	}
	return syncFile(out)
}

// placedFiles lists the store of one deployment.
func placedFiles(m images.Manifest, signed bool) []placed {
	deployment := "veneer/deployments/" + firstSerial + "/"
	var files []placed
	for _, img := range m.Images {
		files = append(files, placed{"veneer/images/" + img.ID + ".img", "images/" + img.ID + ".img"})
	}
	files = append(files, placed{deployment + images.ManifestName, images.ManifestName})
	if signed {
		files = append(files, placed{deployment + images.SignatureName, images.SignatureName})
	}
	return append(files, placed{"veneer/default", defaultFile})
}

// storeScript is the input of debugfs. Its write command takes a bare name, hence the cd; no name here needs quotes.
func storeScript(files []placed) string {
	var b strings.Builder
	made := map[string]bool{".": true}
	var mkdir func(dir string)
	mkdir = func(dir string) {
		if made[dir] {
			return
		}
		made[dir] = true
		mkdir(path.Dir(dir))
		fmt.Fprintf(&b, "mkdir /%s\n", dir)
	}
	for _, f := range files {
		dir, name := path.Dir(f.name), path.Base(f.name)
		mkdir(dir)
		fmt.Fprintf(&b, "cd /%s\nwrite %s %s\n", dir, f.from, name)
	}
	return b.String()
}

// stateRoom is the room that the store needs for the state; none where that is kept elsewhere.
func (c *Config) stateRoom() int64 {
	if c.State.Place != string(boot.StateInStore) {
		return 0
	}
	if size, err := boot.ParseSize(c.State.Size); err == nil {
		return size.Bytes
	}
	return stateBytes
}

// storeSize is the size of a file system that holds the files and a state, with a little room.
func storeSize(dir string, files []placed, state, inodes int64) (int64, error) {
	blocks := (storeJournal + storeSlack + state + inodes*256) / storeBlock
	for _, f := range files {
		info, err := os.Stat(filepath.Join(dir, f.from))
		if err != nil {
			return 0, err
		}
		n := (info.Size() + storeBlock - 1) / storeBlock
		blocks += n + n/1024 + 2 // extents, bitmaps, copies of the superblock
	}
	blocks += 64 * (1 + blocks/32768) // of each block group
	return (blocks + 255) &^ 255 * storeBlock, nil
}

// uuidOf makes a UUID of what a store is for, so that the same store has the same one.
func uuidOf(content []byte) string {
	sum := sha256.Sum256(content)
	sum[6] = sum[6]&0x0f | 0x80 // RFC 9562, version 8
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return closeSynced(f)
}
