package disk

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Section is a part of a PE file by its name.
type Section struct {
	Name    string // up to 8 bytes, such as .linux
	Content []byte
}

// Offsets in a PE32+ file, from the PE format's specification (Microsoft, "PE Format").
const (
	sizeOfDOS         = 0x40
	atPEOffset        = 0x3c
	sizeOfFileHeader  = 4 + 20 // with the signature "PE\0\0"
	sizeOfSectionHead = 40
	magicPE32Plus     = 0x20b

	atMachine        = 4 // from the PE signature
	atSections       = 6
	atSymbols        = 12
	atOptionalSize   = 20
	atSectionAlign   = sizeOfFileHeader + 32
	atFileAlign      = sizeOfFileHeader + 36
	atImageSize      = sizeOfFileHeader + 56
	atHeadersSize    = sizeOfFileHeader + 60
	atChecksum       = sizeOfFileHeader + 64
	atDirectories    = sizeOfFileHeader + 108
	atCertificates   = sizeOfFileHeader + 112 + 8*pe.IMAGE_DIRECTORY_ENTRY_SECURITY
	sectionReadData  = pe.IMAGE_SCN_CNT_INITIALIZED_DATA | pe.IMAGE_SCN_MEM_READ
	maxStub          = 4 << 20
	maxImage         = 1 << 30
	maxSections      = 64
	maxAlignment     = 1 << 16
	leastAlignment   = 512
	page             = 4096 // a kernel is mapped where it lies
	certificateAlign = 8
)

var le = binary.LittleEndian

// AddSections appends sections to a PE32+ program for a 64-bit machine, such as systemd's stub, in their order. It drops the symbol
// table and a signature, neither of which would fit the result, and sets the checksum. The program is refused if it is damaged, or
// has a section of one of the names already.
func AddSections(program []byte, sections ...Section) ([]byte, error) {
	p, err := parse(program)
	if err != nil {
		return nil, err
	}
	if n := len(p.heads) + len(sections); n > maxSections {
		return nil, fmt.Errorf("%d sections are more than %d", n, maxSections)
	}
	if err := p.inOrder(len(sections)); err != nil {
		return nil, err
	}
	for _, s := range sections {
		if len(s.Name) > 8 || s.Name == "" {
			return nil, fmt.Errorf("section %q: want a name of 1 to 8 bytes", s.Name)
		}
		if slices.ContainsFunc(p.heads, func(h pe.SectionHeader32) bool { return nameOf(h) == s.Name }) {
			return nil, fmt.Errorf("section %s is there already: this is no bare stub", s.Name)
		}
		if err := p.add(s); err != nil {
			return nil, err
		}
	}
	return p.bytes(), nil
}

// withoutSection drops a section that the program itself does not read. What lay there in memory stays free.
func withoutSection(program []byte, name string) ([]byte, error) {
	p, err := parse(program)
	if err != nil {
		return nil, err
	}
	for i := len(p.heads) - 1; i >= 0; i-- {
		if nameOf(p.heads[i]) == name {
			p.heads, p.content = slices.Delete(p.heads, i, i+1), slices.Delete(p.content, i, i+1)
		}
	}
	return p.bytes(), nil
}

// program is a PE file that was taken apart: what lies before the section headers, those, and what each one names.
type program struct {
	head    []byte // up to the section headers
	at      int    // of the PE signature
	heads   []pe.SectionHeader32
	content [][]byte
	section uint32 // alignment in memory
	file    uint32 // alignment in the file
}

func parse(b []byte) (*program, error) {
	if len(b) > maxImage {
		return nil, fmt.Errorf("%d bytes are more than %d", len(b), maxImage)
	}
	if len(b) < sizeOfDOS || b[0] != 'M' || b[1] != 'Z' {
		return nil, errors.New("this is no PE program: it does not begin with MZ")
	}
	at := int(le.Uint32(b[atPEOffset:]))
	if at < sizeOfDOS || at > maxStub || len(b) < at+atDirectories+4 || string(b[at:at+4]) != "PE\x00\x00" {
		return nil, errors.New("this is no PE program: there is no PE header")
	}
	if magic := le.Uint16(b[at+sizeOfFileHeader:]); magic != magicPE32Plus {
		return nil, fmt.Errorf("PE program of kind %#x: want PE32+, for a 64-bit machine", magic)
	}
	n, optional := int(le.Uint16(b[at+atSections:])), int(le.Uint16(b[at+atOptionalSize:]))
	end := at + sizeOfFileHeader + optional
	p := &program{at: at, section: le.Uint32(b[at+atSectionAlign:]), file: le.Uint32(b[at+atFileAlign:])}
	switch {
	case n == 0 || n > maxSections:
		return nil, fmt.Errorf("PE program of %d sections", n)
	case end < at+atCertificates+8 || len(b) < end+n*sizeOfSectionHead:
		return nil, errors.New("PE program is cut off in its headers")
	case le.Uint32(b[at+atDirectories:]) <= pe.IMAGE_DIRECTORY_ENTRY_SECURITY:
		return nil, errors.New("PE program has no room for a signature")
	case !aligns(p.section) || !aligns(p.file) || p.file > p.section:
		return nil, fmt.Errorf("PE program is aligned to %d in memory and %d in its file", p.section, p.file)
	}
	p.head = slices.Clone(b[:end])
	for i := range n {
		var h pe.SectionHeader32
		if err := binary.Read(bytes.NewReader(b[end+i*sizeOfSectionHead:]), le, &h); err != nil {
			return nil, err
		}
		if uint64(h.PointerToRawData)+uint64(h.SizeOfRawData) > uint64(len(b)) || uint64(h.VirtualAddress)+uint64(h.VirtualSize) > maxImage {
			return nil, fmt.Errorf("section %q lies outside of the PE program", nameOf(h))
		}
		h.PointerToRelocations, h.PointerToLineNumbers, h.NumberOfRelocations, h.NumberOfLineNumbers = 0, 0, 0, 0
		p.heads = append(p.heads, h)
		p.content = append(p.content, b[h.PointerToRawData:h.PointerToRawData+h.SizeOfRawData])
	}
	return p, nil
}

func aligns(n uint32) bool { return n >= leastAlignment && n <= maxAlignment && n&(n-1) == 0 }

func nameOf(h pe.SectionHeader32) string { return string(bytes.TrimRight(h.Name[:], "\x00")) }

// inOrder reports why firmware would not load the program with more section headers: those lie before the first section in memory,
// and each section lies behind the one before it.
func (p *program) inOrder(more int) error {
	end, what := up(uint32(len(p.head)+(len(p.heads)+more)*sizeOfSectionHead), p.file), "the headers"
	for _, h := range p.heads {
		if h.VirtualAddress < end {
			return fmt.Errorf("section %q lies at %#x in memory, and %s reach to %#x", nameOf(h), h.VirtualAddress, what, end)
		}
		end, what = h.VirtualAddress+h.VirtualSize, fmt.Sprintf("section %q", nameOf(h))
	}
	return nil
}

// Architecture is Go's name of the machine that a PE32+ program is for.
func Architecture(program []byte) (string, error) {
	p, err := parse(program)
	if err != nil {
		return "", err
	}
	switch machine := le.Uint16(program[p.at+atMachine:]); machine {
	case pe.IMAGE_FILE_MACHINE_AMD64:
		return "amd64", nil
	case pe.IMAGE_FILE_MACHINE_ARM64:
		return "arm64", nil
	default:
		return "", fmt.Errorf("PE program for machine %#x: want one for amd64 or arm64", machine)
	}
}

// Sections returns the sections of a PE32+ program, each without the padding in the file, and whether it has a signature; that is not
// checked.
func Sections(program []byte) (sections []Section, signed bool, err error) {
	p, err := parse(program)
	if err != nil {
		return nil, false, err
	}
	for i, h := range p.heads {
		content := p.content[i]
		sections = append(sections, Section{nameOf(h), content[:min(int(h.VirtualSize), len(content))]})
	}
	return sections, le.Uint32(program[p.at+atCertificates+4:]) != 0, nil
}

// add puts a section behind all others in memory.
func (p *program) add(s Section) error {
	next := up(p.imageSize(), page)
	if uint64(next)+uint64(len(s.Content)) > maxImage {
		return fmt.Errorf("section %s of %d bytes: the image would have more than %d", s.Name, len(s.Content), maxImage)
	}
	h := pe.SectionHeader32{VirtualAddress: next, VirtualSize: uint32(len(s.Content)), Characteristics: sectionReadData}
	copy(h.Name[:], s.Name)
	p.heads, p.content = append(p.heads, h), append(p.content, s.Content)
	return nil
}

// imageSize is where memory ends, aligned.
func (p *program) imageSize() uint32 {
	end := uint32(0)
	for _, h := range p.heads {
		end = max(end, h.VirtualAddress+h.VirtualSize)
	}
	return up(end, p.section)
}

// bytes puts the file together: headers, then the sections in the order of their headers.
func (p *program) bytes() []byte {
	headers := up(uint32(len(p.head)+len(p.heads)*sizeOfSectionHead), p.file)
	at := headers
	for i := range p.heads {
		h := &p.heads[i]
		h.PointerToRawData, h.SizeOfRawData = at, up(uint32(len(p.content[i])), p.file)
		if len(p.content[i]) == 0 { // only in memory
			h.PointerToRawData = 0
		}
		at += h.SizeOfRawData
	}
	image := make([]byte, at)
	copy(image, p.head)
	head := image[p.at:]
	le.PutUint16(head[atSections:], uint16(len(p.heads)))
	clear(head[atSymbols : atSymbols+8])
	clear(head[atCertificates : atCertificates+8])
	le.PutUint32(head[atImageSize:], p.imageSize())
	le.PutUint32(head[atHeadersSize:], headers)
	var heads bytes.Buffer
	for _, h := range p.heads {
		_ = binary.Write(&heads, le, h) // into memory
	}
	copy(image[len(p.head):], heads.Bytes())
	for i, h := range p.heads {
		copy(image[h.PointerToRawData:], p.content[i])
	}
	le.PutUint32(head[atChecksum:], checksum(image, p.at+atChecksum))
	return image
}

func up(n, to uint32) uint32 { return (n + to - 1) &^ (to - 1) }

// checksum is that of an image file: the sum of its 16-bit words with the carry added back, but for the checksum itself, and its size.
func checksum(image []byte, at int) uint32 {
	sum := uint32(0)
	for i := 0; i < len(image); i += 2 {
		if i == at || i == at+2 {
			continue
		}
		word := uint32(image[i])
		if i+1 < len(image) {
			word |= uint32(image[i+1]) << 8
		}
		sum += word
		sum = sum&0xffff + sum>>16
	}
	return sum + uint32(len(image))
}
