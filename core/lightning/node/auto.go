package node

import (
	"fmt"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// Auto is a channel that the node opens by itself, whenever it can send less
// than Below: to Peer, of Capacity, and at most so many of them, worth so much,
// within 24 hours. What it has spent is on disk before the money leaves.
//
// The node has no wallet, so it says what it wants: the outcome with AutoID is
// an Open. Who has the money sends that back when the peer is linked, and then
// Fund, as for any other.
type Auto struct {
	Peer     keys.Public
	Below    money.Amount // 0: nothing is opened
	Capacity int64        // satoshi
	Public   bool
	MaxCount int   // channels in a day
	MaxSum   int64 // satoshi in a day
}

// AutoID is the ID of the outcome that asks for a channel, or says that a limit
// forbids it.
const AutoID = "auto"

// MaxAuto bounds MaxCount.
const MaxAuto = 100

const (
	autoTag = "auto/"
	// autoEvery is how often the node looks, autoPause how long it waits after a
	// failure, autoPatience how long for an answer.
	autoEvery    = step.Second
	autoPause    = step.Minute
	autoPatience = 10 * step.Minute
	day          = 24 * 60 * step.Minute

	alarmAuto = "auto"
	recAuto   = "ln/a"
)

// An expense is a channel that was opened automatically.
type expense struct {
	at   step.Time
	sats int64
}

type autoState struct {
	spent  []expense // of the last day
	asked  step.Time // since when one is being opened; 0: none is
	next   step.Time // not before
	number uint64
	told   bool // that the limit is reached
	woken  bool // the alarm for next is set
}

// topUp ends a step: it asks for a channel if what can be sent is too little.
func (n *Node) topUp() {
	a := &n.auto
	switch {
	case n.Auto.Below == 0 || n.tip == 0 && len(n.channels) > 0:
		return
	case n.at < a.next:
		if !a.woken {
			a.woken = true
			n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmAuto, At: a.next})
		}
		return
	}
	a.next, a.woken = n.at+autoEvery, false
	if a.asked != 0 && n.at < a.asked+autoPatience || n.sendable() >= n.Auto.Below {
		return
	}
	for len(a.spent) > 0 && a.spent[0].at+day <= n.at {
		a.spent, a.told = a.spent[1:], false
	}
	sum := n.Auto.Capacity
	for _, e := range a.spent {
		sum += e.sats
	}
	if limit := min(n.Auto.MaxCount, MaxAuto); len(a.spent) >= limit || sum > n.Auto.MaxSum {
		if !a.told {
			a.told = true
			n.failed(AutoID, money.Refused, "open a channel automatically", fmt.Errorf(
				"%d were opened within a day, and one more makes %d sat; the limits are %d and %d sat", len(a.spent), sum, limit, n.Auto.MaxSum))
		}
		return
	}
	a.number++
	a.asked = n.at
	n.fx.Wake = append(n.fx.Wake, step.Alarm{ID: alarmAuto, At: n.at + autoPatience})
	n.done(AutoID, Open{Tag: fmt.Sprintf("%s%d", autoTag, a.number), Peer: n.Auto.Peer, Capacity: n.Auto.Capacity, Public: n.Auto.Public})
}

// sendable is what the channels could send, were all of them deep enough and
// linked.
func (n *Node) sendable() (sum money.Amount) {
	for _, c := range n.channels {
		if c.Status() <= channel.Open {
			sum += c.Spendable()
		}
	}
	return sum
}

// autoBegun, autoFunded and autoEnded follow an opening with a tag of ours.
func (n *Node) autoBegun(tag string) {
	if strings.HasPrefix(tag, autoTag) {
		n.auto.asked, n.auto.next = n.at, n.at // it may have failed a moment ago
	}
}

// autoFunded is for money that is about to leave.
func (n *Node) autoFunded(tag string, sats int64) {
	if strings.HasPrefix(tag, autoTag) {
		n.auto.spent = append(n.auto.spent, expense{n.at, sats})
		n.fx.Put = append(n.fx.Put, n.auto.record())
	}
}

func (n *Node) autoEnded(tag string, err error) {
	if !strings.HasPrefix(tag, autoTag) {
		return
	}
	n.auto.asked = 0
	if err != nil {
		n.auto.next, n.auto.woken = n.at+autoPause, false
	}
}

func (a *autoState) record() step.Record {
	b := codec.AppendUint(nil, len(a.spent))
	for _, e := range a.spent {
		b = codec.AppendUint(b, e.at)
		b = codec.AppendUint(b, e.sats)
	}
	return step.Record{Key: recAuto, Value: b}
}

func (n *Node) loadAuto(disk step.Reader) error {
	raw, err := disk.Get(recAuto)
	if err != nil || raw == nil {
		return err
	}
	r := codec.NewReader(raw)
	n.auto.spent = make([]expense, r.Int(2*MaxAuto, "automatic openings"))
	for i := range n.auto.spent {
		n.auto.spent[i] = expense{step.Time(r.Uvarint()), int64(r.Int(int(money.MaxAmount.Sats()), "capacity"))}
	}
	if err := r.Close(); err != nil {
		return fmt.Errorf("record %s: %w", recAuto, err)
	}
	return nil
}
