package tower

import (
	"fmt"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/step"
)

// ServerName is the name of the tower's core.
const ServerName = "ln/tower"

// Limits of a tower.
const (
	// MaxSessions bounds the sessions of all clients, MaxPeerSessions those of
	// one: a session is a channel.
	MaxSessions     = 4096
	MaxPeerSessions = 256
	// MaxCases bounds the breaches that are followed until they are buried.
	// Each costs somebody a commitment transaction.
	MaxCases = 1000
	// Buried is how deep penalties must be before a breach is forgotten.
	Buried = 100
	// UrgentAfter is how many blocks after a breach the second fee rate is used.
	UrgentAfter = 3
)

// A Block is the event of a block of the best chain: its transactions. Blocks
// may come twice, and those of a branch that lost may come too.
type Block struct {
	Height int32
	Txs    []*wire.MsgTx
}

// Breached is the outcome of finding a revoked commitment in a block: Penalties
// are on their way. Followed is false if there are too many breaches to follow
// this one until it is buried.
type Breached struct {
	ID        chainhash.Hash
	Height    int32
	Session   SessionID
	Penalties int
	Followed  bool
}

// Served is the outcome of a breach all of whose outputs are spent and buried.
type Served struct{ ID chainhash.Hash }

// Offer is what a tower gives to who asks.
type Offer struct {
	Reward Reward
	// MaxBlobs bounds one session, Capacity all of them together; both in
	// blobs. A tower keeps its blobs in memory too: about 500 bytes each.
	MaxBlobs, Capacity uint32
	// MinRate is the lowest first fee rate it takes.
	MinRate tx.FeeRate
}

// Server is the tower: it keeps what it cannot read until a block shows the key.
// Its outcomes are Breached and Served, by txid.
//
// Memory is what is on disk: sessions, blobs with an index by hint, and cases.
type Server struct {
	Offer
	sessions map[owner]*session
	numbers  map[uint32]bool // of sessions in use
	peers    map[string]int  // sessions
	index    map[Hint]*entry
	granted  uint64 // blobs, in all sessions
	height   int32  // of the last block
	cases    map[chainhash.Hash]*breach
	points   map[wire.OutPoint]*breach
	// What lives for one step.
	touched []*session
}

// An owner is a session and the peer that asked for it.
type owner struct {
	peer string
	id   SessionID
}

type session struct {
	owner
	number uint32 // in record keys
	terms  Terms
	blobs  []*entry
	acking bool
}

// An entry is a blob in the index. Blobs with the same hint are a list: a
// cheater can give its tower a blob with the hint of its victim's.
type entry struct {
	Blob
	of   *session
	next *entry
}

// NewServer starts a tower without sessions.
func NewServer(o Offer) (*Server, error) {
	t := Terms{Rates: [2]tx.FeeRate{max(o.MinRate, tx.MinFeeRate)}, Reward: o.Reward, Blobs: o.MaxBlobs}
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("tower: %w", err)
	}
	return &Server{
		Offer: o, sessions: map[owner]*session{}, numbers: map[uint32]bool{}, peers: map[string]int{}, index: map[Hint]*entry{},
		cases: map[chainhash.Hash]*breach{}, points: map[wire.OutPoint]*breach{},
	}, nil
}

// Step is the whole tower.
func (s *Server) Step(in step.Input) step.Effects {
	s.check()
	var fx step.Effects
	s.touched = s.touched[:0]
	for _, event := range in.Events {
		switch ev := event.(type) {
		case step.Recv:
			s.recv(ev, &fx)
		case Block:
			s.block(ev, &fx)
		case step.Linked, step.Unlinked:
		case step.Rang:
			if ev.ID == step.Start {
				s.start(&fx)
			}
		default:
			panic(fmt.Sprintf("tower: cannot handle %T", event))
		}
	}
	for _, ses := range s.touched {
		ses.acking = false
		fx.Send = append(fx.Send, step.Packet{To: ses.peer, Msg: Ack{ses.id, uint32(len(ses.blobs))}})
	}
	return fx
}

func (s *Server) recv(ev step.Recv, fx *step.Effects) {
	answer := func(m Message) { fx.Send = append(fx.Send, step.Packet{To: ev.From, Msg: m}) }
	switch msg := ev.Msg.(type) {
	case watch.Status:
		if ev.From == watch.Chain {
			s.status(msg, fx)
		}
	case Block:
		if ev.From == watch.Chain {
			s.block(msg, fx)
		}
	case Ask:
		answer(s.ask(owner{ev.From, msg.ID}, msg, fx))
	case Put:
		ses := s.sessions[owner{ev.From, msg.ID}]
		if ses == nil {
			answer(Reject{msg.ID, "there is no such session"})
			return
		}
		s.put(ses, msg, fx)
	case Delete:
		if ses := s.sessions[owner{ev.From, msg.ID}]; ses != nil {
			s.remove(ses, fx)
		}
		answer(Deleted(msg))
	}
}

// ask grants a session, or says what was granted before.
func (s *Server) ask(who owner, m Ask, fx *step.Effects) Message {
	if ses := s.sessions[who]; ses != nil {
		return Grant{m.ID, ses.terms, uint32(len(ses.blobs))}
	}
	blobs := min(m.Blobs, s.MaxBlobs)
	switch {
	case m.Rates[0] < s.MinRate:
		return Reject{m.ID, fmt.Sprintf("fee rate is %d sat/kvB; the least is %d", m.Rates[0], s.MinRate)}
	case len(s.sessions) == MaxSessions || s.peers[who.peer] == MaxPeerSessions:
		return Reject{m.ID, "too many sessions; delete some"}
	case blobs == 0 || s.granted+uint64(blobs) > uint64(s.Capacity):
		return Reject{m.ID, "there is no room for so many blobs; ask for fewer"}
	}
	ses := &session{owner: who, terms: Terms{Rates: m.Rates, Reward: s.Reward, Blobs: blobs}}
	for s.numbers[ses.number] {
		ses.number++
	}
	s.add(ses)
	fx.Put = append(fx.Put, ses.record())
	return Grant{m.ID, ses.terms, 0}
}

func (s *Server) add(ses *session) {
	s.sessions[ses.owner] = ses
	s.numbers[ses.number] = true
	s.peers[ses.peer]++
	s.granted += uint64(ses.terms.Blobs)
}

// put takes the blobs that come next. A gap is answered by how many there are.
func (s *Server) put(ses *session, m Put, fx *step.Effects) {
	if !ses.acking {
		ses.acking = true
		s.touched = append(s.touched, ses)
	}
	have := uint32(len(ses.blobs))
	if m.First > have {
		return
	}
	for i := int(have - m.First); i < len(m.Blobs) && len(ses.blobs) < int(ses.terms.Blobs); i++ {
		e := &entry{Blob: m.Blobs[i], of: ses}
		fx.Put = append(fx.Put, step.Record{Key: ses.blobKey(uint32(len(ses.blobs))), Value: e.Blob.append(nil)})
		s.keep(e)
	}
}

func (s *Server) keep(e *entry) {
	e.next = s.index[e.Hint]
	s.index[e.Hint] = e
	e.of.blobs = append(e.of.blobs, e)
}

// remove forgets a session. Breaches that were found stay.
func (s *Server) remove(ses *session, fx *step.Effects) {
	for n, e := range ses.blobs {
		fx.Put = append(fx.Put, step.Record{Key: ses.blobKey(uint32(n))})
		s.unlink(e)
	}
	fx.Put = append(fx.Put, step.Record{Key: ses.key()})
	delete(s.sessions, ses.owner)
	delete(s.numbers, ses.number)
	if s.peers[ses.peer]--; s.peers[ses.peer] == 0 {
		delete(s.peers, ses.peer)
	}
	s.granted -= uint64(ses.terms.Blobs)
	if ses.acking {
		ses.acking = false
		for i, t := range s.touched {
			if t == ses {
				s.touched = append(s.touched[:i], s.touched[i+1:]...)
				break
			}
		}
	}
}

func (s *Server) unlink(e *entry) {
	at := s.index[e.Hint]
	if at == e {
		if e.next == nil {
			delete(s.index, e.Hint)
			return
		}
		s.index[e.Hint] = e.next
		return
	}
	for at.next != e {
		at = at.next
	}
	at.next = e.next
}

// commitment reports whether t has the shape that BOLT 3 gives commitments: one
// input, and half of a number in its sequence and lock time each. All others
// need no hashing.
func commitment(t *wire.MsgTx) bool {
	return len(t.TxIn) == 1 && t.LockTime>>24 == 0x20 && t.TxIn[0].Sequence>>24 == 0x80
}

func (s *Server) block(b Block, fx *step.Effects) {
	if b.Height > s.height {
		s.height = b.Height
		fx.Put = append(fx.Put, s.heightRecord())
	}
	for _, t := range b.Txs {
		if !commitment(t) {
			continue
		}
		id := t.TxHash()
		if s.cases[id] != nil {
			continue
		}
		for e := s.index[HintOf(id, 0)]; e != nil; e = e.next {
			if s.try(id, t, b.Height, e, fx) {
				break
			}
		}
	}
}

// try opens a blob with the txid that its hint fits, and if that gives penalties
// it starts a case.
func (s *Server) try(id chainhash.Hash, t *wire.MsgTx, height int32, e *entry, fx *step.Effects) bool {
	ses := e.of
	j, err := Open(id, &e.Sealed, func(h Hint) (all []*[SealedSize]byte) {
		for e := s.index[h]; e != nil; e = e.next {
			if e.of == ses { // whoever else has this hint may be the cheater
				all = append(all, &e.Sealed)
			}
		}
		return all
	})
	if err != nil {
		return false
	}
	b := &breach{id: id, tx: stripped(t), height: height, terms: ses.terms, justice: j, tip: height}
	penalties, err := j.Penalties(b.terms, t, id, false, unspent)
	if err != nil {
		fx.Done = append(fx.Done, step.Outcome{ID: id.String(), Err: err})
		return false
	}
	followed := len(s.cases) < MaxCases
	if followed {
		s.follow(b)
		fx.Put = append(fx.Put, b.record())
		s.watch(b, fx)
	}
	publish(penalties, fx)
	fx.Done = append(fx.Done, step.Outcome{ID: id.String(), Value: Breached{id, height, ses.id, len(penalties), followed}})
	return true
}

func publish(txs []*wire.MsgTx, fx *step.Effects) {
	for _, t := range txs {
		fx.Send = append(fx.Send, step.Packet{To: watch.Chain, Msg: watch.Publish{Tx: t}})
	}
}

func (s *Server) check() {
	step.Assert(len(s.sessions) <= MaxSessions && len(s.numbers) == len(s.sessions), "tower: %d sessions, %d numbers", len(s.sessions), len(s.numbers))
	step.Assert(len(s.cases) <= MaxCases, "tower: %d cases", len(s.cases))
}

// Blobs is how many blobs the tower has, and Sessions in how many sessions.
func (s *Server) Blobs() (n int) {
	for _, ses := range s.sessions {
		n += len(ses.blobs)
	}
	return n
}

// Height is the last block that the tower has looked at. After a restart it
// wants those that came since.
func (s *Server) Height() int32 { return s.height }

// Sessions is how many sessions the tower has.
func (s *Server) Sessions() int { return len(s.sessions) }
