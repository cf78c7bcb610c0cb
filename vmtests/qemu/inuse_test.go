package qemu

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// holdDisk has a real QEMU open a disk, and returns when it has.
func holdDisk(t *testing.T, drive string) {
	t.Helper()
	program := platforms["amd64"].system
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed: apt-get install %s", program, platforms["amd64"].pkg)
	}
	cmd := exec.Command(program, "-nodefaults", "-display", "none", "-S", "-monitor", "stdio", "-drive", "if=virtio,"+drive)
	in, err := cmd.StdinPipe() // its end ends nothing; QEMU is killed
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	// The monitor answers once QEMU has all that it wants.
	if _, err := io.WriteString(in, "info status\n"); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	for lines := bufio.NewScanner(out); ; {
		if !lines.Scan() {
			t.Fatalf("QEMU ended, or said nothing for 30s: %v", lines.Err())
		}
		if strings.Contains(lines.Text(), "VM status:") {
			return
		}
	}
}

func TestADiskThatAnotherQEMUHoldsIsNamed(t *testing.T) {
	for _, c := range []struct {
		name  string
		drive string // what the other QEMU does with the file
		disk  Disk   // what we want
		says  string
	}{
		{"two that write", "", Disk{}, "in use by another virtual machine: end that one, or add snapshot"},
		{"one that reads what another writes", "", Disk{ReadOnly: true}, "which writes to it: end that one, or use a copy"},
		{"a snapshot of what another writes", "", Disk{Snapshot: true}, "which writes to it"},
		{"one that writes what another reads", ",readonly=on", Disk{}, "end that one, or add snapshot"},
		{"two that read", ",readonly=on", Disk{ReadOnly: true}, ""},
		{"two snapshots", ",snapshot=on", Disk{Snapshot: true}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.disk.Path = filepath.Join(t.TempDir(), "disk.img")
			writeFile(t, c.disk.Path, strings.Repeat("\x00", 1<<20))
			if err := CheckFree(c.disk); err != nil {
				t.Fatalf("CheckFree() of a disk that nobody has = %v", err)
			}
			holdDisk(t, "format=raw,file="+c.disk.Path+c.drive)
			err := CheckFree(c.disk)
			if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), c.disk.Path+": "+"in use by another virtual machine") || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("CheckFree() = %v, want %q", err, c.says)
			}
		})
	}
}

func TestADiskThatAVMHasTwiceIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	writeFile(t, path, strings.Repeat("\x00", 512))
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		disks []Disk
		want  string
	}{
		"once":                        {[]Disk{{Path: path}}, ""},
		"to write, under two names":   {[]Disk{{Path: path}, {Path: link}}, link + " is attached twice"},
		"to read and to write":        {[]Disk{{Path: path, ReadOnly: true}, {Path: path}}, path + " is attached twice"},
		"to read":                     {[]Disk{{Path: path, ReadOnly: true}, {Path: link, Snapshot: true}, {Path: path, Bus: CDROM}}, ""},
		"and another that is no more": {[]Disk{{Path: path}, {Path: path + ".gone"}}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := CheckFree(c.disks...); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("CheckFree() = %v, want %q", err, c.want)
			}
		})
	}
}

func TestAStateBelongsToOneRunAtATime(t *testing.T) {
	dir := makeOutput(t, `{"architecture":"amd64"}`)
	m, err := OpenMedium(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	release, err := m.Claim(soon(t), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Claim(soon(t), false); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), m.State) {
		t.Errorf("a second Claim() = %v, want ErrInUse with %s", err, m.State)
	}
	if d := m.Throwaway(); d.Path != filepath.Join(dir, storeFile) || !d.Snapshot || CheckFree(d) != nil {
		t.Errorf("Throwaway() = %+v, %v; want a snapshot of the store that is free", d, CheckFree(d))
	}
	fresh, err := m.Claim(soon(t), true)
	if err != nil {
		t.Fatalf("a fresh Claim() beside a run = %v", err)
	}
	fresh()
	release()
	release, err = m.Claim(soon(t), false)
	if err != nil {
		t.Fatalf("Claim() after the end of the first = %v", err)
	}
	release()
	holdDisk(t, "format=qcow2,file="+strings.ReplaceAll(m.State, ",", ",,"))
	if _, err := m.Claim(soon(t), false); !errors.Is(err, ErrInUse) {
		t.Errorf("Claim() of what a foreign QEMU holds = %v, want ErrInUse", err)
	}
	if err := CheckFree(m.Throwaway()); err != nil {
		t.Errorf("a throwaway beside it = %v", err)
	}
}
