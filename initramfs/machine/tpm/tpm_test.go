package tpm

import (
	"bytes"
	"crypto/sha1"
	sha "crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// swtpm starts a software TPM whose state is in dir, and connects to it as the firmware does: Startup, and no resource manager.
func swtpm(t *testing.T, dir string) (TPM, func()) {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Fatalf("%v; apt-get install swtpm, or .ci/install test", err)
	}
	socket := filepath.Join(dir, "socket")
	cmd := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+socket+".ctrl", "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(stop)
	var conn net.Conn
	var err error
	for range 100 {
		if conn, err = net.Dial("unix", socket); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	return TPM{Exchange: func(command []byte) ([]byte, error) {
		if _, err := conn.Write(command); err != nil {
			return nil, err
		}
		answer := make([]byte, 10)
		if _, err := io.ReadFull(conn, answer); err != nil {
			return nil, err
		}
		rest := make([]byte, binary.BigEndian.Uint32(answer[2:])-10)
		_, err := io.ReadFull(conn, rest)
		return append(answer, rest...), err
	}}, stop
}

func holds(t *testing.T, tp TPM, want uint64, wantKept bool) {
	t.Helper()
	if got, kept, err := tp.Epoch(); err != nil || got != want || kept != wantKept {
		t.Errorf("Epoch() = %d, %v, %v; want %d, %v", got, kept, err, want, wantKept)
	}
}

func TestAnEpochOnlyGoesUpAndOutlivesThePower(t *testing.T) {
	dir := t.TempDir()
	tp, stop := swtpm(t, dir)
	holds(t, tp, 0, false)
	for _, step := range []struct{ raise, want uint64 }{{0, 0}, {0, 0}, {3, 3}, {2, 3}, {0, 3}, {63, 63}, {64, 64}, {65, 65}, {7, 65}, {130, 130}, {256, 256}, {1, 256}} {
		if err := tp.RaiseEpoch(step.raise); err != nil {
			t.Fatalf("RaiseEpoch(%d) = %v", step.raise, err)
		}
		holds(t, tp, step.want, true)
	}
	if err := tp.RaiseEpoch(257); err == nil {
		t.Error("RaiseEpoch(257) went well; four indices hold no more than 256")
	}
	// What no clearing of bits undoes, no writing does: the index is no ordinary one.
	_, err := tp.call(0x137, true, []uint32{firstIndex, firstIndex}, append(sized(make([]byte, 8)), 0, 0)) // TPM2_NV_Write
	var code Code
	if !errors.As(err, &code) {
		t.Errorf("an ordinary write to the index came to %v, want the TPM to refuse it", err)
	}
	holds(t, tp, 256, true)
	stop()
	tp, _ = swtpm(t, dir)
	holds(t, tp, 256, true)
}

func TestAnIndexOfSomebodyElseIsRefused(t *testing.T) {
	tp, _ := swtpm(t, t.TempDir())
	// An ordinary index of 8 bytes under our number, as one would make it to go back.
	public := binary.BigEndian.AppendUint32(nil, firstIndex)
	public = append(public, 0, sha256)
	public = binary.BigEndian.AppendUint32(public, attributes&^bitField)
	public = append(public, 0, 0, 0, 8)
	if _, err := tp.call(nvDefineSpace, true, []uint32{owner}, append([]byte{0, 0}, sized(public)...)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tp.Epoch(); !errors.Is(err, ErrForeignIndex) {
		t.Errorf("Epoch() = %v, want ErrForeignIndex", err)
	}
	if err := tp.RaiseEpoch(1); !errors.Is(err, ErrForeignIndex) {
		t.Errorf("RaiseEpoch(1) = %v, want ErrForeignIndex", err)
	}
}

func TestEachBankIsExtendedWithTheDigestOfTheEvent(t *testing.T) {
	tp, _ := swtpm(t, t.TempDir())
	digests, err := tp.Event(13, []byte("an event"))
	if err != nil {
		t.Fatal(err)
	}
	d1, d256, d384, d512 := sha1.Sum([]byte("an event")), sha.Sum256([]byte("an event")), sha512.Sum384([]byte("an event")), sha512.Sum512([]byte("an event"))
	want := map[string][]byte{"sha1": d1[:], "sha256": d256[:], "sha384": d384[:], "sha512": d512[:]}
	if len(digests) == 0 {
		t.Fatal("no bank was extended")
	}
	seen := false
	for _, d := range digests {
		if !bytes.Equal(d.Value, want[d.Algorithm]) {
			t.Errorf("bank %s was extended with %x, want %x", d.Algorithm, d.Value, want[d.Algorithm])
		}
		seen = seen || d.Algorithm == "sha256"
	}
	if !seen {
		t.Errorf("banks %+v, want SHA-256 among them", digests)
	}
	if _, err := tp.Event(13, make([]byte, 1025)); err == nil {
		t.Error("an event of 1025 bytes was taken")
	}
}

func TestAnAnswerThatIsCutShortIsAnError(t *testing.T) {
	var taken [][]byte
	real, _ := swtpm(t, t.TempDir())
	if err := real.RaiseEpoch(5); err != nil {
		t.Fatal(err)
	}
	recording := TPM{Exchange: func(c []byte) ([]byte, error) {
		a, err := real.Exchange(c)
		taken = append(taken, a)
		return a, err
	}}
	if _, _, err := recording.Epoch(); err != nil {
		t.Fatal(err)
	}
	for i, answer := range taken {
		for n := range answer {
			at := 0
			cut := TPM{Exchange: func([]byte) ([]byte, error) {
				a := taken[at]
				if at == i {
					a = a[:n]
				}
				at++
				return a, nil
			}}
			if epoch, _, err := cut.Epoch(); err == nil {
				t.Errorf("answer %d cut to %d of %d bytes: epoch %d, want an error", i, n, len(answer), epoch)
			}
		}
	}
}

// Whatever a TPM says, an epoch is one that it can hold, and nothing panics.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x8b}, []byte{})
	f.Add([]byte{0x80, 1, 0, 0, 0, 26, 0, 0, 0, 0, 0, 14, 1, 0x85, 0x65, 0, 0, 11, 0x22, 6, 0, 0x24, 0, 0, 0, 8}, []byte{0x80, 2, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 10, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7})
	f.Add([]byte{0x80, 2, 0, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 26, 0, 0, 0, 1, 0, 4}, []byte{1})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		n := 0
		tp := TPM{Exchange: func([]byte) ([]byte, error) {
			if n++; n%2 == 1 {
				return first, nil
			}
			return second, nil
		}}
		if epoch, kept, err := tp.Epoch(); err == nil && (epoch > MaxEpoch || epoch > 0 && !kept) {
			t.Errorf("Epoch() = %d, %v", epoch, kept)
		}
		n = 0
		_, _ = tp.Event(13, []byte("x"))
		n = 0
		_ = tp.RaiseEpoch(70)
	})
}
