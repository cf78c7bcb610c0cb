package build

// A unit is one of systemd's that the tools layer brings; each is wanted by multi-user.target. All are ordered behind that target,
// so that no boot waits for them; without DefaultDependencies=no the target would be ordered behind them (systemd.target(5)).
type unit struct{ name, text string }

// onBoardUnits are the units of the running machine. A base without systemd has no use for them, and does no harm to them.
var onBoardUnits = []unit{
	{"veneer-record.service", recordUnit},
	{"veneer-bless.service", blessUnit},
	{"veneer-cleanup.service", cleanupUnit},
}

// recordUnit shows what the init decided in the journal of the running system.
const recordUnit = `[Unit]
Description=Report what was booted, and whether it was verified
Documentation=man:veneer(8)
DefaultDependencies=no
After=multi-user.target
ConditionPathExists=/run/veneer/state.json
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
ExecStart=/usr/bin/veneer status
`

// blessUnit marks a boot as good once everything that has a say in it agrees: whatever is required by boot-complete.target and
// fails keeps the boot from being blessed. Where nothing is kept there is nothing to bless, and the unit is passed over.
const blessUnit = `[Unit]
Description=Mark this boot as good
Documentation=man:veneer-bless(1)
DefaultDependencies=no
Requires=boot-complete.target
After=boot-complete.target multi-user.target
ConditionPathExists=/run/veneer/state.json
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
ExecCondition=/usr/bin/veneer bless --dry-run
ExecStart=/usr/bin/veneer bless
`

// cleanupUnit deletes what is out of use while nobody else wants the CPU or the disk. It is not of the type oneshot: a boot does not
// count as over while one of those runs.
const cleanupUnit = `[Unit]
Description=Delete what resets have left
Documentation=man:veneer-cleanup(1)
DefaultDependencies=no
After=veneer-bless.service multi-user.target
ConditionPathExists=/run/veneer/state.json
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=exec
ExecCondition=/usr/bin/veneer cleanup --dry-run
ExecStart=/usr/bin/veneer cleanup
Nice=19
CPUSchedulingPolicy=idle
IOSchedulingClass=idle
`
