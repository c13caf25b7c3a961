package electrum

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/time/rate"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/world/chain"
)

const (
	// MaxConns bounds the connections at once. Each may hold MaxLine coming in and
	// MaxReply going out.
	MaxConns = 64

	// MaxLine bounds a request in bytes: a package of transactions, or a batch.
	MaxLine = 1 << 20

	// MaxReply bounds what is answered to one line: a transaction as large as a
	// block is asked of somebody else.
	MaxReply = 4 << 20

	// MaxBatch bounds the calls of one line.
	MaxBatch = 100

	// MaxSubscriptions bounds the scripts that a connection follows, each at about
	// 200 bytes.
	MaxSubscriptions = 10_000

	// MaxHistory bounds the transactions of a script that is asked about, as other
	// servers do: a script with more is an exchange's.
	MaxHistory = 10_000

	// MaxPackage bounds the transactions of a package (Bitcoin Core's
	// MAX_PACKAGE_COUNT).
	MaxPackage = 25

	// MaxPending bounds the broadcast transactions that are remembered for a
	// source that shows none of what waits.
	MaxPending = 256

	// IdleTimeout is how long a client may ask nothing: they ping every five
	// minutes.
	IdleTimeout = 10 * time.Minute

	// LineTimeout is from a line's first byte to its last, either way. Who reads
	// slower is dropped.
	LineTimeout = 30 * time.Second

	// Work is what a connection may have us do in a second, and MaxWork what it
	// may have saved up, in units of about ten microseconds. Who asks for more
	// waits.
	Work    = 5_000
	MaxWork = 20_000

	// PoolInterval is how often it is looked what waits for a block, while
	// somebody is connected.
	PoolInterval = 250 * time.Millisecond

	// blockCache bounds the blocks kept for the next question.
	blockCache = 8
)

// Limits on clients. A zero field means the constant of the same name.
type Limits struct {
	MaxConns         int
	MaxLine          int
	MaxSubscriptions int
	MaxHistory       int
	IdleTimeout      time.Duration
	LineTimeout      time.Duration
	Work             int
	MaxWork          int
}

func (l Limits) filled() Limits {
	l.MaxConns = cmp.Or(l.MaxConns, MaxConns)
	l.MaxLine = cmp.Or(l.MaxLine, MaxLine)
	l.MaxSubscriptions = cmp.Or(l.MaxSubscriptions, MaxSubscriptions)
	l.MaxHistory = cmp.Or(l.MaxHistory, MaxHistory)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, IdleTimeout)
	l.LineTimeout = cmp.Or(l.LineTimeout, LineTimeout)
	l.Work = cmp.Or(l.Work, Work)
	l.MaxWork = cmp.Or(l.MaxWork, MaxWork)
	return l
}

// ServerOptions of a Server.
type ServerOptions struct {
	// Source is what is shown. It must be a chain.Blocker that has every block; a
	// chain.Pooler shows what waits for one too; of another only what was broadcast
	// through the server is known. It is the caller's to close, afterwards.
	Source chain.Source
	// Params are those of its chain; nil means regtest.
	Params *chaincfg.Params
	Listen string      // address; empty for a free port on loopback
	TLS    *tls.Config // nil means plain TCP
	Banner string      // for those who read it
	// FeeRate is what estimatefee answers; 0 means that it is not known.
	FeeRate tx.FeeRate

	Limits

	// OnDrop is told why a connection ended, and OnDown why the source does not
	// answer. Neither may close the server.
	OnDrop func(client string, reason error)
	OnDown func(err error)
}

// A Server shows a chain to Electrum wallets.
type Server struct {
	options  ServerOptions
	show     chain.Blocker
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	updating sync.Mutex // held for a whole update
	ids      []chainhash.Hash
	pending  []*wire.MsgTx

	mu    sync.RWMutex
	index *index
	pool  *pool

	blocksMu sync.Mutex
	blocks   []shown

	sessionsMu sync.Mutex
	sessions   map[*session]bool
}

// shown is a block and the ids of its transactions.
type shown struct {
	hash  chainhash.Hash
	block *wire.MsgBlock
	ids   []chainhash.Hash
}

// Serve reads the whole chain, which may take long and ends with ctx, and then
// listens until Close.
func Serve(ctx context.Context, o ServerOptions) (*Server, error) {
	show, ok := o.Source.(chain.Blocker)
	if !ok {
		return nil, errors.New("electrum: this chain source shows no whole blocks; use regtest:, p2p://, btcd:// or bitcoind://")
	}
	if o.OnDrop == nil {
		o.OnDrop = func(string, error) {}
	}
	if o.OnDown == nil {
		o.OnDown = func(error) {}
	}
	o.Limits = o.filled()
	o.Params = cmp.Or(o.Params, &chaincfg.RegressionNetParams)
	s := &Server{options: o, show: show, index: newIndex(o.Params), sessions: map[*session]bool{}}
	s.pool = newPool(s.index, nil)
	for {
		changed := o.Source.Changed()
		err := s.update(ctx)
		if err == nil {
			break
		}
		if errors.Is(err, errIndexFull) {
			return nil, fmt.Errorf("electrum: %w", err)
		}
		select {
		case <-changed:
		case <-time.After(chain.RetryPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("electrum: %w: %w", ctx.Err(), err)
		}
	}
	var err error
	if s.listener, err = net.Listen("tcp", cmp.Or(o.Listen, "127.0.0.1:0")); err != nil {
		return nil, fmt.Errorf("electrum: %w", err)
	}
	if o.TLS != nil {
		s.listener = tls.NewListener(s.listener, o.TLS)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(s.accept)
	s.running.Go(s.follow)
	return s, nil
}

// Addr is where clients connect, as "host:port".
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close disconnects everybody.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close()
	s.running.Wait()
	return err
}

// follow keeps the index at the source's tip.
func (s *Server) follow() {
	look := time.NewTicker(PoolInterval)
	defer look.Stop()
	for {
		changed := s.options.Source.Changed()
		var retry <-chan time.Time
		if err := s.update(s.ctx); err != nil {
			if s.ctx.Err() == nil {
				s.options.OnDown(err)
			}
			retry = time.After(chain.RetryPause)
		}
		for again := false; !again; {
			select {
			case <-changed:
				again = true
			case <-retry:
				again = true
			case <-look.C:
				again = s.clients() > 0 && retry == nil
			case <-s.ctx.Done():
				return
			}
		}
	}
}

func (s *Server) clients() int {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	return len(s.sessions)
}

// update brings index and pool to where the source is, and tells everybody.
func (s *Server) update(ctx context.Context) error {
	s.updating.Lock()
	defer s.updating.Unlock()
	t := touched{}
	before := s.index.tip() // only updates change it
	all, err := s.catchUp(ctx, t)
	for tries := 1; errors.Is(err, errMoved) && tries < MaxMoves; tries++ {
		var more bool
		more, err = s.catchUp(ctx, t)
		all = all || more
	}
	moved := s.index.tip() != before
	if waiting := s.waiting(); moved || !s.sameIDs(waiting) {
		p := newPool(s.index, waiting)
		p.changes(s.pool, t)
		s.mu.Lock()
		s.pool = p
		s.mu.Unlock()
	}
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	for one := range s.sessions {
		one.note(moved, t, all)
	}
	return err
}

// waiting is what the source says waits for a block, or what was broadcast here
// and is not mined.
func (s *Server) waiting() []*wire.MsgTx {
	if p, ok := s.options.Source.(chain.Pooler); ok {
		return p.MempoolTxs()
	}
	s.pending = slices.DeleteFunc(s.pending, func(t *wire.MsgTx) bool {
		at, mined := s.index.txs[t.TxHash()]
		return mined && s.index.height()-at.height >= 6
	})
	return s.pending
}

// sameIDs tells whether the same waits as at the last time.
func (s *Server) sameIDs(waiting []*wire.MsgTx) bool {
	ids := make([]chainhash.Hash, len(waiting))
	for i, t := range waiting {
		ids[i] = t.TxHash()
	}
	same := slices.Equal(ids, s.ids)
	s.ids = ids
	return same
}

// MaxMoves bounds how often a round begins again because the chain has changed
// in the middle of it.
const MaxMoves = 3

// catchUp follows the best chain. all is set when every status may have changed.
func (s *Server) catchUp(ctx context.Context, t touched) (all bool, err error) {
	height, hash, err := s.options.Source.Tip(ctx)
	if err != nil || hash == s.index.tip() {
		return false, err
	}
	fork, err := s.fork(ctx, height)
	if err != nil {
		return false, err
	}
	if s.index.height()-fork > int32(len(s.index.undos)) {
		return true, s.rebuild(ctx, height, t)
	}
	// What only adds is taken in block by block, what replaces at once.
	var branch []*wire.MsgBlock
	grows := fork == s.index.height()
	for h := fork + 1; h <= height; h++ {
		b, err := s.show.Block(ctx, h)
		if err != nil {
			return false, err
		}
		if branch = append(branch, b); grows || h == height {
			if err := s.swap(fork, branch, t); err != nil {
				return false, err
			}
			fork, branch = h, nil
		}
	}
	return false, nil
}

// rebuild begins from the first block.
func (s *Server) rebuild(ctx context.Context, height int32, t touched) error {
	x := newIndex(s.options.Params)
	for h := int32(1); h <= height; h++ {
		b, err := s.show.Block(ctx, h)
		if err != nil {
			return err
		}
		if err := x.connect(b, t); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index = x
	return nil
}

// fork is the height of the last block in common with the source.
func (s *Server) fork(ctx context.Context, height int32) (int32, error) {
	for h := min(height, s.index.height()); h > 0; h-- {
		b, err := s.show.Block(ctx, h)
		if err != nil {
			return 0, err
		}
		if b.BlockHash() == s.index.hashes[h] {
			return h, nil
		}
	}
	return 0, nil
}

// swap takes the index back to a fork and on along a branch, so that nobody sees
// half of it.
func (s *Server) swap(fork int32, branch []*wire.MsgBlock, t touched) error {
	prev := s.index.hashes[fork]
	for _, b := range branch { // before anything is taken back
		if b.Header.PrevBlock != prev {
			return errMoved
		}
		prev = b.BlockHash()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.index.height() > fork {
		s.index.disconnect(t)
	}
	for _, b := range branch {
		if err := s.index.connect(b, t); err != nil {
			return err
		}
	}
	return nil
}

// block is a block of the chain, with the ids of its transactions.
func (s *Server) block(ctx context.Context, height int32) (shown, error) {
	s.mu.RLock()
	ok := height >= 0 && height <= s.index.height()
	var hash chainhash.Hash
	if ok {
		hash = s.index.hashes[height]
	}
	s.mu.RUnlock()
	if !ok {
		return shown{}, fmt.Errorf("%w: %d", chain.ErrNoBlock, height)
	}
	s.blocksMu.Lock()
	i := slices.IndexFunc(s.blocks, func(one shown) bool { return one.hash == hash })
	if i >= 0 {
		defer s.blocksMu.Unlock()
		return s.blocks[i], nil
	}
	s.blocksMu.Unlock()
	b, err := s.show.Block(ctx, height)
	if err != nil {
		return shown{}, err
	}
	if b.BlockHash() != hash {
		return shown{}, errMoved
	}
	one := shown{hash: hash, block: b}
	for _, t := range b.Transactions {
		one.ids = append(one.ids, t.TxHash())
	}
	s.blocksMu.Lock()
	defer s.blocksMu.Unlock()
	if len(s.blocks) == blockCache {
		s.blocks = slices.Delete(s.blocks, 0, 1)
	}
	s.blocks = append(s.blocks, one)
	return one, nil
}

// branch proves a header among all up to a height (cp_height).
func (s *Server) branch(height, checkpoint int32) (root chainhash.Hash, branch []chainhash.Hash, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if height > checkpoint || checkpoint > s.index.height() {
		return root, nil, fmt.Errorf("cp_height is %d; it is from the height %d to the tip %d", checkpoint, height, s.index.height())
	}
	hashes := s.index.hashes[:checkpoint+1]
	root, err = merkle.Root(hashes)
	return root, merkle.Prove(hashes, int(height)).Hashes, err
}

// publish hands a transaction to the network, and looks at once what came of it.
func (s *Server) publish(ctx context.Context, t *wire.MsgTx) error {
	if err := s.options.Source.Publish(ctx, t); err != nil {
		return err
	}
	if _, ok := s.options.Source.(chain.Pooler); !ok {
		s.updating.Lock()
		id := t.TxHash()
		if !slices.ContainsFunc(s.pending, func(other *wire.MsgTx) bool { return other.TxHash() == id }) {
			if len(s.pending) == MaxPending {
				s.pending = slices.Delete(s.pending, 0, 1)
			}
			s.pending = append(s.pending, t)
		}
		s.updating.Unlock()
	}
	if err := s.update(ctx); err != nil {
		s.options.OnDown(err)
	}
	return nil
}

func (s *Server) accept() {
	for s.ctx.Err() == nil {
		conn, err := s.listener.Accept()
		if err == nil {
			s.admit(conn)
			continue
		}
		select {
		case <-time.After(50 * time.Millisecond): // the system is out of something
		case <-s.ctx.Done():
		}
	}
}

func (s *Server) admit(conn net.Conn) {
	one := newSession(s, conn, rate.NewLimiter(rate.Limit(s.options.Work), s.options.MaxWork))
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	if len(s.sessions) >= s.options.MaxConns {
		conn.Close()
		s.options.OnDrop(one.addr, fmt.Errorf("all %d places are taken", s.options.MaxConns))
		return
	}
	s.sessions[one] = true
	s.running.Go(func() {
		err := one.run()
		s.sessionsMu.Lock()
		delete(s.sessions, one)
		s.sessionsMu.Unlock()
		s.options.OnDrop(one.addr, err)
	})
}
