// Package disk makes what firmware boots: a unified kernel image (UKI), its signature for Secure Boot, an EFI system partition, and
// a GPT disk of that and a store. It is host-only, and the same input gives the same bytes.
package disk
