package electrum

import (
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

// weigh lets a client pay for the length of a script's history, which has a
// limit.
func (c *session) weigh(script chainhash.Hash) *fault {
	c.server.mu.RLock()
	n := len(c.server.index.items(script)) + len(c.server.pool.scripts[script])
	c.server.mu.RUnlock()
	if most := c.server.options.MaxHistory; n > most {
		return refuse(codeTooMuch, "history too large: %d transactions; the limit is %d", n, most)
	}
	if c.spend(n/itemsPerUnit) != nil {
		return refuse(codeBusy, "closing")
	}
	return nil
}

// scripthash is the parameter of most methods.
func (c *session) scripthash(a args) (script chainhash.Hash, no *fault) {
	if script, no = a.hash(0, "scripthash"); no == nil {
		// HashOf is kept as SHA-256 gives it, and parseHash has turned it round.
		no = c.weigh(script)
	}
	return script, no
}

func (c *session) status(script chainhash.Hash) (*chainhash.Hash, *fault) {
	if no := c.weigh(script); no != nil {
		return nil, no
	}
	c.server.mu.RLock()
	defer c.server.mu.RUnlock()
	var all []seen
	for _, it := range c.server.index.items(script) {
		all = append(all, seen{it.id, it.height})
	}
	for _, w := range c.server.pool.scripts[script] {
		all = append(all, w.seen)
	}
	return status(all), nil
}

func (c *session) subscribe(a args) (any, *fault) {
	script, no := a.hash(0, "scripthash")
	if no != nil {
		return nil, no
	}
	_, followed := c.told[script]
	if most := c.server.options.MaxSubscriptions; !followed && len(c.told) >= most {
		return nil, refuse(codeTooMuch, "%d scripts are followed, which is the limit", most)
	}
	// First it is noted, then looked at: no change falls between.
	c.mu.Lock()
	c.keys[script] = struct{}{}
	c.mu.Unlock()
	now, no := c.status(script)
	if no != nil {
		c.forget(script)
		return nil, no
	}
	c.told[script] = now
	return statusText(now), nil
}

func (c *session) forget(script chainhash.Hash) {
	delete(c.told, script)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.keys, script)
	delete(c.dirty, script)
}

func (c *session) unsubscribe(a args) (any, *fault) {
	script, no := a.hash(0, "scripthash")
	if no != nil {
		return nil, no
	}
	_, followed := c.told[script]
	c.forget(script)
	return followed, nil
}

// historyLine is one transaction of a script.
type historyLine struct {
	Height int32  `json:"height"`
	ID     string `json:"tx_hash"`
	Fee    *int64 `json:"fee,omitempty"`
}

func (c *session) waitingLines(script chainhash.Hash) []historyLine {
	lines := []historyLine{}
	for _, w := range c.server.pool.scripts[script] {
		lines = append(lines, historyLine{w.height, w.id.String(), &w.fee})
	}
	return lines
}

func (c *session) history(a args) (any, *fault) {
	script, no := c.scripthash(a)
	if no != nil {
		return nil, no
	}
	c.server.mu.RLock()
	defer c.server.mu.RUnlock()
	lines := []historyLine{}
	for _, it := range c.server.index.items(script) {
		lines = append(lines, historyLine{Height: it.height, ID: it.id.String()})
	}
	return append(lines, c.waitingLines(script)...), nil
}

func (c *session) mempool(a args) (any, *fault) {
	script, no := c.scripthash(a)
	if no != nil {
		return nil, no
	}
	c.server.mu.RLock()
	defer c.server.mu.RUnlock()
	return c.waitingLines(script), nil
}

func (c *session) balance(a args) (any, *fault) {
	script, no := c.scripthash(a)
	if no != nil {
		return nil, no
	}
	c.server.mu.RLock()
	defer c.server.mu.RUnlock()
	x, p := c.server.index, c.server.pool
	var confirmed, waiting int64
	for _, one := range x.unspent(script) {
		confirmed += one.value
		if p.spent[one.point] {
			waiting -= one.value
		}
	}
	for _, one := range p.unspent(script) {
		waiting += one.value
	}
	return map[string]int64{"confirmed": confirmed, "unconfirmed": waiting}, nil
}

// unspent lists the outputs of what waits that pay a script and are not spent.
func (p *pool) unspent(script chainhash.Hash) (coins []coin) {
	for _, w := range p.scripts[script] {
		for i := range w.tx.TxOut {
			point := wire.OutPoint{Hash: w.id, Index: uint32(i)}
			if o, ok := p.outputs[point]; ok && o.script == script && !p.spent[point] {
				coins = append(coins, coin{point, o})
			}
		}
	}
	return coins
}

func (c *session) unspent(a args) (any, *fault) {
	script, no := c.scripthash(a)
	if no != nil {
		return nil, no
	}
	c.server.mu.RLock()
	defer c.server.mu.RUnlock()
	type line struct {
		Height int32  `json:"height"`
		Pos    uint32 `json:"tx_pos"`
		ID     string `json:"tx_hash"`
		Value  int64  `json:"value"`
	}
	lines := []line{}
	for _, one := range append(c.server.index.unspent(script), c.server.pool.unspent(script)...) {
		if !c.server.pool.spent[one.point] {
			lines = append(lines, line{one.height, one.point.Index, one.point.Hash.String(), one.value})
		}
	}
	return lines, nil
}
