package build

import "veneer/overlay/identity"

// A unit is one of systemd's that the tools layer brings, or a drop-in of another's, with the unit that wants it, if any. What
// multi-user.target wants is ordered behind it, so that no boot waits for it; without DefaultDependencies=no the target would be
// ordered behind them (systemd.target(5)). None but that for host keys is of the type oneshot: a boot does not count as over
// while one of those runs.
type unit struct{ name, wantedBy, text string }

// onBoardUnits are the units of the running machine. A base without systemd has no use for them, and does no harm to them.
var onBoardUnits = []unit{
	{"veneer-record.service", multiUser, recordUnit},
	{"veneer-bless.service", multiUser, blessUnit},
	{"veneer-cleanup.service", multiUser, cleanupUnit},
	{"veneer-watch.service", "", watchUnit},
	{"veneer-watch.timer", "timers.target", watchTimer},
	{"veneer-identity-keys.service", multiUser, identityKeysUnit},
	{"ssh@.service.d/veneer.conf", "", afterKeys},
	{"sshd@.service.d/veneer.conf", "", afterKeys},
	{identity.SaveUnit, multiUser, identityUnit},
	{"veneer-identity-save.service", "", identitySaveUnit},
	{"veneer-identity-save.path", multiUser, identityPathUnit},
	{"veneer-identity-save.timer", "timers.target", identityTimerUnit},
}

const multiUser = "multi-user.target"

// recordUnit shows what the init decided in the journal of the running system. Its job is done once the program runs, and the program
// gets the time that nobody else wants, for the first login does.
const recordUnit = `[Unit]
Description=Report what was booted, and whether it was verified
Documentation=man:veneer(8)
DefaultDependencies=no
After=multi-user.target
ConditionPathExists=/run/veneer/state.json
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=exec
CPUSchedulingPolicy=idle
IOSchedulingClass=idle
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

// watchUnit looks how full what is written is; its timer calls it each minute. LogLevelMax keeps the manager's own two lines
// about each start out of the journal (systemd.exec(5)); what the watch has to say is notice or more.
const (
	watchUnit = `[Unit]
Description=Tell when the upper or the state fills up
Documentation=man:veneer-watch(1)
ConditionPathExists=/run/veneer/state.json

[Service]
Type=exec
ExecStart=/usr/bin/veneer watch
LogLevelMax=notice
`
	watchTimer = `[Unit]
Description=Look each minute how full the upper and the state are
Documentation=man:veneer-watch(1)
ConditionPathExists=/run/veneer/state.json

[Timer]
OnBootSec=1min
OnUnitActiveSec=1min
AccuracySec=15s
`
)

// identityKeysUnit makes host keys before whoever reads them; not before a socket, since the whole boot waits for those and a key takes
// its time. The condition on the key keeps this program from being started for nothing.
const identityKeysUnit = `[Unit]
Description=Make the host keys of this machine
Documentation=man:veneer(8)
DefaultDependencies=no
After=systemd-remount-fs.service systemd-random-seed.service local-fs.target
Before=ssh.service sshd.service
ConditionPathExists=/run/veneer/state.json
ConditionFileIsExecutable=/usr/bin/ssh-keygen
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
ExecStart=/usr/bin/veneer identity keys
`

// identityUnit keeps the identity once the boot is complete, and when it ends. systemd has a first boot until
// first-boot-complete.target.
const identityUnit = `[Unit]
Description=Keep the identity of this machine
Documentation=man:veneer(8)
DefaultDependencies=no
After=first-boot-complete.target multi-user.target
ConditionPathIsDirectory=/run/veneer/state/identity
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/veneer identity save --booted
ExecStop=/usr/bin/veneer identity save
`

// identitySaveUnit keeps it when something was changed, and each hour for the clock and the seed.
const identitySaveUnit = `[Unit]
Description=Keep what has changed of the identity of this machine
Documentation=man:veneer(8)
ConditionPathIsDirectory=/run/veneer/state/identity

[Service]
Type=oneshot
ExecStart=/usr/bin/veneer identity save
`

const identityPathUnit = `[Unit]
Description=Watch the identity of this machine
Documentation=man:veneer(8)
ConditionPathIsDirectory=/run/veneer/state/identity

[Path]
PathChanged=/etc/hostname
PathChanged=/etc/machine-id
PathChanged=/etc/ssh
`

const identityTimerUnit = `[Unit]
Description=Stamp the clock and renew the random seed of this machine
Documentation=man:veneer(8)
ConditionPathIsDirectory=/run/veneer/state/identity

[Timer]
OnBootSec=1h
OnUnitActiveSec=1h
`

// afterKeys lets an sshd that a socket starts for each connection wait. Drop-ins of units that are not there mean nothing.
const afterKeys = `[Unit]
After=veneer-identity-keys.service
`
