package merge

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"
)

// BenchmarkMerge merges uppers of some local paths with bases of some files: it must grow with the first and not with the second.
// Of the local paths a fifth each is changed another way on each side, as it was, equal to the new base, added, deleted. All is in
// the directory for temporary files, on whatever file system that is. Each merge begins with an upper that is
// on disk; the time to decide alone, which no disk disturbs, is plan-ms.
func BenchmarkMerge(b *testing.B) {
	for _, size := range []struct{ local, base int }{{200, 1_000}, {200, 20_000}, {2_000, 20_000}} {
		b.Run(fmt.Sprintf("local=%d/base=%d", size.local, size.base), func(b *testing.B) {
			w := newWorld(b)
			const base = `i=0; while [ $i -lt %d ]; do d=d$((i/50)); [ -d $d ] || mkdir $d; echo %s$i >$d/f$i; i=$((i+1)); done`
			w.sh("v1", fmt.Sprintf(base, size.base, "old"))
			w.sh("v2", fmt.Sprintf(base, size.base, "new"))
			each, apart := size.local/5, min(20, size.base*5/size.local)
			w.sh("fs", fmt.Sprintf(`i=0; while [ $i -lt %d ]; do k=$((i*%d)); d=d$((k/50)); mkdir -p $d; echo old$k >$d/f$k; echo mine >$d/f$((k+1))
				echo new$((k+2)) >$d/f$((k+2)); echo added >$d/mine$k; mknod $d/f$((k+3)) c 0 0; i=$((i+1)); done`, each, apart))
			w.sh(".", "cp -a fs saved")
			s := w.spec(nil, "v2")
			tree, err := Scan(w.path("v1"))
			must(b, err)
			var text bytes.Buffer
			must(b, tree.Write(&text))
			must(b, os.WriteFile(w.path("index"), text.Bytes(), 0o600))
			s.Old, err = OpenIndex(w.path("index"))
			must(b, err)
			var plans time.Duration
			for b.Loop() {
				b.StopTimer()
				w.sh(".", "rm -rf fs && cp -a saved fs && sync -f fs")
				must(b, forget(s.Scratch))
				start := time.Now()
				_, err := MakePlan(b.Context(), s)
				must(b, err)
				plans += time.Since(start)
				b.StartTimer()
				r, err := Run(b.Context(), s)
				must(b, err)
				if r.Counts != (Counts{KeptLocal: each, TookNew: each, Pruned: each, Conflict: 2 * each}) {
					b.Fatalf("%+v", r.Counts)
				}
			}
			b.ReportMetric(float64(plans.Microseconds())/1000/float64(b.N), "plan-ms")
		})
	}
}
