package rpc

import (
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/core/ledger/lattice/node"
)

func (c *call) process() (*object, error) {
	b := c.block()
	if c.fault != nil {
		return nil, c.fault
	}
	if kind, given := c.optional("subtype"); given && kind != "" {
		if _, err := c.look(func(n *node.Node, _ *object) error { return fits(n, &b, kind) }); err != nil {
			return nil, err
		}
	}
	network := c.s.Node.Network()
	if lattice.WorkValue(b.Root(), b.Work) < min(network.WorkSend, network.WorkReceive) {
		return nil, Fault(lattice.BadWork)
	}
	if c.flag("async", false) {
		return new(object).put("started", "1"), c.s.Node.ProcessLater(c.ctx, b)
	}
	done, err := c.s.Node.Process(c.ctx, b, c.flag("force", false))
	return new(object).put("hash", done.Hash), err
}

// fits reports whether a block is of the kind that the client thinks it is: a
// wallet that is wrong about a balance would else send all that it has.
func fits(n *node.Node, b *lattice.Block, kind string) error {
	// What follows may be in the ledger already: a wallet that says a block again is to
	// hear that.
	previous, known := n.Block(b.Previous)
	if !known && !b.Previous.IsZero() {
		return Fault(lattice.GapPrevious)
	}
	change := b.Balance.Cmp(previous.Balance)
	switch kind {
	case "send":
		if change >= 0 {
			return subtypeBalance
		}
	case "receive":
		if change < 0 {
			return subtypeBalance
		}
	case "open":
		if !b.Previous.IsZero() {
			return subtypePrevious
		}
	case "change":
		switch {
		case change != 0:
			return subtypeBalance
		case b.Previous.IsZero():
			return subtypePrevious
		}
	case "epoch":
		switch {
		case change != 0:
			return subtypeBalance
		case !lattice.IsEpochLink(b.Link):
			return subtypeEpoch
		}
	default:
		return subtypeInvalid
	}
	return nil
}

// blockCreate signs a state block with a key of the request.
func (c *call) blockCreate() (*object, error) {
	if kind := c.text("type"); kind != "state" {
		c.fail(invalidType)
	}
	c.workVersion()
	if !c.has("key") {
		c.fail(keyRequired)
		return nil, c.fault
	}
	secret := lattice.NewSecret(c.key("key", badPrivateKey))
	b := lattice.Block{Account: secret.Public()}
	if text, given := c.optional("account"); given && c.accountOf(text, badAccount) != b.Account {
		c.fail(keyMismatch)
	}
	if !c.has("previous") || !c.has("representative") || !c.has("balance") {
		c.fail(stateRequired)
		return nil, c.fault
	}
	if previous := c.text("previous"); previous != "0" {
		h, err := lattice.ParseHash(previous)
		if b.Previous = h; err != nil {
			c.fail(badPrevious)
		}
	}
	b.Representative = c.accountOf(c.text("representative"), badRep)
	b.Balance = c.raw("balance", invalidBalance)
	b.Link = c.link()
	work, given := c.optional("work")
	if b.Work = c.hex64("work", 0, badWork); c.fault != nil {
		return nil, c.fault
	}
	b.Sign(secret)
	if !given || work == "0" {
		if err := c.doWork(&b); err != nil {
			return nil, err
		}
	}
	o := new(object).put("hash", b.Hash()).put("difficulty", hex16(lattice.WorkValue(b.Root(), b.Work)))
	return o.putBlock("block", &b, c.flag("json_block", false)), nil
}

// link is what a block leads to, in the three ways that a request may say it.
func (c *call) link() (link [32]byte) {
	if text, given := c.optional("link"); given {
		if k, err := lattice.ParseAccount(text); err == nil {
			return k
		}
		return c.key("link", badLink)
	}
	switch {
	case c.has("source"):
		return c.key("source", badSource)
	case c.has("destination"):
		return c.accountOf(c.text("destination"), badDestination)
	}
	c.fail(stateRequired)
	return link
}

// workVersion refuses kinds of work that there are not.
func (c *call) workVersion() {
	if v, given := c.optional("version"); given && v != "work_1" {
		c.fail(badWorkVersion)
	}
}

// doWork does the work that a block's kind takes.
func (c *call) doWork(b *lattice.Block) error {
	difficulty, err := c.difficultyOf(b)
	if err != nil {
		return err
	}
	b.Work, err = c.s.works.find(c.ctx, b.Root(), difficulty)
	return err
}

func (c *call) keyCreate() (*object, error) {
	return keyPair(lattice.NewSecret(random())), nil
}

func (c *call) keyExpand() (*object, error) {
	return keyPair(lattice.NewSecret(c.key("key", badPrivateKey))), c.fault
}

func (c *call) deterministicKey() (*object, error) {
	seed := c.key("seed", badSeed)
	index, ok := number(c.text("index"))
	if !ok || index > 1<<32-1 {
		c.fail(invalidIndex)
	}
	return keyPair(lattice.SeedKey(seed, uint32(index))), c.fault
}

func keyPair(s eddsa.Secret) *object {
	private, public := s.Reveal(), lattice.Key(s.Public())
	return new(object).put("private", upper(private[:])).put("public", public.Hex()).put("account", public)
}

func (c *call) accountGet() (*object, error) {
	return new(object).put("account", lattice.Key(c.key("key", badPublicKey))), c.fault
}

func (c *call) accountKey() (*object, error) {
	return new(object).put("key", c.account("account").Hex()), c.fault
}

func (c *call) validateAccountNumber() (*object, error) {
	_, err := lattice.ParseAccount(c.text("account"))
	return new(object).put("valid", flag(err == nil)), c.fault
}

func (c *call) nanoToRaw() (*object, error) {
	amount, ok := c.raw("amount", invalidAmount), false
	if amount.Hi == 0 {
		amount, ok = lattice.OneNano.Mul(amount.Lo)
	}
	if !ok {
		c.fail(amountTooBig)
	}
	return new(object).put("amount", amount), c.fault
}

func (c *call) rawToNano() (*object, error) {
	amount := c.raw("amount", invalidAmount)
	const tenTo15 = 1_000_000_000_000_000
	amount, _ = amount.Div(tenTo15)
	amount, _ = amount.Div(tenTo15)
	return new(object).put("amount", amount), c.fault
}
