package electrum

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/world/chain"
)

// A script is what the servers say of a script, as far as it is proven. Its
// fields are under the client's mutex.
type script struct {
	script []byte
	hash   chainhash.Hash

	asked    uint64         // grows with every hint that something has changed
	answered uint64         // asked, when it was last looked at
	tip      chainhash.Hash // our tip at that time
	proven   []proven       // in the order of the chain
	waiting  []*wire.MsgTx  // what servers say waits for a block
	trouble  error          // why there is no answer
}

// proven is a transaction that is in a block.
type proven struct {
	id     chainhash.Hash
	tx     *wire.MsgTx
	height int32
	block  chainhash.Hash
	branch merkle.Branch
}

// fresh tells whether a script needs no look. The mutex is held.
func (c *Client) fresh(s *script) bool {
	_, tip := c.chain.Tip()
	return s.answered == s.asked && s.tip == tip && s.answered > 0
}

// holds tells whether all that is proven is in the best chain still. The mutex is
// held.
func (c *Client) holds(s *script) bool {
	return !slices.ContainsFunc(s.proven, func(p proven) bool { return !c.inChain(p) })
}

func (c *Client) inChain(p proven) bool {
	tip, _ := c.chain.Tip()
	hash, known := c.chain.Hash(p.height)
	// What is below the tail was proven to lead there, and cannot change.
	return p.height <= tip && (hash == p.block || !known && p.height < c.chain.Base())
}

// A look is one server's view of some scripts as of our tip.
type look struct {
	remote  *remote
	conn    *conn
	told    map[chainhash.Hash]*chainhash.Hash
	lists   map[chainhash.Hash][]seen
	refused map[chainhash.Hash]error // what it serves no history of
	err     error
}

// refresh asks the servers about every script of which the answer may be old. It
// is one round of questions, whatever the number of scripts, if nothing has
// happened to them.
func (c *Client) refresh(ctx context.Context) error {
	select {
	case c.round <- struct{}{}:
		defer func() { <-c.round }()
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return chain.ErrClosed
	}
	var last error
	for range MaxMoves + 1 {
		stale, tip := c.stale()
		if len(stale) == 0 {
			return nil
		}
		looks := c.looks(ctx, stale, tip)
		if now, hash := c.tipNow(); hash != tip {
			last = fmt.Errorf("%w: the tip is at %d now", errMoved, now)
			continue
		}
		if len(looks) < c.options.Quorum {
			return fmt.Errorf("%w: %d Electrum servers answer as of our tip, and %d must: %w", chain.ErrSyncing, len(looks), c.options.Quorum, errors.Join(last, c.trouble()))
		}
		err := c.settle(ctx, looks, stale, tip)
		if err == nil {
			return nil
		}
		if last = err; ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("%w: %w", chain.ErrSyncing, last)
}

// stale lists the scripts to look at, with the hints that there were.
func (c *Client) stale() (hints map[chainhash.Hash]uint64, tip chainhash.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, tip = c.chain.Tip()
	hints = map[chainhash.Hash]uint64{}
	for h, s := range c.scripts {
		if !c.fresh(s) {
			hints[h] = s.asked
		}
	}
	return hints, tip
}

func (c *Client) tipNow() (int32, chainhash.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chain.Tip()
}

// looks asks every server that is at our tip, all at once. Who fails is left.
func (c *Client) looks(ctx context.Context, stale map[chainhash.Hash]uint64, tip chainhash.Hash) (good []*look) {
	scripts := make([]chainhash.Hash, 0, len(stale))
	for h := range stale {
		scripts = append(scripts, h)
	}
	var all []*look
	var asking sync.WaitGroup
	for _, r := range c.remotes {
		conn := r.connection()
		if conn == nil {
			continue
		}
		l := &look{remote: r, conn: conn}
		all = append(all, l)
		asking.Go(func() { l.err = l.take(ctx, scripts, tip) })
	}
	asking.Wait()
	c.shareLists(ctx, all, scripts, tip)
	for _, l := range all {
		if l.err == nil {
			good = append(good, l)
		} else if !errors.Is(l.err, errMoved) && !errors.Is(l.err, context.Canceled) {
			l.conn.close(l.err)
		}
	}
	return good
}

// take asks a server for statuses, and sees that its tip is ours before and
// after.
func (l *look) take(ctx context.Context, scripts []chainhash.Hash, tip chainhash.Hash) error {
	ctx, cancel := context.WithTimeout(ctx, l.remote.client.options.CallTimeout)
	defer cancel()
	if err := l.at(ctx, tip); err != nil {
		return err
	}
	var err error
	if l.told, l.refused, err = l.remote.statuses(ctx, l.conn, scripts); err != nil {
		return err
	}
	return l.at(ctx, tip)
}

// at tells whether the server's tip is ours. If it has moved, it is followed.
func (l *look) at(ctx context.Context, tip chainhash.Hash) error {
	_, last, err := l.remote.tipOf(ctx, l.conn)
	if err != nil {
		return err
	}
	if last.BlockHash() == tip {
		return nil
	}
	if err := l.remote.catchUp(l.conn); err != nil {
		return err
	}
	return errMoved
}

// shareLists asks for the histories of scripts that one of the servers has news
// of. If one has, all are asked: so it is seen who leaves something out.
func (c *Client) shareLists(ctx context.Context, all []*look, scripts []chainhash.Hash, tip chainhash.Hash) {
	c.mu.Lock()
	news := slices.DeleteFunc(scripts, func(h chainhash.Hash) bool {
		s := c.scripts[h]
		if s.answered == 0 || s.trouble != nil || !c.holds(s) {
			return false
		}
		return !slices.ContainsFunc(all, func(l *look) bool {
			told, once := l.remote.told[h]
			return l.err == nil && !(once && l.refused[h] == nil && same(told, l.told[h]))
		})
	})
	c.mu.Unlock()
	var asking sync.WaitGroup
	for _, l := range all {
		if l.err == nil && len(news) > 0 {
			asking.Go(func() { l.err = l.read(ctx, news, tip) })
		}
	}
	asking.Wait()
}

// read asks a server for histories.
func (l *look) read(ctx context.Context, scripts []chainhash.Hash, tip chainhash.Hash) error {
	ctx, cancel := context.WithTimeout(ctx, l.remote.client.options.CallTimeout)
	defer cancel()
	l.lists = map[chainhash.Hash][]seen{}
	total := 0
	err := ask(ctx, l.conn, len(scripts), func(i int) (string, []any) {
		return methodHistory, []any{scripts[i].String()}
	}, func(i int, lines []historyLine, err error) error {
		if err != nil {
			l.refused[scripts[i]] = err
			return nil
		}
		if total += len(lines); len(lines) > MaxItems || total > MaxLines {
			total -= len(lines)
			l.refused[scripts[i]] = fmt.Errorf("server %s has %d transactions of script hash %v; the limit is %d for one and %d for all: use a node of your own", l.conn.addr, len(lines), scripts[i], MaxItems, MaxLines)
			return nil
		}
		list, err := parseHistory(lines)
		if err != nil {
			return l.conn.lie(BadReply, "a history", err.Error())
		}
		l.lists[scripts[i]] = list
		return nil
	})
	if err != nil {
		return err
	}
	return l.at(ctx, tip)
}

// parseHistory checks the order that the protocol wants: blocks upward, then
// what waits, and nothing twice.
func parseHistory(lines []historyLine) ([]seen, error) {
	list := make([]seen, len(lines))
	ids := make(map[chainhash.Hash]bool, len(lines))
	for i, line := range lines {
		id, err := parseHash(line.ID)
		if err != nil {
			return nil, err
		}
		switch before := int32(1); {
		case ids[id]:
			return nil, errors.New("no transaction is there twice")
		case i > 0 && list[i-1].height <= 0 && line.Height > 0, line.Height < waitingParentSpent:
			return nil, errors.New("what waits comes last, at height 0 or -1")
		case line.Height > 0:
			if i > 0 {
				before = list[i-1].height
			}
			if line.Height < before {
				return nil, errors.New("heights go upward")
			}
		}
		ids[id] = true
		list[i] = seen{id, line.Height}
	}
	return list, nil
}

// settle takes in what the servers say, script by script.
func (c *Client) settle(ctx context.Context, looks []*look, stale map[chainhash.Hash]uint64, tip chainhash.Hash) error {
	for h, asked := range stale {
		v, err := c.judge(ctx, looks, h, tip)
		if err != nil {
			return err
		}
		if looks = slices.DeleteFunc(looks, func(l *look) bool { return l.err != nil }); len(looks) < c.options.Quorum {
			return fmt.Errorf("%d Electrum servers are left, and %d must agree: %w", len(looks), c.options.Quorum, c.trouble())
		}
		c.mu.Lock()
		if _, now := c.chain.Tip(); now != tip {
			c.mu.Unlock()
			return errMoved
		}
		s := c.scripts[h]
		s.answered, s.tip = max(1, asked), tip
		if v != nil {
			s.proven, s.waiting, s.trouble = v.proven, v.waiting, v.trouble
			for _, l := range looks {
				if l.refused[h] == nil {
					l.remote.told[h] = l.told[h]
				}
			}
			c.prune(s)
		}
		c.mu.Unlock()
	}
	return nil
}

// prune forgets the transactions that no script has. The mutex is held.
func (c *Client) prune(s *script) {
	c.txs, c.kept = map[chainhash.Hash]*wire.MsgTx{}, 0
	keep := func(id chainhash.Hash, t *wire.MsgTx) {
		if c.txs[id] == nil {
			c.txs[id] = t
			c.kept += t.SerializeSize()
		}
	}
	for _, one := range c.scripts {
		for _, p := range one.proven {
			keep(p.id, p.tx)
		}
		for _, t := range one.waiting {
			keep(t.TxHash(), t)
		}
	}
	if c.kept > MaxKept {
		s.proven, s.waiting = nil, nil
		s.trouble = fmt.Errorf("the transactions of all scripts have %d bytes, which is beyond the limit of %d: ask about fewer", c.kept, MaxKept)
	}
}

// verdict is what came of a script.
type verdict struct {
	proven  []proven
	waiting []*wire.MsgTx
	trouble error
}

// judge unites what the servers show of one script: what is proven counts,
// whoever shows it, and who does not show it withholds it. Liars are left; their
// look has the error. Without news there is no verdict.
func (c *Client) judge(ctx context.Context, looks []*look, h chainhash.Hash, tip chainhash.Hash) (*verdict, error) {
	c.mu.Lock()
	s := c.scripts[h]
	v, known := &verdict{}, map[seen]proven{}
	for _, p := range s.proven {
		if c.inChain(p) {
			known[seen{p.id, p.height}] = p
		}
	}
	c.mu.Unlock()
	shown := map[chainhash.Hash]bool{}
	waits := map[chainhash.Hash]bool{}
	lists := 0
	for _, l := range looks {
		list, read := l.lists[h]
		if !read || l.err != nil {
			v.trouble = cmp.Or(v.trouble, l.refused[h])
			continue
		}
		lists++
		if err := l.prove(ctx, list, known, tip); err != nil {
			if errors.Is(err, errMoved) || ctx.Err() != nil {
				return nil, err
			}
			l.drop(err)
			continue
		}
		for _, one := range list {
			if one.height > 0 {
				shown[one.id] = true
			} else if !waits[one.id] && len(v.waiting) < MaxWaiting {
				t, err := l.transaction(ctx, one.id)
				if err != nil && l.conn.why() != nil {
					l.drop(err)
					break
				}
				if err == nil { // else it waits no more
					waits[one.id] = true
					v.waiting = append(v.waiting, t)
				}
			}
		}
	}
	switch {
	case lists == 0 && v.trouble != nil:
		return v, nil
	case lists == 0:
		return nil, nil
	}
	v.trouble = nil // another server has answered
	for _, p := range known {
		if shown[p.id] {
			v.proven = append(v.proven, p)
		}
	}
	slices.SortFunc(v.proven, before)
	v.proven = relevant(s.script, v.proven)
	v.waiting = c.credible(s.script, v.proven, v.waiting)
	for _, l := range looks {
		if list, read := l.lists[h]; read && l.err == nil {
			if err := l.compare(list, v.proven, s.script); err != nil {
				// A reorganisation since it was asked looks like a lie.
				if moved := l.at(ctx, tip); moved != nil {
					return nil, moved
				}
				l.drop(err)
			}
		}
	}
	return v, nil
}

func before(a, b proven) int {
	if a.height != b.height {
		return int(a.height - b.height)
	}
	return int(a.branch.Index) - int(b.branch.Index)
}

// drop leaves a server in the middle of a round.
func (l *look) drop(err error) {
	l.err = err
	l.conn.close(err)
}

// relevant are the transactions that pay a script or spend what did.
func relevant(script []byte, all []proven) []proven {
	paid := map[wire.OutPoint]bool{}
	return slices.DeleteFunc(all, func(p proven) bool { return !touches(script, p.id, p.tx, paid) })
}

// touches also notes which outputs pay the script.
func touches(script []byte, id chainhash.Hash, t *wire.MsgTx, paid map[wire.OutPoint]bool) bool {
	yes := false
	for _, in := range t.TxIn {
		yes = yes || paid[in.PreviousOutPoint]
	}
	for i, out := range t.TxOut {
		if string(out.PkScript) == string(script) {
			yes = true
			paid[wire.OutPoint{Hash: id, Index: uint32(i)}] = true
		}
	}
	return yes
}

// compare looks for what a server has left out, or put in.
func (l *look) compare(list []seen, proven []proven, script []byte) error {
	theirs := make(map[chainhash.Hash]bool, len(list))
	for _, one := range list {
		theirs[one.id] = one.height > 0
	}
	for _, p := range proven {
		if !theirs[p.id] {
			return l.conn.lie(Withheld, fmt.Sprintf("its history of script %x has not %v", script, p.id),
				fmt.Sprintf("that is in block %v at height %d", p.block, p.height))
		}
		delete(theirs, p.id)
	}
	for id, mined := range theirs {
		if mined {
			return l.conn.lie(Irrelevant, fmt.Sprintf("its history of script %x has %v", script, id),
				"that neither pays it nor spends what did")
		}
	}
	return nil
}
