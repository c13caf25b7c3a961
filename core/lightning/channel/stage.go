package channel

import (
	"slices"

	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/money"
)

// A Stage is how far an HTLC has come. The two sides of the names are the one
// that offered it and the one that receives it; an update is in the receiver's
// commitment first, because its sender signs that one.
type Stage uint8

const (
	// Added: offered, and in no commitment.
	Added Stage = iota
	// Signed: in the receiver's newest commitment.
	Signed
	// Acked: the receiver has revoked the one before.
	Acked
	// Both: in the offerer's newest commitment too.
	Both
	// Committed: the offerer has revoked the one before. Neither side can get
	// rid of the HTLC alone any more.
	Committed
	// Removing: the receiver has fulfilled or failed it.
	Removing
	// Unsigned: out of the offerer's newest commitment.
	Unsigned
	// Unacked: the offerer has revoked the one before.
	Unacked
	// Out: out of the receiver's newest commitment.
	Out
	// Gone: the receiver has revoked the one before.
	Gone
)

// A turn is one of the four things that move stages.
type turn uint8

const (
	weSign turn = iota
	theyRevoke
	theySign
	weRevoke
)

// after is the stage that follows a turn. ours: the update's offerer is us.
func (s Stage) after(t turn, ours bool) Stage {
	if !ours { // seen from the other side
		t = [...]turn{theySign, weRevoke, weSign, theyRevoke}[t]
	}
	switch {
	case t == weSign && (s == Added || s == Unacked),
		t == theyRevoke && (s == Signed || s == Out),
		t == theySign && (s == Acked || s == Removing),
		t == weRevoke && (s == Both || s == Unsigned):
		return s + 1
	}
	return s
}

// within reports whether an update at s is part of the newest commitment of the
// side that receives it, or of the side that offered it.
func (s Stage) within(receiver bool) bool {
	if receiver {
		return s >= Signed && s <= Unacked
	}
	return s >= Both && s <= Removing
}

// wasWithin is within for the commitment before the newest.
func (s Stage) wasWithin(receiver bool) bool {
	if receiver {
		return s >= Acked && s <= Out
	}
	return s >= Committed && s <= Unsigned
}

// left reports whether the update has come and gone.
func (s Stage) left(receiver, old bool) bool {
	last := Removing
	if receiver {
		last = Unacked
	}
	if old {
		last++
	}
	return s > last
}

// A fee is a rate and how far it has come; it is never removed, only followed
// by another.
type fee struct {
	rate  int64 // satoshi per 1,000 weight
	stage Stage
}

// A list is one side's HTLCs by ID.
type list struct {
	all  []*HTLC
	next uint64 // the ID of the next one
}

func (l *list) find(id uint64) *HTLC {
	i, ok := slices.BinarySearchFunc(l.all, id, func(h *HTLC, id uint64) int {
		switch {
		case h.ID < id:
			return -1
		case h.ID > id:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return l.all[i]
}

func (l *list) drop(h *HTLC) {
	l.all = slices.DeleteFunc(l.all, func(x *HTLC) bool { return x == h })
}

// prune drops what is gone.
func (l *list) prune() {
	l.all = slices.DeleteFunc(l.all, func(h *HTLC) bool { return h.Stage == Gone })
}

// sum is what the offerer cannot use for another HTLC: those that the next
// commitment of the receiver's has, and the money of those that were fulfilled.
func (l *list) sum() (total money.Amount, count int) {
	for _, h := range l.all {
		in := h.Stage < Unacked
		if in {
			count++
		}
		if in || h.fulfilled() {
			total += h.Amount
		}
	}
	return total, count
}

// moved is the money of the list that is the receiver's to use already.
func (l *list) moved() (total money.Amount) {
	for _, h := range l.all {
		if h.Stage >= Removing && h.fulfilled() {
			total += h.Amount
		}
	}
	return total
}

// state is what one side's commitment pays out. With old it is the peer's
// commitment that is not revoked yet while a newer one is signed. moves are
// turns that are imagined first.
func (c *Channel) state(owner commit.Owner, old bool, moves ...turn) commit.State {
	s := commit.State{Local: c.local, Remote: c.remote, HTLCs: make([]commit.HTLC, 0, len(c.ours.all)+len(c.theirs.all))}
	switch {
	case owner == commit.Local:
		s.Number = c.number
	case c.outstanding && !old:
		s.Number = c.theirNumber + 1
	default:
		s.Number = c.theirNumber
	}
	in := Stage.within
	if old {
		in = Stage.wasWithin
	}
	for _, l := range [...]*list{&c.ours, &c.theirs} {
		ours := l == &c.ours
		receiver := ours == (owner == commit.Remote)
		offered, received := &s.Local, &s.Remote
		if !ours {
			offered, received = received, offered
		}
		for _, h := range l.all {
			at := h.Stage
			for _, t := range moves {
				at = at.after(t, ours)
			}
			switch {
			case in(at, receiver):
				*offered -= h.Amount
				s.HTLCs = append(s.HTLCs, h.commit())
			case at.left(receiver, old) && h.fulfilled():
				*offered -= h.Amount
				*received += h.Amount
			}
		}
	}
	s.FeeRate = c.rate(owner, old, moves...)
	return s
}

// rate is the fee rate of one side's commitment.
func (c *Channel) rate(owner commit.Owner, old bool, moves ...turn) (rate int64) {
	receiver := owner != c.Commit.Opener
	for i, f := range c.fees {
		at := f.stage
		for _, t := range moves {
			at = at.after(t, c.Commit.Opener == commit.Local)
		}
		enters := Both
		if receiver {
			enters = Signed
		}
		if old {
			enters++
		}
		if i == 0 || at >= enters {
			rate = f.rate
		}
	}
	return rate
}

// move takes every update through a turn, and tells the node what that means.
func (c *Channel) move(t turn) {
	for _, h := range c.ours.all {
		was := h.Stage
		if h.Stage = was.after(t, true); h.Stage == was {
			continue
		}
		switch h.Stage {
		case Signed:
			h.Entered = c.theirNumber + 1
		case Acked:
			h.Onion = nil
		case Gone:
			c.gone(h)
			if !h.fulfilled() {
				c.urgent = true // its fate goes on to others
				c.event(Removed{h})
			}
		}
	}
	for _, h := range c.theirs.all {
		was := h.Stage
		if h.Stage = was.after(t, false); h.Stage == was {
			continue
		}
		switch h.Stage {
		case Both:
			h.Entered = c.theirNumber + 1
		case Committed:
			c.event(LockedIn{h})
		case Gone:
			c.gone(h)
		}
	}
	c.ours.prune()
	c.theirs.prune()
	for i := range c.fees {
		// A rate stays at Committed: nothing removes it.
		if at := c.fees[i].stage; at < Committed {
			c.fees[i].stage = at.after(t, c.Commit.Opener == commit.Local)
		}
	}
	for len(c.fees) > 1 && c.fees[1].stage == Committed {
		c.fees = c.fees[1:]
	}
	c.dirty = true
}

// gone books an HTLC that is over into the balances.
func (c *Channel) gone(h *HTLC) {
	if h.fulfilled() {
		from, to := &c.local, &c.remote
		if !h.Ours {
			from, to = to, from
		}
		*from -= h.Amount
		*to += h.Amount
	}
	c.forget(h)
}
