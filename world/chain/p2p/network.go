package p2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/step"
	"coinop.dev/world/chain/internal/peer"
)

const (
	// HandshakeTimeout is from dialling to the verack.
	HandshakeTimeout = 10 * time.Second

	// IdleTimeout is how long a node may say nothing. We ping at half of it.
	IdleTimeout = 2 * time.Minute

	// MessageTimeout is from a message's first byte to its last, either way.
	MessageTimeout = 30 * time.Second

	// MinBackoff and MaxBackoff bound the wait before dialling again.
	MinBackoff = 100 * time.Millisecond
	MaxBackoff = 5 * time.Second

	// MaxPenalty bounds it for a node that we hung up on: one that stalls, and is
	// asked again at once, would keep the others waiting most of the time.
	MaxPenalty = 5 * time.Minute

	// GoodTime is how long a connection lasts after which none of that counts.
	GoodTime = time.Hour

	// BanTime is how long a node that has lied is not connected to.
	BanTime = 24 * time.Hour

	// MaxUnread bounds the bytes of one node's messages that wait for the core.
	MaxUnread = 256 << 10

	// MaxUnsent bounds the messages that wait to be sent to one node. Who does not
	// take them is cut off.
	MaxUnsent = 256
)

// A network is the connections.
type network struct {
	client *Client

	mu    sync.Mutex
	conns map[string]*conn // by address, the handshake done
}

type conn struct {
	*peer.Conn
	send chan wire.Message
	why  error // why we hung up; nil if the node did
	ban  bool
}

func newNetwork(c *Client) *network { return &network{client: c, conns: map[string]*conn{}} }

// drop is the core's wish to end a connection.
func (n *network) drop(p step.Packet) {
	d := p.Msg.(light.Drop)
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.conns[d.Peer]; c != nil {
		c.why, c.ban = d.Why, c.ban || d.Ban
		c.Close()
	}
}

// keep connects to one address, and connects again.
func (n *network) keep(addr string) {
	c := n.client
	for ceiling, most := 2*MinBackoff, MaxBackoff; ; ceiling = min(2*ceiling, most) {
		began := time.Now()
		who, err := n.once(addr)
		if c.ctx.Err() != nil {
			return
		}
		c.down.Lock()
		c.options.OnDown(err)
		c.down.Unlock()
		c.tell(light.Unreachable{Why: err})
		lasted := time.Since(began)
		switch {
		case who == us && most == MaxBackoff:
			ceiling, most = MaxBackoff, MaxPenalty
		case who == node && most == MaxBackoff && lasted > MaxBackoff, lasted > GoodTime:
			ceiling, most = 2*MinBackoff, MaxBackoff
		}
		pause := ceiling/2 + rand.N(ceiling/2)
		if who == liar {
			pause = BanTime
		}
		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
			return
		}
	}
}

// A cause is who is the cause of a connection's end.
type cause int

const (
	node cause = iota // it hung up or is not there
	us                // it did not serve us
	liar              // it lied to us
)

// once is one connection, from dialling to the error that ends it.
func (n *network) once(addr string) (who cause, err error) {
	c := n.client
	dialer := net.Dialer{Timeout: HandshakeTimeout}
	raw, err := dialer.DialContext(c.ctx, "tcp", addr)
	if err != nil {
		return node, err
	}
	k := &conn{
		Conn: peer.New(raw, c.options.Rules.Net, peer.Timeouts{Handshake: HandshakeTimeout, Idle: IdleTimeout, Message: MessageTimeout}),
		send: make(chan wire.Message, MaxUnsent),
	}
	defer k.Close()
	defer context.AfterFunc(c.ctx, func() { k.Close() })()
	theirs, err := k.Greet(version())
	if err != nil {
		return node, fmt.Errorf("node %s: %w", addr, err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go k.write(stop)

	n.mu.Lock()
	n.conns[addr] = k
	n.mu.Unlock()
	c.host.Outlet(addr, func(p step.Packet) { k.queue(p.Msg.(wire.Message)) })
	c.tell(light.Hello{Peer: addr, Services: theirs.Services})
	err = n.read(addr, k)
	c.host.Outlet(addr, nil)
	c.tell(step.Unlinked{Peer: addr})
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, addr)
	switch {
	case k.ban:
		return liar, k.why
	case k.why != nil:
		return us, k.why
	}
	return node, fmt.Errorf("node %s: %w", addr, err)
}

func version() *wire.MsgVersion {
	// btcd reads transactions with witnesses only from who says to have them.
	nowhere := wire.NewNetAddressIPPort(net.IPv4zero, 0, wire.SFNodeWitness)
	v := wire.NewMsgVersion(nowhere, nowhere, rand.Uint64(), 0) // our height is no concern of theirs
	v.Services = wire.SFNodeWitness
	v.ProtocolVersion = int32(peer.ProtocolVersion)
	v.UserAgent = "/coinop-light:1/"
	v.DisableRelayTx = true // other people's payments are no concern of ours
	return v
}

// read hands messages to the core, and waits for it now and then, so that what is
// unread is bounded.
func (n *network) read(addr string, k *conn) error {
	c := n.client
	unread := 0
	for {
		msg, err := k.Read()
		if errors.Is(err, wire.ErrUnknownMessage) {
			continue
		}
		if err != nil {
			return err
		}
		n := size(msg)
		if n == 0 {
			continue
		}
		c.tell(step.Recv{From: addr, Msg: msg})
		if unread += n; unread < MaxUnread {
			continue
		}
		unread = 0
		if _, err := c.host.Ask(c.ctx, light.Name, addr, light.Barrier{ID: addr}); err != nil {
			return err
		}
	}
}

// size is about what a message takes in memory; 0 if it is nothing to the core.
func size(msg wire.Message) int {
	const small = 256
	switch msg := msg.(type) {
	case *wire.MsgPing, *wire.MsgPong, *wire.MsgReject:
		return small
	case *wire.MsgCFilter:
		return small + len(msg.Data)
	case *wire.MsgBlock:
		return small + 4*msg.SerializeSize()
	case *wire.MsgTx:
		return small + 4*msg.SerializeSize()
	case *wire.MsgMerkleBlock:
		return small + 128*len(msg.Hashes)
	case *wire.MsgHeaders:
		return small + 128*len(msg.Headers)
	case *wire.MsgCFHeaders:
		return small + 64*len(msg.FilterHashes)
	case *wire.MsgCFCheckpt:
		return small + 64*len(msg.FilterHeaders)
	case *wire.MsgInv:
		return small + 64*len(msg.InvList)
	case *wire.MsgGetData:
		return small + 64*len(msg.InvList)
	case *wire.MsgNotFound:
		return small + 64*len(msg.InvList)
	}
	return 0
}

// queue never blocks: the core waits for nobody.
func (k *conn) queue(msg wire.Message) {
	select {
	case k.send <- msg:
	default:
		k.Close()
	}
}

// write sends what is queued, and keeps a quiet connection from passing for a
// dead one.
func (k *conn) write(stop <-chan struct{}) {
	tick := time.NewTicker(IdleTimeout / 2)
	defer tick.Stop()
	for {
		var msg wire.Message
		select {
		case msg = <-k.send:
		case <-tick.C:
			msg = wire.NewMsgPing(rand.Uint64())
		case <-stop:
			return
		}
		if k.Write(msg) != nil {
			return // it has hung up
		}
	}
}
