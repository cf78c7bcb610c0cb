package changes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkChanges walks an upper of 10,000 files, one third of them new, one third modified and one third copied up and equal,
// over a base of 30,000, in the directory for temporary files, on whatever file system that is.
func BenchmarkChanges(b *testing.B) {
	dir := b.TempDir()
	put := func(name, content string) {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	text := string(make([]byte, 4096))
	for i := range 30000 {
		put(fmt.Sprintf("lower/%03d/%d", i%300, i), text)
	}
	for i := range 10000 {
		switch name := fmt.Sprintf("upper/%03d/%d", i%300, i); i % 3 {
		case 0:
			put(name+"-new", text)
		case 1:
			put(name, text[1:]+"x")
		case 2:
			put(name, text)
		}
	}
	m := &Machine{Sources: []Source{{Mount: "/", Upper: &Layer{Dir: dir + "/upper"}, Lowers: []Layer{{Dir: dir + "/none"}, {Dir: dir + "/lower"}}}}}
	before := cpu()
	for b.Loop() {
		n := 0
		for c, err := range m.Changes(context.Background(), Options{}) {
			if err != nil {
				b.Fatal(err)
			}
			if c.Type == Added || c.Type == Modified {
				n++
			}
		}
		if n != 6667 {
			b.Fatalf("%d changes, want 6667", n)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/walk")
	b.ReportMetric(float64((cpu()-before).Milliseconds())/float64(b.N), "cpu-ms/walk")
}

// cpu is the time that this process has had: what a walk costs on a machine that has others.
func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
