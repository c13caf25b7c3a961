package regtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/btcutil/v2/bloom"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
	"golang.org/x/time/rate"

	"coinop.dev/world/chain/internal/peer"
)

// services is what we tell peers we serve: whole blocks, BIP 111 and 37, BIP
// 144, BIP 157.
const services = wire.SFNodeNetwork | wire.SFNodeBloom | wire.SFNodeWitness | wire.SFNodeCF

// acceptPause is how long the listener rests after the system could not give it
// a connection, usually for want of file descriptors.
const acceptPause = 50 * time.Millisecond

const (
	// nap is the shortest wait of a peer that wants more than its share: to sleep
	// and wake for each small thing would cost more than the thing.
	nap = 10 * time.Millisecond

	// newsAhead is how far the matching of announcements may be ahead of the
	// peer's share, so that one that is fetching a chain hears of them meanwhile.
	newsAhead = time.Second
)

// errMisbehaved starts the reason when the peer broke the protocol, rather than
// left or was slow.
var errMisbehaved = errors.New("misbehaved")

func misbehaved(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errMisbehaved, fmt.Errorf(format, args...))
}

// A remote is one peer. Its fields below the line are its reader's alone.
type remote struct {
	node    *Node
	conn    *peer.Conn
	ctx     context.Context
	drop    context.CancelCauseFunc
	budget  *rate.Limiter
	replies chan reply
	news    chan news
	read    *counted

	greeted     atomic.Bool
	relay       atomic.Bool   // wants to hear of transactions (BIP 37's fRelay)
	sendHeaders atomic.Bool   // wants new blocks as headers (BIP 130)
	filter      *bloom.Filter // locks itself

	wanted   []chainhash.Hash        // blocks to fetch, in order
	inFlight map[chainhash.Hash]bool // blocks asked for
	asked    map[chainhash.Hash]bool // transactions asked for
	resume   *chainhash.Hash         // the last of a full headers message: there are more
}

type reply struct {
	msg wire.Message
	enc wire.MessageEncoding
}

// news is one announcement: a transaction, if the peer's filter lets it pass, or
// blocks in order.
type news struct {
	tx     *btcutil.Tx
	blocks []*wire.BlockHeader
}

// counted is a connection that counts what is read, for who reads.
type counted struct {
	net.Conn
	bytes int
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes += n
	return n, err
}

func (n *Node) accept() {
	for n.ctx.Err() == nil {
		conn, err := n.listener.Accept()
		if err == nil {
			n.admit(conn)
			continue
		}
		select {
		case <-time.After(acceptPause):
		case <-n.ctx.Done():
		}
	}
}

func (n *Node) admit(conn net.Conn) {
	read := &counted{Conn: conn}
	p := &remote{
		node:     n,
		read:     read,
		conn:     peer.New(read, Params().Net, n.options.timeouts()),
		budget:   rate.NewLimiter(rate.Limit(n.options.Work), n.options.MaxWork),
		replies:  make(chan reply, MaxReplies),
		news:     make(chan news, MaxNews),
		filter:   bloom.LoadFilter(nil),
		inFlight: map[chainhash.Hash]bool{},
		asked:    map[chainhash.Hash]bool{},
	}
	p.ctx, p.drop = context.WithCancelCause(n.ctx)
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	if len(n.peers) >= n.options.MaxPeers {
		conn.Close()
		n.options.OnDrop(p.conn.Addr(), fmt.Errorf("all %d places are taken", n.options.MaxPeers))
		return
	}
	n.peers[p] = true
	n.running.Go(func() { n.serve(p) })
}

// serve is a peer's life.
func (n *Node) serve(p *remote) {
	stop := context.AfterFunc(p.ctx, func() { p.conn.Close() })
	err := p.run()
	p.drop(err)
	stop()
	p.conn.Close()
	n.peersMu.Lock()
	delete(n.peers, p)
	n.peersMu.Unlock()
	n.options.OnDrop(p.conn.Addr(), context.Cause(p.ctx))
}

// run reads until the peer is lost, and answers.
func (p *remote) run() error {
	height, _, err := p.node.Tip(p.ctx)
	if err != nil {
		return err
	}
	theirs, err := p.conn.Greet(version(height))
	if err != nil {
		return err
	}
	p.relay.Store(!theirs.DisableRelayTx)
	p.greeted.Store(true)
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		p.write()
	}()
	defer func() { <-writing }()
	defer func() { p.conn.Close() }()
	if err := p.begin(); err != nil {
		p.drop(err)
		return err
	}
	for {
		err := p.readOne()
		if err == nil {
			continue
		}
		p.drop(err)
		return err
	}
}

func (p *remote) readOne() error {
	msg, err := p.conn.Read()
	cost := costMessage + p.read.bytes/bytesParsed
	p.read.bytes %= bytesParsed
	var bad *wire.MessageError
	switch {
	case errors.Is(err, wire.ErrUnknownMessage):
		return p.spend(cost)
	case errors.As(err, &bad):
		return misbehaved("%w", err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return errors.New("hung up")
	case err != nil:
		return err
	}
	if err := p.spend(cost); err != nil {
		return err
	}
	return p.handle(msg)
}

func version(height int32) *wire.MsgVersion {
	nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, services)
	v := wire.NewMsgVersion(nowhere, nowhere, rand.Uint64(), height)
	v.ProtocolVersion = int32(peer.ProtocolVersion)
	v.Services = services
	v.UserAgent = "/coinop-regtest:1/"
	return v
}

// write sends replies and news until the peer is dropped.
func (p *remote) write() {
	ping := time.NewTicker(p.node.options.IdleTimeout / 2)
	defer ping.Stop()
	for {
		var err error
		select {
		case r := <-p.replies:
			err = p.conn.WriteAs(r.msg, r.enc)
		case n := <-p.news:
			err = p.announce(n)
		case <-ping.C:
			err = p.conn.Write(wire.NewMsgPing(rand.Uint64()))
		case <-p.ctx.Done():
			return
		}
		if err != nil {
			p.drop(err)
			return
		}
	}
}

// announce writes news. That the filter is asked here and not where the news is
// made keeps its cost from everybody else.
func (p *remote) announce(n news) error {
	if n.tx == nil {
		return p.conn.Write(p.announcement(n.blocks))
	}
	if err := p.spendAhead(p.matching(n.tx), newsAhead); err != nil || !p.wants(n.tx) {
		return err
	}
	inv := wire.NewMsgInvSizeHint(1)
	inv.InvList = append(inv.InvList, wire.NewInvVect(wire.InvTypeTx, n.tx.Hash()))
	return p.conn.Write(inv)
}

func (p *remote) announcement(blocks []*wire.BlockHeader) wire.Message {
	// With fewer than the protocol's limit this cannot fail; a peer that gets
	// the last of more asks for those before it.
	blocks = blocks[max(0, len(blocks)-MaxWanted):]
	if p.sendHeaders.Load() {
		return &wire.MsgHeaders{Headers: blocks}
	}
	inv := wire.NewMsgInvSizeHint(uint(len(blocks)))
	for _, h := range blocks {
		hash := h.BlockHash()
		inv.InvList = append(inv.InvList, wire.NewInvVect(wire.InvTypeBlock, &hash))
	}
	return inv
}

// reply waits for room among the replies.
func (p *remote) reply(msg wire.Message) error { return p.replyAs(msg, wire.LatestEncoding) }

func (p *remote) replyAs(msg wire.Message, enc wire.MessageEncoding) error {
	select {
	case p.replies <- reply{msg, enc}:
		return nil
	case <-p.ctx.Done():
		return context.Cause(p.ctx)
	}
}

// spend waits until the peer may have that much work done.
func (p *remote) spend(work int) error { return p.spendAhead(work, nap) }

// spendAhead is spend that does not wait for less than that.
func (p *remote) spendAhead(work int, ahead time.Duration) error {
	for work > 0 {
		part := min(work, p.budget.Burst())
		work -= part
		wait := p.budget.ReserveN(time.Now(), part).Delay()
		if wait < ahead {
			continue
		}
		select {
		case <-time.After(wait):
		case <-p.ctx.Done():
			return context.Cause(p.ctx)
		}
	}
	return nil
}

// tell announces without waiting: a change of the chain waits for no peer.
func (p *remote) tell(n news) {
	select {
	case p.news <- n:
	default:
		p.drop(fmt.Errorf("does not read: %d announcements wait", MaxNews))
	}
}

func (n *Node) announceBlocks(blocks []*btcutil.Block) {
	if len(blocks) == 0 {
		return
	}
	headers := make([]*wire.BlockHeader, len(blocks))
	for i, b := range blocks {
		headers[i] = &b.MsgBlock().Header
	}
	n.eachPeer(func(p *remote) { p.tell(news{blocks: headers}) })
}

func (n *Node) announceTx(t *btcutil.Tx, from *remote) {
	n.eachPeer(func(p *remote) {
		if p != from && p.relay.Load() {
			p.tell(news{tx: t})
		}
	})
}

// wants tells whether a peer cares for a transaction (BIP 37).
func (p *remote) wants(t *btcutil.Tx) bool {
	return !p.filter.IsLoaded() || p.filter.MatchTxAndUpdate(t)
}

func (n *Node) eachPeer(do func(p *remote)) {
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	for p := range n.peers {
		if p.greeted.Load() {
			do(p)
		}
	}
}
