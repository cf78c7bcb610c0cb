// Package network brings up a network as package boot/network says: which interface, its address, by DHCPv4, by the kernel's
// IPv6 autoconfiguration or as given, routes, and what the running system is told of it.
//
// It waits for what the kernel announces and for answers, never for a time to pass; all of it ends with its context. What a
// server says is bounded and checked before anything is made of it, since whoever is on the wire may say it.
package network
