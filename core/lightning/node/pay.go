package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/graph"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
)

// A payment is an order that is not answered yet.
type payment struct {
	coinop.Order
	payee   keys.Public
	hash    [32]byte
	secret  [32]byte
	delta   uint32 // final cltv
	hints   [][]invoice.Hint
	meta    []byte
	keysend *[32]byte
	mpp     bool
	terms   *terms
	place   int
	maxFee  coinop.Amount

	asked  step.Time // when the payee was asked for terms; 0: not yet, or no need
	parts  int       // HTLCs that are in flight or wait to be
	left   coinop.Amount
	tries  int
	failed error // why it is given up; the parts in flight are awaited
	paid   bool
	until  step.Time // when it stops waiting for a channel; 0: it does not wait
}

// Why a payment is given up. All of them are certain.
var (
	ErrExpired = errors.New("the invoice has expired")
	ErrNetwork = errors.New("the invoice is for another network")
	ErrTries   = fmt.Errorf("%d paths were tried", MaxTries)
	ErrPayee   = errors.New("the payee does not take it")
)

// Scheme is the word of Lightning's payment URIs.
const Scheme = "lightning"

// order takes an order, or answers one that is known.
func (n *Node) order(o coinop.Order, bill *bolt11) {
	if s, ok := n.paid.by[o.ID]; ok {
		n.fx.Done = append(n.fx.Done, step.Outcome{ID: o.ID.Key(), Value: n.evidence(o.ID, s)})
		return
	}
	if n.paying[o.ID] != nil {
		return // it is on its way, and its outcome will come
	}
	p := &payment{Order: o, left: o.Amount}
	if err := n.begin(p, bill); err != nil {
		kind := coinop.Unpaid
		if o.Amount == 0 || o.Amount > coinop.MaxAmount {
			kind = coinop.Invalid
		}
		n.failed(o.ID.Key(), kind, "pay "+short(o.To), err)
		return
	}
	n.paying[o.ID] = p
}

// short is a payment URI for people.
func short(uri string) string {
	if len(uri) > 80 {
		return uri[:77] + "..."
	}
	return uri
}

// begin reads where an order goes.
func (n *Node) begin(p *payment, i *bolt11) error {
	if p.Amount == 0 || p.Amount > coinop.MaxAmount {
		return fmt.Errorf("the amount is %v", p.Amount)
	}
	if len(n.paying) >= MaxPayments {
		return fmt.Errorf("%d payments are under way; try again when one is answered", MaxPayments)
	}
	p.maxFee = n.MaxFeeBase + p.Amount/1_000_000*coinop.Amount(n.MaxFeePPM)
	rest, ok := strings.CutPrefix(p.To, Scheme+":")
	if !ok {
		return errors.New("it is not a lightning: URI")
	}
	if address, node := strings.CutPrefix(rest, "//"); node {
		return n.beginNode(p, address)
	}
	switch {
	case i == nil:
		return errors.New("it names neither an invoice nor a node")
	case i.err != nil:
		return i.err
	case i.Network != n.Network:
		return fmt.Errorf("%w: %s, and this node is on %s", ErrNetwork, i.Network, n.Network)
	case i.Amount != 0 && i.Amount != p.Amount:
		return fmt.Errorf("the invoice is for %v, the order for %v", i.Amount, p.Amount)
	case i.Expired(n.at):
		return ErrExpired
	case i.Payee == n.id:
		return errors.New("the invoice is our own")
	case n.byHash[i.Hash] != nil:
		return errors.New("another order pays this invoice already")
	}
	p.payee, p.hash, p.secret, p.delta, p.hints, p.meta = i.Payee, i.Hash, i.Secret, i.FinalCLTV+blockRace, i.Hints, i.Metadata
	p.mpp = i.Features.Has(invoice.BasicMPP)
	n.route(p)
	return nil
}

// beginNode is an order to a node: by asking it for terms, or, if the URI says
// keysend, with a preimage of our own.
func (n *Node) beginNode(p *payment, address string) (err error) {
	address, query, _ := strings.Cut(address, "?")
	node, _, _ := strings.Cut(address, "@")
	if p.payee, err = n.tables.parse(node); err != nil {
		return err
	}
	if p.payee == n.id {
		return errors.New("the payee is this node")
	}
	if slices.Contains(strings.Split(query, "&"), "keysend=1") {
		pre := n.seed.MAC("keysend", p.ID[:])
		p.keysend, p.hash, p.delta = &pre, hashOf(pre), keysendCLTV
		n.route(p)
		return nil
	}
	name := p.payee.PeerName()
	n.peerOf(name)
	n.asking[name] = append(n.asking[name], p)
	return nil
}

// keysendCLTV is how many blocks a payment without an invoice leaves its payee,
// who had no chance to say how many it wants: more than the default of any node
// we know.
const keysendCLTV = 144

// blockRace is how many blocks the payee may see before us without calling the
// expiry too low.
const blockRace = 3

// askEvery is when a payee that has not answered is asked again.
const askEvery = 2 * step.Second

// askTerms asks each payee for all orders that wait for its terms.
func (n *Node) askTerms() {
	for _, name := range sortedKeys(n.asking) {
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
			n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmAsk, At: n.at + askEvery})
		}
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
	offers := make(map[coinop.OrderID]int, len(m.Offers))
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

// route has a payment sent in this step.
func (n *Node) route(p *payment) {
	n.byHash[p.hash] = p
	n.waiting = append(n.waiting, p)
}

// dispatch finds ways for all payments that wait for one, and wraps their onions
// together.
func (n *Node) dispatch() bool {
	if len(n.waiting) == 0 {
		return false
	}
	waiting := n.waiting
	n.waiting = nil
	var sends []*send
	for _, p := range waiting {
		if p.failed == nil && !p.paid {
			sends = n.plan(p, sends)
		}
	}
	keys.Share(len(sends), func(i int) { sends[i].wrap(n) })
	for _, s := range sends {
		n.launch(s)
	}
	for _, p := range waiting {
		n.conclude(p)
	}
	return true
}

// A send is one HTLC of a payment before it is in a channel.
type send struct {
	p     *payment
	first *chanState
	note  outgoing
	htlc  *channel.HTLC
}

// plan finds paths for what is left of a payment.
func (n *Node) plan(p *payment, sends []*send) []*send {
	if p.tries++; p.tries > MaxTries {
		p.failed = ErrTries
		return sends
	}
	if n.tip == 0 && len(n.channels) > 0 { // nobody knows yet which expiry would do
		n.pause(p)
		return sends
	}
	if c := n.direct(p.payee, p.left); c != nil {
		path := []graph.Hop{{Node: p.payee, SCID: c.Alias(), Amount: p.left, Expiry: p.delta}}
		return append(sends, n.part(p, c, path, p.left))
	}
	r := graph.Request{
		From: n.id, To: p.payee, Amount: p.left, FinalCLTV: p.delta, MaxFee: p.maxFee, At: n.at, Extra: n.edges(p),
	}
	paths, err := n.paths(p, r)
	switch {
	case err != nil && n.someAsleep():
		n.pause(p)
		return sends
	case err != nil:
		p.failed = err
		return sends
	}
	for _, path := range paths {
		if c := n.firstOf(path.Hops[0]); c != nil {
			sends = append(sends, n.part(p, c, path.Hops, path.Amount))
		} else {
			p.failed = errors.New("the first channel of the path is gone")
		}
	}
	return sends
}

func (n *Node) paths(p *payment, r graph.Request) ([]graph.Path, error) {
	path, err := n.graph.Route(r, &n.learnt)
	if err == nil {
		return []graph.Path{path}, nil
	}
	if !p.mpp || p.parts >= MaxParts || !errors.Is(err, graph.ErrAmount) && !errors.Is(err, graph.ErrNoPath) {
		return nil, err
	}
	return n.graph.Split(r, &n.learnt, MaxParts-p.parts)
}

// direct is a channel with the payee itself that can carry an amount, the one
// with the most room.
func (n *Node) direct(payee keys.Public, amount coinop.Amount) (best *chanState) {
	p := n.peers[payee.PeerName()]
	if p == nil {
		return nil
	}
	most := coinop.Amount(0)
	for _, c := range n.with(p) {
		if !c.Usable() || amount < c.Theirs.MinHTLC {
			continue
		}
		if s := c.Spendable(); s >= amount && s > most {
			best, most = c, s
		}
	}
	return best
}

// firstOf is our channel that a path begins with.
func (n *Node) firstOf(h graph.Hop) *chanState {
	for _, c := range n.ordered() {
		if c.edgeName() == h.SCID && c.Peer == h.Node {
			return c
		}
	}
	return nil
}

// edgeName tells our own channels apart in a path. Two peers may give us the
// same alias, so it is ours that counts.
func (c *chanState) edgeName() wire.SCID {
	if names := c.Names(); len(names) > 0 {
		return names[0]
	}
	return c.Alias()
}

// edges are our channels, and the hints of an invoice.
func (n *Node) edges(p *payment) (edges []graph.Edge) {
	for _, c := range n.ordered() {
		if c.Usable() {
			edges = append(edges, graph.Edge{
				SCID: c.edgeName(), From: n.id, To: c.Peer, Capacity: c.Spendable(), Policy: graph.Policy{Min: c.Theirs.MinHTLC},
			})
		}
	}
	for _, route := range p.hints {
		for i, h := range route {
			to := p.payee
			if i+1 < len(route) {
				to = route[i+1].Node
			}
			edges = append(edges, graph.Edge{
				SCID: wire.SCID(h.SCID), From: h.Node, To: to,
				Policy: graph.Policy{FeeBase: coinop.Amount(h.FeeBase), FeePPM: h.FeePPM, CLTVDelta: h.CLTVDelta},
			})
		}
	}
	return edges
}

// someAsleep reports whether a channel only waits for its peer to be linked.
func (n *Node) someAsleep() bool {
	for _, c := range n.channels {
		if c.Status() == channel.Open && !c.Usable() {
			return true
		}
	}
	return false
}

// patience is how long a payment waits for a channel to come back.
const patience = step.Minute

// pause has a payment wait for a channel.
func (n *Node) pause(p *payment) {
	if p.until == 0 {
		p.until = n.at + patience
		n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmPause, At: p.until})
	}
	p.tries--
	if n.at >= p.until {
		p.failed = channel.ErrNoLink
		n.conclude(p)
		return
	}
	n.paused = append(n.paused, p)
}

// resume routes what was paused.
func (n *Node) resume() {
	n.waiting = append(n.waiting, n.paused...)
	n.paused = nil
}

// part is one HTLC along a path.
func (n *Node) part(p *payment, first *chanState, path []graph.Hop, amount coinop.Amount) *send {
	last := onion.Payload{Amount: amount, Expiry: uint32(n.tip) + p.delta, Metadata: p.meta}
	if p.keysend != nil {
		last.Keysend = p.keysend
		last.Records = []onion.Record{{Type: orderRecord, Value: p.ID[:]}}
	} else {
		last.Secret, last.Total = p.secret, p.Amount
	}
	o := outgoing{order: p.ID, amount: p.Amount, place: p.place, keysend: p.keysend != nil, payload: last.Append(nil), path: path}
	if p.terms != nil {
		o.ref = p.terms.ref
	}
	for i := range path {
		n.tables.use(path[i].Node)
	}
	n.nextAttempt++
	o.attempt = n.nextAttempt
	n.changed = true
	p.parts++
	p.left -= amount
	return &send{p: p, first: first, note: o, htlc: &channel.HTLC{Derived: true, Amount: path[0].Amount, Hash: p.hash, Expiry: uint32(n.tip) + path[0].Expiry}}
}

// orderRecord carries the order of a keysend payment (custom, odd).
const orderRecord = 0x636f696f

// hops are what each node of a path is told. known may be nil.
func (o *outgoing) hops(expiry uint32, known *tables) []onion.Hop {
	hops := make([]onion.Hop, len(o.path))
	for i := range o.path {
		hops[i].Node = o.path[i].Node
		hops[i].Table = known.of(o.path[i].Node)
		if i == len(o.path)-1 {
			hops[i].Payload = o.payload
			break
		}
		next := &o.path[i+1]
		hops[i].Payload = onion.Payload{Amount: next.Amount, Expiry: expiry - o.path[0].Expiry + next.Expiry, Next: uint64(next.SCID)}.Append(nil)
	}
	return hops
}

func (n *Node) session(o *outgoing) keys.Secret {
	return n.seed.Derive(fmt.Sprintf("onion/%d", o.attempt))
}

// wrap makes the onion. It is called for many sends at once.
func (s *send) wrap(n *Node) {
	p, _, err := onion.New(n.session(&s.note), s.htlc.Hash, s.note.hops(s.htlc.Expiry, &n.tables))
	if err == nil {
		s.htlc.Onion = (*[wire.OnionSize]byte)(p)
	}
	s.htlc.Note = s.note.append(nil)
}

// launch offers the HTLC to the first channel.
func (n *Node) launch(s *send) {
	err := errors.New("the path does not fit an onion")
	if s.htlc.Onion != nil {
		n.touch(s.first)
		if err = s.first.Add(s.htlc); err == nil {
			return
		}
	}
	n.returned(s.p, s.first, s.note, err)
}

// returned is a part that was never sent.
func (n *Node) returned(p *payment, first *chanState, o outgoing, err error) {
	p.parts--
	p.left += o.arrives()
	if !errors.Is(err, channel.ErrDust) && (len(o.path) > 1 || n.direct(p.payee, p.left) == nil) {
		n.learnt.Failed(first.edgeName(), n.id, o.path[0].Amount, n.at)
	}
	if p.failed == nil && !p.paid && errors.Is(err, channel.ErrBalance) && p.tries < 3 {
		n.waiting = append(n.waiting, p) // another channel may do
		return
	}
	if p.failed == nil {
		p.failed = err
	}
}

// arrives is what the part brings to the payee.
func (o *outgoing) arrives() coinop.Amount { return o.path[len(o.path)-1].Amount }

// conclude ends a payment that is paid, or that is given up and has nothing in
// flight any more.
func (n *Node) conclude(p *payment) {
	switch {
	case p.paid:
		n.forget(p)
	case p.failed != nil && p.parts == 0:
		n.giveUp(p, p.failed)
	}
}

// giveUp says that an order is certainly not paid.
func (n *Node) giveUp(p *payment, err error) {
	if n.paying[p.ID] != p {
		return
	}
	n.forget(p)
	n.failed(p.ID.Key(), coinop.Unpaid, "pay "+short(p.To), err)
}

func (n *Node) forget(p *payment) {
	delete(n.paying, p.ID)
	if n.byHash[p.hash] == p {
		delete(n.byHash, p.hash)
	}
	if p.terms != nil && !p.paid {
		n.drop(p.terms.ref)
	}
}

// A Settled is an order that was paid: what proves it.
type Settled struct {
	order    coinop.OrderID
	amount   coinop.Amount
	preimage [32]byte
	ref      uint64
	place    int
}

const (
	recPaid  = "ln/d/"
	recTaken = "ln/e/"
)

func (s *Settled) record() []byte {
	b := append([]byte(nil), s.order[:]...)
	b = codec.AppendUint(b, uint64(s.amount))
	b = append(b, s.preimage[:]...)
	return codec.AppendUint(codec.AppendUint(b, s.ref), s.place)
}

func readSettled(value []byte) (id coinop.OrderID, s *Settled, err error) {
	r := codec.NewReader(value)
	s = new(Settled)
	r.Fill(s.order[:])
	s.amount = r.Amount()
	r.Fill(s.preimage[:])
	s.ref, s.place = r.Uvarint(), r.Int(maxBatch, "place")
	return s.order, s, r.Close()
}

// A Paid is the outcome of an order, at either end.
type Paid struct {
	entry    receipt.Entry
	preimage [32]byte
	terms    *receipt.Batch
	place    int
}

// Entry is the order.
func (p Paid) Entry() receipt.Entry { return p.entry }

// Proof is the preimage, and, of an order without an invoice, the payee's stamp
// that ties it to the order.
func (p Paid) Proof() []byte {
	if p.terms == nil {
		return append([]byte(nil), p.preimage[:]...)
	}
	return append(append([]byte(nil), p.preimage[:]...), p.terms.Proof(p.place)...)
}

// VerifyNode checks offline that a node took an order for which it gave terms.
func VerifyNode(e receipt.Entry, node keys.Public, proof []byte) error {
	if len(proof) < 32 {
		return receipt.ErrForged
	}
	channel, err := receipt.Verify(Bound(e.Order, e.Amount, hashOf([32]byte(proof))), node, proof[32:])
	if err == nil && channel != termsID(node) {
		err = receipt.ErrForged
	}
	return err
}

// VerifyInvoice checks offline that an invoice was paid.
func VerifyInvoice(text string, amount coinop.Amount, proof []byte) error {
	i, err := invoice.Parse(text)
	switch {
	case err != nil:
		return err
	case len(proof) != 32 || hashOf([32]byte(proof)) != i.Hash:
		return fmt.Errorf("%w: the preimage is not the invoice's", receipt.ErrForged)
	case i.Amount != 0 && i.Amount != amount:
		return fmt.Errorf("%w: the invoice is for %v", receipt.ErrForged, i.Amount)
	}
	return nil
}

func (n *Node) evidence(id coinop.OrderID, s *Settled) Paid {
	p := Paid{entry: receipt.Entry{Order: id, Amount: s.amount}, preimage: s.preimage, place: s.place}
	if t := n.batches[s.ref]; t != nil {
		p.terms = t.Batch
	}
	return p
}

func (n *Node) inquiry(q coinop.Inquiry) {
	if s, ok := n.paid.by[q.Order]; ok {
		n.fx.Done = append(n.fx.Done, step.Outcome{ID: q.Order.Key(), Value: n.evidence(q.Order, s)})
	} else if n.paying[q.Order] == nil {
		n.failed(q.Order.Key(), coinop.Refused, "prove "+q.Order.String(), coinop.ErrForgotten)
	}
}

// fulfilled takes the preimage of an HTLC of ours: as a hop it is passed on, as
// the payer it is the proof.
func (n *Node) fulfilled(h *channel.HTLC) {
	o, err := readOutgoing(h.Note)
	step.Assert(err == nil, "lightning: the note of HTLC %d: %v", h.ID, err)
	if o.from != 0 {
		n.passBack(o, *h.Settle.Preimage)
		return
	}
	for i := range o.path {
		n.learnt.Succeeded(o.path[i].SCID, n.fromOf(&o, i), o.path[i].Amount, n.at)
	}
	p := n.paying[o.order]
	if p != nil {
		p.parts--
	}
	if _, known := n.paid.by[o.order]; known {
		return // another part was first
	}
	s := &Settled{order: o.order, amount: o.amount, preimage: *h.Settle.Preimage, ref: o.ref, place: o.place}
	n.fx.Done = append(n.fx.Done, step.Outcome{ID: o.order.Key(), Value: n.evidence(o.order, s)})
	if old, forgot := n.paid.add(o.order, s, n.fx); forgot {
		n.drop(old.ref)
	}
	if p != nil {
		p.paid = true
		n.conclude(p)
	}
}

func (n *Node) fromOf(o *outgoing, i int) keys.Public {
	if i == 0 {
		return n.id
	}
	return o.path[i-1].Node
}

// removed is an HTLC of ours that failed.
func (n *Node) removed(c *chanState, h *channel.HTLC) {
	o, err := readOutgoing(h.Note)
	step.Assert(err == nil, "lightning: the note of HTLC %d: %v", h.ID, err)
	if o.from != 0 {
		if c.Status() >= channel.Failed {
			n.failBack(o, nil) // the chain decided
		} else {
			n.failBack(o, h.Settle)
		}
		return
	}
	if _, known := n.paid.by[o.order]; known {
		return
	}
	p := n.revive(&o, h)
	p.parts--
	p.left += o.arrives()
	final := n.learn(c, &o, h)
	if final != nil && p.failed == nil {
		p.failed = final
	}
	if p.failed == nil {
		n.waiting = append(n.waiting, p)
	}
	n.conclude(p)
}

// learn reads why an HTLC failed, and returns an error if no other path can do.
func (n *Node) learn(c *chanState, o *outgoing, h *channel.HTLC) error {
	if h.Settle == nil || h.Settle.Code != 0 || c.Status() >= channel.Failed {
		n.learnt.Failed(o.path[0].SCID, n.id, o.path[0].Amount, n.at)
		if len(o.path) == 1 {
			return errors.New("the payee could not read the onion")
		}
		return nil
	}
	_, secrets, err := onion.New(n.session(o), h.Hash, o.hops(h.Expiry, nil))
	step.Assert(err == nil, "lightning: an onion cannot be made again: %v", err)
	hop, f, err := onion.Open(secrets, h.Settle.Reason)
	switch {
	case hop < 0:
		n.learnt.Failed(o.path[len(o.path)-1].SCID, n.fromOf(o, len(o.path)-1), o.path[len(o.path)-1].Amount, n.at)
		if len(o.path) == 1 {
			return err
		}
		return nil
	case hop == len(o.path)-1:
		if f.Code == onion.CodeMPPTimeout {
			return nil
		}
		return fmt.Errorf("%w: %v", ErrPayee, f.Code)
	}
	for i := 0; i <= hop; i++ {
		n.learnt.Succeeded(o.path[i].SCID, n.fromOf(o, i), o.path[i].Amount, n.at)
	}
	next := &o.path[hop+1]
	n.learnt.Failed(next.SCID, o.path[hop].Node, next.Amount, n.at)
	if f.Code.Has(onion.FlagUpdate) {
		n.enclosed(f)
	}
	return nil
}

// unsent is an HTLC of ours that its channel gave back.
func (n *Node) unsent(c *chanState, h *channel.HTLC, err error) {
	o, bad := readOutgoing(h.Note)
	step.Assert(bad == nil, "lightning: the note of an HTLC: %v", bad)
	if o.from != 0 {
		n.refuse(o.from, o.id, onion.TemporaryChannelFailure(nil))
		return
	}
	if p := n.paying[o.order]; p != nil {
		p.parts--
		p.left += o.arrives()
		if errors.Is(err, channel.ErrNoLink) && p.failed == nil && !p.paid {
			n.pause(p)
			return
		}
		if p.failed == nil {
			p.failed = err
		}
		n.conclude(p)
	}
}
