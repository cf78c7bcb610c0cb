//go:build live

package main

// The watcher of the medium. Once a medium is gone nothing of the base that is not in the page cache can be read: no program can be
// started, and one that runs dies of SIGBUS at its next page. So what notices is a process of its own that needs nothing of it: its
// program is that of the exitrd, which lies in memory, its files are open since before the switch, its pages are locked.

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/boot"
	"veneer/boot/switchroot"
	"veneer/stage"
)

// watcherName is what the process is called.
const watcherName = "veneer-medium"

// The files that the watcher is born with, behind the usual three.
const (
	fdLog    = 3 + iota // /dev/kmsg
	fdRun               // stage.RunDir
	fdSysrq             // /proc/sysrq-trigger
	fdEvents            // the uevents of the kernel
	fdDrive             // the medium itself, where it is a CD
)

// leaveBeside starts the watcher, unless nothing depends on a medium any more.
func (p *pid1) leaveBeside() error {
	store := p.runner.Record.Store
	device := store.Medium.Device
	if device == "" {
		device = store.Device
	}
	var st unix.Stat_t
	if store.Copy.Released || device == "" || unix.Stat(device, &st) != nil {
		return nil
	}
	wait := readingTime
	if n := p.config.Panic; n != nil {
		wait = time.Duration(max(*n, 0)) * time.Second
	}
	policy := p.config.MediumLost
	if policy == "" || p.config.Panic != nil && *p.config.Panic == 0 {
		policy = boot.MediumIgnore
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, f := range []struct {
		name string
		flag int
	}{{os.DevNull, os.O_RDWR}, {os.DevNull, os.O_RDWR}, {os.DevNull, os.O_RDWR}, {"/dev/kmsg", os.O_WRONLY}, {stage.RunDir, os.O_RDONLY | unix.O_DIRECTORY}, {"/proc/sysrq-trigger", os.O_WRONLY}} {
		file, err := os.OpenFile(f.name, f.flag, 0)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return fmt.Errorf("uevent socket: %w", err)
	}
	files = append(files, os.NewFile(uintptr(events), "uevents"))
	const kernelGroup = 1
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelGroup}); err != nil {
		return fmt.Errorf("bind uevent socket: %w", err)
	}
	if name := filepath.Base(device); strings.HasPrefix(name, "sr") {
		// A drive tells that its tray was opened only where the kernel asks it, every two seconds as udev has it.
		_ = os.WriteFile("/sys/block/"+name+"/events_poll_msecs", []byte("2000"), 0)
		drive, err := os.OpenFile(device, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		files = append(files, drive)
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	w, err := os.StartProcess(switchroot.Exitrd+"/shutdown", []string{watcherName, device, number, string(policy), wait.String()},
		&os.ProcAttr{Dir: "/", Env: []string{"GOMAXPROCS=1"}, Files: files})
	if err != nil {
		return err
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", w.Pid), []byte("-1000"), 0) // it is small, and the last to tell
	return w.Release()
}

// beside does not return in the watcher.
func beside() {
	if os.Args[0] != watcherName || len(os.Args) != 5 {
		return
	}
	wait, _ := time.ParseDuration(os.Args[4])
	w := watcher{device: os.Args[1], number: os.Args[2], policy: boot.MediumLost(os.Args[3]), wait: wait}
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT) // swap may be on what goes
	w.watch()
	os.Exit(0)
}

type watcher struct {
	device, number string
	policy         boot.MediumLost
	wait           time.Duration
}

// watch returns when the medium is back after it was lost, which does not happen, or when nothing can be heard any more.
func (w watcher) watch() {
	buf := make([]byte, 16<<10)
	for {
		n, from, err := unix.Recvfrom(fdEvents, buf, 0)
		if err == unix.EINTR || err == unix.ENOBUFS {
			continue
		}
		if err != nil {
			w.say("the medium is not watched any more: " + err.Error())
			return
		}
		if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 && w.lost(buf[:n]) {
			w.act()
			return
		}
	}
}

// lost reports whether an event says that the medium is gone.
func (w watcher) lost(event []byte) bool {
	vars := map[string]string{}
	for _, kv := range bytes.Split(event, []byte{0}) {
		if k, v, ok := strings.Cut(string(kv), "="); ok {
			vars[k] = v
		}
	}
	if vars["SUBSYSTEM"] != "block" || vars["MAJOR"]+":"+vars["MINOR"] != w.number {
		return false
	}
	if vars["ACTION"] == "remove" {
		return true
	}
	const driveStatus, noDisc, trayOpen = 0x5326, 1, 2 // of linux/cdrom.h
	status, _, errno := unix.Syscall(unix.SYS_IOCTL, fdDrive, driveStatus, 1<<31-1)
	return vars["ACTION"] == "change" && errno == 0 && (status == noDisc || status == trayOpen)
}

// act tells everyone, and does what the policy says.
func (w watcher) act() {
	next := "save what is open, and restart the machine"
	if w.policy != boot.MediumIgnore {
		next = fmt.Sprintf("%s in %s, as veneer.medium-lost= asks", w.policy, w.wait)
	}
	line := fmt.Sprintf("the medium %s is gone, and this system runs from it: what is not in memory cannot be read any more; next: %s", w.device, next)
	w.say(line)
	if fd, err := unix.Openat(fdRun, filepath.Base(stage.MediumLostPath), unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644); err == nil {
		_, _ = unix.Write(fd, []byte(line+"\n")) // /run is memory; where that is full the console has it
		unix.Close(fd)
	}
	if w.policy == boot.MediumIgnore {
		return
	}
	time.Sleep(w.wait)
	// Whatever else is mounted is written out and made read-only by the kernel itself (Documentation/admin-guide/sysrq.rst): sync(2)
	// would wait for the medium. A process that is not PID 1 may stop the machine too.
	for _, order := range []string{"s", "u"} {
		_, _ = unix.Write(fdSysrq, []byte(order))
		time.Sleep(emergency)
	}
	cmd := unix.LINUX_REBOOT_CMD_POWER_OFF
	if w.policy == boot.MediumReboot {
		cmd = unix.LINUX_REBOOT_CMD_RESTART
	}
	err := unix.Reboot(cmd)
	w.say(string(w.policy) + ": " + strconv.Quote(fmt.Sprint(err)))
}

// emergency is what the kernel gets for an order that it carries out behind our back.
const emergency = time.Second

func (w watcher) say(line string) {
	_, _ = unix.Write(fdLog, []byte("<2>veneer: "+line+"\n")) // crit, which quiet shows; there is nobody else to tell
}
