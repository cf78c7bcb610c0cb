package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"veneer/images"
	"veneer/images/verity"
)

var updateVerify = flag.Bool("update-verify", false, "write the golden files of verify and inspect anew")

// output is a small build output made by the tools that make real ones.
type output struct {
	dir    string
	man    images.Manifest
	signer *Signer
	key    Key
}

func newOutput(t *testing.T) output {
	t.Helper()
	signer, spec := newSigner(t)
	key, err := ReadPublicKey(spec.PublicPath())
	if err != nil {
		t.Fatal(err)
	}
	key.Name = "release.pub"
	o := output{t.TempDir(), images.Manifest{Format: 1, Name: "demo", Version: "1.0", Epoch: 7, Architecture: "amd64",
		Root: images.Root{Upper: "tmpfs", OnFail: "reboot"}, Corruption: images.EIO}, signer, key}
	write(t, filepath.Join(o.dir, "vmlinuz"), strings.Repeat("kernel", 1000))
	archive := testInitramfs(map[string]string{"init": "ELF", "etc/veneer/keys/release.pub": string(signer.Public())})
	write(t, filepath.Join(o.dir, initramfsFile), string(zstdOf(t, archive)))
	o.man.Kernel = images.Kernel{Release: "6.1.0", File: fileOf(t, filepath.Join(o.dir, "vmlinuz"))}
	o.man.Initramfs = fileOf(t, filepath.Join(o.dir, initramfsFile))
	if err := os.Mkdir(filepath.Join(o.dir, "images"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, role := range []images.Role{images.RoleTools, images.RoleBase} {
		o.man.Images = append(o.man.Images, o.newImage(t, role))
	}
	o.sign(t)
	return o
}

func (o output) newImage(t *testing.T, role images.Role) images.Image {
	t.Helper()
	tree := t.TempDir()
	write(t, filepath.Join(tree, "file"), strings.Repeat(string(role), 100_000))
	path := filepath.Join(o.dir, "images", "new.img")
	run(t, "squashfs-tools", "mksquashfs", tree, path, "-quiet", "-no-progress", "-noD", "-all-root", "-all-time", "0", "-mkfs-time", "0")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := verity.Append(context.Background(), f, verity.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := hex.EncodeToString(r.Root[:])
	if err := os.Rename(path, filepath.Join(o.dir, images.ImagePath(id))); err != nil {
		t.Fatal(err)
	}
	return images.Image{Role: role, Name: string(role), ID: id, Size: r.Size, FileSystem: "squashfs",
		Verity: images.Verity{Algorithm: "sha256", BlockSize: 4096, DataBlocks: r.DataBlocks, HashOffset: r.HashOffset}}
}

func (o output) sign(t *testing.T) {
	t.Helper()
	text := o.man.Encode()
	sig, err := o.signer.Sign(text, "demo 1.0 epoch 7")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(o.dir, images.ManifestName), string(text))
	write(t, filepath.Join(o.dir, images.SignatureName), string(sig))
}

// store makes a store with two deployments of the same images beside the output's files.
func (o output) store(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), storeDir)
	for _, serial := range []string{"1", "2"} {
		to := filepath.Join(dir, images.DeploymentPath(serial))
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{images.ManifestName, images.SignatureName} {
			write(t, filepath.Join(to, name), string(read(t, filepath.Join(o.dir, name))))
		}
	}
	write(t, filepath.Join(dir, images.DefaultPath()), "2\n")
	if err := os.CopyFS(filepath.Join(dir, "images"), os.DirFS(filepath.Join(o.dir, "images"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (o output) image(n int) string {
	return filepath.Join(o.dir, images.ImagePath(o.man.Images[n].ID))
}

func fileOf(t *testing.T, path string) images.File {
	t.Helper()
	content := read(t, path)
	sum := sha256.Sum256(content)
	return images.File{Name: filepath.Base(path), Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
}

func run(t *testing.T, pkg string, argv ...string) {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skipf("%s is not installed: apt install %s", argv[0], pkg)
	}
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
}

func flipByte(t *testing.T, path string, at int64) {
	t.Helper()
	content := read(t, path)
	if at < 0 {
		at += int64(len(content))
	}
	content[at] ^= 1
	write(t, path, string(content))
}

func TestGoodOutputsStoresManifestsAndImagesPass(t *testing.T) {
	o := newOutput(t)
	last := int64(0)
	for name, c := range map[string]struct {
		spec   VerifySpec
		checks int
	}{
		"output with its own keys":  {VerifySpec{Path: o.dir}, 6},
		"output with a given key":   {VerifySpec{Path: o.dir, Keys: []Key{o.key}}, 6},
		"manifest":                  {VerifySpec{Path: filepath.Join(o.dir, images.ManifestName)}, 2},
		"image":                     {VerifySpec{Path: o.image(1)}, 1},
		"store of two deployments":  {VerifySpec{Path: o.store(t), Keys: []Key{o.key}}, 7},
		"output with progress read": {VerifySpec{Path: o.dir, Progress: func(done, total int64) { last = total - done }}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := Verify(context.Background(), c.spec)
			if err != nil || !v.OK() || len(v.Checks) != c.checks {
				t.Errorf("Verify = %v, %v with %d checks, want %d", err, v.Err(), len(v.Checks), c.checks)
			}
		})
	}
	if last != 0 {
		t.Errorf("progress ended %d bytes before its total", last)
	}
}

func TestVerifyFindsEachDamage(t *testing.T) {
	cases := []struct {
		name   string
		damage func(t *testing.T, o output)
		want   []string // in the errors; nothing else may be wrong
	}{
		{"a byte of the manifest", func(t *testing.T, o output) { flipByte(t, filepath.Join(o.dir, images.ManifestName), 20) },
			[]string{"signature: key ", "/manifest.json: manifest: line 3: want the field \"name\""}},
		{"a byte of the signature", func(t *testing.T, o output) { flipByte(t, filepath.Join(o.dir, images.SignatureName), 100) },
			[]string{"signature: "}},
		{"a signature that is none", func(t *testing.T, o output) { write(t, filepath.Join(o.dir, images.SignatureName), "x") },
			[]string{"signature: ", "/manifest.json.minisig: not a minisign signature"}},
		{"a manifest that is none", func(t *testing.T, o output) { write(t, filepath.Join(o.dir, images.ManifestName), `{"format":"1"}`) },
			[]string{"signature: key ", "/manifest.json: manifest: line 1: "}},
		{"an empty manifest", func(t *testing.T, o output) { write(t, filepath.Join(o.dir, images.ManifestName), "") },
			[]string{"signature: key ", "/manifest.json: manifest: line 1: "}},
		{"no signature", func(t *testing.T, o output) { os.Remove(filepath.Join(o.dir, images.SignatureName)) },
			[]string{"signature: stat "}},
		{"a data block", func(t *testing.T, o output) { flipByte(t, o.image(1), 5*4096) },
			[]string{"base: ", "data block 5 (byte 20480)"}},
		{"a hash block", func(t *testing.T, o output) { flipByte(t, o.image(0), -1) },
			[]string{"tools: ", "hash block of level 1, number"}},
		{"the hash superblock", func(t *testing.T, o output) { flipByte(t, o.image(1), o.man.Images[1].Verity.HashOffset) },
			[]string{"base: each block is good, but its superblocks are not: hash tree at byte"}},
		{"a cut image", func(t *testing.T, o output) { os.Truncate(o.image(1), 8192) },
			[]string{"base: ", "has 8192 bytes"}},
		{"a missing image", func(t *testing.T, o output) { os.Remove(o.image(0)) },
			[]string{"tools: stat "}},
		{"another kernel of the same size", func(t *testing.T, o output) { flipByte(t, filepath.Join(o.dir, "vmlinuz"), 0) },
			[]string{"kernel: ", "changed after it was built"}},
		{"a longer kernel", func(t *testing.T, o output) { write(t, filepath.Join(o.dir, "vmlinuz"), "x") },
			[]string{"kernel: ", "has 1 byte, "}},
		{"an initramfs without keys", func(t *testing.T, o output) {
			write(t, filepath.Join(o.dir, initramfsFile), string(testInitramfs(map[string]string{"init": "ELF"})))
		}, []string{"trusted keys: the initramfs trusts no key", "signature: key ", "initramfs: "}},
		{"several things at once", func(t *testing.T, o output) {
			flipByte(t, filepath.Join(o.dir, "vmlinuz"), 0)
			flipByte(t, o.image(0), 0)
			flipByte(t, o.image(1), 0)
		}, []string{"kernel: ", "tools: ", "base: "}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := newOutput(t)
			c.damage(t, o)
			v, err := Verify(context.Background(), VerifySpec{Path: o.dir})
			if err != nil || v.OK() {
				t.Fatalf("Verify = %v, OK %v", err, v.OK())
			}
			found := v.Err().Error()
			for _, want := range c.want {
				if !strings.Contains(found, want) {
					t.Errorf("Verify found %s\nwant %q", found, want)
				}
			}
			good := 0
			for _, check := range v.Checks {
				if check.Error == "" {
					good++
				}
			}
			if bad := len(v.Checks) - good; bad > len(c.want) {
				t.Errorf("Verify found %d problems:\n%s", bad, found)
			}
		})
	}
}

func TestVerifyTrustsTheKeysThatWereGivenAndNoOthers(t *testing.T) {
	o, stranger := newOutput(t), newOutput(t)
	v, err := Verify(context.Background(), VerifySpec{Path: o.dir, Keys: []Key{stranger.key}})
	if err != nil || !errors.Is(v.Err(), images.ErrUnknownKey) {
		t.Errorf("Verify with another key = %v, %v; want ErrUnknownKey", err, v.Err())
	}
	if v, err := Verify(context.Background(), VerifySpec{Path: o.dir, Keys: []Key{stranger.key, o.key}}); err != nil || !v.OK() {
		t.Errorf("Verify with both keys = %v, %v", err, v.Err())
	}
}

func TestVerifyOfAStoreFindsWhatTheInitWouldStumbleOn(t *testing.T) {
	o := newOutput(t)
	for name, c := range map[string]struct {
		damage func(dir string) error
		want   string
	}{
		"a default that is not there": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "default"), []byte("9\n"), 0o644) }, "default: it names deployment 9"},
		"a default that is junk":      {func(dir string) error { return os.WriteFile(filepath.Join(dir, "default"), []byte("../x"), 0o644) }, "default: "},
		"no deployments":              {func(dir string) error { return os.RemoveAll(filepath.Join(dir, "deployments/1")) }, ""},
		"a deployment without files":  {func(dir string) error { return os.Mkdir(filepath.Join(dir, "deployments/3"), 0o755) }, "deployment 3: manifest: stat"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := o.store(t)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			v, err := Verify(context.Background(), VerifySpec{Path: dir, Keys: []Key{o.key}})
			if err != nil || (c.want == "") != v.OK() || c.want != "" && !strings.Contains(v.Err().Error(), c.want) {
				t.Errorf("Verify = %v, %v; want %q", err, v.Err(), c.want)
			}
		})
	}
	if _, err := Verify(context.Background(), VerifySpec{Path: o.store(t)}); err == nil || !strings.Contains(err.Error(), "--key") {
		t.Errorf("Verify of a store without keys = %v", err)
	}
}

func TestACertificateWithNothingToHoldItAgainstIsBad(t *testing.T) {
	v, err := Verify(t.Context(), VerifySpec{Path: newOutput(t).dir, Certs: []string{"db.crt"}})
	if err != nil || v.Err() == nil || !strings.HasPrefix(v.Err().Error(), "signature for Secure Boot: there is no UKI here") {
		t.Errorf("Verify = %v, %v", err, v.Err())
	}
}

func TestVerifySaysWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	disk, ext4, noise := filepath.Join(dir, "disk"), filepath.Join(dir, "ext4"), filepath.Join(dir, "noise")
	write(t, disk, strings.Repeat("\x00", 512)+"EFI PART"+strings.Repeat("\x00", 4096))
	write(t, ext4, strings.Repeat("\x00", 1080)+"\x53\xef"+strings.Repeat("\x00", 4096))
	write(t, noise, "noise")
	for path, want := range map[string]string{disk: "partition table is damaged", ext4: "name the public keys to trust with --key", noise: "is neither", dir: "is neither a build output",
		filepath.Join(dir, "nothing"): "no such file"} {
		if _, err := Verify(context.Background(), VerifySpec{Path: path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Verify(%s) = %v, want %q", path, err, want)
		}
	}
}

func TestVerifyStopsWhenAsked(t *testing.T) {
	o := newOutput(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Verify(ctx, VerifySpec{Path: o.dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify = %v, want Canceled", err)
	}
}
