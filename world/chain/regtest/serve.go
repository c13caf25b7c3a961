package regtest

import (
	"errors"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/btcutil/v2/bloom"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/mempool"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain"
)

// handle answers one message. An error ends the connection.
func (p *remote) handle(msg wire.Message) error {
	switch msg := msg.(type) {
	case *wire.MsgPing:
		return p.reply(wire.NewMsgPong(msg.Nonce))
	case *wire.MsgSendHeaders:
		p.sendHeaders.Store(true)
	case *wire.MsgGetHeaders:
		return p.getHeaders(msg)
	case *wire.MsgGetBlocks:
		return p.getBlocks(msg)
	case *wire.MsgGetData:
		return p.getData(msg)
	case *wire.MsgMemPool:
		return p.memPool()
	case *wire.MsgInv:
		return p.inv(msg)
	case *wire.MsgHeaders:
		return p.headers(msg)
	case *wire.MsgBlock:
		return p.block(msg)
	case *wire.MsgTx:
		return p.tx(msg)
	case *wire.MsgNotFound:
		for _, iv := range msg.InvList {
			delete(p.asked, iv.Hash)
			delete(p.inFlight, iv.Hash)
		}
		return p.fetch()
	case *wire.MsgFilterLoad:
		p.filter.Reload(msg)
		p.relay.Store(true)
	case *wire.MsgFilterAdd:
		if !p.filter.IsLoaded() {
			return misbehaved("filteradd without a filter (BIP 37)")
		}
		p.filter.Add(msg.Data)
		return p.spend(p.hashing(bytesPerHash + len(msg.Data)))
	case *wire.MsgFilterClear:
		p.filter.Unload()
		p.relay.Store(true)
	case *wire.MsgGetCFilters:
		return p.getFilters(msg)
	case *wire.MsgGetCFHeaders:
		return p.getFilterHeaders(msg)
	case *wire.MsgGetCFCheckpt:
		return p.getFilterCheckpoints(msg)
	case *wire.MsgVersion, *wire.MsgVerAck:
		return misbehaved("a second %s", msg.Command())
	}
	return nil // addresses and fee filters say nothing to a chain of one's own
}

// begin asks for what the peer has that we have not.
func (p *remote) begin() error {
	if err := p.reply(wire.NewMsgSendHeaders()); err != nil {
		return err
	}
	return p.askHeaders(nil)
}

// askHeaders asks for the headers after from, or after our best chain.
func (p *remote) askHeaders(from *chainhash.Hash) error {
	locator, err := p.node.chain.LatestBlockLocator()
	if err != nil {
		return err
	}
	ask := wire.NewMsgGetHeaders()
	if from != nil {
		ask.BlockLocatorHashes = append(ask.BlockLocatorHashes, from)
	}
	ask.BlockLocatorHashes = append(ask.BlockLocatorHashes, locator...)
	return p.reply(ask)
}

func (p *remote) getHeaders(msg *wire.MsgGetHeaders) error {
	if err := p.spend(costHeaders); err != nil {
		return err
	}
	found := p.node.chain.LocateHeaders(msg.BlockLocatorHashes, &msg.HashStop)
	answer := &wire.MsgHeaders{Headers: make([]*wire.BlockHeader, len(found))}
	for i := range found {
		answer.Headers[i] = &found[i]
	}
	return p.reply(answer)
}

func (p *remote) getBlocks(msg *wire.MsgGetBlocks) error {
	if err := p.spend(costHeaders); err != nil {
		return err
	}
	found := p.node.chain.LocateBlocks(msg.BlockLocatorHashes, &msg.HashStop, wire.MaxBlocksPerMsg)
	if len(found) == 0 {
		return nil
	}
	inv := wire.NewMsgInvSizeHint(uint(len(found)))
	for i := range found {
		inv.InvList = append(inv.InvList, wire.NewInvVect(wire.InvTypeBlock, &found[i]))
	}
	return p.reply(inv)
}

func (p *remote) getData(msg *wire.MsgGetData) error {
	missing := wire.NewMsgNotFound()
	for _, iv := range msg.InvList {
		found, err := p.serve(iv)
		if err != nil {
			return err
		}
		if !found {
			missing.InvList = append(missing.InvList, iv)
		}
	}
	if len(missing.InvList) == 0 {
		return nil
	}
	return p.reply(missing)
}

// serve sends one thing that was asked for.
func (p *remote) serve(iv *wire.InvVect) (found bool, err error) {
	enc := wire.BaseEncoding
	if iv.Type&wire.InvWitnessFlag != 0 {
		enc = wire.WitnessEncoding
	}
	switch iv.Type &^ wire.InvWitnessFlag {
	case wire.InvTypeTx:
		if err := p.spend(costTx); err != nil {
			return false, err
		}
		t, _ := p.node.Tx(iv.Hash)
		if t == nil {
			return false, nil
		}
		return true, p.replySized(t, enc, t.SerializeSize())
	case wire.InvTypeBlock:
		if err := p.spend(costBlock); err != nil {
			return false, err
		}
		b, err := p.node.chain.BlockByHash(&iv.Hash)
		if err != nil {
			return false, nil // not in the best chain
		}
		return true, p.replySized(b.MsgBlock(), enc, b.MsgBlock().SerializeSize())
	case wire.InvTypeFilteredBlock:
		return p.serveMerkleBlock(&iv.Hash, enc)
	}
	return false, p.spend(costMessage)
}

// serveMerkleBlock sends the proof of what the peer's filter matches in a block,
// and then the transactions it matched (BIP 37).
func (p *remote) serveMerkleBlock(hash *chainhash.Hash, enc wire.MessageEncoding) (found bool, err error) {
	if err := p.spend(costMerkleBlock); err != nil || !p.filter.IsLoaded() {
		return false, err
	}
	b, err := p.node.chain.BlockByHash(hash)
	if err != nil {
		return false, nil
	}
	if err := p.spend(b.MsgBlock().SerializeSize()/bytesParsed + p.matching(b.Transactions()...)); err != nil {
		return true, err
	}
	proof, matched := bloom.NewMerkleBlock(b, p.filter)
	if err := p.reply(proof); err != nil {
		return true, err
	}
	for _, i := range matched {
		if err := p.spend(costTx); err != nil {
			return true, err
		}
		t := b.MsgBlock().Transactions[i]
		if err := p.replySized(t, enc, t.SerializeSize()); err != nil {
			return true, err
		}
	}
	return true, nil
}

// replySized is replyAs for a message that costs what its size is.
func (p *remote) replySized(msg wire.Message, enc wire.MessageEncoding, size int) error {
	if err := p.spend(size / bytesParsed); err != nil {
		return err
	}
	return p.replyAs(msg, enc)
}

// memPool lists what waits for a block and passes the peer's filter (BIP 35).
func (p *remote) memPool() error {
	descs := p.node.pool.MiningDescs()
	if err := p.spend(costTx * len(descs)); err != nil {
		return err
	}
	inv := wire.NewMsgInv()
	for _, d := range descs {
		if err := p.spend(p.matching(d.Tx)); err != nil {
			return err
		}
		if !p.filter.IsLoaded() || p.filter.MatchTxAndUpdate(d.Tx) {
			inv.InvList = append(inv.InvList, wire.NewInvVect(wire.InvTypeTx, d.Tx.Hash()))
		}
	}
	if len(inv.InvList) == 0 {
		return nil
	}
	return p.reply(inv)
}

// inv asks for what is announced and new. What a limit keeps us from asking for
// is left to the next announcement.
func (p *remote) inv(msg *wire.MsgInv) error {
	ask := wire.NewMsgGetData()
	for _, iv := range msg.InvList {
		switch iv.Type &^ wire.InvWitnessFlag {
		case wire.InvTypeBlock:
			p.want(iv.Hash)
		case wire.InvTypeTx:
			if known, _ := p.node.Tx(iv.Hash); known != nil || p.asked[iv.Hash] || len(p.asked) == MaxAsked {
				continue
			}
			p.asked[iv.Hash] = true
			ask.InvList = append(ask.InvList, wire.NewInvVect(wire.InvTypeWitnessTx, &iv.Hash))
		}
	}
	if len(ask.InvList) > 0 {
		if err := p.reply(ask); err != nil {
			return err
		}
	}
	return p.fetch()
}

func (p *remote) headers(msg *wire.MsgHeaders) error {
	if err := p.spend(costHeaders); err != nil || len(msg.Headers) == 0 {
		return err
	}
	var last chainhash.Hash
	for i, h := range msg.Headers {
		if i > 0 && h.PrevBlock != last {
			return misbehaved("header %d of %d does not follow the one before", i, len(msg.Headers))
		}
		last = h.BlockHash()
		p.want(last)
	}
	if len(msg.Headers) == wire.MaxBlockHeadersPerMsg {
		p.resume = &last
	}
	if have, err := p.node.chain.HaveBlock(&msg.Headers[0].PrevBlock); err != nil {
		return err
	} else if !have {
		p.wanted = nil // they follow something unknown: start from what we share
		return p.askHeaders(nil)
	}
	return p.fetch()
}

// want notes a block to fetch.
func (p *remote) want(hash chainhash.Hash) {
	have, err := p.node.chain.HaveBlock(&hash)
	if err != nil || have || p.inFlight[hash] || len(p.wanted) == MaxWanted {
		return
	}
	p.wanted = append(p.wanted, hash)
}

// fetch asks for the next wanted blocks, as far as the limit allows.
func (p *remote) fetch() error {
	ask := wire.NewMsgGetData()
	for len(p.wanted) > 0 && len(p.inFlight) < MaxInFlight {
		hash := p.wanted[0]
		p.wanted = p.wanted[1:]
		if p.inFlight[hash] {
			continue
		}
		p.inFlight[hash] = true
		ask.InvList = append(ask.InvList, wire.NewInvVect(wire.InvTypeWitnessBlock, &hash))
	}
	if len(ask.InvList) > 0 {
		return p.reply(ask)
	}
	if more := p.resume; more != nil && len(p.inFlight) == 0 {
		p.resume = nil
		return p.askHeaders(more)
	}
	return nil
}

func (p *remote) tx(msg *wire.MsgTx) error {
	if err := p.spend(costSubmitTx); err != nil {
		return err
	}
	id := msg.TxHash()
	delete(p.asked, id)
	n := p.node
	n.mu.Lock()
	err := n.usable()
	if err == nil {
		err = n.submit(msg, p)
	}
	n.mu.Unlock()
	if errors.Is(err, chain.ErrRefused) {
		return p.reject(msg.Command(), id, err)
	}
	return err
}

// reject says why (BIP 61). Bitcoin Core no longer does; without it a wallet
// can only guess.
func (p *remote) reject(command string, hash chainhash.Hash, why error) error {
	if rule := (mempool.RuleError{}); errors.As(why, &rule) {
		why = rule
	}
	code, reason := mempool.ErrToRejectErr(why)
	no := wire.NewMsgReject(command, code, reason[:min(len(reason), MaxReason)])
	no.Hash = hash
	return p.conn.Write(no) // past the queue, which a disconnected peer never gets
}

func (p *remote) block(msg *wire.MsgBlock) error {
	if err := p.spend(costSubmitBlock); err != nil {
		return err
	}
	hash := msg.BlockHash()
	delete(p.inFlight, hash)
	n := p.node
	parent, err := n.chain.HaveBlock(&msg.Header.PrevBlock)
	if err != nil {
		return err
	}
	if !parent {
		// btcd would keep a hundred such blocks of 4 MB each for their parents.
		return p.askHeaders(nil)
	}
	err = n.change(func() error { return n.take(btcutil.NewBlock(msg)) })
	var rule blockchain.RuleError
	switch {
	case !errors.As(err, &rule):
	case rule.ErrorCode == blockchain.ErrInvalidAncestorBlock:
		return p.fetch() // the peer cannot know what Invalidate declared invalid
	default:
		return errors.Join(p.reject(msg.Command(), hash, err), misbehaved("block %v: %w", hash, err))
	}
	if err != nil {
		return err
	}
	return p.fetch()
}

// take processes a block of a peer's.
func (n *Node) take(b *btcutil.Block) error {
	if have, err := n.chain.HaveBlock(b.Hash()); err != nil || have {
		return err
	}
	if err := n.store(b.MsgBlock().SerializeSize()); err != nil {
		return err
	}
	_, _, err := n.chain.ProcessBlock(b, blockchain.BFNone)
	return err
}
