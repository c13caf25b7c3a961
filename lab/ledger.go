package lab

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/world/store"
)

const (
	// MaxLedgerNodes bounds the processes of one measurement.
	MaxLedgerNodes = 32
	// MaxLedgerTransfers bounds what is made before it begins.
	MaxLedgerTransfers = 5_000_000
	// ledgerPatience is how long the last transfers may take to be final.
	ledgerPatience = 60 * time.Second
	// ledgerWindow is how many transfers all nodes have under way at most when there
	// is no rate.
	ledgerWindow = 1600
)

// The ledgers that a network of nodes is measured of.
const (
	railNano = "nano"
	railIota = "iota"
)

// Ledgers lists their rails.
func Ledgers() []string { return []string{railNano, railIota} }

// LedgerOptions say what to measure of a network of nodes.
type LedgerOptions struct {
	Rail      string // nano or iota
	Nodes     int    // each a process, and each with an equal vote
	Store     string // scheme
	Accounts  int    // that send to each other in turns
	Transfers int
	Rate      int    // of transfers a second; 0: as many as get through
	Dir       string // where the stores are made; "" is the system's place for such
	Profile   string // a directory for CPU and heap profiles; "" makes none
	// Command starts a node: a program and its arguments.
	Command []string

	// Of iota: the time between milestones, how many blocks' tips are chosen by a
	// walk with Alpha (0: uniformly without a walk), and the trailing zeros of a
	// block's work.
	Interval time.Duration
	Alpha    float64
	Zeros    int
}

// Fill sets what is not said.
func (o *LedgerOptions) Fill() {
	o.Store, o.Nodes = cmp.Or(o.Store, "pebble"), cmp.Or(o.Nodes, 4)
	o.Accounts, o.Transfers = cmp.Or(o.Accounts, 2000), cmp.Or(o.Transfers, 30_000)
	o.Interval, o.Zeros = cmp.Or(o.Interval, time.Second), cmp.Or(o.Zeros, 1)
}

// Check reports what cannot be measured, before anything is started.
func (o *LedgerOptions) Check() error {
	invalid := func(format string, args ...any) error {
		return &money.Error{Kind: money.Invalid, Op: "lab", Err: fmt.Errorf(format, args...)}
	}
	switch {
	case !slices.Contains(Ledgers(), o.Rail):
		return invalid("rail %.20q is no ledger of its own nodes; %v are", o.Rail, Ledgers())
	case o.Nodes < 1 || o.Nodes > MaxLedgerNodes:
		return invalid("nodes is %d; it must be 1 to %d", o.Nodes, MaxLedgerNodes)
	case o.Accounts < 2*o.Nodes || o.Accounts > 100_000:
		return invalid("accounts is %d; it must be %d to %d", o.Accounts, 2*o.Nodes, 100_000)
	case o.Transfers < 1 || o.Transfers > MaxLedgerTransfers:
		return invalid("transfers is %d; it must be 1 to %d", o.Transfers, MaxLedgerTransfers)
	case o.Rate < 0 || o.Rate > 1_000_000:
		return invalid("rate is %d a second; it must be 0 to 1000000", o.Rate)
	case o.Interval < 50*time.Millisecond || o.Interval > time.Minute:
		return invalid("interval is %v; it must be 50ms to 1m", o.Interval)
	case o.Zeros < 0 || o.Zeros > 40:
		return invalid("zeros is %d; it must be 0 to 40", o.Zeros)
	case store.Default[o.Store] == nil:
		return invalid("no store of this build is called %q", o.Store)
	}
	return nil
}

// A unit is a signed thing for one node to put into its ledger: a block, or a
// transaction. It is final when its ID is.
type unit struct {
	node int
	id   [32]byte
	raw  []byte
}

// A network makes everything that is submitted, before it is measured.
type network interface {
	// task is how node i is opened.
	task(i int) ledgerTask
	// setup is what comes first: round by round, each when the one before is final.
	setup() [][]unit
	// transfers are so many, each of some units.
	transfers(n int) []unit
	units() int // of a transfer
	// made is what the transfers so far were, to compare with what is seen of them.
	made() []sighting
}

// A ledgerTask is what a node is asked. Each question uses some.
type ledgerTask struct {
	Rail     string        `json:"rail"`
	Node     int           `json:"node"`
	Store    string        `json:"store,omitempty"`
	Profile  string        `json:"profile,omitempty"`
	Listen   string        `json:"listen,omitempty"`
	Peers    []string      `json:"peers,omitempty"`
	Network  []byte        `json:"network,omitempty"` // as the rail has it
	Interval time.Duration `json:"interval,omitempty"`
	Alpha    float64       `json:"alpha,omitempty"`

	Feed   string  `json:"feed,omitempty"`   // a file of units: submit those that are this node's, and wait for all
	Rate   float64 `json:"rate,omitempty"`   // of units a second; 0: a window
	Window int     `json:"window,omitempty"` // units under way
	Times  string  `json:"times,omitempty"`  // a file for when each was submitted and final here
	UpTo   uint64  `json:"up_to,omitempty"`  // blocks in the ledger
	Verify string  `json:"verify,omitempty"` // a file of units whose signatures are checked in batches

	Seen [][][32]byte `json:"seen,omitempty"` // transfers by their units, which the ledger is asked for
}

// ledgerNews is what a node answers.
type ledgerNews struct {
	Addr     string        `json:"addr,omitempty"`
	Took     time.Duration `json:"took_ns,omitempty"`
	VerifyUs *float64      `json:"verify_us,omitempty"`
	Final    uint64        `json:"final,omitempty"` // all that is, since the ledger began
	Lost     uint64        `json:"lost,omitempty"`
	Seen     []sighting    `json:"seen,omitempty"`
}

// RunLedger measures a network of nodes once. progress hears how many transfers are
// final.
func RunLedger(ctx context.Context, o LedgerOptions, progress func(done uint64)) (r LedgerResult, err error) {
	if err := o.Check(); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(o.Dir, "coinop-lab-")
	if err != nil {
		return r, fmt.Errorf("lab: %w", err)
	}
	defer os.RemoveAll(dir)
	l := &ledgerBench{LedgerOptions: o, dir: dir}
	defer l.stop()
	switch o.Rail {
	case railNano:
		l.network = newLatticeNetwork(o)
	default:
		l.network, err = newTangleNetwork(o)
	}
	if err != nil {
		return r, err
	}
	if err := l.open(ctx); err != nil {
		return r, fmt.Errorf("open the network: %w", err)
	}
	for i, round := range l.network.setup() {
		if _, err := l.feed(ctx, fmt.Sprint("setup", i), round, 0, func(uint64) {}); err != nil {
			return r, fmt.Errorf("share out the supply: %w", err)
		}
	}
	return l.measure(ctx, progress)
}

// ledgerBench is one run.
type ledgerBench struct {
	LedgerOptions
	network network
	dir     string
	nodes   []*child
	lost    uint64 // messages, by the last count and those before
}

func (l *ledgerBench) stop() {
	for _, n := range l.nodes {
		n.stop()
	}
}

func (l *ledgerBench) file(name string) string { return filepath.Join(l.dir, name) }

// open starts the nodes one after another; each dials those before it.
func (l *ledgerBench) open(ctx context.Context) error {
	var addrs []string
	for i := range l.Nodes {
		c, err := start(fmt.Sprint("node ", i), l.Command)
		if err != nil {
			return err
		}
		l.nodes = append(l.nodes, c)
		t := l.network.task(i)
		t.Rail, t.Node, t.Peers, t.Listen, t.Store = l.Rail, i, addrs, "127.0.0.1:0", "mem:"
		t.Interval, t.Alpha = l.Interval, l.Alpha
		if l.Store != "mem" {
			t.Store = l.storeURI(i)
		}
		if l.Profile != "" {
			t.Profile = filepath.Join(l.Profile, fmt.Sprint("node", i))
		}
		a, err := c.ask(ctx, question{Do: "ledger open", Ledger: &t})
		if err != nil {
			return err
		}
		addrs = append(addrs, a.Ledger.Addr)
	}
	return nil
}

// storeMemory is what a node's pebble is given, in MiB: a ledger is read, too.
const storeMemory = 64

func (l *ledgerBench) storeURI(i int) string {
	u := url.URL{Scheme: l.Store, Path: filepath.ToSlash(l.file(fmt.Sprint("node", i)))}
	if l.Store == "pebble" {
		u.RawQuery = fmt.Sprint("memory=", storeMemory)
	}
	return u.String()
}

// feed has all nodes submit their units of a list, and waits until all are final
// everywhere.
func (l *ledgerBench) feed(ctx context.Context, name string, units []unit, rate float64, progress func(uint64)) (took time.Duration, err error) {
	file := l.file(name)
	if err := writeUnits(file, units); err != nil {
		return 0, err
	}
	for i, n := range l.nodes {
		if _, err := n.ask(ctx, question{Do: "ledger want", Ledger: &ledgerTask{Rail: l.Rail, Feed: file, Node: i}}); err != nil {
			return 0, err
		}
	}
	type end struct {
		took time.Duration
		err  error
	}
	ends := make(chan end, len(l.nodes))
	for i, n := range l.nodes {
		t := ledgerTask{Node: i, Rate: rate / float64(len(l.nodes)), Window: l.window(), Times: l.file(fmt.Sprint(name, ".times", i))}
		hear := func(uint64) {}
		if i == 0 {
			hear = progress
		}
		go func() {
			a, err := n.follow(ctx, question{Do: "ledger feed", Ledger: &t}, hear)
			e := end{err: err}
			if a.Ledger != nil {
				e.took = a.Ledger.Took
			}
			ends <- e
		}()
	}
	for range l.nodes {
		e := <-ends
		took = max(took, e.took)
		err = errors.Join(err, e.err)
	}
	return took, err
}

// window is how many units each node has under way.
func (l *ledgerBench) window() int {
	if l.Rail == railIota {
		return tangleWindow / l.Nodes
	}
	return ledgerWindow * l.network.units() / l.Nodes
}

func (l *ledgerBench) count(ctx context.Context, rest bool) (all []counts, err error) {
	for _, n := range l.nodes {
		a, err := n.ask(ctx, question{Do: "ledger count", Rest: rest})
		if err != nil {
			return nil, err
		}
		all = append(all, *a.Counts)
		l.lost += a.Ledger.Lost
	}
	return all, nil
}

// measure makes all transfers first, so that their signatures and work are nobody's
// cost, and then lets the nodes have them.
func (l *ledgerBench) measure(ctx context.Context, progress func(uint64)) (r LedgerResult, err error) {
	per := l.network.units()
	warm := l.network.transfers(min(l.Accounts, l.Transfers/2+1))
	units := l.network.transfers(l.Transfers)
	if _, err := l.feed(ctx, "warm", warm, 0, func(uint64) {}); err != nil {
		return r, err
	}
	before, err := l.count(ctx, false)
	if err != nil {
		return r, err
	}
	size, lost := l.size(), l.lost
	took, err := l.feed(ctx, "transfers", units, float64(l.Rate*per), func(done uint64) { progress(done / uint64(per)) })
	if err != nil {
		return r, err
	}
	after, err := l.count(ctx, false)
	if err != nil {
		return r, err
	}
	r = newLedgerResult(l, took, before, after)
	r.Lost = l.lost - 2*lost // counts go on
	r.GrowthBytes = scaled(difference(l.size(), size), 1/float64(l.Transfers))
	if r.latencies, err = l.latencies(); err != nil {
		return r, err
	}
	a, err := l.nodes[0].ask(ctx, question{Do: "ledger verify", Ledger: &ledgerTask{Verify: l.file("transfers")}})
	if err != nil {
		return r, err
	}
	r.limit(a.Ledger.VerifyUs, runtime.NumCPU(), per)
	var ids [][][32]byte
	for some := range slices.Chunk(units, per) {
		var one [][32]byte
		for _, u := range some {
			one = append(one, u.id)
		}
		ids = append(ids, one)
	}
	made := l.network.made()
	r.Linked, r.Taken, err = l.observe(ctx, ids, made[len(made)-len(ids):])
	return r, err
}

// size is what all stores have on the disk; nil if they are nowhere.
func (l *ledgerBench) size() *float64 {
	if l.Store == "mem" {
		return nil
	}
	total := 0.0
	for i := range l.nodes {
		err := filepath.WalkDir(l.file(fmt.Sprint("node", i)), func(_ string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return nil // a file that a compaction has taken away meanwhile
			}
			if info, err := d.Info(); err == nil {
				total += float64(info.Size())
			}
			return nil
		})
		if err != nil {
			return nil
		}
	}
	return &total
}

// latencies reads when every transfer's last unit was final, and when its first was
// submitted: at the node that it was given to, and at the last of all nodes.
func (l *ledgerBench) latencies() (own [2]*histogram, err error) {
	own = [2]*histogram{new(histogram), new(histogram)}
	type moment struct {
		submitted, here, last int64
		by                    uint64
	}
	all, marks := map[[8]byte]*moment{}, map[uint64]int64{} // when a milestone was confirmed by the last node
	for i := range l.nodes {
		raw, err := os.ReadFile(l.file(fmt.Sprint("transfers.times", i)))
		if err != nil {
			return own, err
		}
		for ; len(raw) >= momentSize; raw = raw[momentSize:] {
			at := func(i int) int64 { return int64(binary.BigEndian.Uint64(raw[i:])) }
			id, submitted, final, by := [8]byte(raw), at(8), at(16), uint64(at(24))
			if id == ([8]byte{}) {
				marks[by] = max(marks[by], final)
				continue
			}
			m := all[id]
			if m == nil {
				m = &moment{by: by}
				all[id] = m
			}
			if submitted != 0 {
				m.submitted, m.here = submitted, final
			}
			m.last = max(m.last, final)
		}
	}
	for _, m := range all {
		if m.submitted != 0 {
			own[0].add(time.Duration(m.here - m.submitted))
			own[1].add(time.Duration(max(m.last, marks[m.by]) - m.submitted))
		}
	}
	return own, nil
}

// writeUnits writes a list for nodes to read.
func writeUnits(path string, units []unit) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for _, u := range units {
		var head [37]byte
		head[0] = byte(u.node)
		binary.BigEndian.PutUint32(head[1:], uint32(len(u.raw)))
		copy(head[5:], u.id[:])
		w.Write(head[:])
		w.Write(u.raw)
	}
	return errors.Join(w.Flush(), f.Close())
}

// maxUnit bounds one, in bytes.
const maxUnit = 65_536

func readUnits(path string) (units []unit, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		var head [37]byte
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return units, nil
		} else if err != nil {
			return nil, err
		}
		u := unit{node: int(head[0]), id: [32]byte(head[5:])}
		n := binary.BigEndian.Uint32(head[1:])
		if n > maxUnit {
			return nil, fmt.Errorf("%s has a unit of %d bytes; the limit is %d", path, n, maxUnit)
		}
		u.raw = make([]byte, n)
		if _, err := io.ReadFull(r, u.raw); err != nil {
			return nil, err
		}
		units = append(units, u)
	}
}
