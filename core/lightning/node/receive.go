package node

import (
	"crypto/sha256"
	"errors"
	"maps"
	"slices"

	"coinop.dev/core/codec"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

func hashOf(preimage [32]byte) [32]byte { return sha256.Sum256(preimage[:]) }

// Limits of being paid.
const (
	// MaxSets bounds the payments that have arrived in part.
	MaxSets = 1024
	// setWaits is how long the parts of a payment wait for the others (BOLT 4).
	setWaits = step.Minute
)

// A part names an HTLC that was offered to us.
type part struct {
	c      *chanState
	id     uint64
	amount money.Amount
	expiry uint32
	shared [32]byte
}

// A set is the parts of one payment that are here.
type set struct {
	hash  [32]byte
	t     ticket
	total money.Amount
	have  money.Amount
	parts []part
	until step.Time
	held  bool
}

// taken is a payment that settled; its hash is never taken again.
type taken struct{ hash [32]byte }

func (t taken) record() []byte { return t.hash[:] }

func readTaken(value []byte) (hash [32]byte, t taken, err error) {
	r := codec.NewReader(value)
	r.Fill(hash[:])
	return hash, taken{hash}, r.Close()
}

// lockedIn acts on an HTLC that is irrevocably committed: it is for us, or to be
// forwarded, or nobody can read it.
func (n *Node) lockedIn(c *chanState, h *channel.HTLC) {
	in, err := readIncoming(h.Note)
	step.Assert(err == nil, "lightning: the note of HTLC %d: %v", h.ID, err)
	if n.tip == 0 {
		return // see takeUp
	}
	n.touch(c)
	if in.bad != nil {
		c.Malformed(h.ID, in.bad.Code, in.bad.Hash)
		return
	}
	p, err := onion.ParsePayload(in.payload)
	if err == nil {
		err = p.Check(in.next == nil)
	}
	if bad := (*onion.PayloadError)(nil); errors.As(err, &bad) {
		c.Fail(h.ID, bad.Failure().Seal(in.shared))
		return
	}
	if again := in.next == nil && n.arrived[h.Hash] != nil; c.DustInFlight() > n.MaxDust && !again {
		c.Fail(h.ID, onion.TemporaryChannelFailure(nil).Seal(in.shared))
		return
	}
	if in.next != nil {
		n.forward(c, h, in, p)
		return
	}
	n.receive(c, h, in, p)
}

// receive takes an HTLC that is for us. Whatever is wrong with it, the answer is
// the same, so that nobody learns what we expect by trying.
func (n *Node) receive(c *chanState, h *channel.HTLC, in *incoming, p onion.Payload) {
	reject := func(f onion.Failure) { c.Fail(h.ID, f.Seal(in.shared)) }
	unknown := onion.UnknownPaymentDetails(h.Amount, uint32(n.tip))
	_, before := n.taken.by[h.Hash]
	known := n.arrived[h.Hash] // before a restart, when it was not too late
	switch {
	case h.Amount < p.Amount:
		reject(onion.FinalIncorrectHTLCAmount(h.Amount))
		return
	case h.Expiry < p.Expiry:
		reject(onion.FinalIncorrectCLTVExpiry(h.Expiry))
		return
	case before || known == nil && int64(h.Expiry) < int64(n.tip)+int64(n.FinalCLTV):
		reject(unknown)
		return
	case known != nil && (known.word == cancelled || h.Expiry < known.expiry):
		reject(unknown)
		return
	}
	if p.Keysend != nil && p.Secret == ([32]byte{}) {
		if hashOf(*p.Keysend) != h.Hash {
			reject(unknown)
			return
		}
		n.collect(&set{hash: h.Hash, total: h.Amount, t: ticket{order: orderOf(p, h.Hash), amount: h.Amount}, parts: []part{{c, h.ID, h.Amount, h.Expiry, in.shared}}, have: h.Amount}, *p.Keysend)
		return
	}
	t, hold := n.ticketOf(h.Hash, p.Secret), n.holds[h.Hash]
	switch {
	case hold != nil && hold.Secret == p.Secret:
		t = ticket{order: hold.Order, amount: hold.Amount, kind: kindHold}
	case hashOf(n.preimage(t)) != h.Hash, known == nil && t.expires != 0 && n.at/step.Second > step.Time(t.expires):
		reject(unknown)
		return
	}
	if t.kind == kindHold && known == nil && int64(h.Expiry) < int64(n.tip)+int64(n.holdCLTV()) {
		reject(unknown)
		return
	}
	if p.Total < t.amount || t.amount > 0 && p.Total/2 > t.amount {
		reject(unknown)
		return
	}
	s := n.sets[h.Hash]
	switch {
	case s == nil && len(n.sets) >= MaxSets:
		reject(onion.Failure{Code: onion.CodeTemporaryNodeFailure})
		return
	case s == nil:
		s = &set{hash: h.Hash, t: t, total: p.Total, until: n.at + setWaits}
		if h.Amount < p.Total {
			n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmSets, At: s.until})
		}
	case s.total != p.Total || s.held:
		reject(unknown)
		return
	}
	s.parts = append(s.parts, part{c, h.ID, h.Amount, h.Expiry, in.shared})
	s.have += h.Amount
	if s.have < s.total {
		n.sets[h.Hash] = s
		return
	}
	if t.kind == kindHold {
		n.hold(s)
		return
	}
	delete(n.sets, h.Hash)
	n.collect(s, n.preimage(t))
}

// orderOf is the order of a keysend payment: what its payer says, or its hash.
func orderOf(p onion.Payload, hash [32]byte) (id money.OrderID) {
	copy(id[:], hash[:])
	for _, r := range p.Records {
		if r.Type == orderRecord && len(r.Value) == len(id) {
			copy(id[:], r.Value)
		}
	}
	return id
}

func (s *set) expiry() (least uint32) {
	least = s.parts[0].expiry
	for _, p := range s.parts {
		least = min(least, p.expiry)
	}
	return least
}

// collect settles a payment: the preimage goes back over every part, and the
// till hears of it, in the same durable write.
func (n *Node) collect(s *set, preimage [32]byte) {
	for _, p := range s.parts {
		n.touch(p.c)
		p.c.Fulfill(p.id, preimage)
		n.toldClaim(p.c, preimage)
	}
	n.dropArrived(s.hash)
	n.taken.add(s.hash, taken{s.hash}, n.fx)
	paid := Paid{entry: receipt.Entry{Order: s.t.order, Amount: s.amount()}, preimage: preimage}
	n.fx.Done = append(n.fx.Done, step.Outcome{ID: EarnedID + s.t.order.Key(), Value: Earned{paid}})
}

// An Earned is the outcome of a payment that arrived.
type Earned struct{ Paid }

// Income is the order that was paid.
func (e Earned) Income() receipt.Entry { return e.entry }

// EarnedID begins the ID of an outcome whose value is Earned; the order follows.
const EarnedID = "earned/"

// giveBack fails every part of a set, with what BOLT 4 has the final node say.
func (n *Node) giveBack(s *set, f onion.Failure) {
	delete(n.sets, s.hash)
	for _, p := range s.parts {
		n.touch(p.c)
		p.c.Fail(p.id, f.Seal(p.shared))
	}
}

// expireSets gives back what waited too long for its other parts, by the clock or
// because its expiry comes near: blocks may come fast, and who offered it gives the
// channel up soon after. So it is with what is held.
func (n *Node) expireSets() {
	for _, hash := range sortedHashes(n.sets) {
		s := n.sets[hash]
		switch {
		case s.held && int64(s.expiry()) <= int64(n.tip)+holdMargin:
			n.giveBackHeld(s, ErrHeldTooLong)
		case !s.held && (n.at >= s.until || int64(s.expiry()) <= int64(n.tip)+expiryMargin):
			n.giveBack(s, onion.Failure{Code: onion.CodeMPPTimeout})
		case !s.held:
			n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmSets, At: s.until})
		}
	}
}

// hints are ways to us that the public does not know: the peers of our private
// channels, those that can bring most first.
func (n *Node) hints() (hints [][]invoice.Hint) {
	var private []*chanState
	for _, c := range n.ordered() {
		if c.Usable() && !c.Announce && c.heard && !c.theirs.Disabled {
			private = append(private, c)
		}
	}
	slices.SortStableFunc(private, func(a, b *chanState) int { return int(int64(b.Receivable()) - int64(a.Receivable())) })
	for _, c := range private[:min(len(private), maxHints)] {
		hints = append(hints, []invoice.Hint{{
			Node: c.Peer, SCID: uint64(c.Alias()), FeeBase: uint32(c.theirs.FeeBase), FeePPM: c.theirs.FeePPM, CLTVDelta: c.theirs.CLTVDelta,
		}})
	}
	return hints
}

func sortedHashes[K ~[32]byte, V any](m map[K]V) []K {
	return slices.SortedFunc(maps.Keys(m), func(a, b K) int {
		x, y := [32]byte(a), [32]byte(b)
		return slices.Compare(x[:], y[:])
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
