package rpc

import (
	"encoding/hex"
	"fmt"
	"strings"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
	"coinop.dev/core/step"
)

func hexBytes(text string, size int) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err == nil && len(b) != size {
		err = fmt.Errorf("%d bytes in hex; they must be %d", len(b), size)
	}
	return b, err
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// contents is a block as an object.
func contents(b *lattice.Block) *object {
	return new(object).put("type", "state").put("account", b.Account).put("previous", b.Previous).
		put("representative", b.Representative).put("balance", b.Balance).
		put("link", upper(b.Link[:])).put("link_as_account", lattice.Key(b.Link)).
		put("signature", upper(b.Signature[:])).put("work", hex16(b.Work))
}

// putBlock puts a block as an object or as its text, as the request has it.
func (o *object) putBlock(name string, b *lattice.Block, asObject bool) *object {
	if asObject {
		return o.put(name, contents(b))
	}
	return o.put(name, string(appendValue(nil, contents(b))))
}

// subtype is a kind in Nano's words, where an open is a receive.
func subtype(k lattice.Kind) string {
	if k == lattice.Open {
		k = lattice.Receive
	}
	return k.String()
}

func seconds(t step.Time) uint64 { return uint64(max(0, t) / step.Second) }

// linked is the account at the other end of a transfer; "0" for none that is known.
func linked(n *node.Node, s *node.Stored) string {
	switch s.Kind {
	case lattice.Send:
		return lattice.Key(s.Link).String()
	case lattice.Receive, lattice.Open:
		if source, ok := n.Block(s.Link); ok {
			return source.Account.String()
		}
	}
	return "0"
}

// describe is what block_info says of a block.
func (c *call) describe(n *node.Node, o *object, s *node.Stored) *object {
	o.put("block_account", s.Account)
	if c.flag("include_linked_account", false) {
		o.put("linked_account", linked(n, s))
	}
	o.put("amount", s.Amount).put("balance", s.Balance).put("height", s.Height)
	o.put("local_timestamp", seconds(s.Time)).put("successor", s.Successor).put("confirmed", s.Confirmed)
	return o.putBlock("contents", &s.Block, c.flag("json_block", false)).put("subtype", subtype(s.Kind))
}

func (c *call) blockInfo() (o *object, err error) {
	h := c.hash("hash")
	return c.look(func(n *node.Node, o *object) error {
		s, known := n.Block(h)
		if !known {
			return blockNotFound
		}
		c.describe(n, o, &s)
		return nil
	})
}

// each looks at one thing of a list after another, a few in one look.
func each[T any](c *call, items []T, f func(*node.Node, T) error) error {
	if c.fault != nil {
		return c.fault
	}
	for len(items) > 0 {
		some := items[:min(len(items), lookAt)]
		items = items[len(some):]
		if _, err := c.look(func(n *node.Node, _ *object) error {
			for _, item := range some {
				if err := f(n, item); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) blocksInfo() (*object, error) {
	missing := c.flag("include_not_found", false)
	receivable := c.flag("receivable", c.flag("pending", false))
	var found object
	var unknown list
	err := each(c, c.texts("hashes"), func(n *node.Node, text string) error {
		h, err := lattice.ParseHash(text)
		if err != nil {
			return badHashNumber
		}
		s, known := n.Block(h)
		switch {
		case known:
			o := c.describe(n, new(object), &s)
			if receivable {
				waits := flag(s.Kind == lattice.Send && waiting(n, &s, h, false))
				o.put("pending", waits).put("receivable", waits)
			}
			if c.flag("source", false) {
				source := "0"
				if s.Kind == lattice.Receive || s.Kind == lattice.Open {
					source = linked(n, &s)
				}
				o.put("source_account", source)
			}
			found.put(text, o)
		case missing:
			unknown = append(unknown, text)
		default:
			return blockNotFound
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	o := new(object).put("blocks", &found)
	if missing {
		o.put("blocks_not_found", unknown)
	}
	return o, nil
}

func (c *call) blocks() (*object, error) {
	var found object
	err := each(c, c.texts("hashes"), func(n *node.Node, text string) error {
		h, err := lattice.ParseHash(text)
		if err != nil {
			return badHashNumber
		}
		s, known := n.Block(h)
		if !known {
			return blockNotFound
		}
		found.putBlock(text, &s.Block, c.flag("json_block", false))
		return nil
	})
	return new(object).put("blocks", &found), err
}

func (c *call) blockAccount() (*object, error) {
	h := c.hash("hash")
	return c.look(func(n *node.Node, o *object) error {
		s, known := n.Block(h)
		if !known {
			return blockNotFound
		}
		o.put("account", s.Account)
		return nil
	})
}

func (c *call) blockCount() (*object, error) {
	return c.look(func(n *node.Node, o *object) error {
		k := n.Counts()
		o.put("count", k.Blocks).put("unchecked", k.Unchecked).put("cemented", k.Cemented)
		return nil
	})
}

func (c *call) blockHash() (*object, error) {
	b := c.block()
	return new(object).put("hash", b.Hash()), c.fault
}

// chain walks from a block towards the account's first, or with successors towards
// its newest.
func (c *call) chain(successors bool) (*object, error) {
	successors = successors != c.flag("reverse", false)
	h, count, skip := c.hash("block"), c.count(MaxCount), c.offset(MaxCount)
	var found list
	for more := true; more && c.fault == nil; {
		if _, err := c.look(func(n *node.Node, _ *object) error {
			for range lookAt {
				s, known := n.Block(h)
				if more = known && len(found) < count; !more {
					return nil
				}
				if skip--; skip < 0 {
					found = append(found, h)
				}
				if h = s.Previous; successors {
					h = s.Successor
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return new(object).put("blocks", found), c.fault
}
