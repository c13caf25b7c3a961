package rpc

import (
	"slices"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
)

// accountHistory lists an account's blocks from its newest or from a head
// downwards, or with reverse upwards, and says where the next answer begins.
func (c *call) accountHistory() (*object, error) {
	var filter []lattice.Key
	if c.has("account_filter") {
		for _, text := range c.texts("account_filter") {
			filter = append(filter, c.accountOf(text, badAccount))
		}
	}
	reverse, count, offset := c.flag("reverse", false), c.count(MaxCount), c.offset(MaxCount)
	head, hasHead := c.optional("head")
	var at lattice.Hash
	var k lattice.Key
	if !hasHead {
		k = c.account("account")
	} else if h, err := lattice.ParseHash(head); err == nil {
		at = h
	} else {
		c.fail(badHashNumber)
	}
	if _, err := c.look(func(n *node.Node, _ *object) error {
		s, known := n.Block(at)
		a, opened := n.Account(k)
		switch {
		case hasHead && !known:
			return blockNotFound
		case hasHead:
			k = s.Account
		case reverse && !opened:
			return accountNotFound
		case reverse:
			at = a.Open
		default:
			at = a.Frontier
		}
		return nil
	}); err != nil {
		return nil, err
	}
	var found list
	for more := true; more; {
		if _, err := c.look(func(n *node.Node, _ *object) error {
			for range lookAt {
				s, known := n.Block(at)
				if more = known && len(found) < count; !more {
					return nil
				}
				if offset--; offset < 0 {
					if entry := c.happened(n, &s, at, filter); entry != nil {
						found = append(found, entry)
					}
				}
				if at = s.Previous; reverse {
					at = s.Successor
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	o := new(object).put("account", k).put("history", found)
	if !at.IsZero() {
		next := "previous"
		if reverse {
			next = "next"
		}
		o.put(next, at)
	}
	return o, nil
}

// happened is one block of a history; nil if it is not asked for.
func (c *call) happened(n *node.Node, s *node.Stored, h lattice.Hash, filter []lattice.Key) *object {
	raw := c.flag("raw", false)
	other := linked(n, s)
	moves := s.Kind == lattice.Send || s.Kind == lattice.Receive || s.Kind == lattice.Open
	if !moves && (!raw || filter != nil) {
		return nil
	}
	if filter != nil && !slices.ContainsFunc(filter, func(k lattice.Key) bool { return k.String() == other }) {
		return nil
	}
	o := new(object)
	kind := "type"
	if raw {
		o.put("type", "state").put("representative", s.Representative).put("link", upper(s.Link[:])).
			put("balance", s.Balance).put("previous", s.Previous)
		kind = "subtype"
	}
	o.put(kind, subtype(s.Kind))
	if moves {
		if other != "0" {
			o.put("account", other)
		}
		o.put("amount", s.Amount)
	}
	if c.flag("include_linked_account", false) {
		o.put("linked_account", other)
	}
	o.put("local_timestamp", seconds(s.Time)).put("height", s.Height).put("hash", h).put("confirmed", s.Confirmed)
	if raw {
		o.put("work", hex16(s.Work)).put("signature", upper(s.Signature[:]))
	}
	return o
}
