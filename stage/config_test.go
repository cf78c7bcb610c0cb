package stage

import (
	"strings"
	"testing"

	"veneer/boot"
)

func TestAllMistakesOfACommandLineAreReportedAtOnce(t *testing.T) {
	const defaults = "veneer.store=LABEL=VENEER veneer.on-fail=reboot"
	for _, c := range []struct {
		name, defaults, line string
		want                 []string
		onFail               boot.OnFail
	}{
		{"a word and a step", defaults, "veneer.break=nothing veneer.foo", []string{`word 2, "veneer.foo"`, `no step is called "nothing"`}, boot.Reboot},
		{"a policy beside a mistake is in force", defaults, "veneer.on-fail=poweroff veneer.foo", []string{`"veneer.foo"`}, boot.Poweroff},
		{"a policy that is the mistake is not", defaults, "veneer.on-fail=pray", []string{`"veneer.on-fail=pray"`}, boot.Reboot},
		{"no store at all", "", "quiet", []string{"nothing says where the store is"}, boot.Reboot},
		{"defaults that nobody can read", "veneer.foo", "veneer.on-fail=poweroff", []string{"defaults of the initramfs: word 1"}, boot.Reboot},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Configure(c.defaults, c.line, nil)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Configure() = %v, want %q in it", err, want)
				}
			}
			if s.OnFail != c.onFail {
				t.Errorf("the policy is %q, want %q", s.OnFail, c.onFail)
			}
		})
	}
	if s, err := Configure(defaults, "veneer.break=mount-images", nil); err != nil || s.Config.Break != StepMountImages || s.OnFailAsked {
		t.Errorf("Configure() = %+v, %v", s, err)
	}
}

func TestOnlyAStepThatIsStillToComeCanBeStoppedBefore(t *testing.T) {
	for _, step := range Steps {
		err := CheckStep(step)
		if over := step == StepEarlyMounts || step == StepCommandLine; (err != nil) != over {
			t.Errorf("CheckStep(%q) = %v", step, err)
		}
	}
}
