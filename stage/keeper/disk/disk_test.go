package disk

// Real loop devices and the tools of this machine, whose root stands for the base. What the init asks for is tested through the wire,
// in initramfs/machine.

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"veneer/initramfs/machine/disktest"
	"veneer/initramfs/machine/probe"
	"veneer/stage"
)

const mib = 1 << 20

func TestAProgramIsConfined(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	m := New(t.Logf)
	sh := func(limit time.Duration, secret []byte, script string) (int, string, error) {
		return m.run(t.Context(), "/", tool{program: "sh", args: []string{"-c", script}, limit: limit, secret: secret, good: []int{7}})
	}
	before := disktest.Run(t, "cat", "/proc/self/mountinfo")
	t.Setenv("LEAKED", "yes")
	if _, said, err := sh(time.Minute, nil, "env; cat; ls -l /proc/self/fd"); err != nil || strings.Contains(said, "LEAKED") || strings.Contains(said, "socket") {
		t.Errorf("it sees %q, %v", said, err)
	}
	if code, said, err := sh(time.Minute, []byte("open sesame"), "cat /proc/self/fd/3; exit 7"); code != 7 || said != "open sesame" || err != nil {
		t.Errorf("the secret: %d %q %v", code, said, err)
	}
	if _, _, err := sh(time.Minute, []byte("open sesame"), "echo lost >&2; exit 3"); err == nil ||
		!strings.Contains(err.Error(), "exit code 3; it said: lost") || strings.Contains(err.Error(), "sesame") {
		t.Errorf("a failure: %v, want code and words", err)
	}
	if _, said, _ := sh(time.Minute, nil, "head -c 100000 /dev/zero | tr '\\0' x; echo end"); len(said) != maxSaid || !strings.HasSuffix(said, "xend\n") {
		t.Errorf("of much output %d bytes are kept, want the last %d", len(said), maxSaid)
	}
	start := time.Now()
	if _, _, err := sh(300*time.Millisecond, nil, "sleep 60 & sleep 60"); err == nil || !strings.Contains(err.Error(), "took longer than 300ms") {
		t.Errorf("one that does not end: %v", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it was killed after %v", took)
	}
	if _, _, err := sh(time.Minute, nil, "kill -9 $$"); err == nil || !strings.Contains(err.Error(), "signal 9") {
		t.Errorf("one that was killed: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := m.run(ctx, "/", tool{program: "sleep", args: []string{"60"}, limit: time.Hour}); err == nil {
		t.Error("the context's deadline counts for nothing")
	}
	if after := disktest.Run(t, "cat", "/proc/self/mountinfo"); after != before {
		t.Errorf("mounts were left:\n%s", after)
	}
}

func TestLUKSThatWasCutOffIsMadeAnew(t *testing.T) {
	if !disktest.InNamespace(t) {
		return
	}
	const size = 32 * mib
	m, dev := New(t.Logf), disktest.Loop(t, size)
	look := func() (probe.Blank, error) {
		f, err := os.Open(dev)
		if err != nil {
			return probe.Blank{}, err
		}
		defer f.Close()
		return probe.LookAt(f, size)
	}
	disktest.Run(t, "sh", "-c", "echo key | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label mine "+dev+" -")
	if d, err := look(); err != nil || d.Empty || d.Type != stage.LUKS || d.Label != "mine" {
		t.Errorf("LookAt() = %+v, %v; want LUKS", d, err)
	}
	if err := m.forgotten(dev); !errors.Is(err, stage.ErrForeign) {
		t.Errorf("forgotten() = %v, want ErrForeign: it is not ours", err)
	}
	disktest.Poke(t, dev, -probe.MarkSize, probe.Mark(size))
	if d, err := look(); err != nil || !d.Empty {
		t.Errorf("LookAt() = %+v, %v; want it empty", d, err)
	}
	if err := m.Format(t.Context(), "/", dev, "ext4", "anew"); err != nil {
		t.Error(err)
	}
	disktest.Run(t, "sh", "-c", "dd if=/dev/zero bs=1M count=1 status=none of="+dev+" && echo key | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --label "+randomLabel+" "+dev+" -")
	if err := m.forgotten(dev); err != nil {
		t.Errorf("forgotten() = %v; want its key to be known to nobody", err)
	}
	if d, err := look(); err != nil || !d.Empty {
		t.Errorf("LookAt() = %+v, %v; want it empty", d, err)
	}
}
