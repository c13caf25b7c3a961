package rpc

import (
	"bytes"
	"slices"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
)

// accountVersion is that of accounts which have state blocks and the work of
// Nano's second epoch: all of ours.
const accountVersion = "2"

// sums are an account's balance and what waits for it, cemented alone or all.
func sums(n *node.Node, k lattice.Key, confirmed bool) (balance, receivable lattice.Raw) {
	a, known := n.Account(k)
	if balance = a.Balance; known && confirmed && a.ConfirmedHeight != a.Height {
		s, _ := n.Block(a.ConfirmedFrontier)
		balance = s.Balance
	}
	for _, r := range n.Receivable(k, MaxSum, lattice.Raw{}, !confirmed) {
		receivable, _ = receivable.Add(r.Amount)
	}
	return balance, receivable
}

func (o *object) putSums(n *node.Node, k lattice.Key, confirmed bool) *object {
	balance, receivable := sums(n, k, confirmed)
	return o.put("balance", balance).put("pending", receivable).put("receivable", receivable)
}

func (c *call) accountBalance() (*object, error) {
	k, confirmed := c.account("account"), c.flag("include_only_confirmed", true)
	return c.look(func(n *node.Node, o *object) error { o.putSums(n, k, confirmed); return nil })
}

// withAccount looks at an account that must be there.
func (c *call) withAccount(f func(*node.Node, *object, *node.Account)) (*object, error) {
	k := c.account("account")
	return c.look(func(n *node.Node, o *object) error {
		a, known := n.Account(k)
		if !known {
			return accountNotFound
		}
		f(n, o, &a)
		return nil
	})
}

func (c *call) accountBlockCount() (*object, error) {
	return c.withAccount(func(_ *node.Node, o *object, a *node.Account) { o.put("block_count", a.Height) })
}

func (c *call) accountRepresentative() (*object, error) {
	return c.withAccount(func(_ *node.Node, o *object, a *node.Account) { o.put("representative", a.Representative) })
}

func (c *call) accountWeight() (*object, error) {
	k := c.account("account")
	return c.look(func(n *node.Node, o *object) error { o.put("weight", n.Weight(k)); return nil })
}

func (c *call) accountCount() (*object, error) {
	return c.look(func(n *node.Node, o *object) error { o.put("count", n.Counts().Accounts); return nil })
}

func (c *call) accountInfo() (*object, error) {
	confirmed := c.flag("include_confirmed", false)
	return c.withAccount(func(n *node.Node, o *object, a *node.Account) {
		last, _ := n.Block(a.ConfirmedFrontier)
		o.put("frontier", a.Frontier).put("open_block", a.Open).put("representative_block", a.Frontier).put("balance", a.Balance)
		if confirmed {
			o.put("confirmed_balance", last.Balance)
		}
		o.put("modified_timestamp", seconds(a.Modified)).put("block_count", a.Height).put("account_version", accountVersion)
		if confirmed {
			o.put("confirmed_height", a.ConfirmedHeight).put("confirmed_frontier", a.ConfirmedFrontier)
		} else {
			o.put("confirmation_height", a.ConfirmedHeight).put("confirmation_height_frontier", a.ConfirmedFrontier)
		}
		if c.flag("representative", false) {
			if o.put("representative", a.Representative); confirmed {
				o.put("confirmed_representative", last.Representative)
			}
		}
		if c.flag("weight", false) {
			o.put("weight", n.Weight(a.Key))
		}
		if c.flag("receivable", c.flag("pending", false)) {
			_, all := sums(n, a.Key, false)
			if o.put("pending", all).put("receivable", all); confirmed {
				_, cemented := sums(n, a.Key, true)
				o.put("confirmed_pending", cemented).put("confirmed_receivable", cemented)
			}
		}
	})
}

// accounts answers for each account of a list, under what it was called by, and
// with what is wrong with those that there is no answer for.
func (c *call) accounts(name string, f func(*node.Node, lattice.Key) (any, error)) (*object, error) {
	var found, faults object
	err := each(c, c.texts("accounts"), func(n *node.Node, text string) error {
		k, err := lattice.ParseAccount(text)
		var v any
		if err != nil {
			err = badAccount
		} else {
			v, err = f(n, k)
		}
		if err != nil {
			faults.put(text, err.Error())
		} else {
			found.put(text, v)
		}
		return nil
	})
	o := new(object)
	if len(found.fields) > 0 {
		o.put(name, &found)
	}
	if len(faults.fields) > 0 {
		o.put("errors", &faults)
	}
	return o, err
}

func (c *call) accountsBalances() (*object, error) {
	confirmed := c.flag("include_only_confirmed", true)
	return c.accounts("balances", func(n *node.Node, k lattice.Key) (any, error) {
		return new(object).putSums(n, k, confirmed), nil
	})
}

func (c *call) accountsFrontiers() (*object, error) {
	return c.accounts("frontiers", func(n *node.Node, k lattice.Key) (any, error) {
		a, known := n.Account(k)
		if !known {
			return nil, accountNotFound
		}
		return a.Frontier, nil
	})
}

func (c *call) accountsRepresentatives() (*object, error) {
	return c.accounts("representatives", func(n *node.Node, k lattice.Key) (any, error) {
		a, known := n.Account(k)
		if !known {
			return nil, accountNotFound
		}
		return a.Representative, nil
	})
}

func (c *call) frontiers() (*object, error) {
	from, count := c.account("account"), c.count(MaxCount)
	var found object
	for more := true; more && c.fault == nil; {
		if _, err := c.look(func(n *node.Node, _ *object) error {
			some := n.Accounts(from, min(lookAt, count-len(found.fields)))
			for _, a := range some {
				found.put(a.Key.String(), a.Frontier)
				from = after(a.Key)
			}
			more = len(some) == lookAt && len(found.fields) < count && !from.IsZero()
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return new(object).put("frontiers", &found), c.fault
}

// after is the next key; zero after the last one.
func after(k lattice.Key) lattice.Key {
	for i := len(k) - 1; i >= 0; i-- {
		if k[i]++; k[i] != 0 {
			break
		}
	}
	return k
}

// waits is how a request wants to see what is receivable.
type waits struct {
	count, offset            int
	threshold                lattice.Raw
	source, version, sorting bool
	confirmed                bool
}

func (c *call) waits() waits {
	return waits{
		count: c.countOr(MaxCount, MaxCount), offset: c.offset(MaxSum), threshold: c.threshold(),
		source: c.flag("source", false), version: c.flag("min_version", false), sorting: c.flag("sorting", false),
		confirmed: c.flag("include_only_confirmed", true),
	}
}

// list is what waits for an account: hashes alone, or with more.
func (w waits) list(n *node.Node, k lattice.Key) any {
	most := w.offset + w.count
	if w.sorting {
		most = MaxSum
	}
	all := n.Receivable(k, min(most, MaxSum), w.threshold, !w.confirmed)
	if !w.sorting {
		slices.SortFunc(all, func(a, b lattice.Receivable) int { return bytes.Compare(a.Source[:], b.Source[:]) })
	}
	all = all[min(w.offset, len(all)):]
	all = all[:min(w.count, len(all))]
	if w.threshold.IsZero() && !w.source && !w.version && !w.sorting {
		var hashes list
		for _, r := range all {
			hashes = append(hashes, r.Source)
		}
		return hashes
	}
	o := new(object)
	for _, r := range all {
		if !w.source && !w.version {
			o.put(r.Source.String(), r.Amount)
			continue
		}
		more := new(object).put("amount", r.Amount)
		if w.source {
			more.put("source", r.From)
		}
		if w.version {
			more.put("min_version", accountVersion)
		}
		o.put(r.Source.String(), more)
	}
	return o
}

func (c *call) receivable() (*object, error) {
	k, w := c.account("account"), c.waits()
	return c.look(func(n *node.Node, o *object) error { o.put("blocks", w.list(n, k)); return nil })
}

func (c *call) accountsReceivable() (*object, error) {
	w := c.waits()
	w.offset = 0
	var found object
	err := each(c, c.texts("accounts"), func(n *node.Node, text string) error {
		k, err := lattice.ParseAccount(text)
		if err != nil {
			return badAccount
		}
		switch v := w.list(n, k).(type) {
		case list:
			if len(v) > 0 {
				found.put(k.String(), v)
			}
		case *object:
			if len(v.fields) > 0 {
				found.put(k.String(), v)
			}
		}
		return nil
	})
	return new(object).put("blocks", &found), err
}

// waiting reports whether a send is not received yet.
func waiting(n *node.Node, s *node.Stored, h lattice.Hash, confirmed bool) bool {
	if confirmed && !s.Confirmed {
		return false
	}
	return slices.ContainsFunc(n.Receivable(s.Link, MaxSum, s.Amount, !s.Confirmed), func(r lattice.Receivable) bool { return r.Source == h })
}

func (c *call) receivableExists() (*object, error) {
	h, confirmed := c.hash("hash"), c.flag("include_only_confirmed", true)
	return c.look(func(n *node.Node, o *object) error {
		s, known := n.Block(h)
		if !known {
			return blockNotFound
		}
		o.put("exists", flag(s.Kind == lattice.Send && waiting(n, &s, h, confirmed)))
		return nil
	})
}
