package merge

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"
)

// The merge of 200 local paths, over bases of two sizes: it must not take longer where the base is larger. On 40 paths each side
// changed another way, 40 are as they were, 40 equal to the new base, 40 added, 40 deleted. The time to decide alone, which no
// disk disturbs, is plan-ms.
func BenchmarkMergeOf200LocalPaths(b *testing.B) {
	for _, size := range []int{1_000, 10_000} {
		b.Run(fmt.Sprintf("base of %d files", size), func(b *testing.B) {
			w := newWorld(b)
			const base = `i=0; while [ $i -lt %d ]; do d=d$((i/50)); [ -d $d ] || mkdir $d; echo %s$i >$d/f$i; i=$((i+1)); done`
			w.sh("v1", fmt.Sprintf(base, size, "old"))
			w.sh("v2", fmt.Sprintf(base, size, "new"))
			w.sh("fs", `i=0; while [ $i -lt 40 ]; do k=$((i*20)); d=d$((k/50)); mkdir -p $d; echo old$k >$d/f$k; echo mine >$d/f$((k+1))
				echo new$((k+2)) >$d/f$((k+2)); echo added >$d/mine$k; mknod $d/f$((k+3)) c 0 0; i=$((i+1)); done`)
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
				must(b, Forget(s.Scratch))
				start := time.Now()
				_, err := MakePlan(b.Context(), s)
				must(b, err)
				plans += time.Since(start)
				b.StartTimer()
				r, err := Run(b.Context(), s)
				must(b, err)
				if r.Counts != (Counts{KeptLocal: 40, TookNew: 40, Pruned: 40, Conflict: 80}) {
					b.Fatalf("%+v", r.Counts)
				}
			}
			b.ReportMetric(float64(plans.Microseconds())/1000/float64(b.N), "plan-ms")
		})
	}
}
