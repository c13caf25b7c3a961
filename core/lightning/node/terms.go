package node

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// An order to lightning://<node>@<host> has no invoice: the payer asks the node
// itself, over their link, for the terms of all orders that wait. The answer has
// a payment hash for each, and one stamp over all of them that says: whoever
// shows the preimage of that hash has paid that order. So the proof of an order
// costs no signature of its own.

// Message types, odd and custom (BOLT 1).
const (
	typeAsk = 0x8401 + 2*iota
	typeTerms
	typeDecline
	typeEnd
)

// maxBatch bounds the orders of one message.
const maxBatch = 512

const (
	maxHints = 4
	maxHops  = 4
	maxWhy   = 200
)

// Owns reports whether a message type belongs to this package.
func Owns(typ uint16) bool { return typ >= typeAsk && typ < typeEnd && typ%2 == 1 }

// Ask asks a payee for the terms of orders.
type Ask struct{ Orders []receipt.Entry }

// An Offer is how one order can be paid.
type Offer struct {
	receipt.Entry
	Hash, Secret [32]byte
}

// Terms answers Ask.
type Terms struct {
	Payee     receipt.Payee
	Stamped   receipt.Stamped
	FinalCLTV uint32
	Hints     [][]invoice.Hint
	Offers    []Offer
}

// Decline answers Ask for an order that cannot be paid.
type Decline struct {
	Order money.OrderID
	Why   string
}

// A Message is one of the types above.
type Message interface {
	Core() string
	Append(b []byte) []byte
}

// Core is the node.
func (Ask) Core() string { return Name }

// Core is the node.
func (Terms) Core() string { return Name }

// Core is the node.
func (Decline) Core() string { return Name }

func head(b []byte, typ uint16) []byte { return binary.BigEndian.AppendUint16(b, typ) }

// Append encodes the message behind its two-byte type.
func (m Ask) Append(b []byte) []byte { return receipt.AppendEntries(head(b, typeAsk), m.Orders) }

// Append encodes the message behind its two-byte type.
func (m Decline) Append(b []byte) []byte {
	b = append(head(b, typeDecline), m.Order[:]...)
	return codec.AppendBytes(b, m.Why[:min(len(m.Why), maxWhy)])
}

// Append encodes the message behind its two-byte type.
func (m Terms) Append(b []byte) []byte {
	b = m.Payee.Append(head(b, typeTerms))
	b = m.Stamped.Append(b)
	b = codec.AppendUint(b, m.FinalCLTV)
	b = codec.AppendUint(b, len(m.Hints))
	for _, route := range m.Hints {
		b = codec.AppendUint(b, len(route))
		for _, h := range route {
			b = append(b, h.Node[:]...)
			b = binary.BigEndian.AppendUint64(b, h.SCID)
			b = binary.BigEndian.AppendUint32(b, h.FeeBase)
			b = binary.BigEndian.AppendUint32(b, h.FeePPM)
			b = binary.BigEndian.AppendUint16(b, h.CLTVDelta)
		}
	}
	b = codec.AppendUint(b, len(m.Offers))
	for i := range m.Offers {
		o := &m.Offers[i]
		b = append(b, o.Order[:]...)
		b = codec.AppendUint(b, uint64(o.Amount))
		b = append(append(b, o.Hash[:]...), o.Secret[:]...)
	}
	return b
}

// Decode reads one message.
func Decode(b []byte) (Message, error) {
	r := codec.NewReader(b)
	var m Message
	switch r.U16() {
	case typeAsk:
		a := Ask{receipt.ReadEntries(r)}
		if len(a.Orders) > maxBatch {
			r.Fail(fmt.Errorf("%d orders are asked for; the limit is %d", len(a.Orders), maxBatch))
		}
		m = a
	case typeTerms:
		m = readTerms(r)
	case typeDecline:
		var d Decline
		r.Fill(d.Order[:])
		d.Why = r.String(maxWhy, "reason")
		m = d
	default:
		r.Fail(errors.New("not a message about terms"))
	}
	if err := r.Close(); err != nil {
		return nil, err
	}
	return m, nil
}

func readTerms(r *codec.Reader) (m Terms) {
	m.Payee, m.Stamped = receipt.ReadPayee(r), receipt.ReadStamped(r)
	m.FinalCLTV = uint32(r.Int(1<<16, "final cltv"))
	m.Hints = make([][]invoice.Hint, r.Int(maxHints, "hints"))
	for i := range m.Hints {
		m.Hints[i] = make([]invoice.Hint, r.Int(maxHops, "hops"))
		for k := range m.Hints[i] {
			h := &m.Hints[i][k]
			r.Fill(h.Node[:])
			h.SCID, h.FeeBase, h.FeePPM, h.CLTVDelta = r.U64(), r.U32(), r.U32(), r.U16()
		}
	}
	m.Offers = make([]Offer, min(r.Int(maxBatch, "offers"), r.Len()/81+1))
	for i := range m.Offers {
		o := &m.Offers[i]
		r.Fill(o.Order[:])
		o.Amount = r.Amount()
		r.Fill(o.Hash[:])
		r.Fill(o.Secret[:])
	}
	return m
}

// termsID is what a node's stamp key is bound to.
func termsID(node keys.Public) (id [16]byte) {
	d := keys.Digest("coinop/lightning/terms", node[:])
	copy(id[:], d[:])
	return id
}

// Bound is an order tied to a payment hash, as an entry that can be stamped.
func Bound(order money.OrderID, amount money.Amount, hash [32]byte) receipt.Entry {
	d := keys.Digest("coinop/lightning/order", order[:], hash[:])
	return receipt.Entry{Order: money.OrderID(d[:16]), Amount: amount}
}

// batch rebuilds what a payee has stamped.
func (m *Terms) batch() *receipt.Batch {
	entries := make([]receipt.Entry, len(m.Offers))
	for i := range m.Offers {
		o := &m.Offers[i]
		entries[i] = Bound(o.Order, o.Amount, o.Hash)
	}
	return &receipt.Batch{Channel: termsID(m.Payee.Node), Payee: m.Payee, Stamped: m.Stamped, Entries: entries, Tree: receipt.NewTree(entries)}
}

// check reports whether the terms are those of a node.
func (m *Terms) check(node keys.Public, vouched *receipt.Payee) (*receipt.Batch, error) {
	b := m.batch()
	switch {
	case m.Payee.Node != node:
		return nil, errors.New("the terms are another node's")
	case *vouched != m.Payee && !m.Payee.Check(b.Channel):
		return nil, errors.New("the node key does not vouch for the stamp key")
	case !m.Stamped.Verify(m.Payee.Stamp, b.Channel, b.Tree.Root()):
		return nil, errors.New("the stamp does not fit the terms")
	}
	*vouched = m.Payee
	return b, nil
}

// A ticket is what a payment secret of ours carries: all that an invoice says,
// so that none has to be kept until it is paid.
type ticket struct {
	order   money.OrderID
	amount  money.Amount
	expires uint32 // Unix seconds; 0: never
	kind    uint32
}

const (
	kindPaid uint32 = iota // settles at once
	kindHold               // waits for the till; its preimage is ours or another's
)

func (t ticket) bytes() (b [32]byte) {
	copy(b[:16], t.order[:])
	binary.BigEndian.PutUint64(b[16:], uint64(t.amount))
	binary.BigEndian.PutUint32(b[24:], t.expires)
	binary.BigEndian.PutUint32(b[28:], t.kind)
	return b
}

// preimage is what pays a ticket. Nobody can make one without the seed, so a
// secret that opens to a ticket whose preimage fits the hash is one of ours.
func (n *Node) preimage(t ticket) [32]byte {
	b := t.bytes()
	return n.seed.MAC("preimage", b[:])
}

func (n *Node) pad(hash [32]byte) [32]byte { return n.seed.MAC("secret", hash[:]) }

// issue makes the hash and the secret of a ticket.
func (n *Node) issue(t ticket) (hash, secret [32]byte) {
	p := n.preimage(t)
	hash = sha256.Sum256(p[:])
	return hash, n.secret(t, hash)
}

func (n *Node) secret(t ticket, hash [32]byte) (secret [32]byte) {
	pad, b := n.pad(hash), t.bytes()
	for i := range secret {
		secret[i] = b[i] ^ pad[i]
	}
	return secret
}

// ticketOf opens a secret; whether it is one of ours is for the caller to check.
func (n *Node) ticketOf(hash, secret [32]byte) (t ticket) {
	pad := n.pad(hash)
	for i := range secret {
		secret[i] ^= pad[i]
	}
	return readTicket(secret)
}

func readTicket(b [32]byte) (t ticket) {
	copy(t.order[:], b[:16])
	t.amount = money.Amount(binary.BigEndian.Uint64(b[16:]))
	t.expires = binary.BigEndian.Uint32(b[24:])
	t.kind = binary.BigEndian.Uint32(b[28:])
	return t
}

// asked answers a payer. Nothing is kept: asked again it is the same answer.
func (n *Node) asked(from string, m Ask) {
	if len(m.Orders) == 0 {
		return
	}
	t := Terms{Payee: n.vouch, FinalCLTV: n.FinalCLTV, Hints: n.hints()}
	sum := money.Amount(0)
	for _, e := range m.Orders {
		total, ok := sum.Add(e.Amount)
		if e.Amount == 0 || !ok {
			n.fx.Send = append(n.fx.Send, step.Packet{To: from, Msg: Decline{e.Order, "the amount makes no sense"}})
			continue
		}
		sum = total
		hash, secret := n.issue(ticket{order: e.Order, amount: e.Amount})
		t.Offers = append(t.Offers, Offer{e, hash, secret})
	}
	if len(t.Offers) == 0 {
		return
	}
	t.Stamped = receipt.Stamped{From: 0, To: uint64(len(t.Offers)), Total: sum}
	b := t.batch()
	t.Stamped.Sign(n.stamp, b.Channel, b.Tree.Root())
	n.fx.Send = append(n.fx.Send, step.Packet{To: from, Msg: t})
}

// terms is a batch that orders of ours rely on as their proof.
type terms struct {
	*receipt.Batch
	ref   uint64
	users int
}

const recTerms = "ln/b/"

func termsKey(ref uint64) string { return fmt.Sprintf("%s%016x", recTerms, ref) }

func (t *terms) record() []byte {
	b := t.Payee.Append(nil)
	b = t.Stamped.Append(b)
	return receipt.AppendEntries(b, t.Entries)
}

func readBatch(value []byte) (*receipt.Batch, error) {
	r := codec.NewReader(value)
	b := &receipt.Batch{Payee: receipt.ReadPayee(r), Stamped: receipt.ReadStamped(r), Entries: receipt.ReadEntries(r)}
	b.Channel = termsID(b.Payee.Node)
	b.Tree = receipt.NewTree(b.Entries)
	return b, r.Close()
}

// use counts an order that relies on terms, and puts them on disk with the
// first.
func (n *Node) use(t *terms) {
	if t.users++; t.users == 1 {
		n.batches[t.ref] = t
		n.fx.Put = append(n.fx.Put, step.Record{Key: termsKey(t.ref), Value: t.record()})
	}
}

// drop is the end of use.
func (n *Node) drop(ref uint64) {
	t := n.batches[ref]
	if t == nil {
		return
	}
	if t.users--; t.users == 0 {
		delete(n.batches, ref)
		n.fx.Put = append(n.fx.Put, step.Record{Key: termsKey(ref)})
	}
}

// askEvery is when a payee that has not answered is asked again.
const askEvery = 2 * step.Second

// askTerms asks each payee for all orders that wait for its terms.
//
// One that has not answered for long is given up: nothing was sent.
func (n *Node) askTerms() {
	for _, name := range sortedKeys(n.asking) {
		list, late := n.asking[name], 0
		for late < len(list) && n.at > list[late].began+payFor {
			late++
		}
		n.keepAsking(name, list[late:])
		for _, p := range list[:late] {
			n.giveUp(p, ErrSilent)
		}
		var fresh []receipt.Entry
		for _, p := range n.asking[name] {
			if n.peers[name].link == 0 {
				break
			}
			if (p.asked == 0 || n.at >= p.asked+askEvery) && len(fresh) < maxBatch {
				p.asked = n.at
				fresh = append(fresh, receipt.Entry{Order: p.ID, Amount: p.Amount})
			}
		}
		if len(fresh) > 0 {
			n.fx.Send = append(n.fx.Send, step.Packet{To: name, Msg: Ask{fresh}})
		}
	}
	if len(n.asking) > 0 {
		n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmAsk, At: n.at + askEvery})
	}
}

// askAgain is for a new link: what was asked over the old one may be lost.
func (n *Node) askAgain(p *peer) {
	for _, pay := range n.asking[p.name] {
		pay.asked = 0
	}
}

// given takes terms.
func (n *Node) given(from string, m Terms) {
	waiting := n.asking[from]
	if len(waiting) == 0 {
		return
	}
	p := n.peers[from]
	batch, err := m.check(p.key, &n.vouched)
	if err != nil {
		return // somebody answers who is not the payee, or it makes no sense
	}
	offers := make(map[money.OrderID]int, len(m.Offers))
	for i := range m.Offers {
		offers[m.Offers[i].Order] = i
	}
	t := &terms{Batch: batch, ref: n.nextRef + 1}
	left := waiting[:0]
	for _, pay := range waiting {
		i, ok := offers[pay.ID]
		if !ok || m.Offers[i].Amount != pay.Amount || n.byHash[m.Offers[i].Hash] != nil {
			left = append(left, pay)
			continue
		}
		o := &m.Offers[i]
		pay.hash, pay.secret, pay.delta, pay.hints, pay.mpp = o.Hash, o.Secret, m.FinalCLTV+blockRace, m.Hints, true
		pay.terms, pay.place, pay.asked = t, i, 0
		n.use(t)
		n.route(pay)
	}
	if t.users > 0 {
		n.nextRef++
		n.changed = true
	}
	clear(waiting[len(left):])
	n.keepAsking(from, left)
}

func (n *Node) keepAsking(name string, left []*payment) {
	if len(left) == 0 {
		delete(n.asking, name)
		if p := n.peers[name]; p.link == 0 && len(n.with(p)) == 0 {
			delete(n.peers, name)
		}
		return
	}
	n.asking[name] = left
}

func (n *Node) declined(from string, m Decline) {
	for i, p := range n.asking[from] {
		if p.ID == m.Order {
			n.keepAsking(from, slices.Delete(n.asking[from], i, i+1))
			n.giveUp(p, fmt.Errorf("%w: %.200q", ErrPayee, m.Why))
			return
		}
	}
}
