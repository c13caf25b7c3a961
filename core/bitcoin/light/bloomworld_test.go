package light_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/btcutil/v2/bloom"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/keys"
	"coinop.dev/core/step"
)

// A bloomWorld is a light client and the peers that it asks by BIP 37, one
// message after the other.
type bloomWorld struct {
	t       *testing.T
	client  *light.Client
	options light.Options
	blocks  []*wire.MsgBlock // by height
	heights map[chainhash.Hash]int
	peers   map[string]*bloomServer
	queue   []step.Packet // from peers
	records map[string][]byte
	bans    []string // why peers were banned, "name: why"
	drops   []string // why they were dropped otherwise
	bells   int
}

// bloomNow is after all blocks.
const bloomNow = step.Time(1_500_000_000_000)

// A bloomServer answers truly, unless lie changes what it sends.
type bloomServer struct {
	name    string
	world   *bloomWorld
	filter  *bloom.Filter
	filters []*wire.MsgFilterLoad // all that it was given, as they came
	lie     func(wire.Message) []wire.Message
	blocks  int // whole ones it was asked for
	height  int // of its chain, if it is behind; else 0
}

func newBloomWorld(t *testing.T) *bloomWorld {
	w := &bloomWorld{t: t, peers: map[string]*bloomServer{}, records: map[string][]byte{}, heights: map[chainhash.Hash]int{}}
	w.options = light.Options{Params: &chaincfg.RegressionNetParams, Bloom: true, Tweak: 42, Noise: bloomNoise(7)}
	w.blocks = []*wire.MsgBlock{chaincfg.RegressionNetParams.GenesisBlock}
	w.client = light.New(w.options)
	return w
}

func bloomNoise(seed byte) keys.Secret {
	noise, err := keys.SecretFromBytes(bytes.Repeat([]byte{seed}, keys.SecretSize))
	if err != nil {
		panic(err)
	}
	return noise
}

// Get and Scan let a client be loaded from what one has put.
func (w *bloomWorld) Get(key string) ([]byte, error) { return w.records[key], nil }

func (w *bloomWorld) Scan(prefix string, yield func(string, []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(w.records)) {
		if strings.HasPrefix(key, prefix) && !yield(key, w.records[key]) {
			return nil
		}
	}
	return nil
}

func (w *bloomWorld) tip() int32 { return int32(len(w.blocks) - 1) }

// mine makes a block of transactions, which may be invalid otherwise. branch
// makes blocks of two branches differ.
func (w *bloomWorld) mine(branch byte, txs ...*wire.MsgTx) {
	height := int32(len(w.blocks))
	coinbase := wire.NewMsgTx(2)
	coinbase.AddTxIn(wire.NewTxIn(wire.NewOutPoint(&chainhash.Hash{}, wire.MaxPrevOutIndex), []byte{3, byte(height), byte(height >> 8), branch, 0}, nil))
	coinbase.AddTxOut(wire.NewTxOut(50e8, bloomScript("miner", 0)))
	prev := w.blocks[height-1].Header
	b := wire.NewMsgBlock(wire.NewBlockHeader(4, new(prev.BlockHash()), &chainhash.Hash{}, prev.Bits, 0))
	b.Header.Timestamp = prev.Timestamp.Add(600e9)
	b.Transactions = append([]*wire.MsgTx{coinbase}, txs...)
	b.Header.MerkleRoot = bloomRoot(b.Transactions)
	for ; b.BlockHash()[31] > 0x7f; b.Header.Nonce++ { // regtest's target
	}
	w.heights[b.BlockHash()] = int(height)
	w.blocks = append(w.blocks, b)
}

func bloomRoot(txs []*wire.MsgTx) chainhash.Hash {
	var row []chainhash.Hash
	for _, t := range txs {
		row = append(row, t.TxHash())
	}
	for len(row) > 1 {
		if len(row)%2 == 1 {
			row = append(row, row[len(row)-1])
		}
		for i := range len(row) / 2 {
			row[i] = chainhash.DoubleHashH(append(row[2*i][:], row[2*i+1][:]...))
		}
		row = row[:len(row)/2]
	}
	return row[0]
}

// bloomScript is a P2WPKH script of nobody.
func bloomScript(whose string, i int) []byte {
	sum := chainhash.HashB(fmt.Appendf(nil, "%s %d", whose, i))
	return append([]byte{0, 20}, sum[:20]...)
}

// bloomPay is a transaction that spends something and pays a script.
func bloomPay(from wire.OutPoint, script []byte) *wire.MsgTx {
	t := wire.NewMsgTx(2)
	t.AddTxIn(wire.NewTxIn(&from, nil, nil))
	t.AddTxOut(wire.NewTxOut(1e6, script))
	return t
}

func bloomPoint(i int) wire.OutPoint {
	return wire.OutPoint{Hash: chainhash.HashH(fmt.Append(nil, i)), Index: uint32(i)}
}

func (w *bloomWorld) step(events ...any) {
	fx := w.client.Step(step.Input{At: bloomNow, Events: events})
	for _, r := range fx.Put {
		if r.Value == nil {
			delete(w.records, r.Key)
		} else {
			w.records[r.Key] = bytes.Clone(r.Value)
		}
	}
	for _, p := range fx.Send {
		switch msg := p.Msg.(type) {
		case light.Drop:
			what := fmt.Sprintf("%s: %v", msg.Peer, msg.Why)
			if msg.Ban {
				w.bans = append(w.bans, what)
			} else {
				w.drops = append(w.drops, what)
			}
			delete(w.peers, msg.Peer)
		case light.Fetch:
			w.queue = append(w.queue, step.Packet{Msg: light.Fetched{Interval: msg.Interval, Hashes: light.ReadHashes(w.records[light.HashesKey(msg.Interval)])}})
		case light.Changed:
			w.bells++
		default:
			if s := w.peers[p.To]; s != nil {
				s.take(p.Msg.(wire.Message))
			}
		}
	}
}

// run carries messages until there are none, some at a time.
func (w *bloomWorld) run() {
	w.t.Helper()
	for range 1_000_000 {
		if len(w.queue) == 0 {
			return
		}
		w.carry(16)
	}
	w.t.Fatal("they talk for ever")
}

func (w *bloomWorld) carry(n int) {
	var events []any
	for _, p := range w.queue[:min(n, len(w.queue))] {
		if p.From == "" {
			events = append(events, p.Msg)
		} else if w.peers[p.From] != nil {
			events = append(events, step.Recv{From: p.From, Msg: p.Msg})
		}
	}
	w.queue = w.queue[min(n, len(w.queue)):]
	w.step(events...)
}

func (w *bloomWorld) connect(name string, lie func(wire.Message) []wire.Message) *bloomServer {
	s := &bloomServer{name: name, world: w, filter: bloom.LoadFilter(nil), lie: lie}
	w.peers[name] = s
	w.step(light.Hello{Peer: name, Services: wire.SFNodeNetwork | wire.SFNodeWitness | wire.SFNodeBloom})
	return s
}

func (w *bloomWorld) disconnect(name string) {
	delete(w.peers, name)
	w.step(step.Unlinked{Peer: name})
}

// restart loads the client from its records; all peers are gone.
func (w *bloomWorld) restart() {
	w.t.Helper()
	clear(w.peers)
	w.queue = nil
	w.options.Tweak, w.options.Noise = 4711, bloomNoise(99) // of no use: there are some on disk
	var err error
	if w.client, err = light.Load(w, w.options); err != nil {
		w.t.Fatal(err)
	}
	w.step(step.Rang{ID: step.Start})
}

// announce tells the peers' headers of the blocks from a height on.
func (w *bloomWorld) announce(from int32) {
	for _, name := range slices.Sorted(maps.Keys(w.peers)) {
		h := wire.NewMsgHeaders()
		for _, b := range w.blocks[from:] {
			h.Headers = append(h.Headers, &b.Header)
		}
		w.queue = append(w.queue, step.Packet{From: name, Msg: h})
	}
}

func (w *bloomWorld) watch(scripts ...[]byte) {
	for _, s := range scripts {
		w.step(light.Watch{Scripts: []watch.Script{{Script: s}}})
	}
}

func (w *bloomWorld) status(t *wire.MsgTx) watch.Status {
	return w.client.Status(watch.Output{Point: wire.OutPoint{Hash: t.TxHash()}, Script: t.TxOut[0].PkScript})
}

// sees fails unless a payment is seen, and all was looked through.
func (w *bloomWorld) sees(t *wire.MsgTx, depth int32) {
	w.t.Helper()
	if height, _ := w.client.Tip(); height != w.tip() {
		w.t.Fatalf("looked through up to height %d of %d; dropped: %q %q", height, w.tip(), w.bans, w.drops)
	}
	if got := w.status(t).Depth; got != depth {
		w.t.Fatalf("payment has depth %d; want %d. Banned: %q", got, depth, w.bans)
	}
}

func (w *bloomWorld) banned(name, why string) {
	w.t.Helper()
	if len(w.bans) != 1 || !strings.HasPrefix(w.bans[0], name+": ") || !strings.Contains(w.bans[0], why) {
		w.t.Errorf("banned: %q; want %s for %q (dropped: %q)", w.bans, name, why, w.drops)
	}
}

func (s *bloomServer) say(all ...wire.Message) {
	for _, msg := range all {
		out := []wire.Message{msg}
		if s.lie != nil {
			out = s.lie(msg)
		}
		for _, m := range out {
			s.world.queue = append(s.world.queue, step.Packet{From: s.name, Msg: m})
		}
	}
}

func (s *bloomServer) take(msg wire.Message) {
	switch msg := msg.(type) {
	case *wire.MsgPing:
		s.say(wire.NewMsgPong(msg.Nonce))
	case *wire.MsgFilterLoad:
		s.filters = append(s.filters, wire.NewMsgFilterLoad(bytes.Clone(msg.Filter), msg.HashFuncs, msg.Tweak, msg.Flags))
		s.filter.Reload(msg)
	case *wire.MsgGetHeaders:
		s.headers(msg)
	case *wire.MsgGetData:
		for _, iv := range msg.InvList {
			s.data(iv)
		}
	}
}

func (s *bloomServer) headers(msg *wire.MsgGetHeaders) {
	blocks := s.world.blocks
	if s.height > 0 {
		blocks = blocks[:s.height+1]
	}
	from := 0
	for i, at := range slices.Backward(blocks) {
		if slices.ContainsFunc(msg.BlockLocatorHashes, func(h *chainhash.Hash) bool { return *h == at.BlockHash() }) {
			from = i
			break
		}
	}
	h := wire.NewMsgHeaders()
	for _, b := range blocks[from+1 : min(len(blocks), from+1+wire.MaxBlockHeadersPerMsg)] {
		h.Headers = append(h.Headers, &b.Header)
	}
	s.say(h)
}

func (s *bloomServer) data(iv *wire.InvVect) {
	i, ok := s.world.heights[iv.Hash]
	if !ok || i >= len(s.world.blocks) || s.world.blocks[i].BlockHash() != iv.Hash {
		no := wire.NewMsgNotFound()
		no.InvList = append(no.InvList, iv)
		s.say(no)
		return
	}
	b := s.world.blocks[i]
	switch iv.Type {
	case wire.InvTypeWitnessBlock:
		s.blocks++
		s.say(b)
	case wire.InvTypeFilteredBlock:
		proof, matched := bloom.NewMerkleBlock(btcutil.NewBlock(b), s.filter)
		s.say(proof)
		for _, i := range matched {
			s.say(b.Transactions[i])
		}
	}
}

// blind is a server whose filter does not match one transaction.
func (w *bloomWorld) blind(to *wire.MsgTx) func(wire.Message) []wire.Message {
	return func(msg wire.Message) []wire.Message {
		switch msg := msg.(type) {
		case *wire.MsgMerkleBlock:
			b := w.blocks[w.heights[msg.Header.BlockHash()]]
			if slices.ContainsFunc(b.Transactions, func(t *wire.MsgTx) bool { return t.TxHash() == to.TxHash() }) {
				proof, _ := bloom.NewMerkleBlock(btcutil.NewBlock(b), bloom.NewFilter(1, 0, 0.0001, wire.BloomUpdateNone))
				return []wire.Message{proof}
			}
		case *wire.MsgTx:
			if msg.TxHash() == to.TxHash() {
				return nil
			}
		}
		return []wire.Message{msg}
	}
}

// paid is a world whose chain pays a watched script in block 150 of 250.
func paid(t *testing.T) (w *bloomWorld, payment *wire.MsgTx) {
	w = newBloomWorld(t)
	payment = bloomPay(bloomPoint(1), bloomScript("ours", 1))
	for h := 1; h <= 250; h++ {
		if h == 150 {
			w.mine(0, bloomPay(bloomPoint(2), bloomScript("other", 1)), payment, bloomPay(bloomPoint(3), bloomScript("other", 2)))
			continue
		}
		w.mine(0, bloomPay(bloomPoint(h), bloomScript("busy", h)))
	}
	w.watch(bloomScript("ours", 1))
	return w, payment
}
