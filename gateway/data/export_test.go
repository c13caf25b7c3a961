package data

// The moments of a sale that a test can stop the seller at.
const (
	Settled = string(settled)
	Booked  = string(booked)
)

// Halt has f called at the moments of every sale of a chunk.
func (s *Seller) Halt(f func(string)) { s.halt = func(m moment) { f(string(m)) } }
