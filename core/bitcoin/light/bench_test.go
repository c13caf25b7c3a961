package light_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/bitcoin/header/headertest"
	"coinop.dev/core/bitcoin/ledger"
	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/step"
)

// A tree is all blocks that were ever mined, on all branches.
type tree struct {
	params  *chaincfg.Params
	blocks  map[chainhash.Hash]*block
	scripts map[wire.OutPoint][]byte // of all outputs
	first   *block
	count   uint64
	pace    int64 // seconds between blocks
}

type block struct {
	*wire.MsgBlock
	hash   chainhash.Hash
	height int32
	parent *block
	filter []byte
}

func newTree(p *chaincfg.Params) *tree {
	t := &tree{params: p, blocks: map[chainhash.Hash]*block{}, scripts: map[wire.OutPoint][]byte{}, pace: 600}
	t.first = &block{MsgBlock: p.GenesisBlock, hash: *p.GenesisHash}
	t.add(t.first)
	return t
}

func (t *tree) add(b *block) {
	for _, tx := range b.Transactions {
		id := tx.TxHash()
		for i, out := range tx.TxOut {
			t.scripts[wire.OutPoint{Hash: id, Index: uint32(i)}] = out.PkScript
		}
	}
	if b.filter == nil {
		b.filter = t.filterOf(b.MsgBlock)
	}
	t.blocks[b.hash] = b
}

func (t *tree) filterOf(b *wire.MsgBlock) []byte {
	raw, err := filter.Build(b, func(o wire.OutPoint) []byte { return t.scripts[o] })
	if err != nil {
		panic(err)
	}
	return raw
}

func (t *tree) bits(parent *block) uint32 {
	period := int32(t.params.TargetTimespan / t.params.TargetTimePerBlock)
	if t.params.PoWNoRetargeting || (parent.height+1)%period != 0 {
		return parent.Header.Bits
	}
	first := parent
	for range period - 1 {
		first = first.parent
	}
	return headertest.Retarget(t.params, parent.Header.Bits, parent.Header.Timestamp.Unix()-first.Header.Timestamp.Unix())
}

// mine puts a block on parent. Its reward pays a script of its own.
func (t *tree) mine(parent *block, txs ...*wire.MsgTx) *block {
	return t.mineAs(parent, func(*wire.MsgBlock) {}, txs...)
}

// mineAs has the block changed before its header is made.
func (t *tree) mineAs(parent *block, change func(*wire.MsgBlock), txs ...*wire.MsgTx) *block {
	t.count++
	reward := wire.NewMsgTx(2)
	reward.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: wire.MaxPrevOutIndex}, binary.LittleEndian.AppendUint64([]byte{8}, t.count), nil))
	reward.AddTxOut(wire.NewTxOut(50e8, append([]byte{0x51, 0x20}, chainhash.HashB(reward.TxIn[0].SignatureScript)...)))
	b := &block{MsgBlock: &wire.MsgBlock{}, height: parent.height + 1, parent: parent}
	b.Transactions = append([]*wire.MsgTx{reward}, txs...)
	if slices.ContainsFunc(txs, (*wire.MsgTx).HasWitness) {
		commit(b.MsgBlock)
	}
	change(b.MsgBlock)
	root := chainhash.Hash{}
	ids := make([]chainhash.Hash, len(b.Transactions))
	for i, tx := range b.Transactions {
		ids[i] = tx.TxHash()
	}
	for len(ids) > 1 { // as merkle.Root, but without its scruples
		if len(ids)%2 == 1 {
			ids = append(ids, ids[len(ids)-1])
		}
		for i := range len(ids) / 2 {
			ids[i] = chainhash.DoubleHashH(append(ids[2*i].CloneBytes(), ids[2*i+1][:]...))
		}
		ids = ids[:len(ids)/2]
	}
	root = ids[0]
	b.Header = headertest.Mine(wire.BlockHeader{
		Version: 4, PrevBlock: parent.hash, MerkleRoot: root, Bits: t.bits(parent),
	}, parent.Header.Timestamp.Unix()+t.pace)
	b.hash = b.Header.BlockHash()
	t.add(b)
	return b
}

// commit has the reward commit to the witnesses (BIP 141).
func commit(b *wire.MsgBlock) {
	nonce := make([]byte, 32)
	ids := []chainhash.Hash{{}}
	for _, tx := range b.Transactions[1:] {
		ids = append(ids, tx.WitnessHash())
	}
	root, err := merkle.Root(ids)
	if err != nil {
		panic(err)
	}
	sum := chainhash.DoubleHashB(append(root[:], nonce...))
	b.Transactions[0].TxIn[0].Witness = wire.TxWitness{nonce}
	b.Transactions[0].AddTxOut(wire.NewTxOut(0, append([]byte{0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed}, sum...)))
}

// grow mines n blocks.
func (t *tree) grow(from *block, n int) *block {
	for range n {
		from = t.mine(from)
	}
	return from
}

// script is one of ours, pay a transaction that pays it, from nowhere or point.
func script(n int) []byte {
	return append([]byte{0, 32}, chainhash.HashB(fmt.Append(nil, "script", n))...)
}

func pay(from wire.OutPoint, scripts ...[]byte) *wire.MsgTx {
	t := wire.NewMsgTx(2)
	t.AddTxIn(wire.NewTxIn(&from, nil, nil))
	for i, s := range scripts {
		t.AddTxOut(wire.NewTxOut(int64(1000+i), s))
	}
	return t
}

func (t *tree) nowhere() wire.OutPoint {
	t.count++
	p := wire.OutPoint{Hash: chainhash.HashH(fmt.Append(nil, "nowhere", t.count))}
	t.scripts[p] = append([]byte{0x51, 0x20}, p.Hash[:]...)
	return p
}

func out(t *wire.MsgTx, i uint32) wire.OutPoint { return wire.OutPoint{Hash: t.TxHash(), Index: i} }

// A node answers as a full node does, unless it lies.
type node struct {
	name     string
	services wire.ServiceFlag
	path     []*block
	headers  []chainhash.Hash // of the filters
	pool     map[chainhash.Hash]*wire.MsgTx

	// filter is what it says a block's filter is; nil is the truth.
	filter func(*block) []byte
	// twist changes its answers; nil leaves them.
	twist func(ask wire.Message, say []wire.Message) []wire.Message
	mute  func(ask wire.Message) bool // has it not answer
	taken map[string]int              // messages it got
}

const serves = wire.SFNodeNetwork | wire.SFNodeWitness | wire.SFNodeCF

func newNode(name string, tip *block) *node {
	n := &node{name: name, services: serves, pool: map[chainhash.Hash]*wire.MsgTx{}, taken: map[string]int{}}
	n.follow(tip)
	return n
}

func (n *node) tip() *block { return n.path[len(n.path)-1] }

func (n *node) says(b *block) []byte {
	if n.filter != nil {
		if raw := n.filter(b); raw != nil {
			return raw
		}
	}
	return b.filter
}

func (n *node) follow(tip *block) {
	var fresh []*block
	for b := tip; b != nil && !n.has(b); b = b.parent {
		fresh = append(fresh, b)
	}
	fork := tip.height - int32(len(fresh))
	n.path, n.headers = n.path[:fork+1], n.headers[:fork+1]
	for _, b := range slices.Backward(fresh) {
		var prev chainhash.Hash
		if b.height > 0 {
			prev = n.headers[b.height-1]
		}
		n.path, n.headers = append(n.path, b), append(n.headers, filter.Header(filter.Hash(n.says(b)), prev))
	}
}

func (n *node) has(b *block) bool { return int(b.height) < len(n.path) && n.path[b.height] == b }

func (n *node) find(hash chainhash.Hash) *block {
	for _, b := range slices.Backward(n.path) {
		if b.hash == hash {
			return b
		}
	}
	return nil
}

func (n *node) hear(ask wire.Message) []wire.Message {
	n.taken[ask.Command()]++
	if n.mute != nil && n.mute(ask) {
		return nil
	}
	say := n.answer(ask)
	if n.twist != nil {
		say = n.twist(ask, say)
	}
	return say
}

func headersOf(blocks []*block) *wire.MsgHeaders {
	m := wire.NewMsgHeaders()
	for _, b := range blocks {
		m.Headers = append(m.Headers, &b.Header)
	}
	return m
}

func (n *node) answer(ask wire.Message) (say []wire.Message) {
	switch ask := ask.(type) {
	case *wire.MsgGetHeaders:
		from := int32(0)
		for _, h := range ask.BlockLocatorHashes {
			if b := n.find(*h); b != nil {
				from = b.height
				break
			}
		}
		rest := n.path[from+1:]
		return []wire.Message{headersOf(rest[:min(len(rest), wire.MaxBlockHeadersPerMsg)])}
	case *wire.MsgGetCFCheckpt:
		stop := n.find(ask.StopHash)
		if stop == nil {
			return nil
		}
		m := wire.NewMsgCFCheckpt(wire.GCSFilterRegular, &ask.StopHash, 0)
		for h := int32(header.Interval); h <= stop.height; h += header.Interval {
			m.FilterHeaders = append(m.FilterHeaders, &n.headers[h])
		}
		return []wire.Message{m}
	case *wire.MsgGetCFHeaders:
		stop := n.find(ask.StopHash)
		if stop == nil || stop.height-int32(ask.StartHeight) >= 2000 {
			return nil
		}
		m := wire.NewMsgCFHeaders()
		m.StopHash = ask.StopHash
		m.PrevFilterHeader = n.headers[ask.StartHeight-1]
		for _, b := range n.path[ask.StartHeight : stop.height+1] {
			hash := filter.Hash(n.says(b))
			m.FilterHashes = append(m.FilterHashes, &hash)
		}
		return []wire.Message{m}
	case *wire.MsgGetCFilters:
		stop := n.find(ask.StopHash)
		if stop == nil || stop.height-int32(ask.StartHeight) >= 1000 {
			return nil
		}
		for _, b := range n.path[ask.StartHeight : stop.height+1] {
			say = append(say, wire.NewMsgCFilter(wire.GCSFilterRegular, &b.hash, n.says(b)))
		}
		return say
	case *wire.MsgGetData:
		missing := wire.NewMsgNotFound()
		for _, iv := range ask.InvList {
			if b := n.find(iv.Hash); b != nil {
				say = append(say, b.MsgBlock)
			} else if t := n.pool[iv.Hash]; t != nil {
				say = append(say, t)
			} else {
				missing.InvList = append(missing.InvList, iv)
			}
		}
		if len(missing.InvList) > 0 {
			say = append(say, missing)
		}
		return say
	case *wire.MsgInv:
		get := wire.NewMsgGetData()
		get.InvList = ask.InvList
		return []wire.Message{get}
	case *wire.MsgTx:
		n.pool[ask.TxHash()] = ask
	case *wire.MsgPing:
		return []wire.Message{wire.NewMsgPong(ask.Nonce)}
	}
	return nil
}

// A bench is a client, its disk, and the nodes it is connected to.
type bench struct {
	t       *testing.T
	tree    *tree
	options light.Options
	client  *light.Client
	disk    disk
	now     step.Time
	nodes   map[string]*node
	queue   []any // events on their way
	wake    step.Time
	banned  map[string]error
	dropped map[string]error
	done    map[string]step.Outcome
	filters map[int32]int // filters that the client got, by height
	blocks  map[int32]int
	rings   int
	steps   int
	every   int // steps between two comparisons of memory and disk
}

type disk map[string][]byte

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }
func (d disk) Scan(prefix string, yield func(string, []byte) bool) error {
	for _, key := range slices.Sorted(maps.Keys(d)) {
		if strings.HasPrefix(key, prefix) && !yield(key, d[key]) {
			break
		}
	}
	return nil
}

func newBench(t *testing.T, tr *tree, o light.Options) *bench {
	t.Helper()
	o.Params = tr.params
	b := &bench{
		t: t, tree: tr, options: o, disk: disk{}, now: step.Time(tr.params.GenesisBlock.Header.Timestamp.UnixMilli()) + 3*365*step.Day,
		nodes: map[string]*node{}, banned: map[string]error{}, dropped: map[string]error{}, done: map[string]step.Outcome{},
		filters: map[int32]int{}, blocks: map[int32]int{}, every: 1,
	}
	b.load()
	return b
}

func (b *bench) load() {
	b.t.Helper()
	var err error
	if b.client, err = light.Load(b.disk, b.options); err != nil {
		b.t.Fatal(err)
	}
}

// restart is a crash: connections and what was not written are gone.
func (b *bench) restart() {
	b.t.Helper()
	b.nodes, b.queue, b.wake = map[string]*node{}, nil, 0
	b.load()
	b.step(step.Rang{ID: step.Start})
}

func (b *bench) connect(nodes ...*node) {
	for _, n := range nodes {
		if b.banned[n.name] != nil || b.nodes[n.name] != nil {
			continue
		}
		// An old connection ends before the next one begins, with all it said.
		ended := step.Unlinked{Peer: n.name}
		if slices.Contains(b.queue, any(ended)) {
			b.queue = slices.DeleteFunc(b.queue, func(ev any) bool {
				r, ok := ev.(step.Recv)
				return ev == any(ended) || ok && r.From == n.name
			})
			b.step(ended)
		}
		b.nodes[n.name] = n
		b.step(light.Hello{Peer: n.name, Services: n.services, Height: n.tip().height})
	}
}

// join connects nodes and lets everything settle.
func (b *bench) join(nodes ...*node) {
	b.t.Helper()
	b.connect(nodes...)
	b.run()
}

func (b *bench) leave(n *node) {
	if b.nodes[n.name] != nil {
		delete(b.nodes, n.name)
		b.queue = slices.DeleteFunc(b.queue, func(ev any) bool { r, ok := ev.(step.Recv); return ok && r.From == n.name })
		b.step(step.Unlinked{Peer: n.name})
	}
}

// announce has nodes follow a chain and say so.
func (b *bench) announce(tip *block, nodes ...*node) {
	for _, n := range nodes {
		fork := tip
		for !n.has(fork) {
			fork = fork.parent
		}
		n.follow(tip)
		if b.nodes[n.name] == n && len(n.path)-int(fork.height)-1 > 0 {
			fresh := n.path[fork.height+1:]
			b.say(n, headersOf(fresh[:min(len(fresh), 2000)]))
		}
	}
}

func (b *bench) say(n *node, msgs ...wire.Message) {
	for _, m := range msgs {
		b.queue = append(b.queue, step.Recv{From: n.name, Msg: m})
	}
}

func (b *bench) step(events ...any) {
	b.t.Helper()
	for _, ev := range events {
		if r, ok := ev.(step.Recv); ok && b.nodes[r.From] != nil {
			switch m := r.Msg.(type) {
			case *wire.MsgCFilter:
				if k := b.tree.blocks[m.BlockHash]; k != nil {
					b.filters[k.height]++
				}
			case *wire.MsgBlock:
				if k := b.tree.blocks[m.BlockHash()]; k != nil {
					b.blocks[k.height]++
				}
			}
		}
	}
	fx := b.client.Step(step.Input{At: b.now, Events: events})
	for _, r := range fx.Put {
		if r.Value == nil {
			delete(b.disk, r.Key)
		} else {
			b.disk[r.Key] = bytes.Clone(r.Value)
		}
	}
	if b.steps++; b.steps%b.every == 0 {
		b.check()
	}
	for _, p := range fx.Send {
		b.carry(p)
	}
	for _, a := range fx.Wake {
		b.wake = a.At
	}
	for _, o := range fx.Done {
		b.done[o.ID] = o
	}
}

func (b *bench) check() {
	b.t.Helper()
	if err := b.client.Bounded(); err != nil {
		b.t.Fatalf("step %d: %v", b.steps, err)
	}
	again, err := light.Load(b.disk, b.options)
	if err != nil {
		b.t.Fatalf("step %d: it would not start again: %v", b.steps, err)
	}
	if is, was := again.Durable(), b.client.Durable(); is != was {
		b.t.Fatalf("step %d: disk and memory differ\n--- disk\n%s\n--- memory\n%s", b.steps, is, was)
	}
}

func (b *bench) carry(p step.Packet) {
	switch msg := p.Msg.(type) {
	case light.Drop:
		b.dropped[msg.Peer] = msg.Why
		if msg.Ban {
			b.banned[msg.Peer] = msg.Why
		}
		if b.nodes[msg.Peer] != nil {
			delete(b.nodes, msg.Peer)
			b.queue = append(b.queue, step.Unlinked{Peer: msg.Peer})
		}
	case light.Fetch:
		b.queue = append(b.queue, light.Fetched{Interval: msg.Interval, Hashes: light.ReadHashes(b.disk[light.HashesKey(msg.Interval)])})
	case light.Changed:
		b.rings++
	case wire.Message:
		if n := b.nodes[p.To]; n != nil {
			b.say(n, n.hear(msg)...)
		}
	}
}

// run delivers what is on its way, until nothing is.
func (b *bench) run() {
	b.t.Helper()
	for n := 0; len(b.queue) > 0; n++ {
		if n > 60_000 {
			b.t.Fatal("still busy after 60,000 events")
		}
		ev := b.queue[0]
		b.queue = b.queue[1:]
		b.step(ev)
	}
}

// pass lets time go by, and alarms go off.
func (b *bench) pass(d step.Time) {
	b.t.Helper()
	for end, n := b.now+d, 0; ; n++ {
		if b.run(); n > 1000 {
			b.t.Fatal("an alarm goes off for ever")
		}
		if b.wake == 0 || b.wake > end {
			b.now = end
			return
		}
		b.now, b.wake = max(b.wake, b.now), 0
		b.step(step.Rang{ID: "late"})
	}
}

func (b *bench) watch(since int32, scripts ...[]byte) {
	b.t.Helper()
	var all []watch.Script
	for _, s := range scripts {
		all = append(all, watch.Script{Script: s, Since: since})
	}
	b.step(light.Watch{Scripts: all})
}

// synced fails unless the client has looked through a chain.
func (b *bench) synced(tip *block) {
	b.t.Helper()
	ok, err := b.client.State()
	if height, hash := b.client.Tip(); !ok || hash != tip.hash {
		b.t.Fatalf("synced is %v, tip %d %v, trouble %v; want %d %v; dropped: %v\n%+v", ok, height, hash, err, tip.height, tip.hash, b.dropped, b.client.Summary(b.now))
	}
}

// agrees compares what is known of scripts with a ledger of all blocks.
func (b *bench) agrees(tip *block, scripts ...[]byte) {
	b.t.Helper()
	b.synced(tip)
	if err := compare(b.client, tip, scripts...); err != nil {
		b.t.Fatal(err)
	}
}

func compare(c *light.Client, tip *block, scripts ...[]byte) error {
	full := fullLedger(tip)
	for i, s := range scripts {
		if !c.Looked(s, 0) {
			return fmt.Errorf("script %d is not looked for in all blocks: %+v", i, c.Summary(0))
		}
		mine, all := c.Coins(s), full.Coins(s, nil)
		same := slices.EqualFunc(mine, all, func(x, y watch.Coin) bool {
			return x.Point == y.Point && x.Value == y.Value && x.Depth == y.Depth && x.Coinbase == y.Coinbase
		})
		if !same {
			return fmt.Errorf("coins of script %d are\n%+v; a full ledger says\n%+v", i, mine, all)
		}
		for _, coin := range mine {
			root, err := coin.Proof.Branch.Root(coin.Tx)
			b := tip
			for b.height > coin.Proof.Height {
				b = b.parent
			}
			if err != nil || root != b.Header.MerkleRoot {
				return fmt.Errorf("the proof of coin %v leads to %v, error %v; want %v", coin.Point, root, err, b.Header.MerkleRoot)
			}
		}
	}
	for _, m := range full.All() {
		for i, o := range m.Tx.TxOut {
			if !slices.ContainsFunc(scripts, func(s []byte) bool { return bytes.Equal(s, o.PkScript) }) {
				continue
			}
			asked := watch.Output{Point: wire.OutPoint{Hash: m.ID, Index: uint32(i)}, Script: o.PkScript}
			is, want := c.Status(asked), full.Status(asked)
			if (is.Spender == nil) != (want.Spender == nil) || is.Spender != nil && is.Spender.TxHash() != want.Spender.TxHash() {
				return fmt.Errorf("output %v is spent by %v; a full ledger says %v", asked.Point, is.Spender, want.Spender)
			}
			is.Spender, want.Spender = nil, nil
			if is != want {
				return fmt.Errorf("status is %+v; a full ledger says %+v", is, want)
			}
		}
	}
	return nil
}

func fullLedger(tip *block) *ledger.Ledger {
	l := ledger.New(tip.height)
	for b := tip; b != nil; b = b.parent {
		if len(b.Transactions) == 1 {
			continue // a reward that nobody watches
		}
		for i, t := range b.Transactions {
			l.Add(ledger.Mined{Tx: t, ID: t.TxHash(), Height: b.height, Index: int32(i)})
		}
	}
	return l
}

func (b *bench) isBanned(n *node, why string) {
	b.t.Helper()
	if err := b.banned[n.name]; err == nil || !strings.Contains(err.Error(), why) {
		b.t.Errorf("%s is banned for %v; want it for %q; dropped for %v", n.name, err, why, b.dropped[n.name])
	}
}

func (b *bench) isKept(nodes ...*node) {
	b.t.Helper()
	for _, n := range nodes {
		if b.nodes[n.name] == nil {
			b.t.Errorf("%s, who is honest, was dropped: %v", n.name, b.dropped[n.name])
		}
	}
}

func regtest() *chaincfg.Params { p := chaincfg.RegressionNetParams; return &p }

var errNone = errors.New("no outcome")

func (b *bench) outcome(id string) step.Outcome {
	if o, ok := b.done[id]; ok {
		return o
	}
	return step.Outcome{Err: errNone}
}
