package verity

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func goodSuperblock() []byte {
	r := Result{Params: Params{DataBlocks: 25600, HashOffset: 25600 * BlockSize, Salt: []byte("salt")}}
	for i := range r.Root {
		r.Root[i] = byte(i)
	}
	return superblock(r)
}

func TestSuperblockIsReadBack(t *testing.T) {
	got, err := ParseSuperblock(goodSuperblock())
	if err != nil {
		t.Fatal(err)
	}
	want := Superblock{UUID: [16]byte{0, 1, 2, 3, 4, 5, 0x86, 7, 0x88, 9, 10, 11, 12, 13, 14, 15}, Algorithm: "sha256", DataBlocks: 25600, Salt: []byte("salt")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseSuperblock (-want +got):\n%s", diff)
	}
}

func TestSuperblockThatThisVersionCannotCheckIsRefused(t *testing.T) {
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		bend func(b []byte) []byte
		want string
	}{
		"cut":                 {func(b []byte) []byte { return b[:511] }, "superblock of 511 bytes"},
		"no magic":            {func(b []byte) []byte { b[0] = 'V'; return b }, "no dm-verity superblock"},
		"version 2":           {func(b []byte) []byte { b[8] = 2; return b }, "version 2"},
		"hash type 0":         {func(b []byte) []byte { b[12] = 0; return b }, "hash type 0"},
		"another algorithm":   {func(b []byte) []byte { copy(b[32:], "sha512"); return b }, `"sha512"`},
		"data blocks of 512":  {func(b []byte) []byte { le.PutUint32(b[64:], 512); return b }, "blocks of 512"},
		"hash blocks of 1024": {func(b []byte) []byte { le.PutUint32(b[68:], 1024); return b }, "1024 bytes"},
		"no data":             {func(b []byte) []byte { le.PutUint64(b[72:], 0); return b }, "0 data blocks"},
		"data without end":    {func(b []byte) []byte { le.PutUint64(b[72:], 1<<63); return b }, "data blocks"},
		"a salt too long":     {func(b []byte) []byte { le.PutUint16(b[80:], 257); return b }, "salt of 257 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSuperblock(c.bend(goodSuperblock()))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("ParseSuperblock = %v, want %q", err, c.want)
			}
			if none := name == "cut" || name == "no magic"; errors.Is(err, ErrNoSuperblock) != none {
				t.Errorf("ParseSuperblock = %v; is ErrNoSuperblock: want %v", err, none)
			}
		})
	}
}

func FuzzParseSuperblock(f *testing.F) {
	f.Add(goodSuperblock()[:SuperblockSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSuperblock(b)
		if err == nil && (s.DataBlocks < 1 || len(s.Salt) > maxSalt || s.Algorithm != "sha256") {
			t.Errorf("accepted %+v", s)
		}
	})
}
