package payword

import (
	"errors"
	"fmt"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

// Payee is the earning end of a channel. Make one with NewPayee or LoadPayee.
type Payee struct {
	Terms
	id     ID
	peer   string
	prefix string

	commit      Commitment // to the chain of the word; none before the first coin
	index       uint64
	word        Word
	seq         uint64
	settled     uint64 // coins
	settlements uint64
	stamps      receipt.Stamps

	settlement money.OrderID // the next one

	asked bool // since the start, the book knows that the next settlement is ours
	// What lives for one step.
	coming []Coins
	hashes uint64
	signs  uint64 // signatures made since the start, for the summary
}

// NewPayee starts the earning end of a channel that a payer has agreed to. The
// terms must be what Consider answers; node is this machine's key.
func NewPayee(t Terms, node keys.Secret) (*Payee, error) {
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("channel terms: %w", err)
	}
	p := newPayee(t, node)
	if t.Payee.Node != node.Public() || t.Payee.Stamp != node.Stamp(stampPurpose).Public() {
		return nil, errors.New("channel terms: the payee is another node")
	}
	return p, nil
}

func newPayee(t Terms, node keys.Secret) *Payee {
	id := t.ID()
	return &Payee{
		Terms: t, id: id, peer: t.PayerNode.PeerName(), prefix: PayeeName(id) + "/",
		stamps: receipt.NewStamps(PayeeName(id)+"/", id, t.Payee, node.Stamp(stampPurpose)), settlement: SettlementID(id, 1),
	}
}

// PayeePrefix is the prefix of all payees' records.
const PayeePrefix = "payword/payee/"

// PayeeName is the name of a channel's payee among a machine's cores. Its
// outcomes must go to the seller's book, from which it claims its settlements.
func PayeeName(id ID) string { return PayeePrefix + id.String() }

// Step is the whole protocol, seen from the payee. Its outcomes are the orders
// it has stamped, as receipt.Paid.
func (p *Payee) Step(in step.Input) step.Effects {
	p.check()
	var fx step.Effects
	p.coming, p.hashes = p.coming[:0], 0
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			p.recv(ev, &fx)
		case step.Linked, step.Unlinked:
		case step.Rang:
			if ev.ID == step.Start && p.seq == 0 {
				fx.Put = append(fx.Put, p.head(), p.commitRecord(), p.termsRecord())
			}
		default:
			panic(fmt.Sprintf("payword: payee cannot handle %T", event))
		}
	}
	p.take(&fx)
	if !p.asked {
		p.asked = true
		fx.Send = append(fx.Send, step.Packet{To: trade.Seller, Msg: trade.Claim{Order: p.settlement}})
	}
	return fx
}

func (p *Payee) recv(ev step.Recv, fx *step.Effects) {
	switch msg := ev.Msg.(type) {
	case step.Outcome:
		if paid, ok := msg.Value.(receipt.Paid); ok && msg.Err == nil && ev.From == trade.Seller {
			p.settle(paid.Entry(), fx)
		}
	case Agreed:
		if ev.From == p.peer {
			fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: Ready{p.id}})
		}
	case Coins:
		if ev.From == p.peer {
			p.coming = append(p.coming, msg)
		}
	}
}

// settle counts the next settlement, if it is for coins that the payee has.
func (p *Payee) settle(e receipt.Entry, fx *step.Effects) {
	if e.Order != p.settlement {
		return
	}
	coins, whole := p.coins(e.Amount)
	if !whole || coins > p.Every || coins > p.total()-p.settled {
		return
	}
	p.settled += coins
	p.settlements++
	p.settlement = SettlementID(p.id, p.settlements+1)
	p.asked = false
	fx.Put = append(fx.Put, p.head())
}

func (p *Payee) total() uint64 { return p.commit.Start + p.index }

// take works off the step's messages. Only the last word of a run is checked,
// because it is worth all the others; if it is bad its message is dropped and
// the one before is tried.
func (p *Payee) take(fx *step.Effects) {
	from, base, epoch := p.seq, p.seq, p.commit.Epoch
	var taken []receipt.Entry
	for n := len(p.coming); n > 0 && taken == nil; n-- {
		taken = p.run(p.coming[:n])
	}
	for i := range p.coming {
		m := &p.coming[i]
		p.stamps.Drop(m.Acked, fx)
		base = min(base, m.Base)
	}
	if taken != nil {
		fx.Put = append(fx.Put, p.head())
		p.stamps.Stamp(from, p.seq, p.worth(p.total()), taken, fx)
		p.signs++
	}
	if p.commit.Epoch != epoch {
		fx.Put = append(fx.Put, p.commitRecord())
	}
	if len(p.coming) == 0 {
		return
	}
	// The stamps the payer may have missed, then the new one.
	for _, s := range p.stamps.Since(base) {
		fx.Send = append(fx.Send, step.Packet{To: p.peer, Msg: Taken{p.id, s}})
	}
}

// run follows messages from the last coin, and if the last one that adds
// anything shows its word, keeps the word and returns the orders it paid.
func (p *Payee) run(messages []Coins) (taken []receipt.Entry) {
	seq, total, last := p.seq, p.total(), -1
	for i := range messages {
		m := &messages[i]
		fresh, ok := m.After(seq)
		if !ok {
			continue // a gap, which the payer will fill, or nothing new
		}
		coins, whole := p.count(fresh)
		if !whole || coins > min(p.settled+p.Credit, p.maxTotal())-total || p.claimed(m) != total+coins || len(taken)+len(fresh) > receipt.MaxEntries {
			continue
		}
		taken = append(taken, fresh...)
		seq, total, last = m.Seq, total+coins, i
	}
	if last < 0 || !p.shown(&messages[last]) {
		return nil
	}
	p.keep(&messages[last])
	return taken
}

// count adds up entries in coins, or gives false if one has a part of a coin.
func (p *Payee) count(entries []receipt.Entry) (coins uint64, whole bool) {
	for i := range entries {
		if _, whole = p.coins(entries[i].Amount); !whole {
			return 0, false
		}
	}
	sum, ok := receipt.Sum(entries)
	return uint64(sum / p.Coin), ok
}

// claimed is the total that a message is about, or 0 if it is of no chain that
// the payee can check.
func (p *Payee) claimed(m *Coins) uint64 {
	switch {
	case m.Index > p.Length:
		return 0
	case m.Epoch == p.commit.Epoch && m.Index > p.index:
		return p.commit.Start + m.Index
	case m.Epoch > p.commit.Epoch && m.Commit != nil:
		return m.Commit.Start + m.Index
	}
	return 0
}

// shown reports whether the word of a message leads to the last one, or to the
// root of a new chain that the payer signed. A step does MaxGap hashes at most.
func (p *Payee) shown(m *Coins) bool {
	to, gap := p.word, m.Index-p.index
	if m.Epoch != p.commit.Epoch {
		to, gap = m.Commit.Root, m.Index
	}
	if gap > MaxGap-p.hashes {
		return false
	}
	p.hashes += gap
	return m.Word.Back(gap) == to && (m.Epoch == p.commit.Epoch || p.Committed(m.Commit))
}

func (p *Payee) keep(m *Coins) {
	if m.Epoch != p.commit.Epoch {
		p.commit = *m.Commit
	}
	p.seq, p.index, p.word = m.Seq, m.Index, m.Word
}

// Evidence is what the payee can show of the coins it is owed: Terms.Owed
// checks it. There is none before the first coin.
func (p *Payee) Evidence() (c Commitment, index uint64, w Word, ok bool) {
	return p.commit, p.index, p.word, p.seq > 0
}

func (p *Payee) check() {
	total := p.total()
	step.Assert(p.settled <= total && total <= min(p.settled+p.Credit, p.maxTotal()), "payword %v: has %d coins, %d settled, credit %d", p.id, total, p.settled, p.Credit)
	step.Assert(p.index <= p.Length, "payword %v: index %d of %d", p.id, p.index, p.Length)
	p.stamps.Check(p.seq, p.worth(total))
}

// Summary reads the channel. The payee risks what is not settled.
func (p *Payee) Summary() Summary {
	return Summary{
		ID: p.id, State: open.String(), Coin: p.Coin, Paid: p.worth(p.total()),
		Settled: p.worth(p.settled), AtRisk: p.worth(p.total() - p.settled), Left: p.worth(p.settled + p.Credit - p.total()),
		Settlements: p.settlements, Tickets: p.seq, Epoch: p.commit.Epoch, Index: p.index, Length: p.Length, Signatures: p.signs,
	}
}

func (p *Payee) head() step.Record {
	b := codec.AppendUint(nil, p.seq)
	b = codec.AppendUint(b, p.index)
	b = append(b, p.word[:]...)
	b = codec.AppendUint(b, p.settled)
	b = codec.AppendUint(b, p.settlements)
	return step.Record{Key: p.prefix + "head", Value: b}
}

func (p *Payee) commitRecord() step.Record {
	return step.Record{Key: p.prefix + "commit", Value: p.commit.append(nil)}
}

func (p *Payee) termsRecord() step.Record {
	return step.Record{Key: p.prefix + "terms", Value: p.Terms.append(nil)}
}

// Durable is everything the payee has on disk, in key order, for whoever wants
// to check it.
func (p *Payee) Durable() []step.Record {
	return inOrder(append([]step.Record{p.head(), p.termsRecord(), p.commitRecord()}, p.stamps.Durable()...))
}

// LoadPayee reads a payee back.
func LoadPayee(db step.Reader, id ID, node keys.Secret) (*Payee, error) {
	var t Terms
	prefix := PayeeName(id) + "/"
	if err := codec.Record(db, prefix+"terms", func(r *codec.Reader) { t = readTerms(r) }); err != nil {
		return nil, err
	}
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("record %sterms: %w", prefix, err)
	}
	p := newPayee(t, node)
	if err := codec.Record(db, prefix+"commit", func(r *codec.Reader) { p.commit = readCommitment(r) }); err != nil {
		return nil, err
	}
	err := codec.Record(db, prefix+"head", func(r *codec.Reader) {
		p.seq, p.index = r.Uvarint(), r.Uvarint()
		r.Fill(p.word[:])
		p.settled, p.settlements = r.Uvarint(), r.Uvarint()
	})
	if err != nil {
		return nil, err
	}
	p.settlement = SettlementID(id, p.settlements+1)
	return p, p.stamps.Load(db)
}
