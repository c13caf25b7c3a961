package wallet

import (
	"slices"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A View is what people ask of one account.
type View struct {
	Account    string `json:"account"`
	Tenant     string `json:"tenant,omitempty"`
	Signer     string `json:"signer"`
	Descriptor string `json:"descriptor"`
	Revoked    bool   `json:"revoked,omitempty"`
	Synced     bool   `json:"synced"` // the chain has told of every script
	Balance
	Coins   int    `json:"coins"`
	Orders  int    `json:"orders"`  // not answered
	Sending int    `json:"sending"` // transactions on their way
	Next    uint32 `json:"next"`    // receiving address
}

func (w *Wallet) view(a *account) View {
	return View{
		Account: a.name, Tenant: a.tenant, Signer: a.signer, Descriptor: a.text, Revoked: a.revoked, Synced: a.silent == 0,
		Balance: w.balance(a), Coins: a.count, Orders: a.pending, Sending: a.open, Next: a.next[receive],
	}
}

// A Sending is a transaction on its way.
type Sending struct {
	N        uint64   `json:"n"`
	TxID     string   `json:"txid"` // of the version that was published last, or is proposed
	Accounts []string `json:"accounts"`
	Orders   int      `json:"orders"`
	Fee      int64    `json:"fee_sat"`
	State    string   `json:"state"` // proposed, published, bumping, mined
	Depth    int32    `json:"depth"`
	Versions int      `json:"versions"`
}

// Summary is what people ask of a wallet.
type Summary struct {
	Tip      int32     `json:"tip"`
	Accounts []View    `json:"accounts"`
	Waiting  int       `json:"waiting"` // orders that are not answered
	Sending  []Sending `json:"sending"`
	Bills    int       `json:"bills"` // that are not paid
}

// Summary reads the wallet.
func (w *Wallet) Summary() Summary {
	s := Summary{Tip: w.tip, Waiting: w.waiting, Bills: w.unpaid}
	for _, name := range w.names {
		s.Accounts = append(s.Accounts, w.view(w.accounts[name]))
	}
	for _, b := range w.batches {
		s.Sending = append(s.Sending, w.sending(b))
	}
	return s
}

func (w *Wallet) sending(b *batch) Sending {
	v, state := b.complete(), "published"
	switch {
	case v == nil:
		v, state = b.last(), "proposed"
	case b.mined >= 0:
		v, state = b.versions[b.mined], "mined"
	case b.proposed() != nil:
		state = "bumping"
	}
	out := Sending{N: b.n, TxID: v.id().String(), Fee: v.fee(), State: state, Depth: b.deep, Versions: len(b.versions)}
	for _, s := range v.shares {
		m := b.members[s.member]
		out.Accounts = append(out.Accounts, m.account)
		out.Orders += len(m.orders)
	}
	return out
}

// History lists what came to and left an account, the oldest first.
func (w *Wallet) History(name string) []Entry {
	if a := w.accounts[name]; a != nil {
		return slices.Clone(a.history)
	}
	return nil
}

// A Bill is what people ask about one bill.
type Bill struct {
	Order   money.OrderID `json:"order"`
	Address string        `json:"address"`
	Amount  money.Amount  `json:"amount_msat"`
	Got     money.Amount  `json:"got_msat"` // with Options.Depth confirmations
	Paid    bool          `json:"paid"`
	Late    bool          `json:"late"` // it had expired when the first coin came
}

// Bill reads one bill.
func (w *Wallet) Bill(id money.OrderID) (Bill, bool) {
	b := w.bills[id]
	if b == nil {
		return Bill{}, false
	}
	at, _ := w.addressOf(b)
	return Bill{Order: b.order, Address: at.Text, Amount: b.amount, Got: b.got, Paid: b.paid(), Late: b.late}, true
}

// Check asserts every invariant of the package comment; Step does for what it
// touches.
func (w *Wallet) Check() {
	open := map[string]int{}
	for _, b := range w.batches {
		b.check()
		for _, m := range b.members {
			if m.gone {
				continue
			}
			open[m.account]++
			for _, in := range m.inputs {
				step.Assert(w.locked[in.point] == b, "wallet: coin %v of transaction %d is not reserved", in.point, b.n)
			}
			for _, o := range m.orders {
				step.Assert(o.batch == b && w.orders[o.Order] == o, "wallet: order %v is not in transaction %d alone", o.Order, b.n)
			}
		}
	}
	pending := 0
	for _, name := range w.names {
		a := w.accounts[name]
		step.Assert(a.open == open[name], "wallet: account %s has %d transactions, and counts %d", name, open[name], a.open)
		pending += a.pending
		for _, o := range a.waiting {
			step.Assert(o.batch == nil && o.state == waiting, "wallet: order %v waits and is in a transaction", o.Order)
		}
	}
	step.Assert(pending == w.waiting, "wallet: %d orders wait, and %d are counted", pending, w.waiting)
}

func address(account string, index uint32, script []byte, p *chaincfg.Params) (Address, error) {
	text, err := descriptor.Address(script, p)
	return Address{Account: account, Index: index, Script: script, Text: text}, err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
