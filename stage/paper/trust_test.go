package paper

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"veneer/images"
	"veneer/stage"
)

// guarded is a machine with what holds a set against earlier ones.
type guarded struct {
	Machine
	blessed string // the file of the store; "" is none
	chip    *chip  // nil: there is no TPM
	secure  bool
	unknown error // of SecureBoot
}

type chip struct {
	epoch  uint64
	kept   bool
	broken error // of Event
	events []string
	closed bool
}

func (g *guarded) Files(dir string) fs.FS {
	files := g.Machine.Files(dir).(fstest.MapFS)
	if g.blessed != "" {
		files[images.EpochPath()] = &fstest.MapFile{Data: []byte(g.blessed)}
	}
	return files
}

func (g *guarded) TPM(context.Context, bool) (stage.TPM, error) {
	if g.chip == nil {
		return nil, stage.ErrNoTPM
	}
	return g.chip, nil
}

func (g *guarded) SecureBoot() (bool, error) { return g.secure, g.unknown }

func (c *chip) Epoch() (uint64, bool, error) { return c.epoch, c.kept, nil }
func (c *chip) Close() error                 { c.closed = true; return nil }
func (c *chip) Event(register int, data []byte) ([]stage.Digest, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	c.events = append(c.events, string(data))
	return []stage.Digest{{Algorithm: "sha256", Value: "ab"}}, nil
}

func TestASetThatIsOlderThanWhatWasBlessedIsRefusedBeforeItIsUsed(t *testing.T) {
	for _, c := range []struct {
		name, blessed, tpm string
		chip               *chip
		refused            error
		says               string
		degraded           bool
	}{
		{name: "nothing was ever blessed"},
		{name: "the same epoch", blessed: "5\n"},
		{name: "a lower one", blessed: "4\n"},
		{name: "a higher one", blessed: "6\n", refused: images.ErrOlderEpoch, says: "epoch 5, and the store keeps 6"},
		{name: "a file that no bless wrote", blessed: "6", degraded: true},
		{name: "a TPM that keeps as much", tpm: stage.TPMRequired, chip: &chip{epoch: 5, kept: true}},
		{name: "a TPM that keeps more, and a disk that was rolled back", blessed: "4 tpm\n", tpm: stage.TPMRequired, chip: &chip{epoch: 6, kept: true},
			refused: images.ErrOlderEpoch, says: "epoch 5, and the TPM keeps 6"},
		{name: "a TPM that keeps more, where it is wanted", tpm: stage.TPMWanted, chip: &chip{epoch: 6, kept: true}, refused: images.ErrOlderEpoch},
		{name: "a new TPM", tpm: stage.TPMRequired, chip: &chip{}},
		{name: "a TPM that was cleared", blessed: "5 tpm\n", tpm: stage.TPMRequired, chip: &chip{}, refused: stage.ErrTPMCleared},
		{name: "a TPM that was cleared, where it is wanted", blessed: "5 tpm\n", tpm: stage.TPMWanted, chip: &chip{}, degraded: true},
		{name: "no TPM", tpm: stage.TPMRequired, refused: stage.ErrNoTPM},
		{name: "no TPM, where it is wanted", tpm: stage.TPMWanted, degraded: true},
		{name: "a TPM that does not measure", tpm: stage.TPMRequired, chip: &chip{broken: errors.New("no")}, says: "extend register 13: no", refused: errAny},
		{name: "a TPM that nobody asks", tpm: stage.TPMNone, chip: &chip{epoch: 6, kept: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &guarded{Machine: newRecorder(t, manifest(t, func(m *images.Manifest) { m.Epoch = 5 })).Machine, blessed: c.blessed, chip: c.chip}
			e := env(t, "")
			e.TPM = c.tpm
			r := &stage.Runner{}
			_, err := stage.Boot(context.Background(), r, m, e)
			if c.refused == nil && err != nil || c.refused != nil && (err == nil || c.refused != errAny && !errors.Is(err, c.refused)) {
				t.Fatalf("Boot = %v, want %v", err, c.refused)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("Boot = %v, want it to say %q", err, c.says)
			}
			if err != nil && (len(r.Record.Images) > 0 || len(stage.Remedies(r.Step(), err)) == 0) {
				t.Errorf("images %+v were attached, or nobody knows a way out", r.Record.Images)
			}
			if got := len(r.Record.Degraded) > 0; got != c.degraded {
				t.Errorf("degraded %+v, want that it is: %v", r.Record.Degraded, c.degraded)
			}
			if c.chip != nil && c.tpm != stage.TPMNone && c.chip.broken == nil {
				want := images.Measurements(r.Record.Deployment.Manifest, []images.Image{})[0]
				if len(c.chip.events) != 2 || c.chip.events[0] != want || !strings.HasPrefix(c.chip.events[1], "veneer:images:") || !c.chip.closed {
					t.Errorf("the TPM was told %q, and closed: %v", c.chip.events, c.chip.closed)
				}
			}
			if c.tpm == stage.TPMNone && len(c.chip.events) > 0 {
				t.Errorf("the TPM was told %q", c.chip.events)
			}
		})
	}
}

// errAny stands for any error.
var errAny = errors.New("any")

func TestTheEventLogIsASequenceOfJSONTexts(t *testing.T) {
	trust := stage.Trust{Measured: []stage.Measurement{{Register: 13, Event: "veneer:manifest:ab", Digests: []stage.Digest{{Algorithm: "sha1", Value: "01"}, {Algorithm: "sha256", Value: "02"}}},
		{Register: 13, Event: "veneer:images:cd", Digests: []stage.Digest{}}}}
	texts := strings.Split(string(trust.EventLog()), "\x1e")
	if len(texts) != 3 || texts[0] != "" {
		t.Fatalf("%d texts in %q, want two, each behind a record separator", len(texts), trust.EventLog())
	}
	for i, text := range texts[1:] {
		var e struct {
			PCR     int
			Digests []struct{ HashAlg, Digest string }
			Type    string `json:"content_type"`
			Content struct{ String string }
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		want := trust.Measured[i]
		if e.PCR != 13 || e.Type != "systemd" || e.Content.String != want.Event || len(e.Digests) != len(want.Digests) || i == 0 && e.Digests[1].HashAlg+e.Digests[1].Digest != "sha25602" {
			t.Errorf("event %d is %+v, want %+v", i, e, want)
		}
	}
}

func TestUnderSecureBootNobodySwitchesVerificationOff(t *testing.T) {
	for _, c := range []struct {
		name    string
		secure  bool
		unknown error
		ignored bool
	}{{name: "off"}, {name: "on", secure: true, ignored: true}, {name: "not to be told", unknown: errors.New("no"), ignored: true}} {
		t.Run(c.name, func(t *testing.T) {
			m := &guarded{Machine: newRecorder(t, manifest(t, nil)).Machine, secure: c.secure, unknown: c.unknown}
			e := env(t, "veneer.verify=none")
			e.Paper, e.AllowUnsigned = false, true
			r := &stage.Runner{}
			_, err := stage.Boot(context.Background(), r, m, e)
			if got := r.Record.Trust.Ignored == "veneer.verify=none"; got != c.ignored {
				t.Errorf("ignored: %v, want %v", got, c.ignored)
			}
			// The deployment has an empty signature, so that it boots unverified or not at all.
			if c.ignored != (err != nil) {
				t.Errorf("Boot = %v", err)
			}
			if r.Record.Verified.Images {
				t.Errorf("%+v", r.Record.Verified)
			}
		})
	}
}
