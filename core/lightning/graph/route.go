package graph

import (
	"errors"
	"fmt"
	"math"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Limits of a request.
const (
	MaxHops    = 20   // what fits an onion (BOLT 4) with room for a payload's records
	MaxExtra   = 4096 // a machine's own channels, and an invoice's hints
	MaxAvoided = 1024
	MaxParts   = 32 // of one payment; each locks an HTLC slot on every channel

	// shrink is by what part of itself a part gets smaller when no path carries
	// it. Halving would leave much of a channel empty; less searches longer.
	shrink = 4

	// DefaultMaxCLTV is two weeks of blocks: longer than that nobody's money
	// should hang.
	DefaultMaxCLTV = 2016
)

// Why there is no path. Errors of Route and Split wrap one of them and name the
// number that would do.
var (
	ErrNoPath = errors.New("no path")
	ErrFee    = errors.New("every path costs more than MaxFee")
	ErrCLTV   = errors.New("every path locks money longer than MaxCLTV")
	ErrHops   = errors.New("every path has more hops than MaxHops")
	ErrAmount = errors.New("no path carries the amount")
)

// An Edge is a channel in one direction that the graph does not know, or knows
// less well: one of the payer's own, or a hop of an invoice's hint. A hint of a
// channel that the graph has is passed over. Nothing of an Edge stays in the
// graph.
type Edge struct {
	SCID     wire.SCID
	From, To keys.Public
	// Capacity bounds what the edge carries. For an edge out of the payer it
	// is what can be sent now, 0 for nothing, and it is certain. For any other
	// it is the channel's size, 0 for unknown.
	Capacity money.Amount
	Policy   Policy // of the payer's own channels, only Min, Max and Disabled count
}

// A Request asks for a way to get Amount from one node to another.
type Request struct {
	From, To  keys.Public
	Amount    money.Amount // that To gets
	FinalCLTV uint32       // blocks the last HTLC has; a shadow route is added by the caller (BOLT 7)
	MaxFee    money.Amount // of all hops, and all parts; 0 is none
	MaxCLTV   uint32       // blocks the first HTLC may have; 0 is DefaultMaxCLTV
	MaxHops   int          // 0 is the constant MaxHops
	At        step.Time    // for what was learned

	// Extra are channels besides the graph's. If one of them leaves From, they
	// are all the payer has: the graph's channels of From are not used.
	Extra []Edge
	// Channels and nodes to stay away from. A payee is never avoided.
	AvoidChannels []wire.SCID
	AvoidNodes    []keys.Public
}

// A Hop is one HTLC of a path.
type Hop struct {
	Node   keys.Public  // that receives it
	SCID   wire.SCID    // of the channel it crosses
	Amount money.Amount // of the HTLC
	Expiry uint32       // of the HTLC, in blocks above the current height
}

// A Path leads from the payer, who is not in it, to the payee, the last hop. The
// first hop's amount is what the payer sends.
type Path struct {
	Hops   []Hop
	Amount money.Amount // that arrives
	Fee    money.Amount
	CLTV   uint32 // blocks the payer's money is locked at worst
	PPM    uint32 // estimated probability of success, in millionths
}

// Route finds the path that costs least: its fee, the time it locks money for
// and its chance of failing, in one number. If that path breaks a limit of the
// request, the one that is lowest on that limit is tried: a path within a single
// limit is found if there is one. l may be nil.
//
// The errors wrap ErrNoPath, ErrFee, ErrCLTV, ErrHops or ErrAmount, in case
// Split or another request may do better.
func (g *Graph) Route(r Request, l *Liquidity) (Path, error) {
	b, err := g.prepare(r, l)
	if err != nil {
		return Path{}, err
	}
	why, ok := g.seek(b)
	if !ok {
		return Path{}, g.explain(r, b, why)
	}
	return g.path(b), nil
}

// Split finds at most parts paths that carry the amount together (BOLT 4,
// basic_mpp), as few as it can. MaxFee is for all of them; each part may
// spend its share. No channel is given more than it can carry, all parts
// together. The errors are Route's.
func (g *Graph) Split(r Request, l *Liquidity, parts int) ([]Path, error) {
	if parts < 1 || parts > MaxParts {
		return nil, fmt.Errorf("a payment in %d parts; it may have 1 to %d", parts, MaxParts)
	}
	b, err := g.prepare(r, l)
	if err != nil {
		return nil, err
	}
	var paths []Path
	left, budget := b.amount, b.fee
	// Sizes only fall: what a size could not pass, it cannot pass once more of
	// the channels is used. That bounds the searches: at 32 parts to 32, and 13
	// more to get that small.
	for size := left; left > 0; size = min(size, left) {
		room := uint64(parts - len(paths)) // at least 1: size*room never falls below left
		share, _ := mulDiv(budget, size, left)
		b.amount, b.fee = size, max(share, budget/room) // base fees do not shrink with the part
		why, ok := g.seek(b)
		if ok {
			p := g.path(b)
			g.use(p)
			paths = append(paths, p)
			left, budget = left-size, budget-uint64(p.Fee)
			continue
		}
		least := (left + room - 1) / room
		if size <= least {
			return nil, fmt.Errorf("%s of %s in %d parts: %w", money.Amount(left), r.Amount, parts, g.explain(r, b, why))
		}
		size = max(size-size/shrink-1, least)
	}
	return paths, nil
}

// prepare checks a request and numbers its nodes.
func (g *Graph) prepare(r Request, l *Liquidity) (b bounds, err error) {
	b = bounds{amount: uint64(r.Amount), finalCLTV: r.FinalCLTV, fee: uint64(r.MaxFee), cltv: r.MaxCLTV, hops: r.MaxHops}
	if b.cltv == 0 {
		b.cltv = DefaultMaxCLTV
	}
	if b.hops == 0 {
		b.hops = MaxHops
	}
	switch {
	case r.From == r.To:
		return b, fmt.Errorf("payer and payee are both %s; a path leads to somebody else", r.To)
	case r.Amount == 0 || r.Amount > money.MaxAmount:
		return b, fmt.Errorf("amount is %d msat; a path carries 1 to %d", uint64(r.Amount), uint64(money.MaxAmount))
	case b.hops < 1 || b.hops > MaxHops:
		return b, fmt.Errorf("MaxHops is %d; it may be 1 to %d", b.hops, MaxHops)
	case r.FinalCLTV > b.cltv:
		return b, fmt.Errorf("%w: the payee alone asks for %d blocks; MaxCLTV is %d", ErrCLTV, r.FinalCLTV, b.cltv)
	case len(r.Extra) > MaxExtra:
		return b, fmt.Errorf("%d extra edges; the limit is %d", len(r.Extra), MaxExtra)
	case len(r.AvoidChannels) > MaxAvoided || len(r.AvoidNodes) > MaxAvoided:
		return b, fmt.Errorf("%d channels and %d nodes to avoid; the limit is %d each", len(r.AvoidChannels), len(r.AvoidNodes), MaxAvoided)
	}
	s := &g.search
	if s.number == nil {
		s.number, s.used = map[keys.Public]int32{}, map[int32]uint64{}
	}
	clear(s.number)
	clear(s.used)
	s.strangers, s.extra, s.shunned = s.strangers[:0], s.extra[:0], s.shunned[:0]
	s.barred, s.learned, s.at, s.ownOnly = r.AvoidChannels, l, r.At, false
	s.miss = missCost + b.amount/missPart
	s.from, s.to = g.numberOf(r.From), g.numberOf(r.To)
	for i := range r.Extra {
		g.addExtra(&r.Extra[i])
	}
	for _, id := range r.AvoidNodes {
		if n, ok := g.find(id); ok && n != s.from && n != s.to {
			s.shunned = append(s.shunned, n)
		}
	}
	return b, nil
}

func (g *Graph) addExtra(e *Edge) {
	s := &g.search
	x := extraEdge{scid: e.SCID, from: g.numberOf(e.From), to: g.numberOf(e.To), capacity: uint64(min(e.Capacity, money.MaxAmount))}
	p := e.Policy
	x.policy = policy{
		min: uint64(p.Min), max: uint64(p.Max), ppm: p.FeePPM, delta: p.CLTVDelta,
		base: uint32(min(p.FeeBase, math.MaxUint32)),
	}
	if x.from == s.from {
		s.ownOnly = true
	}
	if p.Disabled || x.from == x.to || x.from != s.from && g.joins(x) {
		return
	}
	s.extra = append(s.extra, x)
}

// joins reports whether the graph has this very channel: then it knows better
// than a hint, and to count it twice would fill it twice.
func (g *Graph) joins(x extraEdge) bool {
	at, ok := g.bySCID[x.scid]
	if !ok {
		return false
	}
	n := g.channels[at].node
	return n == [2]int32{x.from, x.to} || n == [2]int32{x.to, x.from}
}

// find is the number of a node in this request.
func (g *Graph) find(id keys.Public) (int32, bool) {
	if n, ok := g.byID[id]; ok {
		return n, true
	}
	n, ok := g.search.number[id]
	return n, ok
}

func (g *Graph) numberOf(id keys.Public) int32 {
	n, ok := g.find(id)
	if !ok {
		s := &g.search
		n = int32(len(g.nodes) + len(s.strangers))
		s.strangers = append(s.strangers, id)
		s.number[id] = n
	}
	return n
}

// aims are what to try for when a limit cuts something off.
var aims = [...]struct {
	cut cut
	aim aim
}{{cutFee, byFee}, {cutCLTV, byCLTV}, {cutHops, byHops}}

// limits are the cuts that a limit of the request made.
const limits = cutFee | cutCLTV | cutHops

// seek looks for a path within b: by cost, then by each limit that was in the
// way. why is empty if no limit is to blame. To search the whole network in vain
// takes ten times as long as to find a path, so what cannot be is found out
// first.
func (g *Graph) seek(b bounds) (why cut, ok bool) {
	if !g.sends(b.amount) {
		return 0, false
	}
	if ok, why = g.run(byCost, b); ok || why&limits == 0 {
		return why & limits, ok
	}
	if there, _ := g.run(byHops, b.lifted()); !there {
		return 0, false
	}
	for _, a := range aims {
		if !ok && why&a.cut != 0 {
			ok, _ = g.run(a.aim, b)
		}
	}
	return why & limits, ok
}

// sends reports whether the payer has a channel that may carry amount away.
func (g *Graph) sends(amount uint64) bool {
	s := &g.search
	if !s.ownOnly && int(s.from) < len(g.nodes) {
		return true
	}
	for i := range s.extra {
		x := &s.extra[i]
		if x.from == s.from && amount+s.used[^int32(i)] <= x.capacity {
			return true
		}
	}
	return false
}

// lifted are the bounds without the request's limits.
func (b bounds) lifted() bounds {
	b.fee, b.cltv, b.hops = uint64(money.MaxAmount), math.MaxUint32, math.MaxUint8
	return b
}

// explain finds out which limit would have to give way, and how far.
func (g *Graph) explain(r Request, b bounds, why cut) error {
	free := b.lifted()
	without := func(reason cut, want aim, b bounds) (l label, ok bool) {
		if why&reason == 0 {
			return l, false
		}
		ok, _ = g.run(want, b)
		return *g.search.label(g.search.from), ok
	}
	try := b
	try.fee = free.fee
	if l, ok := without(cutFee, byFee, try); ok {
		return fmt.Errorf("%w: the cheapest costs %s; MaxFee is %s", ErrFee, money.Amount(l.amount-b.amount), money.Amount(b.fee))
	}
	try = b
	try.cltv = free.cltv
	if l, ok := without(cutCLTV, byCLTV, try); ok {
		return fmt.Errorf("%w: the shortest locks it for %d blocks; MaxCLTV is %d", ErrCLTV, l.cltv, b.cltv)
	}
	try = b
	try.hops = free.hops
	if l, ok := without(cutHops, byHops, try); ok {
		return fmt.Errorf("%w: the shortest has %d; MaxHops is %d", ErrHops, l.hops, b.hops)
	}
	if why != 0 {
		return fmt.Errorf("%w: none to %s within MaxFee, MaxCLTV and MaxHops at once", ErrNoPath, r.To)
	}
	free.anySize = true
	if ok, _ := g.run(byHops, free); ok {
		return fmt.Errorf("%w: %s to %s; split it, or pay another amount", ErrAmount, money.Amount(b.amount), r.To)
	}
	if int(g.search.to) >= len(g.nodes) {
		return fmt.Errorf("%w: payee %s is not in the graph; an invoice with a route hint is needed", ErrNoPath, r.To)
	}
	return fmt.Errorf("%w: no open channels lead from %s to %s", ErrNoPath, r.From, r.To)
}

// path reads a found path from the labels.
func (g *Graph) path(b bounds) Path {
	s := &g.search
	l := s.label(s.from)
	p := Path{
		Hops: make([]Hop, 0, l.hops), Amount: money.Amount(b.amount),
		Fee: money.Amount(l.amount - b.amount), CLTV: l.cltv, PPM: 1_000_000,
	}
	for n := s.from; n != s.to; {
		edge := s.label(n).via
		_, to, scid := g.ends(edge)
		l := s.label(to)
		p.Hops = append(p.Hops, Hop{Node: g.idOf(to), SCID: scid, Amount: money.Amount(l.amount), Expiry: l.cltv})
		num, den := g.chance(edge, n == s.from, l.amount)
		ppm, _ := mulDiv(uint64(p.PPM), num, den)
		p.PPM = uint32(ppm)
		n = to
	}
	return p
}

func (g *Graph) chance(edge int32, own bool, amount uint64) (num, den uint64) {
	if edge < 0 {
		x := &g.search.extra[^edge]
		return g.odds(edge, own, &x.policy, x.capacity, amount)
	}
	c := &g.channels[edge>>1]
	return g.odds(edge, own, &c.policy[edge&1], uint64(c.capacity)*uint64(money.Sat), amount)
}

// use keeps what a part needs from the parts after it. The labels must still be
// those of the part.
func (g *Graph) use(p Path) {
	s := &g.search
	n := s.from
	for _, h := range p.Hops {
		edge := s.label(n).via
		s.used[edge] += uint64(h.Amount)
		_, n, _ = g.ends(edge)
	}
}
