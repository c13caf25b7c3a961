package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
)

// MaxPolicyPayees bounds the payees that a policy names.
const MaxPolicyPayees = 16

// A Policy is what a device itself may pay, signed into it: whoever takes over
// the gateway's bookkeeping still cannot have it spend more, and whoever takes the
// device meets the gateway's own limits. The device obeys the one with the highest
// version that it has seen.
type Policy struct {
	Device  string
	Version uint64
	Limits  Limits
	Payees  []string  // payment URIs up to "?"; none: anybody
	Expires step.Time // nothing is paid after it; 0 never
	Sig     []byte    // by the owner: 64 bytes by its key, or 32 by the device's secret
}

// Seal signs a policy for the device that has the public key, or the shared
// secret.
func (p Policy) Seal(owner keys.Secret, device keys.Public, shared keys.Secret) Policy {
	p.Sig = seal("policy", p.text(device), owner, shared)
	return p
}

// Verify checks that a policy was signed for this device.
func (p Policy) Verify(owner, device keys.Public, shared keys.Secret) bool {
	return verify("policy", p.text(device), p.Sig, owner, shared)
}

func (p Policy) text(device keys.Public) []byte { return p.body(device[:]) }

func (p Policy) body(b []byte) []byte {
	b = codec.AppendBytes(b, p.Device)
	b = codec.AppendUint(b, p.Version)
	b = p.Limits.append(b)
	b = codec.AppendUint(b, len(p.Payees))
	for _, to := range p.Payees {
		b = codec.AppendBytes(b, to)
	}
	return codec.AppendUint(b, int64(p.Expires))
}

// Append encodes the message behind its two-byte type.
func (p Policy) Append(b []byte) []byte {
	return codec.AppendBytes(p.body(head(b, typePolicy)), p.Sig)
}

func readPolicy(r *codec.Reader) Policy {
	p := Policy{Device: r.String(trade.MaxName, "device"), Version: r.Uvarint(), Limits: readLimits(r)}
	for n := r.Int(MaxPolicyPayees, "number of payees"); n > 0 && r.Err() == nil; n-- {
		p.Payees = append(p.Payees, r.String(maxTo, "payee"))
	}
	p.Expires, p.Sig = readTime(r), r.Bytes(maxSig, "signature")
	if !offer.ValidName(p.Device) {
		r.Fail(fmt.Errorf("device %.70q is no name", p.Device))
	}
	if err := checkSig(p.Sig); err != nil {
		r.Fail(err)
	}
	return p
}

// allows checks what is not about sums.
func (p *Policy) allows(to string, now step.Time) error {
	to, _, _ = strings.Cut(to, "?")
	switch {
	case p.Expires != 0 && now < clockSet:
		return refusal(money.Refused, errClock)
	case p.Expires != 0 && p.Expires <= now:
		return refusal(money.Refused, errors.New("this device's policy has expired; its owner must sign a new one"))
	case len(p.Payees) > 0 && !slices.Contains(p.Payees, to):
		return refusal(money.Refused, fmt.Errorf("this device's policy does not name the payee %.80q", to))
	}
	return nil
}

// MaxEndSpends bounds the payments that a device remembers, open or settled.
const MaxEndSpends = 64

// obey takes a policy, if it is newer than the one before.
func (e *End) obey(p Policy, fx *step.Effects) {
	owners := e.config.Gateways
	if e.config.Owner != (keys.Public{}) {
		owners = []keys.Public{e.config.Owner}
	}
	signed := func(owner keys.Public) bool { return p.Verify(owner, e.public, e.config.Shared) }
	switch {
	case p.Device != e.config.Device || !slices.ContainsFunc(owners, signed):
		e.Forged++
	case e.policy == nil || p.Version > e.policy.Version:
		e.policy = &p
		fx.Put = append(fx.Put, step.Record{Key: endPolicyKey, Value: p.Append(nil)})
	}
}

var errNoPolicy = errors.New("this device has no policy, so it pays nothing; its owner must sign one")

// spend checks a payment of the device's own against its policy, and reserves it.
func (e *End) spend(ev Spend, now step.Time, fx *step.Effects) {
	id := SpendID(ev.Device, ev.ID)
	if e.find(ev.ID) >= 0 {
		fx.Done = append(fx.Done, step.Outcome{ID: id, Value: ev.Amount})
		return
	}
	t, err := e.mayReserve(ev, now)
	if err != nil {
		fx.Done = append(fx.Done, step.Outcome{ID: id, Err: err})
		return
	}
	s := &spending{spendKey: spendKey{e.config.Device, ev.ID}, amount: ev.Amount, start: t.start, who: whois(ev.To), open: true}
	if n := len(e.spends); n > 0 {
		s.nth = e.spends[n-1].nth + 1
	}
	t.add(e.policy.Limits, ev.Amount, s.who)
	e.tally = t
	if len(e.spends) >= MaxEndSpends {
		old := e.settled()
		fx.Put = append(fx.Put, step.Record{Key: e.spends[old].endKey()})
		e.spends = slices.Delete(e.spends, old, old+1)
	}
	e.spends = append(e.spends, s)
	fx.Put = append(fx.Put, s.endRecord(), e.tallyRecord())
	fx.Done = append(fx.Done, step.Outcome{ID: id, Value: ev.Amount})
}

func (e *End) find(id money.OrderID) int {
	return slices.IndexFunc(e.spends, func(s *spending) bool { return s.id == id })
}

func (e *End) mayReserve(ev Spend, now step.Time) (t tally, err error) {
	switch {
	case ev.Device != e.config.Device:
		return t, refusal(money.Invalid, fmt.Errorf("this is device %s", e.config.Device))
	case e.policy == nil:
		return t, refusal(money.Refused, errNoPolicy)
	case len(e.spends) >= MaxEndSpends && e.settled() < 0:
		return t, refusal(money.Refused, fmt.Errorf("%d payments are under way, which is the limit", MaxEndSpends))
	}
	if err := e.policy.allows(ev.To, now); err != nil {
		return t, err
	}
	l := e.policy.Limits
	t = e.tally.at(l, now)
	if err := t.allow(l, ev.Amount, ev.Units, ev.To, now); err != nil || l.Total == 0 {
		return t, err
	}
	return t, t.short(l, ev.Amount, l.Total, now)
}

// settled is the oldest payment that is, or -1.
func (e *End) settled() int {
	return slices.IndexFunc(e.spends, func(s *spending) bool { return !s.open })
}

func (e *End) spent(ev Spent, fx *step.Effects) {
	if at := e.find(ev.ID); at >= 0 && e.spends[at].open {
		e.spends[at].open = false
		fx.Put = append(fx.Put, e.spends[at].endRecord())
	}
}

func (e *End) unspent(ev Unspent, now step.Time, fx *step.Effects) {
	at := e.find(ev.ID)
	if at < 0 || !e.spends[at].open {
		return
	}
	s := e.spends[at]
	e.tally = e.tally.at(e.policy.Limits, now)
	e.tally.back(s.start, s.amount, s.who)
	e.spends = slices.Delete(e.spends, at, at+1)
	fx.Put = append(fx.Put, step.Record{Key: s.endKey()}, e.tallyRecord())
}

func (e *End) tallyRecord() step.Record {
	return step.Record{Key: endTallyKey, Value: e.tally.append(nil)}
}

func (s *spending) endKey() string { return endSpend + s.id.Key() }

func (s *spending) endRecord() step.Record {
	b := codec.AppendUint(nil, s.nth)
	b = codec.AppendUint(b, s.amount)
	b = codec.AppendUint(b, zigzag(s.start))
	b = append(b, s.who[:]...)
	return step.Record{Key: s.endKey(), Value: append(b, byte(bit(s.open)))}
}

func (e *End) readSpend(name string, r *codec.Reader) {
	s := &spending{nth: r.Uvarint(), amount: r.Amount(), start: unzigzag(r.Uvarint())}
	r.Fill(s.who[:])
	s.open = readBit(r)
	id, ok := money.OrderIDFromKey(name)
	if !ok || len(e.spends) >= MaxEndSpends {
		r.Fail(fmt.Errorf("%q is no payment, or one too many", name))
	}
	s.spendKey = spendKey{e.config.Device, id}
	e.spends = append(e.spends, s)
}
