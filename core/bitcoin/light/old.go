package light

import (
	"errors"
	"fmt"
	"slices"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/step"
)

// MaxOldWanted bounds the intervals whose headers are being fetched again.
const MaxOldWanted = 16

// WantHeaders is answered by an outcome with WantHeadersID(Interval): the headers
// above Interval*header.Interval up to the next checkpoint, which are below the
// tail. They are fetched from a peer and proved by the checkpoint.
type WantHeaders struct{ Interval int32 }

// WantHeadersID is the outcome's for an interval.
func WantHeadersID(number int32) string { return fmt.Sprintf("headers/%d", number) }

var errOldBusy = fmt.Errorf("the headers of %d intervals are being fetched already", MaxOldWanted)

func (c *Client) wantHeaders(number int32) {
	tip, _ := c.chain.Tip()
	switch {
	case number < 0 || (number+1)*header.Interval > tip:
		c.giveHeaders(number, nil, ErrAbove)
	case slices.Contains(c.oldWanted, number): // who asks again gets the same answer
	case len(c.oldWanted) == MaxOldWanted:
		c.giveHeaders(number, nil, errOldBusy)
	default:
		c.oldWanted = append(c.oldWanted, number)
	}
}

func (c *Client) giveHeaders(number int32, headers []wire.BlockHeader, err error) {
	c.fx.Done = append(c.fx.Done, step.Outcome{ID: WantHeadersID(number), Value: headers, Err: err})
}

// fetchOld asks idle peers for the headers that nobody was asked for.
func (c *Client) fetchOld() {
	for _, number := range c.oldWanted {
		start, stop := number*header.Interval, (number+1)*header.Interval
		if slices.ContainsFunc(c.sorted(), func(p *peer) bool {
			return p.request != nil && p.request.kind == forHeaders && p.request.start == start+1
		}) {
			continue
		}
		free := slices.DeleteFunc(c.sorted(), func(p *peer) bool { return p.request != nil || p.headersAsked != 0 || !p.has(stop) })
		if len(free) == 0 {
			return
		}
		from, _ := c.chain.Hash(start)
		ask := wire.NewMsgGetHeaders()
		ask.ProtocolVersion = wire.FeeFilterVersion
		ask.BlockLocatorHashes = append(ask.BlockLocatorHashes, &from)
		ask.HashStop, _ = c.chain.Hash(stop)
		c.ask(free[0], request{kind: forHeaders, start: start + 1, stop: stop}, ask)
	}
}

// oldHeaders takes headers that were asked for again, and reports whether these
// are.
func (c *Client) oldHeaders(p *peer, msg *wire.MsgHeaders) bool {
	r := p.request
	if r == nil || r.kind != forHeaders {
		return false
	}
	if from, _ := c.chain.Hash(r.start - 1); len(msg.Headers) > 0 && msg.Headers[0].PrevBlock != from {
		return false // news
	}
	p.request = nil
	n := int(r.stop - r.start + 1)
	if len(msg.Headers) < n {
		c.drop(p.name, false, "%d headers from height %d; %d were asked for", len(msg.Headers), r.start, n)
		return true
	}
	headers := make([]wire.BlockHeader, n)
	for i := range headers {
		headers[i] = *msg.Headers[i]
	}
	if err := c.chain.Verify(headers, r.start); err != nil {
		var lie *header.Invalid
		c.drop(p.name, errors.As(err, &lie), "%w", err)
		return true
	}
	number := (r.start - 1) / header.Interval
	c.oldWanted = slices.DeleteFunc(c.oldWanted, func(other int32) bool { return other == number })
	c.giveHeaders(number, headers, nil)
	return true
}
