// Package wallet is an account of a block lattice as core/ledger/transfer wants it:
// its chain, what waits to be pocketed, and the blocks that are signed and not
// cemented yet.
//
// A new block follows the account's newest one, cemented or not: the account's owner
// alone extends it, so what stands before it can only be delayed. What a cemented
// send has left is pocketed by a receive block before anything is sent.
//
// Bills are told apart by their amounts: no two of an account are of the same, by
// digits below one msat.
package wallet

import (
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/transfer"
	"coinop.dev/core/money"
)

const (
	// MaxOpen bounds blocks that are signed and not cemented, and MaxPockets those
	// of them that receive, so that sends always have room.
	MaxOpen    = 128
	MaxPockets = 64
)

// Options are what an account is made of.
type Options struct {
	Network lattice.Network
	Key     eddsa.Secret
	// Representative votes with the account's weight; zero is the network's first.
	Representative lattice.Key
	// Least is what is worth pocketing; zero is Unit.
	Least lattice.Raw
}

// An Account is a transfer.Ledger.
type Account struct {
	o     Options
	key   lattice.Key
	table lattice.Weights

	final     uint64 // height of the highest block of ours that is known to be cemented
	confirmed uint64 // as the node says last
	known     bool   // head is what the next block follows
	head      tip
	open      []*block // by height
	receive   []lattice.Receivable
}

// tip is the end of a chain.
type tip struct {
	hash    lattice.Hash // zero if there is no block
	height  uint64
	balance lattice.Raw
	rep     lattice.Key
}

// block is one that is signed and not cemented.
type block struct {
	lattice.Block
	hash   lattice.Hash
	height uint64
	source lattice.Hash // of what it pockets; zero if it sends
}

// New returns the account of a key.
func New(o Options) (*Account, error) {
	a := &Account{o: o, key: lattice.Key(o.Key.Public()), table: table(&o.Network)}
	if a.o.Representative.IsZero() {
		a.o.Representative = o.Network.Genesis.Representative
		if len(o.Network.Reps) > 0 {
			a.o.Representative = o.Network.Reps[0].Rep
		}
	}
	if a.o.Least.IsZero() {
		a.o.Least = lattice.RawOf(Unit)
	}
	return a, a.table.Check()
}

// Key is the account's public key.
func (a *Account) Key() lattice.Key { return a.key }

// Follow asks the node for what the account needs to hear.
func (a *Account) Follow() lattice.Follow { return lattice.Follow{Account: a.key} }

// Funds says what the account has after all that is signed, and what waits to be
// pocketed; false while the node has not said.
func (a *Account) Funds() (balance, waits lattice.Raw, known bool) {
	return a.head.balance, a.waits(), a.known
}

// Spendable is what the account has and what comes to it by itself, in whole msat;
// false while the node has not said.
func (a *Account) Spendable() (now, later money.Amount, known bool) {
	return whole(a.head.balance), whole(a.waits()), a.known
}

// whole is how many msat there are, as far as there can be.
func whole(r lattice.Raw) money.Amount {
	if a, ok := Amount(r); ok {
		return a
	}
	return money.MaxAmount
}

func (a *Account) waits() (sum lattice.Raw) {
	for _, r := range a.receive {
		if more, ok := sum.Add(r.Amount); ok {
			sum = more
		}
	}
	return sum
}

// Head is what is on disk beside the open blocks: how high the chain is cemented,
// so that news that are older are known by it.
func (a *Account) Head() []byte { return codec.AppendUint(nil, a.final) }

// Load takes back the open blocks.
func (a *Account) Load(head []byte, open [][]byte) ([]transfer.Transfer, error) {
	if head != nil {
		r := codec.NewReader(head)
		a.final = r.Uvarint()
		if err := r.Close(); err != nil {
			return nil, fmt.Errorf("head of account %s: %w", a.key, err)
		}
	}
	list := make([]transfer.Transfer, len(open))
	for i, raw := range open {
		b, err := readOpen(raw)
		if err == nil && b.Account != a.key {
			err = fmt.Errorf("it is of account %s; restore the store that belongs to this machine's key", b.Account)
		}
		if err != nil {
			return nil, fmt.Errorf("block %d of account %s: %w", i, a.key, err)
		}
		a.open = append(a.open, b)
		list[i] = b.transfer()
	}
	if n := len(a.open); n > 0 {
		a.head = a.open[n-1].tip()
	}
	return list, nil
}

func (b *block) tip() tip { return tip{b.hash, b.height, b.Balance, b.Representative} }

func (b *block) append(out []byte) []byte {
	out = codec.AppendUint(out, b.height)
	out = append(out, b.source[:]...)
	return b.Block.Append(out)
}

func readOpen(raw []byte) (*block, error) {
	r := codec.NewReader(raw)
	b := &block{height: r.Uvarint()}
	r.Fill(b.source[:])
	rest := r.Take(r.Len())
	if err := r.Close(); err != nil {
		return nil, err
	}
	var err error
	b.Block, err = lattice.DecodeBlock(rest)
	b.hash = b.Hash()
	return b, err
}

func (b *block) transfer() transfer.Transfer {
	return transfer.Transfer{ID: transfer.ID(b.hash), Raw: b.append(nil), Submit: lattice.Submit{Block: b.Block}}
}

// Hear takes in what the node says.
func (a *Account) Hear(msg any) (news transfer.News) {
	switch m := msg.(type) {
	case lattice.State:
		if m.Account == a.key && m.Height >= a.final {
			news.Coins = a.state(m)
		}
	case lattice.Final:
		a.cemented(&m, &news)
	case lattice.Rejected:
		a.rejected(m, &news)
	}
	return news
}

// state is news that are no older than what is known to be cemented.
func (a *Account) state(s lattice.State) (coins []transfer.Coin) {
	a.confirmed = s.Confirmed
	if len(a.open) == 0 {
		a.head = tip{s.Frontier, s.Height, s.Balance, s.Representative}
	}
	a.known = true
	a.receive = a.receive[:0]
	for _, r := range s.Receivable[:min(len(s.Receivable), lattice.MaxReceivable)] {
		if amount, ok := Amount(r.Amount); ok {
			coins = append(coins, transfer.Coin{ID: string(r.Source[:]), Key: string(r.Amount.Append(nil)), Amount: amount})
		}
		if r.Amount.Cmp(a.o.Least) >= 0 && !a.pockets(r.Source) {
			a.receive = append(a.receive, r)
		}
	}
	return coins
}

// pockets reports whether an open block takes what a send has left.
func (a *Account) pockets(source lattice.Hash) bool {
	return slices.ContainsFunc(a.open, func(b *block) bool { return b.source == source })
}

// cemented takes a block off the open ones. Who shows no certificate that others
// would believe is asked again.
func (a *Account) cemented(f *lattice.Final, news *transfer.News) {
	at := a.find(f.Block.Hash())
	if at < 0 {
		return
	}
	b := a.open[at]
	var shown []byte
	if b.source.IsZero() {
		if f.Proof.Hash != b.hash || f.Previous.Hash() != b.Previous || f.Proof.Verify(a.table) != nil {
			return
		}
		p := newProof(f, a.table)
		shown = p.append(nil)
	}
	if len(shown) > transfer.MaxProof {
		return
	}
	a.open = slices.Delete(a.open, at, at+1)
	a.final, a.confirmed = max(a.final, b.height), max(a.confirmed, b.height)
	final := transfer.Final{ID: transfer.ID(b.hash), Proof: shown}
	if !b.source.IsZero() {
		final.Spent = []string{string(b.source[:])}
	}
	news.Final = append(news.Final, final)
}

func (a *Account) find(h lattice.Hash) int {
	return slices.IndexFunc(a.open, func(b *block) bool { return b.hash == h })
}

// rejected gives a block up if it cannot become part of the ledger any more, and
// with it those that follow.
func (a *Account) rejected(r lattice.Rejected, news *transfer.News) {
	at := a.find(r.Hash)
	if at < 0 {
		return
	}
	if !a.forever(r.Why, a.open[at]) {
		news.Soon = r.Why != lattice.Old // which it will tell the end of
		return
	}
	for i, b := range a.open[at:] {
		why := string(r.Why)
		if i > 0 {
			why = fmt.Sprintf("it follows block %s: %s", r.Hash, r.Why)
		}
		news.Dead = append(news.Dead, transfer.Dead{ID: transfer.ID(b.hash), Why: why})
	}
	a.open = a.open[:at]
	// Where the chain ends now the node will say.
	a.known, news.Ask = false, true
}

// forever tells a refusal that is the block's own fault, or that of another block
// which is cemented in its place, from one that passes.
func (a *Account) forever(why lattice.Refusal, b *block) bool {
	switch why {
	case lattice.BadSignature, lattice.NegativeSpend, lattice.Unreceivable, lattice.BalanceWrong, lattice.RepWrong, lattice.OpenedBurn:
		return true
	case lattice.Fork, lattice.GapPrevious:
		return a.confirmed >= b.height
	}
	return false
}

// Build signs the next block: one that pays the first order, or one that pockets.
func (a *Account) Build(orders []transfer.Payment) (t transfer.Transfer, n int, err error) {
	if len(orders) == 0 {
		return a.pocket(), 0, nil
	}
	amount, to, err := a.payable(orders[0])
	if err != nil {
		return t, 0, err
	}
	if !a.known || len(a.open) >= MaxOpen {
		return t, 0, transfer.ErrLater
	}
	left, ok := a.head.balance.Sub(amount)
	if !ok {
		if more, ok := a.head.balance.Add(a.waits()); ok && more.Cmp(amount) >= 0 {
			return t, 0, transfer.ErrLater
		}
		return t, 0, fmt.Errorf("it takes %s raw, and the account has %s", amount, a.head.balance)
	}
	return a.extend(left, to, lattice.Hash{}), 1, nil
}

// payable reads what is to be paid.
func (a *Account) payable(p transfer.Payment) (amount lattice.Raw, to lattice.Key, err error) {
	invalid := func(err error) error { return &money.Error{Kind: money.Invalid, Err: err} }
	bill, err := ParseBill(p.Bill)
	if err != nil {
		return amount, to, invalid(err)
	}
	if msat, ok := Amount(bill.Amount); !ok || msat != p.Amount {
		return amount, to, invalid(fmt.Errorf("the bill is of %s raw, the order of %v", bill.Amount, p.Amount))
	}
	if bill.Account == a.key {
		return amount, to, errors.New("the bill is this account's own")
	}
	if bill.Account.IsZero() {
		return amount, to, errors.New("nobody has the key of the bill's account")
	}
	if bill.Table != a.table.Digest() {
		return amount, to, errors.New("the payee trusts another table of weights than this machine's network has; get the network's newest file on both")
	}
	return bill.Amount, bill.Account, nil
}

// pocket receives one of what waits, or makes nothing.
func (a *Account) pocket() (t transfer.Transfer) {
	pockets := 0
	for _, b := range a.open {
		if !b.source.IsZero() {
			pockets++
		}
	}
	if !a.known || len(a.receive) == 0 || pockets >= MaxPockets || len(a.open) >= MaxOpen {
		return t
	}
	r := a.receive[0]
	a.receive = a.receive[1:]
	sum, ok := a.head.balance.Add(r.Amount)
	if !ok {
		return t
	}
	return a.extend(sum, lattice.Key(r.Source), r.Source)
}

// extend signs the block that follows the head. Its work is left to the node.
func (a *Account) extend(balance lattice.Raw, link lattice.Key, source lattice.Hash) transfer.Transfer {
	b := &block{height: a.head.height + 1, source: source, Block: lattice.Block{
		Account: a.key, Previous: a.head.hash, Representative: a.head.rep, Balance: balance, Link: link,
	}}
	if b.Previous.IsZero() || b.Representative.IsZero() {
		b.Representative = a.o.Representative
	}
	b.Sign(a.o.Key)
	b.hash = b.Hash()
	a.open, a.head = append(a.open, b), b.tip()
	return b.transfer()
}

// Bill writes a bill whose amount no other of the account has: n in the digits below
// one msat.
func (a *Account) Bill(_ money.OrderID, amount money.Amount, n uint64) (text, key string, err error) {
	if n >= Unit-1 {
		return "", "", fmt.Errorf("%d bills were made, which is all that can be told apart; move to a new key", n)
	}
	raw, ok := Raw(amount).Add(lattice.RawOf(n + 1))
	if !ok {
		return "", "", fmt.Errorf("the amount is %v, which is more than a lattice can hold", amount)
	}
	b := Bill{Account: a.key, Amount: raw, Table: a.table.Digest()}
	return b.String(), string(raw.Append(nil)), nil
}
