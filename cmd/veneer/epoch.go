package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"veneer/images"
	"veneer/initramfs/machine/tpm"
	"veneer/stage"
)

// epochReport is what a bless does for the epoch of the set that runs.
type epochReport struct {
	Epoch  uint64   `json:"epoch"`            // from now on no set below it boots here
	Raised bool     `json:"raised"`           // it was lower, or not kept in all its places
	Kept   []string `json:"kept"`             // in: store, tpm
	Lost   []string `json:"lost,omitempty"`   // where it could not be kept, and why
	Refuse string   `json:"refuse,omitempty"` // why it is not raised at all
}

// text is the report for people; "" where there is nothing to say.
func (e epochReport) text() string {
	var lines []string
	if e.Refuse != "" {
		lines = append(lines, "The epoch is not raised: "+e.Refuse+".")
	}
	if e.Raised && len(e.Kept) > 0 {
		lines = append(lines, fmt.Sprintf("From now on this machine boots no set of an epoch below %d, which is kept in: %s.", e.Epoch, strings.Join(e.Kept, ", ")))
	}
	for _, l := range e.Lost {
		lines = append(lines, "The epoch could not be kept in "+printable(l))
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

// epochPlaces says where a boot keeps epochs, and what is to be done there.
func epochPlaces(r *stage.Record) (report epochReport, store, chip bool) {
	t, mine := r.Trust, r.Deployment.Epoch
	report = epochReport{Epoch: mine, Kept: []string{}}
	if !r.Verified.Manifest {
		if mine > 0 {
			report.Refuse = "nobody vouches for the set that runs"
		}
		return report, false, false
	}
	if t.TPM == stage.TPMNone || t.TPM == "" {
		return report, mine > t.Store, false
	}
	chip = !t.TPMKeeps || mine > t.TPMEpoch
	return report, chip || mine > t.Store, chip
}

// raiseEpoch keeps the epoch of the set that runs, in the TPM first: the store's file says that the TPM has it. Two of them that
// differ for a moment refuse nothing that they should not.
func raiseEpoch(root string, r *stage.Record, dryRun bool) epochReport {
	report, store, chip := epochPlaces(r)
	report.Raised = store || chip
	if !report.Raised {
		return report
	}
	lost := func(place string, err error) { report.Lost = append(report.Lost, place+": "+err.Error()) }
	if chip && !dryRun {
		if err := raiseInTPM(report.Epoch); err != nil {
			lost("the TPM", err)
			chip = false
		}
	}
	inTPM := chip || r.Trust.TPMKeeps
	if inTPM {
		report.Kept = append(report.Kept, "tpm")
	}
	if !dryRun {
		dir := filepath.Join(root, stage.StoreDir, r.Store.Dir)
		if err := keepInStore(filepath.Join(root, stage.StoreDir), dir, images.Blessed{Epoch: report.Epoch, TPM: inTPM}); err != nil {
			lost("the store", err)
			return report
		}
	}
	report.Kept = append(report.Kept, "store")
	return report
}

func raiseInTPM(epoch uint64) error {
	d, err := tpm.Open(tpm.Path, 30*time.Second)
	if err != nil {
		return err
	}
	return errors.Join(d.RaiseEpoch(epoch), d.Close())
}

// keepInStore writes the file of the store, which is mounted read-only at mountpoint, durably and all at once. An epoch that is
// higher already stays.
func keepInStore(mountpoint, dir string, b images.Blessed) (err error) {
	if there, rerr := images.ReadBlessed(os.DirFS(dir)); rerr == nil {
		b.Epoch, b.TPM = max(b.Epoch, there.Epoch), b.TPM || there.TPM
	}
	name := filepath.Join(dir, images.EpochPath())
	err = replace(name, b.Encode())
	if !errors.Is(err, unix.EROFS) {
		return err
	}
	again, err := writable(mountpoint)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, again()) }()
	return replace(name, b.Encode())
}

// writable makes the mount of a store writable, and again makes it read-only: its file system too, unless the state uses it.
func writable(mountpoint string) (again func() error, err error) {
	const flags = unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME
	remount := func(more uintptr) error {
		if err := unix.Mount("", mountpoint, "", flags|more, ""); err != nil {
			return &os.PathError{Op: "remount", Path: mountpoint, Err: err}
		}
		return nil
	}
	if err := remount(unix.MS_BIND); err != nil {
		return nil, err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(mountpoint, &st); err != nil {
		return nil, &os.PathError{Op: "statfs", Path: mountpoint, Err: err}
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return func() error { return remount(unix.MS_BIND | unix.MS_RDONLY) }, nil
	}
	if err := remount(0); err != nil {
		return nil, errors.Join(err, remount(unix.MS_BIND|unix.MS_RDONLY))
	}
	return func() error { return remount(unix.MS_RDONLY) }, nil
}

// replace writes a file so that a power cut leaves the old one or the new one.
func replace(name string, content []byte) (err error) {
	fresh := name + ".new"
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(fresh, name)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
