package probe

// Entry is a partition of a GPT with its type, a GUID in lower case.
type Entry struct {
	Partition
	Type string
}

// Entries lists the partitions.
func (g *GPT) Entries() []Entry {
	var list []Entry
	for n := range g.count() {
		e := g.entry(n)
		if p, ok := g.gptEntry(n+1, e); ok {
			list = append(list, Entry{p, guid(e)})
		}
	}
	return list
}

// FirstDamaged reports that the first copy is damaged, and that the table is that of the backup.
func (g *GPT) FirstDamaged() bool { return g.primary[0] == nil }
