// Package wallet is an address of a Tangle as core/ledger/transfer wants it: its
// outputs, and the transactions that are signed and not applied yet.
//
// A transaction spends only what a milestone has applied, so none waits for another
// of ours; orders that come meanwhile share the next one, each with an output of its
// own. The tagged data names them, so each of them is proved alone. What is left
// comes back to the address, and many small outputs are gathered into one.
package wallet

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/transfer"
	"coinop.dev/core/money"
)

const (
	// MaxBatch bounds the orders of one transaction: each has an output, and one is
	// left for change.
	MaxBatch = tangle.MaxOutputs - 1
	// GatherAt is how many outputs are gathered into one: half of what a
	// transaction can spend, so that the next payment finds room.
	GatherAt = tangle.MaxInputs / 2
	// maxOpen bounds transactions that are not applied.
	maxOpen = 16
)

// Options are what an address is made of.
type Options struct {
	Network *tangle.Network
	Key     tangle.Signer
	Batch   int // orders of one transaction at most; 0: MaxBatch
}

// An Account is a transfer.Ledger.
type Account struct {
	o       Options
	address tangle.Address
	keys    tangle.Coordinators

	index uint32 // of the newest milestone that is known to have applied something of ours
	known bool   // coins are the node's word
	heard uint32 // the milestone that coins are as of
	all   bool   // and they were all there were
	coins []tangle.Unspent
	open  []*open
}

// open is a transaction that is signed and not applied.
type open struct {
	*tangle.Transaction
	id   tangle.TransactionID
	back uint64 // that comes back
}

// New returns the address of a key.
func New(o Options) (*Account, error) {
	o.Batch = min(cmp.Or(o.Batch, MaxBatch), MaxBatch)
	return &Account{o: o, address: tangle.NewAddress(o.Key.Public()), keys: o.Network.Trust()}, o.Network.Check()
}

// Address is where the account is paid.
func (a *Account) Address() tangle.Address { return a.address }

// Follow asks the node for what the account needs to hear.
func (a *Account) Follow() tangle.Follow { return tangle.Follow{Address: a.address} }

// Funds says what can be spent, and what comes back with transactions that are not
// applied; false while the node has not said.
func (a *Account) Funds() (free, back uint64, known bool) {
	for _, c := range a.free() {
		free += c.Amount
	}
	for _, t := range a.open {
		back += t.back
	}
	return free, back, a.known
}

// Spendable is what the address has and what comes back to it, in msat; false while
// the node has not said.
func (a *Account) Spendable() (now, later money.Amount, known bool) {
	free, back, known := a.Funds()
	return money.Amount(min(free, uint64(money.MaxAmount))), money.Amount(min(back, uint64(money.MaxAmount))), known
}

// Head is what is on disk beside the open transactions: the newest milestone that
// counted, so that news that are older are known by it.
func (a *Account) Head() []byte { return codec.AppendUint(nil, a.index) }

// Load takes back the open transactions.
func (a *Account) Load(head []byte, raws [][]byte) ([]transfer.Transfer, error) {
	if head != nil {
		r := codec.NewReader(head)
		a.index = uint32(r.Uint(1<<32-1, "milestone"))
		if err := r.Close(); err != nil {
			return nil, fmt.Errorf("head of address %s: %w", a.address, err)
		}
	}
	list := make([]transfer.Transfer, len(raws))
	for i, raw := range raws {
		t, err := tangle.DecodeTransaction(raw)
		if err == nil {
			err = t.Check(a.o.Network)
		}
		if err != nil {
			return nil, fmt.Errorf("transaction %d of address %s: %w", i, a.address, err)
		}
		list[i] = a.add(t)
	}
	return list, nil
}

// add keeps a transaction of ours; what it spends is spoken for.
func (a *Account) add(t *tangle.Transaction) transfer.Transfer {
	o := &open{Transaction: t, id: t.ID()}
	for _, out := range t.Essence.Outputs {
		if out.Address == a.address {
			o.back += out.Amount
		}
	}
	a.open = append(a.open, o)
	return transfer.Transfer{ID: transfer.ID(o.id), Raw: t.Append(nil), Submit: tangle.Submit{Transaction: t}}
}

// Hear takes in what the node says.
func (a *Account) Hear(msg any) (news transfer.News) {
	switch m := msg.(type) {
	case tangle.State:
		if m.Address == a.address && m.Index >= a.index {
			news.Coins = a.state(m)
			news.Again = a.missed()
		}
	case tangle.Final:
		a.applied(&m, &news)
	case tangle.Rejected:
		at := a.find(m.Transaction)
		if at < 0 || !m.Why.Forever() {
			news.Soon = at >= 0
			break
		}
		news.Dead = []transfer.Dead{{ID: transfer.ID(m.Transaction), Why: string(m.Why)}}
		a.open = slices.Delete(a.open, at, at+1)
		// Something of what it wanted to spend is gone.
		a.known, news.Ask = false, true
	}
	return news
}

func (a *Account) state(s tangle.State) (coins []transfer.Coin) {
	a.known, a.heard, a.all = true, s.Index, len(s.Unspent) < tangle.MaxUnspent
	a.coins = slices.Clone(s.Unspent[:min(len(s.Unspent), tangle.MaxUnspent)])
	for _, u := range a.coins {
		if id, ok := paidBy(u.Note, u.ID.Index()); ok && u.Amount <= uint64(money.MaxAmount) && a.find(u.ID.Transaction()) < 0 {
			coins = append(coins, transfer.Coin{ID: string(u.ID[:]), Key: id.Key(), Amount: money.Amount(u.Amount)})
		}
	}
	return coins
}

// missed lists transactions whose outputs are there, so they are applied, and nobody
// has told.
func (a *Account) missed() (list []transfer.ID) {
	for _, o := range a.open {
		if slices.ContainsFunc(a.coins, func(u tangle.Unspent) bool { return u.ID.Transaction() == o.id }) {
			list = append(list, transfer.ID(o.id))
		}
	}
	return list
}

func (a *Account) find(id tangle.TransactionID) int {
	return slices.IndexFunc(a.open, func(o *open) bool { return o.id == id })
}

// applied takes a transaction off the open ones. Who shows no proof that others would
// believe is asked again.
func (a *Account) applied(f *tangle.Final, news *transfer.News) {
	at := a.find(f.Transaction)
	if at < 0 || f.Proof.Milestone == nil {
		return
	}
	t, err := f.Proof.Verify(a.keys)
	if err != nil || t.ID() != f.Transaction {
		return
	}
	final := transfer.Final{ID: transfer.ID(f.Transaction), Proof: appendProof(nil, a.keys, &f.Proof)}
	if len(final.Proof) > transfer.MaxProof {
		return
	}
	a.index = max(a.index, f.Proof.Milestone.Index)
	spent := a.open[at].Essence.Inputs
	for _, in := range spent {
		final.Spent = append(final.Spent, string(in[:]))
	}
	a.coins = slices.DeleteFunc(a.coins, func(u tangle.Unspent) bool { return slices.Contains(spent, u.ID) })
	a.open = slices.Delete(a.open, at, at+1)
	news.Final = append(news.Final, final)
}

// free lists what no open transaction spends, the largest first.
func (a *Account) free() []tangle.Unspent {
	taken := map[tangle.OutputID]bool{}
	for _, o := range a.open {
		for _, in := range o.Essence.Inputs {
			taken[in] = true
		}
	}
	var free []tangle.Unspent
	for _, c := range a.coins {
		if !taken[c.ID] {
			free = append(free, c)
		}
	}
	slices.SortStableFunc(free, func(x, y tangle.Unspent) int { return cmp.Compare(y.Amount, x.Amount) })
	return free
}

// Build signs a transaction that pays as many of the orders as it can, or one that
// gathers.
func (a *Account) Build(orders []transfer.Payment) (t transfer.Transfer, n int, err error) {
	if len(orders) == 0 {
		t, err = a.gather()
		return t, 0, err
	}
	first, order, err := a.payable(orders[0])
	if err != nil {
		return t, 0, err
	}
	if !a.known || len(a.open) >= maxOpen {
		return t, 0, transfer.ErrLater
	}
	free := a.free()
	funds := sum(free[:min(len(free), tangle.MaxInputs)])
	if first.Amount > funds {
		return t, 0, a.short(first.Amount, sum(free))
	}
	outs, note, total := []tangle.BasicOutput{first}, slices.Clone(order[:]), first.Amount
	for _, p := range orders[1:min(len(orders), a.o.Batch)] {
		out, order, err := a.payable(p)
		if err != nil || out.Amount > funds-total {
			break
		}
		outs, note, total = append(outs, out), append(note, order[:]...), total+out.Amount
	}
	n = len(outs)
	t, err = a.sign(free, outs, total, &tangle.TaggedData{Tag: []byte(Tag), Data: note})
	return t, n, err
}

// short says whether money that is not there may come by itself: what comes back, or
// what the node has yet to list.
func (a *Account) short(amount, free uint64) error {
	_, back, _ := a.Funds()
	if amount <= free+back || !a.all || a.heard < a.index {
		return transfer.ErrLater
	}
	return fmt.Errorf("it takes %d msat, and the address has %d", amount, free+back)
}

func sum(coins []tangle.Unspent) (total uint64) {
	for _, c := range coins {
		total += c.Amount
	}
	return total
}

// payable reads what is to be paid, and the order as its payee knows it.
func (a *Account) payable(p transfer.Payment) (out tangle.BasicOutput, order money.OrderID, err error) {
	invalid := func(err error) error { return &money.Error{Kind: money.Invalid, Err: err} }
	b, err := ParseBill(p.Bill)
	if err != nil {
		return out, order, invalid(err)
	}
	if b.Amount != p.Amount {
		return out, order, invalid(fmt.Errorf("the bill is of %v, the order of %v", b.Amount, p.Amount))
	}
	if b.HRP != a.o.Network.HRP {
		return out, order, invalid(fmt.Errorf("the bill is of network %q, and this wallet of %q", b.HRP, a.o.Network.HRP))
	}
	out = tangle.BasicOutput{Amount: uint64(b.Amount), Address: b.Address}
	least := out.StorageDeposit(a.o.Network.StorageCost)
	switch {
	case b.Address == a.address:
		return out, order, errors.New("the bill is this address's own")
	case b.Keys != a.keys.Digest():
		return out, order, errors.New("the payee trusts other coordinators than this machine's network has; get the network's newest file on both")
	case out.Amount < least:
		return out, order, fmt.Errorf("the network wants a storage deposit of %d msat in an output; pay over a channel", least)
	}
	return out, b.Order, nil
}

// sign spends the largest of what is free, enough for the outputs and for change that
// the network takes.
func (a *Account) sign(free []tangle.Unspent, outs []tangle.BasicOutput, total uint64, note *tangle.TaggedData) (t transfer.Transfer, err error) {
	least := tangle.BasicOutput{}.StorageDeposit(a.o.Network.StorageCost)
	in, n := uint64(0), 0
	for n < min(len(free), tangle.MaxInputs) && (in < total || in > total && in-total < least) {
		in += free[n].Amount
		n++
	}
	switch {
	case in < total || in > total && in-total < least:
		return t, fmt.Errorf("the address has %d msat; after %d too little is left for an output of its own, which takes %d", in, total, least)
	case in > total:
		outs = append(outs, tangle.BasicOutput{Amount: in - total, Address: a.address})
	}
	ids, spent := make([]tangle.OutputID, n), make([]tangle.BasicOutput, n)
	for i, c := range free[:n] {
		ids[i], spent[i] = c.ID, tangle.BasicOutput{Amount: c.Amount, Address: a.address}
	}
	e, err := tangle.NewEssence(a.o.Network, ids, spent, outs, note)
	if err != nil {
		return t, err
	}
	signed, err := e.Sign(spent, a.o.Key)
	if err != nil {
		return t, err
	}
	return a.add(signed), nil
}

// gather spends many small outputs into one, but for the largest, which is left for
// the next payment.
func (a *Account) gather() (t transfer.Transfer, err error) {
	if !a.known || len(a.open) >= maxOpen {
		return t, nil
	}
	free := a.free()
	if len(free) < GatherAt {
		return t, nil
	}
	small := free[max(1, len(free)-tangle.MaxInputs):]
	total := sum(small)
	return a.sign(small, []tangle.BasicOutput{{Amount: total, Address: a.address}}, total, nil)
}

// Bill writes a bill for an order, whose ID tells it apart.
func (a *Account) Bill(order money.OrderID, amount money.Amount, _ uint64) (text, key string, err error) {
	b := Bill{HRP: a.o.Network.HRP, Address: a.address, Amount: amount, Order: order, Keys: a.keys.Digest()}
	if least := (tangle.BasicOutput{}).StorageDeposit(a.o.Network.StorageCost); uint64(amount) < least {
		return "", "", fmt.Errorf("the network wants a storage deposit of %d msat in an output; be paid over a channel", least)
	}
	return b.String(), order.Key(), nil
}
