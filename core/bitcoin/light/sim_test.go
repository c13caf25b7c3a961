package light_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/step"
)

var (
	seed  = flag.Uint64("seed", 1, "first seed")
	seeds = flag.Int("seeds", 40, "how many seeds; a thousand take some 20 s")
)

// A story is chains that grow and are undone, payments, scripts that are added,
// peers that come, go, stall and lie, and restarts. In the end one honest peer is
// left, and what the client says is what a ledger of all blocks says.
type story struct {
	*bench
	r       *rand.Rand
	honest  []*node
	liars   []*node
	tip     *block // the best
	coins   []*wire.MsgTx
	watched int
	named   int
}

func TestByTheSeed(t *testing.T) {
	t.Parallel()
	for s := *seed; s < *seed+uint64(*seeds); s++ {
		ok := t.Run(fmt.Sprint(s), func(t *testing.T) { tell(t, s) })
		if !ok {
			t.Fatalf("replay: go test ./core/bitcoin/light -run TestByTheSeed -seeds 1 -seed %d", s)
		}
	}
}

func tell(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	tr := newTree(regtest())
	start := tr.grow(tr.first, r.IntN(30))
	if seed%40 == 0 {
		start = tr.grow(tr.first, 2900+r.IntN(300))
	}
	b := newBench(t, tr, light.Options{Birthday: int32(r.IntN(3) * 5)})
	b.every = 7
	s := &story{bench: b, r: r, tip: start}
	s.honest = append(s.honest, newNode("honest", start))
	for range 80 {
		s.happens()
		for n := r.IntN(40); n > 0 && len(s.queue) > 0; n-- {
			s.next()
			s.fair(s.honest...)
		}
	}
	s.end()
}

// next delivers one message, now and then with others in one step.
func (s *story) next() {
	n := min(1+s.r.IntN(3), len(s.queue))
	events := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.step(events...)
}

func (s *story) happens() {
	switch s.r.IntN(16) {
	case 0, 1, 2, 3:
		s.grow()
	case 4:
		s.reorg()
	case 5, 6:
		s.watch(0, script(s.watched))
		s.watched++
	case 7:
		s.named++
		n := newNode(fmt.Sprint("honest", s.named), s.tip)
		s.honest = append(s.honest, n)
		s.connect(n)
	case 8, 9:
		s.lie()
	case 10:
		if n := s.one(s.honest); n != nil {
			s.leave(n)
		}
	case 11:
		s.connect(s.honest[0])
	case 12:
		if s.r.IntN(3) == 0 {
			s.restart()
			s.check()
		}
	case 13:
		s.pass(step.Time(s.r.IntN(40)) * step.Second)
	case 14:
		if n := s.one(s.liars); n != nil && s.banned[n.name] == nil { // it comes back
			n.follow(s.tip)
			s.connect(n)
		}
	case 15:
		if n := s.one(s.honest); n != nil {
			s.connect(n)
		}
	}
}

func (s *story) one(all []*node) *node {
	if len(all) == 0 {
		return nil
	}
	return all[s.r.IntN(len(all))]
}

// fill makes transactions on top of a block, some of which spend what is there.
func (s *story) fill(on *block) (txs []*wire.MsgTx) {
	for range s.r.IntN(3) {
		from := s.tree.nowhere()
		if len(s.coins) > 0 && s.r.IntN(2) == 0 {
			full := fullLedger(on)
			c := s.coins[s.r.IntN(len(s.coins))]
			spender, _ := full.Spender(out(c, 0))
			taken := spender != nil || full.Find(c.TxHash()) == nil
			for _, t := range txs {
				taken = taken || t.TxIn[0].PreviousOutPoint == out(c, 0)
			}
			if !taken {
				from = out(c, 0)
			}
		}
		t := pay(from, script(s.r.IntN(8)), script(s.r.IntN(8)))
		txs, s.coins = append(txs, t), append(s.coins, t)
	}
	return txs
}

func (s *story) grow() {
	for range 1 + s.r.IntN(3) {
		s.tip = s.tree.mine(s.tip, s.fill(s.tip)...)
	}
	s.tell()
}

func (s *story) reorg() {
	depth := 1 + s.r.IntN(6)
	from := s.tip
	for range depth {
		if from.parent != nil {
			from = from.parent
		}
	}
	for range depth + 1 {
		from = s.tree.mine(from, s.fill(from)...)
	}
	s.tip = from
	s.tell()
}

// tell has some of the honest hear of the best chain.
func (s *story) tell() {
	for _, n := range s.honest {
		if s.r.IntN(3) > 0 {
			s.announce(s.tip, n)
		}
	}
	for _, n := range s.liars {
		if s.r.IntN(3) > 0 && s.nodes[n.name] == n {
			s.announce(s.tip, n)
		}
	}
}

// lie has a liar come.
func (s *story) lie() {
	s.named++
	n := newNode(fmt.Sprint([]string{"a", "liar", "z"}[s.r.IntN(3)], s.named), s.tree.first)
	victim := script(s.r.IntN(8))
	switch s.r.IntN(6) {
	case 0: // hides payments
		n.filter = func(b *block) []byte { return s.without(b, victim, b.height%2 == 0) }
	case 1: // says other checkpoints or hashes than its filters have
		n.twist = func(_ wire.Message, say []wire.Message) []wire.Message {
			for _, m := range say {
				switch m := m.(type) {
				case *wire.MsgCFHeaders:
					if len(m.FilterHashes) > 0 {
						m.FilterHashes[len(m.FilterHashes)/2][3]++
					}
				case *wire.MsgCFCheckpt:
					if len(m.FilterHeaders) > 0 {
						m.FilterHeaders[0][3]++
					}
				}
			}
			return say
		}
	case 2: // alters blocks
		n.twist = func(_ wire.Message, say []wire.Message) []wire.Message {
			for i, m := range say {
				if k, ok := m.(*wire.MsgBlock); ok {
					k = k.Copy()
					k.Transactions[0].TxOut[0].Value++
					say[i] = k
				}
			}
			return say
		}
	case 3: // stalls
		command := []string{wire.CmdGetHeaders, wire.CmdGetData, wire.CmdGetCFilters, wire.CmdGetCFHeaders}[s.r.IntN(4)]
		n.mute = func(ask wire.Message) bool { return ask.Command() == command }
	case 4: // is on a chain of its own
		n.follow(s.tree.grow(s.tree.first, s.r.IntN(int(s.tip.height)+1)))
		s.liars = append(s.liars, n)
		s.connect(n)
		return
	case 5: // serves filters that are not its own
		n.twist = func(_ wire.Message, say []wire.Message) []wire.Message {
			for i, m := range say {
				if f, ok := m.(*wire.MsgCFilter); ok && i%3 == 0 {
					say[i] = wire.NewMsgCFilter(0, &f.BlockHash, s.tree.first.filter)
				}
			}
			return say
		}
	}
	n.follow(s.tip)
	s.liars = append(s.liars, n)
	s.connect(n)
}

// without is a block's filter without what pays a script; nil if there is none.
func (s *story) without(b *block, script []byte, all bool) []byte {
	false_ := *b.MsgBlock
	false_.Transactions = false_.Transactions[:1:1]
	for _, t := range b.Transactions[1:] {
		if all || !strings.Contains(string(t.TxOut[0].PkScript)+string(t.TxOut[1].PkScript), string(script)) {
			false_.Transactions = append(false_.Transactions, t)
		}
	}
	if all {
		false_.Transactions = false_.Transactions[:1:1]
	}
	if len(false_.Transactions) == len(b.Transactions) {
		return nil
	}
	return s.tree.filterOf(&false_)
}

func (s *story) end() {
	t := s.t
	t.Helper()
	for _, n := range s.liars {
		s.leave(n)
	}
	for _, n := range s.honest {
		if n != s.honest[0] {
			s.leave(n)
		}
	}
	h := s.honest[0]
	s.tip = s.tree.mine(s.tip) // of two chains with the same work the first one seen is right
	s.connect(h)
	s.announce(s.tip, h)
	for range 4 { // long enough for what was asked in vain
		s.pass(light.AnswerTime)
		s.connect(h)
	}
	var all [][]byte
	for i := range min(s.watched, 8) {
		all = append(all, script(i))
	}
	if s.tip.height < s.options.Birthday {
		return
	}
	if s.options.Birthday > 1 {
		s.synced(s.tip)
		return
	}
	s.agrees(s.tip, all...)
	s.check()
}
