package node

import (
	"slices"

	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/step"
)

const (
	// MaxPulls bounds the bootstrap's questions that wait for an answer, and pullFor
	// how long each does.
	MaxPulls = 64
	pullFor  = 3 * step.Second
	// MaxWanted bounds the accounts whose blocks are to be pulled, and MaxFetches the
	// single blocks.
	MaxWanted  = 16_384
	MaxFetches = 4096
	// fetchAfter is how long a block that others vote on may be on its way.
	fetchAfter = 200 * step.Millisecond
	// scanPause is how long the walk over all frontiers rests after an answer in which
	// there was nothing new.
	scanPause = 2 * step.Second
	// maxServed bounds the answers to one peer in a second.
	maxServed = 100
)

// sync is the bootstrap: a walk over the peers' frontiers, and what turned out to be
// missing.
type sync struct {
	next    uint64 // question's number
	pulls   map[uint64]pull
	wanted  []Key // accounts, oldest first
	wants   map[Key]bool
	fetches []fetch
	fetched map[lattice.Hash]step.Time

	scanAt   Key       // the walk goes on from here
	scanNext step.Time // then
	scanning bool      // a question is on its way
	turn     int       // of the peers
}

// fetch is a block that is to be asked for.
type fetch struct {
	hash  lattice.Hash
	from  step.Time // not before
	tries int       // so far
}

// maxFetches is how many peers are asked for one block.
const maxFetches = 10

// pull is a question to a peer.
type pull struct {
	peer  string
	ask   lattice.Ask
	at    step.Time
	tries int // of a fetch
}

func (s *sync) busy() bool { return len(s.pulls) > 0 || len(s.wanted) > 0 || len(s.fetches) > 0 }

// want has an account's blocks pulled.
func (s *sync) want(k Key) {
	if s.wants == nil {
		s.wants = map[Key]bool{}
	}
	if !s.wants[k] && len(s.wanted) < MaxWanted {
		s.wants[k] = true
		s.wanted = append(s.wanted, k)
	}
}

// fetch has one block pulled, with those that follow it.
func (n *Node) fetch(h lattice.Hash) {
	s := &n.sync
	if at, asked := s.fetched[h]; asked && n.now < at+pullFor || len(s.fetches) >= MaxFetches || n.pending[h] != nil {
		return
	}
	if s.fetched == nil || len(s.fetched) >= MaxWanted {
		s.fetched = map[lattice.Hash]step.Time{}
	}
	s.fetched[h] = n.now
	s.fetches = append(s.fetches, fetch{hash: h, from: n.now + fetchAfter})
}

// greet asks a new peer what there is.
func (n *Node) greet() { n.wake(n.now + 1) }

// idle is how long a node with nothing to do rests before it looks around.
func (n *Node) idle() step.Time {
	if len(n.peers.list) == 0 {
		return sampleEvery
	}
	return scanPause
}

// pull asks what can be asked now.
func (n *Node) pull() {
	s := &n.sync
	for _, id := range sortedPulls(s.pulls) {
		if p := s.pulls[id]; n.now > p.at+pullFor {
			delete(s.pulls, id)
			n.askAgain(p)
		}
	}
	for len(s.pulls) < MaxPulls && len(n.peers.list) > 0 && len(n.pending) < n.MaxBacklog/2 {
		ask, tries := n.nextAsk()
		if ask == nil {
			return
		}
		s.turn++
		p := n.peers.list[s.turn%len(n.peers.list)]
		if s.pulls == nil {
			s.pulls = map[uint64]pull{}
		}
		s.next++
		id := s.next
		s.pulls[id] = pull{p.name, ask, n.now, tries}
		n.send(p, &lattice.AscPullReq{ID: id, Ask: ask})
	}
}

func sortedPulls(m map[uint64]pull) (ids []uint64) {
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// askAgain puts back what was not answered, or by a peer that does not have it.
func (n *Node) askAgain(p pull) {
	switch ask := p.ask.(type) {
	case lattice.AskBlocks:
		if h := lattice.Hash(ask.Start); ask.Count == 1 && p.tries < maxFetches && !n.known(h) {
			n.sync.fetches = append(n.sync.fetches, fetch{h, n.now + fetchAfter, p.tries})
		}
	case lattice.AskFrontiers:
		n.sync.scanning, n.sync.scanAt = false, ask.Start
	}
}

// nextAsk is the next question: single blocks first, accounts, then the walk.
func (n *Node) nextAsk() (ask lattice.Ask, tries int) {
	s := &n.sync
	for len(s.fetches) > 0 && s.fetches[0].from <= n.now {
		f := s.fetches[0]
		s.fetches = s.fetches[1:]
		if !n.known(f.hash) {
			return lattice.AskBlocks{Start: f.hash, Count: 1, ByBlock: true}, f.tries + 1
		}
	}
	if len(s.wanted) > 0 {
		k := s.wanted[0]
		s.wanted = s.wanted[1:]
		delete(s.wants, k)
		if tip := n.chainOf(k).tip(); tip.Height > 0 {
			return lattice.AskBlocks{Start: tip.Frontier, Count: lattice.MaxPullBlocks, ByBlock: true}, 0
		}
		return lattice.AskBlocks{Start: k, Count: lattice.MaxPullBlocks}, 0
	}
	if !s.scanning && n.now >= s.scanNext {
		s.scanning = true
		return lattice.AskFrontiers{Start: s.scanAt, Count: lattice.MaxFrontiers}, 0
	}
	return nil, 0
}

// pulled takes an answer that was asked for.
func (n *Node) pulled(p *peer, m *lattice.AscPullAck) {
	q, asked := n.sync.pulls[m.ID]
	if !asked || q.peer != p.name {
		p.faults++
		return
	}
	delete(n.sync.pulls, m.ID)
	switch answer := m.Answer.(type) {
	case lattice.Blocks:
		ask, ok := q.ask.(lattice.AskBlocks)
		if !ok {
			p.faults++
			return
		}
		if len(answer) == 0 {
			n.askAgain(q)
		}
		n.pulledBlocks(ask, answer)
	case lattice.Frontiers:
		if _, ok := q.ask.(lattice.AskFrontiers); ok {
			n.pulledFrontiers(answer)
		}
	}
	n.wake(n.now + 1)
}

// leap asks about the newest of an account's blocks that were pulled. Others have
// cemented it, most likely, and their votes on it are on all before it.
func (n *Node) leap() {
	for _, c := range n.leaps {
		if len(c.pending) == 0 {
			continue
		}
		if v := n.hint(c.pending[len(c.pending)-1]); v != nil && v.requests == 0 {
			v.asked = n.now - askAfter
		}
	}
	n.leaps = n.leaps[:0]
}

func (n *Node) pulledBlocks(ask lattice.AskBlocks, blocks lattice.Blocks) {
	for i := range blocks {
		n.batch.add(asked{block: blocks[i], pulled: true})
	}
	if len(blocks) > 1 && int(ask.Count) == len(blocks) {
		n.sync.want(blocks[0].Account) // there may be more
	}
}

// pulledFrontiers compares what a peer has with what is here.
func (n *Node) pulledFrontiers(list lattice.Frontiers) {
	news := false
	for _, f := range list {
		if n.cemented.has(f.Hash) || n.pending[f.Hash] != nil {
			continue
		}
		if a, known := n.Account(f.Account); !known || a.Frontier != f.Hash && n.ownerOf(f.Hash).IsZero() {
			n.sync.want(f.Account)
			news = true
		}
	}
	s := &n.sync
	s.scanning = false
	if !news {
		s.scanNext = n.now + scanPause
	}
	s.scanAt = Key{}
	if len(list) == lattice.MaxFrontiers {
		s.scanAt = after(list[len(list)-1].Account)
	}
}

// after is the next key.
func after(k Key) Key {
	for i := len(k) - 1; i >= 0; i-- {
		if k[i]++; k[i] != 0 {
			break
		}
	}
	return k
}

// serve answers a peer's bootstrap.
func (n *Node) serve(p *peer, m *lattice.AscPullReq) {
	if p.servedAt != n.now/step.Second {
		p.servedAt, p.served = n.now/step.Second, 0
	}
	if p.served++; p.served > maxServed {
		return
	}
	var answer lattice.Answer
	switch ask := m.Ask.(type) {
	case lattice.AskBlocks:
		answer = n.blocksFrom(ask)
	case lattice.AskAccount:
		answer = n.accountFor(ask)
	case lattice.AskFrontiers:
		answer = n.frontiersFrom(ask)
	}
	n.send(p, &lattice.AscPullAck{ID: m.ID, Answer: answer})
}

// blocksFrom are an account's blocks from one on, also those that are not cemented.
func (n *Node) blocksFrom(ask lattice.AskBlocks) (blocks lattice.Blocks) {
	k, height := Key(ask.Start), uint64(1)
	if ask.ByBlock {
		s, known := n.Block(lattice.Hash(ask.Start))
		if !known {
			return nil
		}
		k, height = s.Account, s.Height
	}
	c := n.chainOf(k)
	for count := min(int(ask.Count), lattice.MaxPullBlocks); len(blocks) < count; height++ {
		if height > c.base.Height {
			at := int(height - c.base.Height - 1)
			if at >= len(c.pending) {
				break
			}
			blocks = append(blocks, c.pending[at].Block)
			continue
		}
		h := n.disk.get(keyHeight(k, height))
		if h == nil {
			break // pruned
		}
		s, known := n.Block(lattice.Hash(h))
		if !known {
			break
		}
		blocks = append(blocks, s.Block)
	}
	return blocks
}

func (n *Node) accountFor(ask lattice.AskAccount) (info lattice.AccountInfo) {
	k := Key(ask.Target)
	if ask.ByBlock {
		k = n.ownerOf(lattice.Hash(ask.Target))
	}
	a, known := n.Account(k)
	if !known {
		return info
	}
	return lattice.AccountInfo{Account: k, Open: a.Open, Head: a.Frontier, Count: a.Height, Confirmed: a.ConfirmedFrontier, ConfirmedHeight: a.ConfirmedHeight}
}

// frontiersFrom are cemented frontiers in the order of their accounts.
func (n *Node) frontiersFrom(ask lattice.AskFrontiers) (list lattice.Frontiers) {
	n.accountsFrom(ask.Start, min(int(ask.Count), lattice.MaxFrontiers), func(a Account) {
		list = append(list, lattice.Frontier{Account: a.Key, Hash: a.Frontier})
	})
	return list
}

// accountsFrom yields cemented accounts from one on, in order. A store scans only
// what begins alike, so it scans ever shorter beginnings.
func (n *Node) accountsFrom(from Key, count int, yield func(Account)) {
	scan := func(prefix []byte, from string) {
		if count <= 0 {
			return
		}
		n.disk.scan(atAccount+string(prefix), func(key string, value []byte) bool {
			if key < from {
				return true
			}
			a, err := decodeAccount(Key([]byte(key[len(atAccount):])), value)
			step.Assert(err == nil, "%v", err)
			yield(a)
			count--
			return count > 0
		})
	}
	const deep = 4 // a beginning of four bytes has few accounts
	scan(from[:deep], keyAccount(from))
	for length := deep - 1; length >= 0; length-- {
		for next := int(from[length]) + 1; next < 256 && count > 0; next++ {
			scan(append(slices.Clone(from[:length]), byte(next)), "")
		}
	}
}

// telemetry is what the node says of itself.
func (n *Node) Telemetry() lattice.Telemetry {
	c := n.Counts()
	t := lattice.Telemetry{
		Node: n.ID.Public(), Blocks: c.Blocks, Cemented: c.Cemented, Unchecked: uint64(c.Unchecked), Accounts: c.Accounts,
		Peers: uint32(c.Peers), Protocol: lattice.ProtocolUsing, Uptime: uint64((n.now - n.started) / step.Second), Genesis: n.genesis,
		Maker: makerCoinop, Timestamp: uint64(n.now), ActiveDifficulty: n.Network.WorkSend,
	}
	t.Sign(n.ID)
	return t
}

// makerCoinop is the software's number in telemetry: ASCII "c", of no other's.
const makerCoinop = 'c'

// telemetryEvery is how often a peer is asked for its telemetry, and answered at
// most.
const telemetryEvery = step.Minute

func (n *Node) sayTelemetry(p *peer) {
	if p.servedAt == n.now/step.Second && p.served >= maxServed {
		return
	}
	p.served++
	t := n.Telemetry()
	n.send(p, &t)
}

func (n *Node) hearTelemetry(p *peer, t *lattice.Telemetry) {
	if t.None {
		return
	}
	if p.asked == 0 || p.id != (Key{}) && t.Node != p.id || t.Genesis != n.genesis || !t.Signed() {
		p.faults++
		return
	}
	p.telemetry = t
	if n.watch.Telemetry {
		n.tell(TelemetryID, Reported{p.name, *t})
	}
}

func (n *Node) askTelemetry() {
	for _, p := range n.peers.list {
		if p.asked == 0 || n.now > p.asked+telemetryEvery {
			p.asked = n.now
			n.send(p, &lattice.TelemetryReq{})
		}
	}
}
