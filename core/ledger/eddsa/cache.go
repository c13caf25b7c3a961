package eddsa

import "github.com/oasisprotocol/curve25519-voi/curve"

// DefaultKeys is how many keys a Cache holds if its owner has no better number:
// 20 MB if all of them have been seen twice.
const DefaultKeys = 2048

// A Cache remembers public keys in the form that is fastest to check with,
// because few keys sign most of what a ledger sees. It is bounded, and it forgets
// what was not used lately: it has a young and an old half, and when the young
// half is full, the old one goes. It is not for several goroutines.
type Cache struct {
	half       int
	young, old map[[KeySize]byte]*key
}

// NewCache holds at most limit keys, at least two.
func NewCache(limit int) *Cache {
	half := max(limit/2, 1)
	return &Cache{half: half, young: map[[KeySize]byte]*key{}, old: map[[KeySize]byte]*key{}}
}

// A key is a public key, negated because the equation subtracts it. Its table is
// made when it is seen for the second time: most of a flood's keys never are.
type key struct {
	neg   curve.EdwardsPoint
	table *curve.ExpandedEdwardsPoint
}

func newKey(public [KeySize]byte) *key {
	k := new(key)
	if !decompress(&k.neg, public[:]) {
		return nil
	}
	k.neg.Neg(&k.neg)
	return k
}

// get returns nil if the bytes are no point. A nil Cache remembers nothing.
func (c *Cache) get(public [KeySize]byte) *key {
	if c == nil {
		return newKey(public)
	}
	k := c.young[public]
	seen := k != nil
	if k == nil {
		if k = c.old[public]; k != nil {
			seen = true
		} else if k = newKey(public); k == nil {
			return nil
		}
		if len(c.young) >= c.half {
			c.young, c.old = make(map[[KeySize]byte]*key, c.half), c.young
		}
		c.young[public] = k
	}
	if seen && k.table == nil {
		k.table = curve.NewExpandedEdwardsPoint(&k.neg)
	}
	return k
}

// Len is how many keys it holds.
func (c *Cache) Len() int {
	n := len(c.young)
	for public := range c.old {
		if c.young[public] == nil {
			n++
		}
	}
	return n
}
