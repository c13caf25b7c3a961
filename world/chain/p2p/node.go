package p2p

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain"
	"coinop.dev/world/chain/internal/peer"
)

// A node is the connection while it lasts. Its fields are the reader's alone,
// except conn.
type node struct {
	client   *Client
	conn     *peer.Conn
	branch   branch
	stall    *time.Timer // hangs up if blocks do not come
	astray   int         // headers messages in a row that follow nothing of ours
	progress bool
}

// A branch is what the node's chain has and ours has not: headers, all or the
// first of them, and the blocks fetched so far. It replaces ours above fork once
// it has more work.
type branch struct {
	fork    int32 // height of the last block in common
	headers []wire.BlockHeader
	blocks  []*wire.MsgBlock // of the first headers
	size    int              // of blocks, in bytes
	asked   int              // how many of headers have been asked for as blocks
	more    bool             // the last headers message was full
}

func (n *node) run() (progress bool, err error) {
	var stalled atomic.Bool
	n.stall = time.AfterFunc(BlockTimeout, func() {
		stalled.Store(true)
		n.conn.Close()
	})
	n.stall.Stop()
	defer n.stall.Stop()
	stop := make(chan struct{})
	defer close(stop)
	go n.ping(stop)
	if err := n.conn.Write(wire.NewMsgSendHeaders()); err != nil {
		return false, err
	}
	if err := n.askHeaders(nil); err != nil {
		return false, err
	}
	n.client.mu.Lock()
	n.client.node, n.client.trouble = n, nil
	n.client.mu.Unlock()
	if err := n.rebroadcast(); err != nil {
		return false, err
	}
	for {
		msg, err := n.conn.Read()
		if errors.Is(err, wire.ErrUnknownMessage) {
			continue
		}
		if err == nil {
			err = n.handle(msg)
		}
		if stalled.Load() {
			err = fmt.Errorf("a block that was asked for has not come within %v", BlockTimeout)
		}
		if err != nil {
			return n.progress, fmt.Errorf("node %s: %w", n.conn.Addr(), err)
		}
	}
}

// ping keeps a quiet connection from passing for a dead one.
func (n *node) ping(stop <-chan struct{}) {
	tick := time.NewTicker(IdleTimeout / 2)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = n.conn.Write(wire.NewMsgPing(rand.Uint64())) // a failure closes the connection
		case <-stop:
			return
		}
	}
}

func (n *node) handle(msg wire.Message) error {
	switch msg := msg.(type) {
	case *wire.MsgPing:
		return n.conn.Write(wire.NewMsgPong(msg.Nonce))
	case *wire.MsgInv:
		for _, iv := range msg.InvList {
			if iv.Type == wire.InvTypeBlock && !n.has(iv.Hash) {
				return n.askHeaders(nil)
			}
		}
	case *wire.MsgHeaders:
		return n.takeHeaders(msg.Headers)
	case *wire.MsgBlock:
		return n.takeBlock(msg)
	case *wire.MsgGetData:
		return n.serve(msg)
	case *wire.MsgTx:
		n.client.verdict(msg.TxHash(), accepted, "")
	case *wire.MsgReject:
		if msg.Cmd == wire.CmdTx {
			n.client.verdict(msg.Hash, refused, msg.Reason)
		}
	case *wire.MsgNotFound:
		for _, iv := range msg.InvList {
			if iv.Type&^wire.InvWitnessFlag == wire.InvTypeTx {
				n.client.verdict(iv.Hash, unknown, "")
			}
		}
	}
	return nil
}

func (n *node) has(hash chainhash.Hash) bool {
	n.client.mu.Lock()
	defer n.client.mu.Unlock()
	_, ok := n.client.heights[hash]
	return ok
}

// askHeaders asks for what follows from, or our best chain.
func (n *node) askHeaders(from *chainhash.Hash) error {
	ask := wire.NewMsgGetHeaders()
	ask.ProtocolVersion = peer.ProtocolVersion
	if from != nil {
		ask.BlockLocatorHashes = append(ask.BlockLocatorHashes, from)
	}
	n.client.mu.Lock()
	tip, _ := n.client.ledger.Tip()
	// A locator is dense near the tip, where reorganisations are, and doubles
	// its steps towards the first block.
	for h, step := tip, int32(1); h > 0; h -= step {
		hash := n.client.ledger.Hash(h)
		ask.BlockLocatorHashes = append(ask.BlockLocatorHashes, &hash)
		if len(ask.BlockLocatorHashes) > 10 {
			step *= 2
		}
	}
	n.client.mu.Unlock()
	ask.BlockLocatorHashes = append(ask.BlockLocatorHashes, n.client.rules.GenesisHash)
	return n.conn.Write(ask)
}

// takeHeaders extends the branch, or starts another.
func (n *node) takeHeaders(headers []*wire.BlockHeader) error {
	if len(headers) == 0 {
		n.branch.more = false
		return n.fetch()
	}
	c := n.client
	c.mu.Lock()
	before, ok := n.join(headers[0].PrevBlock)
	c.mu.Unlock()
	if !ok {
		if n.astray++; n.astray > MaxAstray {
			return fmt.Errorf("%d headers messages follow nothing of this chain", n.astray)
		}
		return n.askHeaders(nil)
	}
	n.astray = 0
	for _, h := range headers {
		if err := checkHeader(c.rules, before, h, time.Now()); err != nil {
			return err
		}
		before = append(before, *h)
		n.branch.headers = append(n.branch.headers, *h)
		if int(n.branch.fork)+len(n.branch.headers) > chain.MaxBlocks {
			return fmt.Errorf("%w: it has more than %d blocks", chain.ErrTooLong, chain.MaxBlocks)
		}
	}
	n.branch.more = len(headers) == wire.MaxBlockHeadersPerMsg
	if n.branch.more {
		last := headers[len(headers)-1].BlockHash()
		return errors.Join(n.askHeaders(&last), n.fetch())
	}
	return n.fetch()
}

// join makes the branch ready for a header that follows prev, and returns the
// headers before it that its time is judged by.
func (n *node) join(prev chainhash.Hash) (before []wire.BlockHeader, ok bool) {
	c, b := n.client, &n.branch
	if len(b.headers) == 0 || b.headers[len(b.headers)-1].BlockHash() != prev {
		height, known := c.heights[prev]
		if !known {
			return nil, false
		}
		*b = branch{fork: height}
		n.stall.Stop()
	}
	low := max(0, int(b.fork)+1-medianSpan)
	before = append(before, c.headers[low:b.fork+1]...)
	return append(before, b.headers...), true
}

// fetch asks for the next blocks of a branch that has more work than our chain,
// and tells when there is nothing left to fetch.
func (n *node) fetch() error {
	c, b := n.client, &n.branch
	c.mu.Lock()
	tip, _ := c.ledger.Tip()
	better := int(b.fork)+len(b.headers) > int(tip)
	if !better && !b.more {
		*b = branch{fork: tip}
		n.progress = true
		if !c.synced {
			c.synced = true
			c.bell.Ring()
		}
	}
	c.mu.Unlock()
	if !better {
		return nil
	}
	ask := wire.NewMsgGetData()
	for ; b.asked < len(b.headers) && b.asked < len(b.blocks)+MaxInFlight; b.asked++ {
		hash := b.headers[b.asked].BlockHash()
		ask.InvList = append(ask.InvList, wire.NewInvVect(wire.InvTypeWitnessBlock, &hash))
	}
	if len(ask.InvList) == 0 {
		return nil
	}
	n.stall.Reset(BlockTimeout)
	return n.conn.Write(ask)
}

// takeBlock adds the next block of the branch. Nodes send blocks in the order
// they were asked for; any other is one we have stopped waiting for.
func (n *node) takeBlock(msg *wire.MsgBlock) error {
	b := &n.branch
	if len(b.blocks) == b.asked || msg.BlockHash() != b.headers[len(b.blocks)].BlockHash() {
		return nil
	}
	if err := checkBlock(msg); err != nil {
		return fmt.Errorf("block %v: %w", msg.BlockHash(), err)
	}
	n.stall.Stop()
	b.blocks = append(b.blocks, msg)
	if b.size += msg.SerializeSize(); b.size > chain.MaxBytes {
		return fmt.Errorf("%w: its branch at %d has %d bytes", chain.ErrTooLong, b.fork, b.size)
	}
	reorganised, err := n.adopt()
	if err != nil {
		return err
	}
	if len(b.blocks) < b.asked {
		n.stall.Reset(BlockTimeout)
	}
	if reorganised {
		err = n.rebroadcast() // a transaction may have lost its block
	}
	return errors.Join(err, n.fetch())
}

// adopt makes the fetched blocks our chain once they have more work than what
// they replace.
func (n *node) adopt() (reorganised bool, err error) {
	c, b := n.client, &n.branch
	c.mu.Lock()
	defer c.mu.Unlock()
	tip, _ := c.ledger.Tip()
	if int(b.fork)+len(b.blocks) <= int(tip) {
		return false, nil
	}
	defer c.bell.Ring()
	for h := tip; h > b.fork; h-- {
		delete(c.heights, c.ledger.Hash(h))
		c.ledger.Disconnect()
		reorganised = true
	}
	c.headers = c.headers[:b.fork+1]
	for _, block := range b.blocks {
		hash := block.BlockHash()
		if err := c.ledger.Connect(hash, block.Transactions); err != nil {
			return reorganised, err
		}
		c.headers = append(c.headers, block.Header)
		c.heights[hash] = int32(len(c.headers)) - 1
	}
	done := len(b.blocks)
	b.fork += int32(done)
	b.headers, b.blocks, b.size, b.asked = b.headers[done:], nil, 0, b.asked-done
	c.prune()
	n.progress = true
	return reorganised, nil
}
