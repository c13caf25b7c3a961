package light_test

import (
	"slices"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/filter"
	"coinop.dev/core/bitcoin/header"
)

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
