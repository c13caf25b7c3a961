package sim

import (
	"fmt"
	"slices"

	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/claim"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/step"
)

// expire lets so many blocks pass that every HTLC has expired, and what the chain
// had to decide is buried.
func (l *Lightning) expire() error {
	l.Sample *= 8
	defer func() { l.Sample = sample }()
	const patience, expiry, bury = 20, 18 + 40, 30
	blocks := patience + expiry + bury
	for _, d := range l.deals {
		if d.kind == "keysend" {
			blocks = patience + keysendExpiry + bury
		}
	}
	for i := range step.Time(blocks) {
		l.At(l.Now+2*i*step.Second, func() {
			l.Chain.Mine()
			l.Chain.tell()
		})
	}
	return l.Run(l.Now + 2*step.Time(blocks)*step.Second)
}

// keysendExpiry is in how many blocks a keysend payment expires over two hops.
const keysendExpiry = 144 + 40

// traces finds what is needed to punish a revoked commitment.
func (l *Lightning) traces(p *party, v node.Traces) {
	found := node.Found{Index: v.Index}
	err := channel.Traces(p.Disk, v.Index, func(t channel.Trace) bool {
		if t.First <= v.Number && v.Number <= t.Last {
			found.Traces = append(found.Traces, claim.Trace(t))
		}
		return true
	})
	if err != nil {
		l.Fail(err)
	}
	l.Tell(l.Now+1, p.Machine, node.Name, found)
}

// buried is a channel that is over: its owner must have got out of it what it
// had, and forgets it.
func (l *Lightning) buried(p *party, v node.Buried) {
	for _, c := range p.node().Channels() {
		if c.Index != v.Index {
			continue
		}
		if least := worthOf(c).Sats() - l.costs(c); p.honest && v.Ours < least {
			l.Fail(fmt.Errorf("the %s had %v in a channel (%s), and got %d of at least %d sat (theirs %d, fees %d)", p.name, worthOf(c), c.Failure(), v.Ours, least, v.Theirs, v.Fees))
		}
		p.over[v.Index] = worthOf(c)
		if l.seed%3 == 0 {
			return // it stays
		}
		e := node.Erase{Index: v.Index, Last: true}
		p.Disk.Scan(channel.Prefix(v.Index), func(key string, _ []byte) bool {
			e.Keys = append(e.Keys, key)
			return len(e.Keys) < node.MaxErase
		})
		l.Tell(l.Now+1, p.Machine, node.Name, e)
	}
}

// costs is the most that the end of a channel on the chain may cost, in satoshi:
// the commitment's fee and anchors, one sweep, and of each HTLC what is below
// dust, or the share of it that its transactions may cost.
func (l *Lightning) costs(c *channel.Channel) int64 {
	sum := int64(4_000)
	ours, theirs := c.HTLCs()
	for _, h := range slices.Concat(ours, theirs) {
		sum += max(1_500, h.Amount.Sats()/2)
	}
	return sum
}

// close ends all channels in agreement, and reads the balances back from the
// chain.
func (l *Lightning) close() error {
	for _, pair := range l.cables {
		side := pair[l.Random("close").IntN(2)]
		for _, c := range side.node().Channels() {
			if c.Peer == pair[0].key.Public() || c.Peer == pair[1].key.Public() {
				l.Tell(l.Now+1, side.Machine, node.Name, node.Close{ID: c.ID})
			}
		}
	}
	l.Chain.Blocks(l.Now + 60*step.Second)
	if err := l.Run(l.Now + 70*step.Second); err != nil {
		return err
	}
	return l.conserved()
}
