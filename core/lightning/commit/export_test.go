package commit

// Descend is generate_from_seed and derive_secret of BOLT 3.
var Descend = descend

// Obscurer is what obscures commitment numbers.
func (c *Channel) Obscurer() uint64 { return c.obscurer() }
