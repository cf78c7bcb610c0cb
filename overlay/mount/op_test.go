package mount

import (
	"strings"
	"testing"
)

func TestAnOperationPrintsAsItsShellEquivalent(t *testing.T) {
	for want, op := range map[string]Op{
		"mount -t ext4 -o ro,nosuid,noload /dev/vda /store":            Mount{Type: "ext4", Source: "/dev/vda", Target: "/store", Flags: ReadOnly | NoSuid, Data: "noload"},
		"cd /l && mount -t overlay -o lowerdir=1:0 overlay '/my root'": Mount{Type: "overlay", Source: "overlay", Target: "/my root", Data: "lowerdir=1:0", Dir: "/l"},
		"mount --bind /exitrd /run/initramfs":                          Bind{Source: "/exitrd", Target: "/run/initramfs"},
		"mount --move /dev '/it'\\''s/dev'":                            Move{"/dev", "/it's/dev"},
		"mount --make-rprivate /":                                      Private{"/"},
		"umount /store":                                                Unmount{"/store"},
		"mkdir -p -m 0700 /work":                                       Mkdir{"/work", 0o700},
		"ln -s '' /x":                                                  Symlink{"", "/x"},
	} {
		if got := op.String(); got != want {
			t.Errorf("%#v prints %q, want %q", op, got, want)
		}
	}
}

func TestWhatLiesBelowADirectoryComesLastMountedFirst(t *testing.T) {
	table, err := ReadTable(strings.NewReader(`1 0 0:1 / / rw - rootfs rootfs rw
2 1 0:2 / /run rw - tmpfs tmpfs rw
3 2 8:1 / /run/a\040b rw - ext4 /dev/sda1 rw
4 1 0:3 / /runaway rw - tmpfs tmpfs rw
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range Below(table, "/run") {
		got = append(got, e.Target)
	}
	if strings.Join(got, "|") != "/run/a b|/run" {
		t.Errorf("Below(/run) = %q", got)
	}
	if all := Below(table, "/"); len(all) != 4 || all[3].Target != "/" {
		t.Errorf("Below(/) = %+v", all)
	}
}
