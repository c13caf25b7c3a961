package lab

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/world/store"
)

const (
	// MaxDoorDevices is what the rails' payees take, and what a process may open
	// of sockets.
	MaxDoorDevices = 10_000
	// MaxDoorFor bounds a measurement.
	MaxDoorFor = 10 * time.Minute
	// MaxPast bounds the past orders that are made up.
	MaxPast = 10_000_000

	maxMemory = 1 << 20 // MiB

	// doorWarmUp comes before what is measured: everything has its size then.
	doorWarmUp = 3 * time.Second
	// doorOpenTime is how long the devices may take to connect and to open their
	// channels, and to hear the last answers.
	doorOpenTime = 3 * time.Minute
)

// The doors, and what pays at them.
const (
	doorMQTT = "mqtt"
	doorHTTP = "http"
	doorCoAP = "coap"

	railPayword = "payword"
	railOneway  = "oneway"
	railFake    = "fake"
)

// DoorOptions say what to measure at the door of a gateway.
type DoorOptions struct {
	Door    string // mqtt, http or coap
	Rail    string // of the devices at mqtt: payword or oneway
	Store   string // scheme
	Devices int    // or connections, at http
	For     time.Duration
	Verify  int    // mqtt by payword: devices check the signature of one stamp in so many; 1 is all
	DTLS    bool   // coap only
	Past    int    // orders that the gateway has in its books when it starts
	Memory  int    // MiB above which the gateway collects garbage eagerly (GOMEMLIMIT); 0: no limit
	Dir     string // where the stores are made; "" is the system's place for such
	Profile string // a directory for CPU and heap profiles; "" makes none
	// Command starts an end: a program and its arguments.
	Command []string
}

// Fill sets what is not said.
func (o *DoorOptions) Fill() {
	o.Verify = cmp.Or(o.Verify, 1)
	o.Store, o.For = cmp.Or(o.Store, "pebble"), cmp.Or(o.For, 30*time.Second)
	switch o.Door {
	case doorMQTT:
		o.Rail, o.Devices = cmp.Or(o.Rail, railPayword), cmp.Or(o.Devices, 10_000)
	case doorHTTP:
		o.Rail, o.Devices = cmp.Or(o.Rail, railFake), cmp.Or(o.Devices, 64)
	case doorCoAP:
		o.Rail, o.Devices = cmp.Or(o.Rail, railFake), cmp.Or(o.Devices, 1000)
	}
}

// Check reports what cannot be measured, before anything is started.
func (o *DoorOptions) Check() error {
	invalid := func(format string, args ...any) error {
		return &money.Error{Kind: money.Invalid, Op: "lab", Err: fmt.Errorf(format, args...)}
	}
	switch {
	case o.Door != doorMQTT && o.Door != doorHTTP && o.Door != doorCoAP:
		return invalid("door is %.20q; it must be %s, %s or %s", o.Door, doorMQTT, doorHTTP, doorCoAP)
	case o.Door == doorMQTT && o.Rail != railPayword && o.Rail != railOneway:
		return invalid("rail is %.20q; devices at mqtt pay over %s or %s", o.Rail, railPayword, railOneway)
	case o.Door != doorMQTT && o.Rail != railFake:
		return invalid("rail is %.20q; the sessions of this door are bought with play money, rail %s", o.Rail, railFake)
	case o.Devices < 1 || o.Devices > MaxDoorDevices:
		return invalid("devices is %d; it must be 1 to %d", o.Devices, MaxDoorDevices)
	case o.For < time.Second || o.For > MaxDoorFor:
		return invalid("for is %v; it must be %v to %v", o.For, time.Second, MaxDoorFor)
	case o.Past < 0 || o.Past > MaxPast:
		return invalid("past is %d; it must be 0 to %d", o.Past, MaxPast)
	case o.Verify < 1 || o.Verify > 1 && (o.Door != doorMQTT || o.Rail != railPayword):
		return invalid("verify is %d; it must be 1, or more for rail %s", o.Verify, railPayword)
	case o.Memory < 0 || o.Memory > maxMemory:
		return invalid("memory is %d MiB; it must be 0 to %d", o.Memory, maxMemory)
	case o.DTLS && o.Door != doorCoAP:
		return invalid("dtls is for door %s", doorCoAP)
	case store.Default[o.Store] == nil:
		return invalid("no store of this build is called %q", o.Store)
	}
	return nil
}

// A doorTask is what an end is asked about a door. Each question uses some.
type doorTask struct {
	Door    string        `json:"door"`
	Rail    string        `json:"rail,omitempty"`
	Devices int           `json:"devices,omitempty"`
	Seed    []byte        `json:"seed,omitempty"` // of the devices' keys
	Dir     string        `json:"dir,omitempty"`
	For     time.Duration `json:"for,omitempty"`
	Past    int           `json:"past,omitempty"`
	Memory  int           `json:"memory,omitempty"`
	Verify  int           `json:"verify,omitempty"`
	DTLS    bool          `json:"dtls,omitempty"`
	Profile string        `json:"profile,omitempty"`

	Store    string   `json:"store,omitempty"`
	Upstream string   `json:"upstream,omitempty"` // of the gateway's paywall
	At       doorNews `json:"at"`                 // the gateway, for who visits it

	Script []byte   `json:"script,omitempty"` // that the faucet pays
	Gifts  []string `json:"gifts,omitempty"`  // outpoints, each of Sat
	Count  int      `json:"count,omitempty"`
	Sat    int64    `json:"sat,omitempty"`
	Txs    [][]byte `json:"txs,omitempty"`
	Tip    int32    `json:"tip,omitempty"`

	Phase string `json:"phase,omitempty"`
	Rest  bool   `json:"rest,omitempty"`
}

// doorNews is what an end says of a door.
type doorNews struct {
	Key      string            `json:"key,omitempty"` // of the gateway's node
	Addrs    map[string]string `json:"addrs,omitempty"`
	Token    string            `json:"token,omitempty"` // the operator's
	OpenMs   float64           `json:"open_ms,omitempty"`
	Upstream string            `json:"upstream,omitempty"`
	Script   []byte            `json:"script,omitempty"`
	Gifts    []string          `json:"gifts,omitempty"`
	Txs      [][]byte          `json:"txs,omitempty"`
	Tip      int32             `json:"tip,omitempty"`
	Counts   *doorCounts       `json:"counts,omitempty"`
	Went     *doorPhase        `json:"went,omitempty"`
}

// doorCounts is what one end has done and has.
type doorCounts struct {
	counts
	BooksLag *uint64       `json:"books_lag,omitempty"` // events that the books do not have yet
	Booked   *money.Amount `json:"booked_msat,omitempty"`
	Files    *uint64       `json:"files,omitempty"` // bytes in its folder
	Heap     *uint64       `json:"heap,omitempty"`  // bytes of objects, as Go's runtime counts them
	Stacks   *uint64       `json:"stacks,omitempty"`
}

// doorPhase is how a workload went, as the visitors' clocks saw it.
type doorPhase struct {
	Took       time.Duration     `json:"took_ns"`
	Offered    uint64            `json:"offered"`
	Done       uint64            `json:"done"`
	Refused    uint64            `json:"refused"`
	Lost       uint64            `json:"lost"`
	Reconnects uint64            `json:"reconnects"`
	P50        time.Duration     `json:"p50_ns"`
	P95        time.Duration     `json:"p95_ns"`
	P99        time.Duration     `json:"p99_ns"`
	Max        time.Duration     `json:"max_ns"`
	Late       time.Duration     `json:"late_ns"` // 99 of 100 were sent at most so late
	Codes      map[string]uint64 `json:"codes,omitempty"`
}

func (p *doorPhase) quantiles(h *histogram) {
	p.P50, p.P95, p.P99, p.Max = h.quantile(0.50), h.quantile(0.95), h.quantile(0.99), h.quantile(1-1e-12)
}

// A load is the visitors of a door, in a process of their own.
type load interface {
	// do is one stage of the visit.
	do(ctx context.Context, what string, t *doorTask) (*doorNews, error)
	count() (doorCounts, error)
	// paid is how many payments of the phase are done.
	paid() *atomic.Int64
	close()
}

// door answers a question about a door, in a process that is one of its ends.
func (e *end) door(ctx context.Context, q question) (n *doorNews, err error) {
	t := q.Door
	switch {
	case q.Do == "door past":
		return &doorNews{}, makePast(ctx, t)
	case q.Do == "door profile":
		e.profiler.start(t.Profile)
		return &doorNews{}, nil
	case q.Do == "door gate":
		e.gate, n, err = openGate(ctx, t)
		return n, err
	case q.Do == "door load":
		switch t.Door {
		case doorMQTT:
			e.load, n = newCrowd(), &doorNews{}
		case doorHTTP:
			e.load, n, err = newRush()
		case doorCoAP:
			e.load, n = newReaders(), &doorNews{}
		}
		return n, err
	case q.Do == "door count" && e.gate != nil:
		c, err := e.gate.count(ctx, t.Rest)
		return &doorNews{Counts: &c}, err
	case q.Do == "door count" && e.load != nil:
		c, err := e.load.count()
		return &doorNews{Counts: &c}, err
	case e.gate != nil:
		return e.gate.do(ctx, q.Do, t)
	case e.load != nil && q.Do == "door visit":
		finished := make(chan struct{})
		var telling sync.WaitGroup
		telling.Go(func() { e.report(finished, e.load.paid()) })
		n, err = e.load.do(ctx, q.Do, t)
		close(finished)
		telling.Wait()
		return n, err
	case e.load != nil:
		return e.load.do(ctx, q.Do, t)
	}
	return nil, fmt.Errorf("no end of a door does %q", q.Do)
}

// doorBench is one run at a door.
type doorBench struct {
	DoorOptions
	dir        string
	gate, load *child
	at         doorNews // the gateway
	seed       []byte
}

// RunDoor measures a door once: a gateway and its visitors, two processes on one
// computer. progress hears how many payments are done.
func RunDoor(ctx context.Context, o DoorOptions, progress func(done uint64)) (r DoorResult, err error) {
	if err := o.Check(); err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp(o.Dir, "coinop-door-")
	if err != nil {
		return r, fmt.Errorf("lab: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, 2*doorOpenTime+6*o.For+time.Duration(o.Past)*time.Millisecond/2)
	defer cancel()
	b := &doorBench{DoorOptions: o, dir: dir, seed: make([]byte, 32)}
	rand.Read(b.seed)
	r = DoorResult{Door: o.Door, Rail: o.Rail, Store: o.Store, Devices: o.Devices, ForS: o.For.Seconds(), DTLS: o.DTLS, Past: o.Past, Memory: o.Memory, Verify: o.Verify, Load: loadAverage()}
	defer b.stop()
	if err := b.open(ctx, &r); err != nil {
		return r, fmt.Errorf("open the gateway: %w", err)
	}
	switch o.Door {
	case doorMQTT:
		err = b.crowd(ctx, &r, progress)
	case doorHTTP:
		err = b.rush(ctx, &r, progress)
	case doorCoAP:
		err = b.readers(ctx, &r, progress)
	}
	if err == nil && o.Past > 0 {
		err = b.pages(ctx, &r)
	}
	return r, err
}

func (b *doorBench) stop() {
	b.load.stop()
	b.gate.stop()
}

func (b *doorBench) task() *doorTask {
	return &doorTask{Door: b.Door, Rail: b.Rail, Devices: b.Devices, Seed: b.seed, Dir: b.dir, For: b.For, DTLS: b.DTLS, Past: b.Past, Memory: b.Memory, Verify: b.Verify, At: b.at}
}

// profile has both ends profile what follows: what is measured, and not how it was
// prepared.
func (b *doorBench) profile(ctx context.Context) error {
	if b.Profile == "" {
		return nil
	}
	for _, end := range []*child{b.gate, b.load} {
		t := b.task()
		t.Profile = filepath.Join(b.Profile, end.name)
		if _, err := b.ask(ctx, end, "door profile", t); err != nil {
			return err
		}
	}
	return nil
}

// open starts both processes: the visitors first, because what the gateway stands
// before is with them.
func (b *doorBench) open(ctx context.Context, r *DoorResult) (err error) {
	if b.load, err = start("load", b.Command); err != nil {
		return err
	}
	n, err := b.ask(ctx, b.load, "door load", b.task())
	if err != nil {
		return err
	}
	if b.Past > 0 {
		if _, err := b.ask(ctx, b.load, "door past", b.task()); err != nil {
			return err
		}
	}
	begin := time.Now()
	if b.gate, err = start("gateway", b.Command); err != nil {
		return err
	}
	t := b.task()
	t.Upstream, t.Store = n.Upstream, b.storeURI()
	if n, err = b.ask(ctx, b.gate, "door gate", t); err != nil {
		return err
	}
	r.StartMs, r.OpenMs = figure(time.Since(begin).Seconds()*1e3), figure(n.OpenMs)
	b.at = doorNews{Key: n.Key, Addrs: n.Addrs, Token: n.Token, Tip: n.Tip}
	return nil
}

func (b *doorBench) storeURI() string {
	if b.Store == "mem" {
		return "mem:"
	}
	return (&url.URL{Scheme: b.Store, Path: filepath.ToSlash(filepath.Join(b.dir, "state"))}).String()
}

func (b *doorBench) ask(ctx context.Context, c *child, do string, t *doorTask) (*doorNews, error) {
	return b.follow(ctx, c, do, t, func(uint64) {})
}

func (b *doorBench) follow(ctx context.Context, c *child, do string, t *doorTask, progress func(uint64)) (*doorNews, error) {
	a, err := c.follow(ctx, question{Do: do, Door: t}, progress)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.TrimPrefix(do, "door "), err)
	}
	if a.Door == nil {
		return nil, errors.New("an end says nothing")
	}
	return a.Door, nil
}

// doorAt is the counters of both ends at a time.
type doorAt struct{ gate, load doorCounts }

func (b *doorBench) count(ctx context.Context, rest bool) (at doorAt, err error) {
	t := b.task()
	t.Rest = rest
	for _, end := range []struct {
		c  *child
		to *doorCounts
	}{{b.gate, &at.gate}, {b.load, &at.load}} {
		n, err := b.ask(ctx, end.c, "door count", t)
		if err != nil {
			return at, err
		}
		*end.to = *n.Counts
	}
	return at, nil
}

// phase has the visitors do something, between two counts.
func (b *doorBench) phase(ctx context.Context, what string, d time.Duration, progress func(uint64)) (p doorPhase, before, after doorAt, err error) {
	if before, err = b.count(ctx, false); err != nil {
		return p, before, after, err
	}
	t := b.task()
	t.Phase, t.For = what, d
	n, err := b.follow(ctx, b.load, "door visit", t, progress)
	if err != nil {
		return p, before, after, err
	}
	after, err = b.count(ctx, false)
	return *n.Went, before, after, err
}
