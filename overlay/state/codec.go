package state

import (
	"veneer/images/canonical"
	"veneer/overlay/entry"
)

// pathField is a field that is a path of any bytes.
func pathField(c *canonical.Coder, name string, v *string) {
	text := quote(*v)
	canonical.String(c, name, &text)
	fromText(c, text, v)
}

func fromText(c *canonical.Coder, text string, v *string) {
	p, ok := entry.Unquote(text)
	if !ok {
		c.Fail(errQuoted)
		return
	}
	*v = p
}

// pathsField is a field that is a list of such paths.
func pathsField(c *canonical.Coder, name string, list *[]string, most int) {
	texts := make([]string, len(*list))
	for i, p := range *list {
		texts[i] = quote(p)
	}
	canonical.Strings(c, name, &texts, most)
	*list = nil
	for _, t := range texts {
		var p string
		fromText(c, t, &p)
		*list = append(*list, p)
	}
}
