package electrum

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/world/chain"
)

// software is what the server calls itself.
const software = "coinop 1"

// What one thing costs, in units of Work, beyond the 1 of every call.
const (
	costBlock     = 20  // reading a block and hashing its transactions
	costBroadcast = 100 // verifying scripts
	costHeaders   = 10  // 2,016 of them
	itemsPerUnit  = 16  // lines of a history, or hashes of a tree
)

// A method is one of the protocol.
type method struct {
	params       []string
	since, until version // the first that has it, and the first that has it no more
	cost         int
	do           func(c *session, a args) (any, *fault)
}

var methods = map[string]method{
	methodVersion:             {params: []string{"client_name", "protocol_version"}, do: (*session).negotiate},
	methodPing:                {do: func(*session, args) (any, *fault) { return nil, nil }},
	"server.banner":           {do: func(c *session, _ args) (any, *fault) { return c.server.options.Banner, nil }},
	"server.donation_address": {do: func(*session, args) (any, *fault) { return "", nil }},
	"server.features":         {do: (*session).features},
	"server.peers.subscribe":  {do: func(*session, args) (any, *fault) { return []any{}, nil }},
	"server.add_peer":         {params: []string{"features"}, do: func(*session, args) (any, *fault) { return false, nil }},

	methodTip:                 {do: (*session).followTip},
	"blockchain.block.header": {params: []string{"height", "cp_height"}, do: (*session).header},
	methodHeaders:             {params: []string{"start_height", "count", "cp_height"}, cost: costHeaders, do: (*session).headerList},

	methodSubscribe:                     {params: []string{"scripthash"}, do: (*session).subscribe},
	"blockchain.scripthash.unsubscribe": {params: []string{"scripthash"}, do: (*session).unsubscribe},
	methodHistory:                       {params: []string{"scripthash"}, do: (*session).history},
	"blockchain.scripthash.get_mempool": {params: []string{"scripthash"}, do: (*session).mempool},
	"blockchain.scripthash.get_balance": {params: []string{"scripthash"}, do: (*session).balance},
	"blockchain.scripthash.listunspent": {params: []string{"scripthash"}, do: (*session).unspent},

	methodBroadcast:                      {params: []string{"raw_tx"}, cost: costBroadcast, do: (*session).broadcast},
	"blockchain.transaction.id_from_pos": {params: []string{"height", "tx_pos", "merkle"}, cost: costBlock, do: (*session).idFromPos},
	methodTx:                             {params: []string{"tx_hash", "verbose"}, cost: costBlock, do: (*session).transaction},
	methodBranch:                         {params: []string{"tx_hash", "height"}, cost: costBlock, do: (*session).branch},
	"blockchain.transaction.broadcast_package": {
		params: []string{"raw_txs", "verbose"}, since: v16, cost: costBroadcast, do: (*session).broadcastPackage},

	"blockchain.estimatefee":    {params: []string{"number", "mode"}, do: (*session).estimateFee},
	"blockchain.relayfee":       {until: v16, do: func(*session, args) (any, *fault) { return btc(int64(tx.MinFeeRate)), nil }},
	"mempool.get_fee_histogram": {cost: costHeaders, do: (*session).histogram},
	"mempool.get_info":          {since: v16, do: (*session).poolInfo},
}

// negotiate answers the first server.version. Since 1.6 nothing may come before
// it, so after anything else it is one of before.
func (c *session) negotiate(a args) (any, *fault) {
	if c.greeted {
		return nil, refuse(codeRequest, "server.version is sent once")
	}
	lowest, highest := v14, v14
	if !a.absent(1) {
		var err error
		if lowest, highest, err = versionRange(a[1]); err != nil {
			return nil, refuse(codeParams, "%v", err)
		}
	}
	if c.asked && !highest.less(v16) {
		highest = version{1, 5}
	}
	v, ok := choose(lowest, highest)
	if !ok {
		return nil, refuse(codeRefused, "unsupported protocol version: %v to %v are spoken", spoken[len(spoken)-1], spoken[0])
	}
	c.version, c.greeted = v, true
	return []string{software, v.String()}, nil
}

func (c *session) features(args) (any, *fault) {
	return map[string]any{
		"hosts": map[string]any{}, "pruning": nil, "hash_function": "sha256", "server_version": software,
		"protocol_min": spoken[len(spoken)-1].String(), "protocol_max": spoken[0].String(),
		"genesis_hash": c.server.options.Params.GenesisHash.String(),
	}, nil
}

type tipHeader struct {
	Height int32  `json:"height"`
	Hex    string `json:"hex"`
}

func (c *session) tip() (tipHeader, chainhash.Hash) {
	c.server.mu.RLock()
	defer c.server.mu.RUnlock()
	x := c.server.index
	return tipHeader{x.height(), hex.EncodeToString(rawHeader(&x.headers[x.height()]))}, x.tip()
}

func (c *session) followTip(args) (any, *fault) {
	tip, hash := c.tip()
	c.headers, c.toldTip = true, hash
	return tip, nil
}

func (c *session) header(a args) (any, *fault) {
	height, no := a.number(0, "height", true)
	if no != nil {
		return nil, no
	}
	checkpoint, no := a.number(1, "cp_height", false)
	if no != nil {
		return nil, no
	}
	headers := c.rawHeaders(height, 1)
	if len(headers) == 0 {
		return nil, refuse(codeRefused, "there is no block at height %d", height)
	}
	if checkpoint == 0 {
		return headers[0], nil
	}
	root, branch, no := c.proveHeader(height, checkpoint)
	if no != nil {
		return nil, no
	}
	return map[string]any{"header": headers[0], "root": root, "branch": branch}, nil
}

func (c *session) headerList(a args) (any, *fault) {
	start, no := a.number(0, "start_height", true)
	if no != nil {
		return nil, no
	}
	count, no := a.number(1, "count", true)
	if no != nil {
		return nil, no
	}
	checkpoint, no := a.number(2, "cp_height", false)
	if no != nil {
		return nil, no
	}
	headers := c.rawHeaders(start, min(count, HeaderChunk))
	result := map[string]any{"count": len(headers), "max": HeaderChunk}
	if c.version.less(v16) {
		result["hex"] = strings.Join(headers, "")
	} else {
		result["headers"] = headers
	}
	if checkpoint > 0 && len(headers) > 0 {
		if result["root"], result["branch"], no = c.proveHeader(start+int32(len(headers))-1, checkpoint); no != nil {
			return nil, no
		}
	}
	return result, nil
}

func (c *session) rawHeaders(start, count int32) []string {
	c.server.mu.RLock()
	defer c.server.mu.RUnlock()
	all := c.server.index.headers
	if start >= int32(len(all)) {
		return []string{}
	}
	all = all[start:min(int(start)+int(count), len(all))]
	list := make([]string, len(all))
	for i := range all {
		list[i] = hex.EncodeToString(rawHeader(&all[i]))
	}
	return list
}

func (c *session) proveHeader(height, checkpoint int32) (root string, branch []string, no *fault) {
	c.server.mu.RLock()
	tip := c.server.index.height()
	c.server.mu.RUnlock()
	if c.spend(int(min(checkpoint, tip))/itemsPerUnit) != nil {
		return "", nil, refuse(codeBusy, "closing")
	}
	hash, hashes, err := c.server.branch(height, checkpoint)
	if err != nil {
		return "", nil, refuse(codeRefused, "%v", err)
	}
	return hash.String(), texts(hashes), nil
}

func texts(hashes []chainhash.Hash) []string {
	list := make([]string, len(hashes))
	for i, h := range hashes {
		list[i] = h.String()
	}
	return list
}

func (c *session) estimateFee(a args) (any, *fault) {
	if _, no := a.number(0, "number", true); no != nil {
		return nil, no
	}
	if c.server.options.FeeRate == 0 {
		return -1, nil
	}
	return btc(int64(c.server.options.FeeRate)), nil
}

func (c *session) histogram(args) (any, *fault) {
	c.server.mu.RLock()
	defer c.server.mu.RUnlock()
	return c.server.pool.histogram(), nil
}

func (c *session) poolInfo(args) (any, *fault) {
	rate := btc(int64(tx.MinFeeRate))
	return map[string]json.RawMessage{"mempoolminfee": rate, "minrelaytxfee": rate, "incrementalrelayfee": rate}, nil
}

// find is a transaction of the chain or of what waits, and where it is.
func (c *session) find(id chainhash.Hash) (t *wire.MsgTx, at place, b shown, no *fault) {
	c.server.mu.RLock()
	at, mined := c.server.index.txs[id]
	w := c.server.pool.txs[id]
	c.server.mu.RUnlock()
	switch {
	case mined:
		b, err := c.server.block(c.ctx, at.height)
		if err != nil {
			return nil, at, b, blame(err)
		}
		if int(at.pos) >= len(b.ids) || b.ids[at.pos] != id {
			return nil, at, b, blame(errMoved)
		}
		return b.block.Transactions[at.pos], at, b, nil
	case w != nil:
		return w.tx, at, b, nil
	}
	return nil, at, b, refuse(codeRefused, "no such transaction in the chain or waiting for a block")
}

func (c *session) transaction(a args) (any, *fault) {
	id, no := a.hash(0, "tx_hash")
	if no != nil {
		return nil, no
	}
	verbose, no := a.flag(1, "verbose")
	if no != nil {
		return nil, no
	}
	t, at, b, no := c.find(id)
	if no != nil {
		return nil, no
	}
	raw := hex.EncodeToString(tx.Bytes(t))
	if !verbose {
		return raw, nil
	}
	result := map[string]any{
		"txid": id.String(), "hash": t.WitnessHash().String(), "hex": raw,
		"version": t.Version, "locktime": t.LockTime, "size": t.SerializeSize(), "vsize": tx.VSize(t),
	}
	if b.block != nil {
		when := b.block.Header.Timestamp.Unix()
		c.server.mu.RLock()
		result["confirmations"] = c.server.index.height() - at.height + 1
		c.server.mu.RUnlock()
		result["blockhash"], result["time"], result["blocktime"] = b.hash.String(), when, when
	}
	return result, nil
}

func (c *session) branch(a args) (any, *fault) {
	id, no := a.hash(0, "tx_hash")
	if no != nil {
		return nil, no
	}
	height, no := a.number(1, "height", false)
	if no != nil {
		return nil, no
	}
	_, at, b, no := c.find(id)
	switch {
	case no != nil:
		return nil, no
	case b.block == nil:
		return nil, refuse(codeRefused, "the transaction waits for a block")
	case !a.absent(1) && at.height != height:
		return nil, refuse(codeRefused, "the transaction is not in the block at height %d", height)
	}
	return map[string]any{
		"block_height": at.height, "pos": at.pos,
		"merkle": texts(merkle.Prove(b.ids, int(at.pos)).Hashes),
	}, nil
}

func (c *session) idFromPos(a args) (any, *fault) {
	height, no := a.number(0, "height", true)
	if no != nil {
		return nil, no
	}
	pos, no := a.number(1, "tx_pos", true)
	if no != nil {
		return nil, no
	}
	prove, no := a.flag(2, "merkle")
	if no != nil {
		return nil, no
	}
	b, err := c.server.block(c.ctx, height)
	switch {
	case err != nil:
		return nil, blame(err)
	case int(pos) >= len(b.ids):
		return nil, refuse(codeRefused, "the block at height %d has %d transactions", height, len(b.ids))
	case !prove:
		return b.ids[pos].String(), nil
	}
	return map[string]any{"tx_hash": b.ids[pos].String(), "merkle": texts(merkle.Prove(b.ids, int(pos)).Hashes)}, nil
}

func (c *session) broadcast(a args) (any, *fault) {
	raw, no := a.bytes(0, "raw_tx", tx.MaxSize)
	if no != nil {
		return nil, no
	}
	return c.publish(raw)
}

func (c *session) publish(raw []byte) (id string, no *fault) {
	t, err := tx.Parse(raw)
	if err != nil {
		return "", refuse(codeRefused, "raw_tx is not a transaction")
	}
	err = c.server.publish(c.ctx, t)
	switch {
	case errors.Is(err, chain.ErrRefused):
		return "", refuse(codeRefused, "the transaction was rejected by network rules: %s", plain(err.Error()))
	case err != nil:
		return "", refuse(codeInternal, "the node does not answer; broadcast it again")
	}
	return t.TxHash().String(), nil
}

// plain is text of our own node's, cut and without what a page could render.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`<>&"'\`, r) {
			return '.'
		}
		return r
	}, text)
	return text[:min(len(text), 300)]
}

func (c *session) broadcastPackage(a args) (any, *fault) {
	var list []string
	if json.Unmarshal(a[0], &list) != nil {
		return nil, refuse(codeParams, "raw_txs is an array of strings")
	}
	if len(list) > MaxPackage {
		return nil, refuse(codeTooMuch, "%d transactions in a package; the limit is %d", len(list), MaxPackage)
	}
	if c.spend(costBroadcast*len(list)) != nil {
		return nil, refuse(codeBusy, "closing")
	}
	type failure struct {
		ID    string `json:"txid"`
		Error string `json:"error"`
	}
	var failures []failure
	for i, text := range list {
		raw, no := unhex(text, fmt.Sprintf("transaction %d", i), tx.MaxSize)
		if no != nil {
			return nil, no
		}
		if _, no = c.publish(raw); no != nil {
			id := ""
			if t, err := tx.Parse(raw); err == nil {
				id = t.TxHash().String()
			}
			failures = append(failures, failure{id, no.Message})
		}
	}
	result := map[string]any{"success": len(failures) == 0}
	if len(failures) > 0 {
		result["errors"] = failures
	}
	return result, nil
}
