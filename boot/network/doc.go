// Package network reads what a kernel command line says of the network: ip=, BOOTIF=, nameserver=, and the address of a store.
//
// It guarantees, as package boot does, that nothing here touches the machine, so that `veneer plan` explains a line on any host.
// Only the init variant for netboot links it.
//
// The grammar of ip= is the kernel's (Documentation/admin-guide/nfs/nfsroot.rst), with the forms that dracut has beside it
// (dracut.cmdline(7)).
package network
