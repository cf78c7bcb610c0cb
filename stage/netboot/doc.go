// Package netboot fetches a set from a store that a plain HTTP server shows: the layout is that of a store on a disk.
//
// It guarantees that no server can do more than withhold: what is small is limited in size and checked by the keys of the
// initramfs before it is parsed, each image is verified while it arrives and refused at its first certain fault. A transfer
// that stalls, breaks off or is answered by an error of the server is resumed, until nothing new has come for as long as the
// boot waits for any device.
//
// Only the init variant for netboot links it.
package netboot
