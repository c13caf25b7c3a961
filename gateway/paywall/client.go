package paywall

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/core/paywall"
	"coinop.dev/gateway"
)

const (
	// maxHosts bounds the hosts whose credentials a client keeps.
	maxHosts = 1024
	// maxReplay bounds a request's body that can be sent again after paying, in
	// bytes, if the request has no GetBody.
	maxReplay = 1 << 20
	// maxArriving is how often a credential is shown again that the server does not
	// know to be paid yet.
	maxArriving = 5
)

// A Client is an http.RoundTripper that pays: answered by 402 it pays the first
// challenge that it can and may, once, and sends the request again. It keeps what
// it has bought for the requests that follow. The zero value pays nothing.
type Client struct {
	// Pay pays an order once, like purse.Purse's: asked again for the same ID it
	// gives the same receipt. An order that may be paid is an error of kind Pending.
	Pay func(context.Context, money.Order) (money.Receipt, error)
	// MaxCost is the most that one payment may be.
	MaxCost money.Amount
	// Units asks for a session of so many units; 0 takes what is offered.
	Units uint64
	// Insecure pays hosts without TLS that are not on this machine.
	Insecure bool
	// Base sends the requests; nil is http.DefaultTransport.
	Base http.RoundTripper

	mu    sync.Mutex
	hosts map[string]*host
}

// host is what a client has bought of one host.
type host struct {
	turn chan struct{} // held by whoever pays, so that ten requests buy one session

	mu         sync.Mutex
	credential string
	pending    *choice // may be paid: to be asked for before anything else is
}

func (h *host) shown() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.credential
}

// keep remembers a credential, or forgets it, unless it has changed since.
func (h *host) keep(was, credential string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.credential == was {
		h.credential = credential
	}
}

// RoundTrip sends a request, and pays for it if it must.
func (c *Client) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := replay(r)
	if err != nil {
		return nil, err
	}
	h := c.host(r)
	shown := h.shown()
	resp, err := c.send(r, body, h, shown)
	if err != nil || resp.StatusCode != http.StatusPaymentRequired || body == nil || c.Pay == nil {
		return resp, err
	}
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-r.Context().Done():
		drain(resp)
		return nil, r.Context().Err()
	}
	if now := h.shown(); now != shown && now != "" { // somebody has paid meanwhile
		drain(resp)
		if resp, err = c.send(r, body, h, now); err != nil || resp.StatusCode != http.StatusPaymentRequired {
			return resp, err
		}
		shown = now
	}
	credential, err := c.buy(r, h, resp)
	if err != nil || credential == "" {
		if err != nil {
			drain(resp)
			resp = nil
		}
		return resp, err
	}
	h.keep(h.shown(), credential)
	for try := 1; ; try++ {
		drain(resp)
		resp, err = c.send(r, body, h, credential)
		wait, _ := strconv.Atoi(header(resp, "Retry-After"))
		if err != nil || resp.StatusCode != http.StatusPaymentRequired || wait == 0 || try == maxArriving {
			return resp, err
		}
		select { // it is paid, and the money is on its way
		case <-time.After(time.Duration(min(wait, 2)) * time.Second):
		case <-r.Context().Done():
			return resp, nil
		}
	}
}

func header(r *http.Response, name string) string {
	if r == nil {
		return ""
	}
	return r.Header.Get(name)
}

// send sends the request with a credential beside its own headers.
func (c *Client) send(r *http.Request, body func() (io.ReadCloser, error), h *host, credential string) (*http.Response, error) {
	r = r.Clone(r.Context())
	if body != nil {
		var err error
		if r.Body, err = body(); err != nil {
			return nil, err
		}
	}
	if c.Units > 0 {
		r.Header.Set(HeaderUnits, strconv.FormatUint(c.Units, 10))
	}
	if credential != "" {
		r.Header["Authorization"] = append([]string{credential}, r.Header["Authorization"]...)
	}
	base := c.Base
	if base == nil {
		base = http.DefaultTransport
	}
	resp, err := base.RoundTrip(r)
	if credential != "" && header(resp, HeaderLeft) == "0" {
		h.keep(credential, "") // used up
	}
	return resp, err
}

// buy pays for one of the challenges of an answer and returns the credential that
// proves it; "" if there is none that this client understands.
func (c *Client) buy(r *http.Request, h *host, resp *http.Response) (string, error) {
	if name := r.URL.Hostname(); r.URL.Scheme != "https" && !c.Insecure && !gateway.Loopback(name) {
		return "", &money.Error{Kind: money.Refused, Op: "pay " + name, Err: errors.New("it has no TLS, so anybody on the way could take what is bought; set Insecure to pay all the same")}
	}
	if p := h.pending; p != nil {
		receipt, err := c.Pay(r.Context(), p.order)
		if err == nil {
			h.pending = nil
			return p.credential(receipt)
		}
		if kind := money.KindOf(err); kind == money.Pending || kind == money.Broken {
			return "", err
		}
		h.pending = nil // it was not paid and will not be
	}
	var errs []error
	all := choices(resp.Header, time.Now())
	if c.Units > 1 {
		// A session of so many units costs more than a single request, which is the
		// other choice.
		slices.SortStableFunc(all, func(a, b choice) int { return cmp.Compare(b.order.Amount, a.order.Amount) })
	}
	for _, p := range all {
		if p.order.Amount > c.MaxCost {
			errs = append(errs, &money.Error{Kind: money.Refused, Op: "pay " + r.URL.Host, Err: fmt.Errorf("it costs %v, and the most to be paid at once is %v", p.order.Amount, c.MaxCost)})
			continue
		}
		receipt, err := c.Pay(r.Context(), p.order)
		if err == nil {
			return p.credential(receipt)
		}
		if kind := money.KindOf(err); kind == money.Pending || kind == money.Broken {
			h.pending = &p
			return "", err
		}
		errs = append(errs, err) // certainly not paid: another way may be
	}
	return "", errors.Join(errs...)
}

// host finds what was bought of a request's host.
func (c *Client) host(r *http.Request) *host {
	name := r.URL.Scheme + "://" + r.URL.Host
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[name]
	if h == nil {
		if c.hosts == nil {
			c.hosts = map[string]*host{}
		}
		for old, o := range c.hosts {
			if len(c.hosts) < maxHosts {
				break
			}
			if len(o.turn) == 0 {
				delete(c.hosts, old)
			}
		}
		h = &host{turn: make(chan struct{}, 1)}
		c.hosts[name] = h
	}
	return h
}

// replay returns what makes a request's body again; nil if it cannot be sent
// twice, so that it is not paid for either.
func replay(r *http.Request) (func() (io.ReadCloser, error), error) {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return func() (io.ReadCloser, error) { return http.NoBody, nil }, nil
	case r.GetBody != nil:
		r.Body.Close()
		return r.GetBody, nil
	case r.ContentLength < 0 || r.ContentLength > maxReplay:
		return nil, nil
	}
	defer r.Body.Close()
	all, err := io.ReadAll(io.LimitReader(r.Body, maxReplay+1))
	if err != nil {
		return nil, err
	}
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(all)), nil }, nil
}

// drain frees a connection.
func drain(r *http.Response) {
	io.CopyN(io.Discard, r.Body, 64<<10)
	r.Body.Close()
}

// A choice is one challenge that could be paid.
type choice struct {
	order      money.Order
	credential func(money.Receipt) (string, error)
}

// choices are the challenges of an answer that are understood and not too late, in
// its order: the cheapest first, if the server is a friendly one.
func choices(h http.Header, now time.Time) (all []choice) {
	for _, o := range paywall.ReadOffers(h.Values("WWW-Authenticate")) {
		if c, ok := o.Payment(); ok {
			if p, ok := payPayment(c, now); ok {
				all = append(all, p)
			}
		}
		if c, ok := o.L402(); ok {
			if p, ok := payL402(c, now); ok {
				all = append(all, p)
			}
		}
	}
	return all
}
