package paper

import (
	"context"
	"errors"
	"strings"
	"testing"

	"veneer/boot"
	"veneer/images"
	"veneer/overlay/mount"
	"veneer/stage"
)

// recorder is the paper machine with a mount table: what is mounted and not yet unmounted.
type recorder struct {
	Machine
	mount.Recorder
	mounted []string
}

func (r *recorder) Apply(op mount.Op) error {
	if err := r.Recorder.Apply(op); err != nil {
		return err
	}
	switch op := op.(type) {
	case mount.Mount:
		r.mounted = append(r.mounted, op.Target)
	case mount.Bind:
		r.mounted = append(r.mounted, op.Target)
	case mount.Unmount:
		last := len(r.mounted) - 1
		if last < 0 || r.mounted[last] != op.Target {
			return errors.New("unmounted out of order: " + op.Target)
		}
		r.mounted = r.mounted[:last]
	}
	return nil
}

func manifest(t *testing.T, bend func(*images.Manifest)) []byte {
	t.Helper()
	id := func(c string) string { return strings.Repeat(c, 64) }
	img := func(role images.Role, name, id, fs string) images.Image {
		return images.Image{Role: role, Name: name, ID: id, Size: 3 << 12, FileSystem: fs,
			Verity: images.Verity{Algorithm: "sha256", BlockSize: 4096, DataBlocks: 1, HashOffset: 4096}}
	}
	m := images.Manifest{Format: images.Format, Name: "kiosk", Version: "7", Architecture: "amd64", Corruption: images.Restart,
		Kernel:    images.Kernel{Release: "6.1.0", File: images.File{Name: "vmlinuz", Size: 1, SHA256: id("0")}},
		Initramfs: images.File{Name: "initramfs", Size: 1, SHA256: id("0")},
		Root:      images.Root{Upper: "tmpfs", Size: "25%", OnFail: "poweroff"},
		Images: []images.Image{img(images.RoleTools, "tools", id("a"), "squashfs"), img(images.RoleBase, "base", id("b"), "erofs"),
			img(images.RoleLayer, "app", id("c"), "squashfs")}}
	if bend != nil {
		bend(&m)
	}
	text := m.Encode()
	return text
}

func newRecorder(t *testing.T, manifest []byte) *recorder {
	t.Helper()
	return &recorder{Machine: Machine{Manifest: manifest, Serial: "1", Say: func(string) {}}}
}

func env(t *testing.T, cmdline string) stage.Env {
	t.Helper()
	s, err := stage.Configure("veneer.store=LABEL=VENEER", cmdline, nil)
	if err != nil {
		t.Fatal(err)
	}
	return stage.Env{Settings: s, Paper: true, RAM: 1 << 30}
}

func TestTheRecordTellsWhatWasDone(t *testing.T) {
	m := newRecorder(t, manifest(t, nil))
	r := &stage.Runner{OnFail: boot.Reboot}
	root, err := stage.Boot(context.Background(), r, m, env(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	rec := r.Record
	if root.Init != "/sbin/init" || rec.Deployment.Name != "kiosk" || rec.Deployment.Why != "the store's default" || rec.Store.Dir != "veneer" {
		t.Errorf("root %+v, deployment %+v, store %+v", root, rec.Deployment, rec.Store)
	}
	if len(rec.Images) != 3 || rec.Images[1].Mount != stage.BaseDir || rec.Verified.Corruption != images.Restart || rec.Upper.Size != 1<<30/100*25 {
		t.Errorf("images %+v, verified %+v, upper %+v", rec.Images, rec.Verified, rec.Upper)
	}
	if r.OnFail != boot.Poweroff {
		t.Errorf("policy %q, want that of the manifest", r.OnFail)
	}
}

func TestTheCommandLineWinsOverTheManifest(t *testing.T) {
	m := newRecorder(t, manifest(t, nil))
	r := &stage.Runner{OnFail: boot.Halt}
	if _, err := stage.Boot(context.Background(), r, m, env(t, "veneer.on-fail=halt veneer.upper=tmpfs:size=64M")); err != nil {
		t.Fatal(err)
	}
	if r.OnFail != boot.Halt || r.Record.Upper.Size != 64<<20 {
		t.Errorf("policy %q, upper %+v, want those of the command line", r.OnFail, r.Record.Upper)
	}
}

func TestWhicheverOperationFailsEverythingIsTakenBack(t *testing.T) {
	whole := newRecorder(t, manifest(t, nil))
	if _, err := stage.Boot(context.Background(), &stage.Runner{}, whole, env(t, "")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	for k := 1; k <= len(whole.Ops); k++ {
		m := newRecorder(t, manifest(t, nil))
		m.FailAt, m.Err = k, broken
		r := &stage.Runner{}
		_, err := stage.Boot(context.Background(), r, m, env(t, ""))
		var step *stage.StepError
		if !errors.Is(err, broken) || !errors.As(err, &step) {
			t.Errorf("operation %d failed and Boot() = %v", k, err)
		}
		if err := r.Unwind(); err != nil || len(m.mounted) != 0 {
			t.Errorf("operation %d failed; afterwards %v is mounted, Unwind() = %v", k, m.mounted, err)
		}
	}
}

func TestWhatCannotBeBootedIsRefusedAtItsStep(t *testing.T) {
	for name, c := range map[string]struct {
		cmdline  string
		manifest func(*images.Manifest)
		step     string
		want     string
	}{
		"an upper larger than the memory":    {"veneer.upper=tmpfs:size=2G", nil, stage.StepStackRoot, "larger than the 1024 MiB"},
		"a manifest that was never finished": {"", func(m *images.Manifest) { m.Images = nil }, stage.StepCheckManifest, "images"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := stage.Boot(context.Background(), &stage.Runner{}, newRecorder(t, manifest(t, c.manifest)), env(t, c.cmdline))
			var step *stage.StepError
			if !errors.As(err, &step) || step.Step != c.step || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Boot() = %v, want a refusal at %q with %q", err, c.step, c.want)
			}
		})
	}
}

func TestVerificationCannotBeSwitchedOffWhereTheInitramfsForbidsIt(t *testing.T) {
	e := env(t, "veneer.verify=none")
	e.Paper = false
	_, err := stage.Boot(context.Background(), &stage.Runner{}, newRecorder(t, manifest(t, nil)), e)
	if err == nil || !strings.Contains(err.Error(), "allow-unsigned") {
		t.Errorf("Boot() = %v, want a refusal", err)
	}
}

func TestAnUnsignedManifestIsNeverParsed(t *testing.T) {
	e := env(t, "")
	e.Paper = false
	_, err := stage.Boot(context.Background(), &stage.Runner{}, newRecorder(t, []byte("{")), e)
	if err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("Boot() = %v, want the signature refused before the manifest", err)
	}
}
