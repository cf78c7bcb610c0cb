package vmtests

// Stores that were damaged, or made by somebody else. Each is refused at the step that finds it, with the reason.
//
//	machine   q35, 512 MiB; on-fail is reboot, panic=-1 makes it happen at once
//	disks     vda: a spoiled copy of the store, write-protected
//	console   "FAILED at step: …", the cause, remedies, "next: reboot"; then the machine resets

import (
	"os"
	"path/filepath"
	"testing"

	"veneer/images"
	"veneer/vmtests/qemu"
)

// refusal is a store, or a command line, that must not boot.
type refusal struct {
	name  string
	spoil func(s store)
	words []string // of the kernel command line
	step  string   // that refuses
	cause string   // a pattern of what it says
}

// refuse boots a spoiled store of the output and checks that it goes no further than the step.
func (o output) refuse(t *testing.T, r refusal) {
	t.Helper()
	disk := o.disk()
	if r.spoil != nil {
		s := o.store(t, "veneer")
		r.spoil(s)
		disk = ext4(t, s.dir, label)
	}
	g := start(t, o.vm(t, disk, r.words...))
	g.failed(r.step, r.cause)
	g.ends(qemu.Reset)
	g.never(`switch root \.\.\. `, `while taking back what was done`, `panic, which is a bug`)
}

func TestASpoiledStoreIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	out := small(t)
	signature := "deployments/1/manifest.json.minisig"
	image := func(s store) string { return images.ImagePath(s.base().ID) }
	for _, r := range []refusal{
		{"a flipped bit in the manifest", func(s store) { s.flip("deployments/1/manifest.json", 30) }, nil,
			"check manifest", `store /dev/vda:/veneer: deployment 1: key [0-9A-F]+: signature does not match`},
		{"a flipped bit in the signature", func(s store) {
			text := read(t, s.path(signature))
			s.flip(signature, int64(len("untrusted comment: signature from minisign secret key "))+40)
			if string(text) == string(read(t, s.path(signature))) {
				t.Error("nothing was flipped")
			}
		}, nil, "check manifest", `deployment 1: .*signature`},
		{"a fifo in place of the manifest", func(s store) { s.fifo("deployments/1/manifest.json") }, nil, "check manifest", `manifest.json: not a regular file`},
		{"a fifo in place of the signature", func(s store) { s.fifo(signature) }, nil, "check manifest", `minisig: not a regular file`},
		{"a set for another machine", func(s store) {
			s.sign(out.key, func(m *images.Manifest) { m.Architecture = "arm64" })
		}, nil, "check manifest", `the set is for arm64, and this machine is amd64`},
		{"no signature", func(s store) { s.remove(signature) }, nil, "check manifest", `manifest.json.minisig: no such file`},
		{"a signature by an unknown key", func(s store) { s.sign(testKey(t, "stranger"), func(*images.Manifest) {}) }, nil,
			"check manifest", `key ` + keyID(t, "stranger") + `: signed with a key that is not trusted here \(trusted: ` + keyID(t, "test") + `\)`},
		{"a signed manifest of a newer format", func(s store) {
			text := replaced(t, read(t, s.path("deployments/1/manifest.json")), `"format": 1,`, `"format": 2, "later": true,`)
			s.signText(out.key, text)
		}, nil, "check manifest", `manifest: format 2 is newer than what this veneer reads, 1: update`},
		{"a flipped bit in a hash block", func(s store) { s.flip(image(s), s.base().Verity.HashOffset+4096+100) }, nil,
			"mount images", `base .*input/output error`},
		{"an image cut short", func(s store) { s.truncate(image(s), s.base().Size-4096) }, nil,
			"attach images", `base .*bytes, the manifest says \d+: the copy is incomplete`},
		{"an image that is not there", func(s store) { s.remove(image(s)) }, nil, "attach images", `base .*no such file`},
		{"another image under the name of the base", func(s store) {
			for _, img := range out.manifest(t).Images {
				if img.Role == images.RoleTools {
					s.write(image(s), read(t, s.path(images.ImagePath(img.ID))))
					s.truncate(image(s), s.base().Size)
				}
			}
		}, nil, "mount images", `base .*input/output error`},
		{"a store without a deployment", func(s store) { s.remove("deployments") }, nil, "choose deployment", `store holds no deployment`},
		{"a file system without the store's directory", func(s store) {
			if err := os.Rename(s.path(""), filepath.Join(s.dir, "elsewhere")); err != nil {
				t.Error(err)
			}
		}, nil, "mount store", `directory "veneer": .*no such file`},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			out.refuse(t, r)
		})
	}
}

func TestABadDataBlockFollowsThePolicy(t *testing.T) {
	t.Parallel()
	victim := noise(1 << 20)
	r := smallRecipe(t, "small-victim", `layers = [{ name = "victim", source = "victim.tar" }]`)
	r.files["victim.tar"] = archive(t, "victim", file{"srv/victim", string(victim)}, file{"srv/other", string(noise(1<<20 + 1))})
	out := outputOf(t, r)
	boot := func(t *testing.T, policy images.Corruption) *guest {
		s := out.store(t, "veneer")
		s.sign(out.key, func(m *images.Manifest) { m.Corruption = policy })
		layer := out.manifest(t).Images[2]
		path := images.ImagePath(layer.ID)
		s.flip(path, indexOf(t, read(t, s.path(path)), victim[300_000:300_064]))
		g := start(t, out.vm(t, ext4(t, s.dir, label)))
		g.shell()
		g.run("cat /srv/other > /dev/null")
		g.run("echo 7 > /proc/sys/kernel/printk")
		return g
	}
	t.Run("eio: the read fails and the system lives", func(t *testing.T) {
		t.Parallel()
		g := boot(t, images.EIO)
		if out, code := g.try("cat /srv/victim > /dev/null"); code == 0 {
			t.Errorf("the spoiled file was read: %s", out)
		}
		if shows := g.run("dmesg"); !contains(shows, `verity: .*data block \d+ is corrupted`) {
			t.Errorf("the kernel does not name the block:\n%s", shows)
		}
		g.run("cat /srv/other > /dev/null")
		g.leave("poweroff", "poweroff", qemu.PoweredOff)
	})
	t.Run("restart: the machine resets", func(t *testing.T) {
		t.Parallel()
		g := boot(t, images.Restart)
		g.send("cat /srv/victim > /dev/null")
		g.expect(`dm-verity device corrupted`)
		g.ends(qemu.Reset)
		g.never(`Kernel panic`)
	})
	t.Run("panic: the kernel panics", func(t *testing.T) {
		t.Parallel()
		g := boot(t, images.Panic)
		g.send("cat /srv/victim > /dev/null")
		g.expect(`Kernel panic - not syncing: dm-verity device corrupted`)
		g.ends(qemu.Reset) // panic=-1
	})
}
