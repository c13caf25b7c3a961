package mqtt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/gateway"
)

// paid takes a message that costs something. A command reaches the device as an
// order, which the same proof makes once. An event is drawn from a prepaid
// session, and passed on. A client of MQTT 5 is answered in the acknowledgement,
// any other one on its reply topic.
func (s *session) paid(in Incoming, service string) Verdict {
	to, t := s.back(in), &s.d.till
	if in.At.Class == Event && s.again(in) {
		return Verdict{} // it was paid for
	}
	if in.Acked {
		in.Payload = bytes.Clone(in.Payload)
		if !t.work(func(ctx context.Context) {
			a := t.sell(ctx, to, in, service)
			s.pass(in, a)
			s.d.reply(to, a)
		}) {
			s.d.reply(to, failed("", errBusy))
		}
		return Verdict{}
	}
	select {
	case t.asking <- struct{}{}:
	default:
		return refuse(ServerBusy, errBusy)
	}
	defer func() { <-t.asking }()
	ctx, cancel := context.WithTimeout(s.d.ctx, answerWithin)
	defer cancel()
	a := t.sell(ctx, to, in, service)
	switch {
	case a.Error != nil:
		return refuse(NotAuthorized, errors.New(a.Error.Detail))
	case a.Offer != nil:
		raw, err := json.Marshal(a.Offer)
		if err != nil {
			return refuse(unspecified, err)
		}
		return Verdict{NotAuthorized, []Property{{PropOffer, string(raw)}}}
	case a.Order != nil && final(*a.Order):
		s.d.reply(to, a)
	}
	s.pass(in, a)
	return Verdict{}
}

// pass hands on an event that is paid.
func (s *session) pass(in Incoming, a answer) {
	if in.At.Class == Event && a.Error == nil && a.Offer == nil {
		s.mu.Lock()
		s.passed[s.at%len(s.passed)] = fingerprint(in)
		s.at++
		s.mu.Unlock()
		s.event(in)
	}
}

// again reports whether an event is one that was paid, and is only repeated: who
// means to say the same twice gives it other correlation data.
func (s *session) again(in Incoming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.passed[:], fingerprint(in))
}

func fingerprint(in Incoming) (f [8]byte) {
	proof, _ := in.Property(PropProof)
	h := sha256.New()
	for _, part := range [][]byte{[]byte(in.Topic), []byte(proof), in.Match, in.Payload} {
		h.Write(strconv.AppendInt(nil, int64(len(part)), 10))
		h.Write([]byte{':'})
		h.Write(part)
	}
	copy(f[:], h.Sum(nil))
	return f
}

// sell takes the proof that came with a message. Without one there is an offer.
func (t *till) sell(ctx context.Context, to back, in Incoming, service string) answer {
	units := uint64(1)
	if text, ok := in.Property(PropUnits); ok {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || n == 0 {
			return wrong("", fmt.Errorf("%s is %.20q, not a number of units", PropUnits, text))
		}
		units = n
	}
	if text, ok := in.Property(PropProof); ok {
		p, err := parseProof(text)
		if err != nil {
			return wrong("", fmt.Errorf("%s: %w", PropProof, err))
		}
		if in.At.Class == Event {
			if err := t.d.Shop.Spend(ctx, p, service, units); err != nil {
				return failed("", err)
			}
			return answer{State: "paid"}
		}
		a := t.claim(ctx, to, "", p)
		if a.Error == nil && a.Order.Item != service {
			return wrong("", fmt.Errorf("%s: it pays for %s, not for %s", PropProof, a.Order.Item, service))
		}
		return a
	}
	// The same client asking for the same thing gets the same offer.
	a := t.offer(ctx, to.who, request{ID: fmt.Sprintf("%s/%d", service, units), Service: service, Units: units, Session: in.At.Class == Event})
	if a.Error == nil && a.Offer.Free {
		return t.claim(ctx, to, "", gateway.Proof{Token: a.Offer.Token})
	}
	return a
}

// parseProof reads the value of a pay-proof property.
func parseProof(text string) (p gateway.Proof, err error) {
	if len(text) > MaxRequest {
		return p, fmt.Errorf("it has %d bytes; the limit is %d", len(text), MaxRequest)
	}
	if strings.HasPrefix(text, "{") {
		var r struct {
			Token   string         `json:"token"`
			Receipt *money.Receipt `json:"receipt"`
		}
		if err := readJSON([]byte(text), &r); err != nil {
			return p, err
		}
		p.Token, p.Receipt = r.Token, r.Receipt
	} else {
		token, preimage, _ := strings.Cut(text, ":")
		if p.Preimage, err = hex.DecodeString(preimage); err != nil {
			return p, errors.New("the preimage is not hex")
		}
		p.Token = token
	}
	if p.Token == "" {
		return p, errors.New("it has no token")
	}
	return p, nil
}
