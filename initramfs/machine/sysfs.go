package machine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// busDir has a directory for each bus that the kernel knows, with its devices in it.
const busDir = "/sys/bus"

// list returns the names in a directory of sysfs, sorted; none where it is not there.
func list(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	slices.Sort(names)
	return names
}

// modalias returns what drivers know a device by, "" where it has none or went while we looked. That of an MMC card stands
// among its uevent's variables only.
func modalias(device string) string {
	if alias := readLine(filepath.Join(device, "modalias")); alias != "" || !strings.HasPrefix(device, busDir+"/mmc/") {
		return alias
	}
	return readVars(filepath.Join(device, "uevent"))["MODALIAS"]
}

// readVars reads a file of KEY=VALUE lines.
func readVars(file string) map[string]string {
	vars := map[string]string{}
	for line := range strings.SplitSeq(readAttribute(file), "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			vars[k] = v
		}
	}
	return vars
}

func readLine(file string) string { return strings.TrimSpace(readAttribute(file)) }

// readAttribute reads a file of sysfs, which has at most a page (Documentation/filesystems/sysfs.rst); "" where it is not there.
// The three system calls that it takes and no more: os.ReadFile makes seven.
func readAttribute(file string) string {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	buf := make([]byte, 4096)
	n, _ := unix.Read(fd, buf)
	return string(buf[:max(n, 0)])
}
