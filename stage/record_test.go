package stage

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"veneer/images/canonical"
)

// persistentRecord has every field of what persists.
func persistentRecord() *Record {
	return &Record{
		Format: RecordFormat, Aliases: []string{"toram -> veneer.toram"}, Images: []Attached{}, Degraded: []Degraded{}, Steps: []Step{},
		Upper: Upper{Kind: "persistent", Size: 1 << 30, Mount: MountsDir + "/state/upper"},
		State: State{Kind: StatePersistent, Reference: "LABEL=STATE", Device: "/dev/vdb1", FileSystem: "ext4", Dir: "/veneer", Mount: MountsDir + "/state", Why: "the manifest asks for it"},
		Rules: []Rule{
			{Path: "/etc", Action: "merge", Form: "overlay", Source: MountsDir + "/state/etc/1", Upper: "persistent", Origin: "base"},
			{Path: "/var", Action: "persist", Form: "bind", Source: MountsDir + "/state/data/var", Origin: "base"},
		},
		Merges:   []Merge{{Path: "/etc", From: "a", To: "b", KeptLocal: 1, TookNew: 2, Pruned: 3, DeletedLocal: 4, Merged: 5, Conflict: 6, TypeClash: 7, Report: "/run/veneer/state/etc/1/stamp/report.json"}},
		Requests: []Request{{ID: "1", Kind: "reset", Outcome: "done"}, {ID: "2", Kind: "reset", Outcome: "failed", Error: "read-only file system"}},
		Identity: []Identity{{Name: "machine-id", Mode: "persist", What: "kept"}},
		Trust: Trust{Epoch: 3, Store: 2, TPM: TPMWanted, TPMFound: true, TPMKeeps: true, TPMEpoch: 3, Ignored: "veneer.verify=none",
			Measured: []Measurement{{13, "veneer:manifest:00", []Digest{{"sha256", "00"}}}}},
		Boots: Boots{Attempts: 2, Tries: 3}, Watermarks: Watermarks{Warning: 70, Critical: 90, Full: "read-only"},
	}
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	for name, want := range map[string]*Record{
		"persistent": persistentRecord(),
		"volatile": {Aliases: []string{"toram -> veneer.toram"}, Rules: []Rule{}, Merges: []Merge{}, Requests: []Request{}, Identity: []Identity{},
			Trust: Trust{Measured: []Measurement{}}, Images: []Attached{}, Degraded: []Degraded{}, Steps: []Step{}},
	} {
		t.Run(name, func(t *testing.T) {
			text := want.Encode()
			var walked, tagged Record
			if err := canonical.Read(text, walked.walk); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(text, &tagged); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, &walked); diff != "" {
				t.Errorf("as its walk says (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, &tagged); diff != "" {
				t.Errorf("as its tags say (-want +got):\n%s", diff)
			}
		})
	}
}
