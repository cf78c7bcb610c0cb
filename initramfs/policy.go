package initramfs

import "slices"

// Policy says which modules go into the initramfs.
type Policy struct {
	Kind    string   // Generic, List; "" is Generic
	Modules []string // names, in addition to what the kind takes
	Media   bool     // the init looks for media that are files
	Network bool     // Generic takes drivers of network cards too
}

// The kinds of policy.
const (
	Generic = "generic" // each bus and file system that a boot medium can need
	List    = "list"    // what every boot needs, and nothing more that is not named
)

// group is a number of modules that are wanted for one reason.
type group struct {
	why   string
	names []string
}

// required is what every boot needs. A kernel that has one of them neither as a file nor built in cannot boot a veneer.
var required = group{"images and the merged root", []string{"loop", "dm_mod", "dm_verity", "overlay"}}

// always is what both policies take where the kernel has it: the file systems of images, and that of the store output.
var always = group{"file systems of images and of the store that build makes", []string{"squashfs", "erofs", "ext4"}}

// variables is what both policies take where the kernel has it: a reset that the firmware asks for must not hang on the policy.
var variables = group{"a factory reset that UEFI asks for", []string{"efivarfs"}}

// generic is what the policy of that name takes beyond always, where the kernel has it. Left out on purpose: what a machine
// needs only after its base is there (graphics, sound, and the network where the set does not come over it; dm-crypt and exfat, which the state may need, and which PID 1
// loads with the modprobe of the base); and host adapters of servers that few boot from and
// that weigh hundreds of kilobytes each (mpt3sas, hpsa, smartpqi, aacraid, lpfc, qla2xxx). They can be named in addition.
var generic = []group{
	{"file systems of a store", []string{"btrfs", "xfs", "vfat", "isofs"}},
	{"names on vfat and isofs", []string{"nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"}},
	{"virtio", []string{"virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi"}},
	{"SCSI disks and CD-ROMs", []string{"sd_mod", "sr_mod"}},
	{"SATA and ATA", []string{"ahci", "ata_piix", "ata_generic"}},
	{"NVMe", []string{"nvme", "vmd"}},
	{"USB storage", []string{"xhci_pci", "xhci_plat_hcd", "ehci_pci", "ehci_platform", "uhci_hcd", "ohci_pci", "ohci_platform",
		"usb_storage", "uas"}},
	{"SD cards and MMC", []string{"mmc_block", "sdhci_pci", "sdhci_acpi", "rtsx_pci_sdmmc"}},
	{"SCSI host adapters", []string{"mptspi", "megaraid_sas", "vmw_pvscsi"}},
	{"Hyper-V", []string{"hv_vmbus", "hv_storvsc", "pci_hyperv", "hyperv_keyboard"}},
	{"Xen", []string{"xen_blkfront"}},
	{"keyboards", []string{"i8042", "atkbd", "usbhid"}},
}

// genericARM64 is what the generic policy adds on arm64, where buses and cards hang on platform devices.
var genericARM64 = []group{
	{"PCI host bridges", []string{"pci_host_generic", "pcie_brcmstb", "pcie_rockchip_host", "pcie_tegra194", "pci_meson",
		"phy_rockchip_pcie", "phy_tegra194_p2u", "reset_raspberrypi"}},
	{"SATA", []string{"ahci_platform", "ahci_xgene", "ahci_mvebu", "ahci_sunxi"}},
	{"SD cards and MMC", []string{"bcm2835", "sdhci_iproc", "sdhci_brcmstb", "sdhci_of_arasan", "sdhci_of_dwcmshc", "sdhci_of_esdhc",
		"sdhci_esdhc_imx", "sdhci_cadence", "sdhci_xenon_driver", "sdhci_msm", "sdhci_tegra", "dw_mmc_rockchip", "dw_mmc_pltfm",
		"meson_gx_mmc", "sunxi_mmc", "mmci"}},
	{"USB", []string{"dwc3", "dwc3_of_simple", "dwc3_meson_g12a", "dwc2", "xhci_tegra", "phy_rockchip_inno_usb2", "phy_meson_g12a_usb2",
		"phy_meson_g12a_usb3_pcie", "phy_sun4i_usb", "phy_generic"}},
}

// media is what the generic policy adds for an init that looks for media that are files, which lie on what people keep files on.
var media = group{"file systems with media that are files", []string{"exfat", "ntfs3"}}

// networks is what the generic policy adds for netboot. Left out on purpose: what does nothing without firmware files, which an
// initramfs of ours does not have (bnx2, ice, cxgb4), and what weighs more than all of this together (mlx5_core).
var networks = []group{
	{"network cards of virtual machines", []string{"virtio_net", "vmxnet3", "hv_netvsc", "xen_netfront", "ena", "gve", "ixgbevf", "iavf", "e1000", "8139cp", "8139too"}},
	{"network cards", []string{"e1000e", "igb", "igc", "ixgbe", "i40e", "r8169", "tg3", "bnxt_en", "atlantic", "alx", "atl1c", "sky2", "forcedeth"}},
	{"network cards on USB", []string{"cdc_ether", "cdc_ncm", "r8152", "ax88179_178a", "asix", "smsc95xx", "lan78xx"}},
	{"packets for DHCP", []string{"af_packet"}},
	{"IPv6", []string{"ipv6"}},
}

// networksARM64 is what it adds on arm64.
var networksARM64 = []group{
	{"network cards", []string{"genet", "macb", "fec", "mvneta", "mvpp2", "dwmac_rk", "dwmac_sun8i", "dwmac_meson8b", "dwmac_imx", "dwmac_tegra", "hns3", "xgene_enet"}},
}

// services is what modules ask for by the name of an algorithm when a file system is mounted or a device is set up, without
// saying so in their modinfo. The kernel would call modprobe then, which is not there.
var services = map[string][]string{
	"dm_verity": {"crypto-sha256"},
	"ext4":      {"crypto-crc32c"},
	"btrfs":     {"crypto-crc32c"},
	"xfs":       {"crypto-crc32c"},
}

// accelerated names the services of whose implementations the quickest counts: those that hash each block that is read. For the
// others an extra module would cost more at boot than it gives back.
var accelerated = map[string][]string{
	"dm_verity": {"crypto-sha256"},
	"btrfs":     {"crypto-crc32c"},
}

// companions names what a module is of no use without, and what is of no use without it.
var companions = map[string][]string{
	"usbhid": {"hid_generic"},
}

// Takes reports whether the policy takes a module by its name, where the kernel has it.
func (p Policy) Takes(name, arch string) bool {
	taken := func(names []string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return canonical(n) == canonical(name) })
	}
	return taken(p.Modules) || taken(required.names) || slices.ContainsFunc(p.groups(arch), func(g group) bool { return taken(g.names) })
}

// groups returns what the policy takes where the kernel has it.
func (p Policy) groups(arch string) []group {
	if p.Kind == List {
		return []group{always, variables}
	}
	groups := append([]group{always, variables}, generic...)
	if p.Media {
		groups = append(groups, media)
	}
	if arch == "arm64" {
		groups = append(groups, genericARM64...)
	}
	if p.Network {
		groups = append(groups, networks...)
		if arch == "arm64" {
			groups = append(groups, networksARM64...)
		}
	}
	return slices.Clip(groups)
}
