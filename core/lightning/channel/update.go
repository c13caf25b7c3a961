package channel

import (
	"errors"
	"fmt"
	"math"

	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
	"coinop.dev/core/money"
)

// Why an HTLC is not added. All of them are certain: nothing was sent.
var (
	ErrNoLink    = errors.New("the peer is not connected")
	ErrNotOpen   = errors.New("the channel takes no payments")
	ErrBalance   = errors.New("the channel's balance is too small")
	ErrInFlight  = errors.New("too much is in flight to the peer")
	ErrWaiting   = fmt.Errorf("%d payments wait for room in the channel", MaxWaiting)
	ErrTooSmall  = errors.New("the amount is below the peer's minimum")
	ErrDust      = errors.New("max_dust_in_flight is reached: payments that small cannot be enforced on the chain while they are in flight")
	ErrSenseless = errors.New("the amount or the expiry is none")
	ErrOverdue   = errors.New("the peer takes no payments, and the expiry is near")
)

// Spendable is the most one more HTLC of ours may carry, in msat.
func (c *Channel) Spendable() money.Amount {
	ours, count := c.ours.sum()
	_, theirs := c.theirs.sum()
	keep := ours + c.waitingSum + money.Amount(c.Theirs.Reserve)*money.Sat
	if c.Commit.Opener == commit.Local {
		keep += c.fees0(2*c.highestRate(), count+len(c.waiting)+theirs+1)
	}
	if keep >= c.local {
		return 0
	}
	left := c.local - keep
	if inFlight := ours + c.waitingSum; inFlight >= c.Theirs.MaxInFlight {
		return 0
	} else if left > c.Theirs.MaxInFlight-inFlight {
		left = c.Theirs.MaxInFlight - inFlight
	}
	return left
}

// Receivable is the most that one more HTLC of the peer's may carry.
func (c *Channel) Receivable() money.Amount {
	theirs, count := c.theirs.sum()
	_, ours := c.ours.sum()
	keep := theirs + money.Amount(c.Ours.Reserve)*money.Sat
	if c.Commit.Opener == commit.Remote {
		keep += c.fees0(2*c.highestRate(), count+ours+1)
	}
	if keep >= c.remote || theirs >= c.Ours.MaxInFlight {
		return 0
	}
	return min(c.remote-keep, c.Ours.MaxInFlight-theirs)
}

// fees0 is what the opener pays for a commitment with n HTLCs, anchors included.
// BOLT 2 has it keep twice the rate in reserve, or a rise of the fee could leave
// the channel stuck.
func (c *Channel) fees0(rate int64, n int) money.Amount {
	fee := c.Commit.Fee(commit.Remote, rate, n)
	if c.Commit.Type == commit.Anchors {
		fee += 2 * commit.AnchorValue
	}
	return money.Amount(fee) * money.Sat
}

func (c *Channel) highestRate() (rate int64) {
	for _, f := range c.fees {
		rate = max(rate, f.rate)
	}
	return rate
}

// isDust reports whether an HTLC has no output in one of the commitments: while
// it is in flight nothing but the peer's word stands for it.
func (c *Channel) isDust(h *HTLC) bool {
	at := commit.HTLC{Ours: h.Ours, Amount: h.Amount}
	rate := c.highestRate()
	return c.Commit.Trimmed(commit.Local, rate, at) || c.Commit.Trimmed(commit.Remote, rate, at)
}

// DustInFlight is the sum of the HTLCs, of both sides, that the chain could not
// enforce if the channel closed now.
func (c *Channel) DustInFlight() (sum money.Amount) {
	sum = c.waitingDust
	for _, l := range [...][]*HTLC{c.ours.all, c.theirs.all} {
		for _, h := range l {
			if h.dust && (h.Settle == nil || h.awaited) {
				sum += h.Amount
			}
		}
	}
	return sum
}

// Add offers an HTLC: it waits until Flush has room for it. An error means that
// it was not taken.
func (c *Channel) Add(h *HTLC) error {
	switch {
	case c.status != Open || !c.sentReady || !c.gotReady || c.sentShutdown || c.gotShutdown != nil:
		return ErrNotOpen
	case !c.synced:
		return ErrNoLink
	case h.Amount == 0 || h.Expiry == 0 || h.Expiry >= MaxExpiry:
		return ErrSenseless
	case h.Amount < c.Theirs.MinHTLC:
		return fmt.Errorf("%w of %v", ErrTooSmall, c.Theirs.MinHTLC)
	case len(c.waiting) >= MaxWaiting:
		return ErrWaiting
	}
	if most := c.Spendable(); h.Amount > most {
		if c.local > h.Amount && most == 0 && c.Theirs.MaxInFlight < c.local {
			return fmt.Errorf("%w: it allows %v", ErrInFlight, c.Theirs.MaxInFlight)
		}
		return fmt.Errorf("%w: it can send %v", ErrBalance, most)
	}
	dust := c.isDust(h)
	if dust && c.MaxDust > 0 {
		if hangs := c.DustInFlight(); hangs+h.Amount > c.MaxDust {
			return fmt.Errorf("%w: %v are in flight, and %v is the limit", ErrDust, hangs, c.MaxDust)
		}
	}
	h.Ours, h.Stage, h.dust = true, Added, dust
	c.waiting = append(c.waiting, h)
	c.waitingSum += h.Amount
	if dust {
		c.waitingDust += h.Amount
	}
	return nil
}

// Fulfill ends an HTLC of the peer's with its preimage, Fail with a reason,
// Malformed with what was wrong with its onion. The update leaves with the next
// signature. Ending one twice changes nothing.
func (c *Channel) Fulfill(id uint64, preimage [32]byte) { c.settle(id, &Settle{Preimage: &preimage}) }

// Fail: see Fulfill. The reason is sealed for the origin (BOLT 4).
func (c *Channel) Fail(id uint64, reason []byte) { c.settle(id, &Settle{Reason: reason}) }

// Malformed: see Fulfill.
func (c *Channel) Malformed(id uint64, code uint16, sum [32]byte) {
	c.settle(id, &Settle{Code: code, OnionSum: sum})
}

func (c *Channel) settle(id uint64, s *Settle) {
	if h := c.theirs.find(id); h != nil && h.Stage == Committed && h.Settle == nil {
		h.Settle, h.awaited = s, true
		c.change()
		c.saveSettle(h)
	}
}

// SetFeeRate asks for another rate of the commitments, in satoshi per 1,000
// weight. Only the opener can; it is sent when it can be paid for.
func (c *Channel) SetFeeRate(rate int64) error {
	if c.Commit.Opener != commit.Local {
		return errors.New("only the side that opened the channel sets its fee rate")
	}
	if rate < MinFeeRate || rate > MaxFeeRate {
		return fmt.Errorf("fee rate is %d sat/kw; it must be %d to %d", rate, MinFeeRate, MaxFeeRate)
	}
	if rate != c.highestRate() {
		c.feeWaiting = rate
	}
	return nil
}

// Bounds of a commitment's fee rate in satoshi per 1,000 weight: what nodes relay
// at least, rounded up; and 400 sat/vB, beyond which it is a mistake or an
// attack.
const (
	MinFeeRate = 253
	MaxFeeRate = 100_000
)

func (c *Channel) recvAdd(m *ln.UpdateAddHTLC, note []byte) {
	sum, count := c.theirs.sum()
	h := &HTLC{ID: m.ID, Amount: m.AmountMsat, Hash: m.PaymentHash, Expiry: m.CLTVExpiry, Note: note}
	switch {
	case c.gotShutdown != nil:
		c.fail("update_add_htlc after shutdown")
	case m.ID != c.theirs.next:
		c.fail("update_add_htlc has id %d; the next one is %d", m.ID, c.theirs.next)
	case h.Amount == 0 || h.Amount < c.Ours.MinHTLC:
		c.fail("update_add_htlc of %v; the minimum is %v", h.Amount, c.Ours.MinHTLC)
	case h.Expiry >= MaxExpiry:
		c.fail("update_add_htlc has an expiry of %d, which is no block height", h.Expiry)
	case count >= c.Ours.MaxHTLCs:
		c.fail("update_add_htlc is one more than max_accepted_htlcs, which is %d", c.Ours.MaxHTLCs)
	case h.Amount > c.Ours.MaxInFlight || sum > c.Ours.MaxInFlight-h.Amount:
		c.fail("update_add_htlc passes max_htlc_value_in_flight_msat, which is %d", uint64(c.Ours.MaxInFlight))
	case !c.affordable(sum+h.Amount, count+1):
		c.fail("update_add_htlc of %v leaves less than the reserve and the fee", h.Amount)
	default:
		h.dust = c.isDust(h)
		c.theirs.all = append(c.theirs.all, h)
		c.theirs.next++
	}
}

// affordable reports whether the peer can have so much in flight.
func (c *Channel) affordable(sum money.Amount, count int) bool {
	keep := money.Amount(c.Ours.Reserve) * money.Sat
	if c.Commit.Opener == commit.Remote {
		_, ours := c.ours.sum()
		keep += c.fees0(c.rate(commit.Local, false), count+ours)
	}
	have := c.remote + c.ours.moved()
	return have >= sum && have-sum >= keep
}

func (c *Channel) recvFulfill(m *ln.UpdateFulfillHTLC) {
	h := c.removable(m.ID, "update_fulfill_htlc")
	if h == nil {
		return
	}
	if sha(m.PaymentPreimage[:]) != h.Hash {
		c.fail("update_fulfill_htlc for %d has a preimage that is not its hash's", m.ID)
		return
	}
	known := h.fulfilled()
	h.Stage, h.Settle = Removing, &Settle{Preimage: &m.PaymentPreimage}
	if !known {
		c.saveSettle(h)
		c.event(Fulfilled{h})
	}
}

func (c *Channel) recvFail(m *ln.UpdateFailHTLC) {
	h := c.removable(m.ID, "update_fail_htlc")
	switch {
	case h == nil:
	case len(m.Reason) > MaxReason:
		c.fail("update_fail_htlc for %d has a reason of %d bytes; the limit is %d", m.ID, len(m.Reason), MaxReason)
	default:
		c.unsettle(h)
		h.Stage, h.Settle = Removing, &Settle{Reason: m.Reason}
	}
}

// badOnion marks the codes that update_fail_malformed_htlc may carry (BOLT 4).
const badOnion = 0x8000

func (c *Channel) recvMalformed(m *ln.UpdateFailMalformedHTLC) {
	h := c.removable(m.ID, "update_fail_malformed_htlc")
	switch {
	case h == nil:
	case m.FailureCode&badOnion == 0:
		c.fail("update_fail_malformed_htlc for %d has failure code %#x, without the BADONION bit", m.ID, m.FailureCode)
	default:
		c.unsettle(h)
		h.Stage, h.Settle = Removing, &Settle{Code: m.FailureCode, OnionSum: m.SHA256OfOnion}
	}
}

// unsettle is for a peer that fulfilled an HTLC, did not sign that, and fails it
// over the next connection: BOLT 2 has it forget what it has not signed, and an
// lnd that was killed at the wrong moment does just that. The preimage has been
// used already; that the money stays here is the peer's loss alone.
func (c *Channel) unsettle(h *HTLC) {
	if h.fulfilled() {
		c.put(h.key(keySettle), nil)
	}
}

// removable finds an HTLC of ours that the peer may remove now.
func (c *Channel) removable(id uint64, what string) *HTLC {
	h := c.ours.find(id)
	switch {
	case h == nil:
		c.fail("%s for %d, which is not there", what, id)
	case h.Stage != Committed:
		c.fail("%s for %d, which is not irrevocably committed", what, id)
	default:
		return h
	}
	return nil
}

func (c *Channel) recvFee(m *ln.UpdateFee) {
	rate := int64(m.FeeratePerKW)
	sum, count := c.theirs.sum()
	_, ours := c.ours.sum()
	switch {
	case c.Commit.Opener == commit.Local:
		c.fail("update_fee from the side that does not pay it")
	case rate < MinFeeRate || rate > MaxFeeRate:
		c.fail("update_fee to %d sat/kw; it must be %d to %d", rate, MinFeeRate, MaxFeeRate)
	case c.remote < sum || c.remote-sum < c.fees0(rate, count+ours):
		c.fail("update_fee to %d sat/kw, which its sender cannot pay", rate)
	case len(c.fees) >= maxFees:
		c.fail("more than %d update_fee wait", maxFees)
	default:
		c.fees = append(c.fees, fee{rate, Added})
	}
}

// maxFees bounds the fee rates that are on their way.
const maxFees = 16

// Value is what a channel is worth to its owner and holds in flight.
type Value struct {
	Local, Remote            money.Amount // without HTLCs
	Spendable, Receivable    money.Amount
	Paid, Got                money.Amount // has changed sides already, and is in Remote or Local when its HTLC is gone
	OursInFlight, TheirsSent money.Amount
	Dust                     money.Amount
	HTLCs                    int
}

// Value sums the channel up.
func (c *Channel) Value() Value {
	ours, n := c.ours.sum()
	theirs, m := c.theirs.sum()
	v := Value{Local: c.local, Remote: c.remote, Paid: c.ours.moved(), Got: c.theirs.moved(), OursInFlight: ours, TheirsSent: theirs, Dust: c.DustInFlight(), HTLCs: n + m}
	v.Spendable, v.Receivable = c.Spendable(), c.Receivable()
	return v
}

// Overdue gives back the HTLCs that wait to be sent, to a peer that does not
// revoke, and expire at a height or before.
func (c *Channel) Overdue(height uint32) {
	left := c.waiting[:0]
	for _, h := range c.waiting {
		if h.Expiry > height {
			left = append(left, h)
			continue
		}
		c.waitingSum -= h.Amount
		c.event(Unsent{h, ErrOverdue})
	}
	clear(c.waiting[len(left):])
	if c.waiting = left; len(left) == 0 {
		c.waiting = nil
	}
}

// Expiring returns the least expiry of an HTLC that only the chain can decide at
// that height: ours that are not gone, and the peer's whose preimage we
// know. MaxUint32 if there is none.
func (c *Channel) Expiring() (ours, theirs uint32) {
	ours, theirs = math.MaxUint32, math.MaxUint32
	for _, h := range c.ours.all {
		// One that failed hangs until the peer has revoked every commitment with
		// it: until then nobody can be told that it failed.
		if h.Stage >= Signed && (h.Stage < Unacked || !h.fulfilled()) {
			ours = min(ours, h.Expiry)
		}
	}
	for _, h := range c.theirs.all {
		if h.Stage >= Committed && h.Stage < Out && h.fulfilled() {
			theirs = min(theirs, h.Expiry)
		}
	}
	return ours, theirs
}
