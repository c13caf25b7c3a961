package dag

// Slots is how many there are, empty ones too.
func (d *DAG) Slots() int { return len(d.ids) - 1 }
