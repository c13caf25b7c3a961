package light_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/ledger"
	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/step"
)

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
	checked int // at this step
	every   int // steps between two comparisons of memory and disk, at least
}

type disk map[string][]byte

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }

func (d disk) Scan(prefix string, yield func(string, []byte) bool) error {
	var keys []string
	for key := range d {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if !yield(key, d[key]) {
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
		b.step(light.Hello{Peer: n.name, Services: n.services})
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
	if b.steps++; b.steps-b.checked >= b.every {
		b.checkNowAndThen()
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

// checkNowAndThen compares memory and disk, the less often the longer that takes.
func (b *bench) checkNowAndThen() {
	b.t.Helper()
	chain := b.client.Headers()
	tip, _ := chain.Tip()
	if tail := int(tip - chain.Base()); tail < 100 || b.steps-b.checked >= tail {
		b.check()
	}
}

// check compares memory and disk.
func (b *bench) check() {
	b.t.Helper()
	b.checked = b.steps
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

// runUntil delivers what is on its way until something has happened.
func (b *bench) runUntil(happened func() bool) {
	b.t.Helper()
	for !happened() {
		if len(b.queue) == 0 {
			b.t.Fatal("it has not happened")
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
	b.check()
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

// excuses are why an honest peer may be dropped: it was slow, it has fallen behind,
// or there is no room.
var excuses = []string{"have not come within", "peers are connected", "which is not of our chain", "has less work than ours"}

// fair fails if a peer that is honest was dropped for something else.
func (b *bench) fair(honest ...*node) {
	b.t.Helper()
	for _, n := range honest {
		why := b.dropped[n.name]
		if b.banned[n.name] != nil || why != nil && !slices.ContainsFunc(excuses, func(e string) bool { return strings.Contains(why.Error(), e) }) {
			b.t.Fatalf("%s, who is honest, was dropped: %v", n.name, why)
		}
	}
}

var errNone = errors.New("no outcome")

func (b *bench) outcome(id string) step.Outcome {
	if o, ok := b.done[id]; ok {
		return o
	}
	return step.Outcome{Err: errNone}
}
