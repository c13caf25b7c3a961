package api

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/tab"
	"coinop.dev/gateway"
)

type (
	Named struct {
		Name string `path:"name" maxLength:"64"`
	}
	Ordered struct {
		ID money.OrderID `path:"id"`
	}
	// body is an answer.
	body[T any] struct{ Body T }
)

func answer[T any](v T, err error) (*body[T], error) {
	if err != nil {
		return nil, problem(err)
	}
	return &body[T]{v}, nil
}

const (
	// MaxWaits bounds the requests that wait for an order at a time, and maxWait how
	// long each does.
	MaxWaits = 1024
	maxWait  = 60 * time.Second
)

// selling is what buyers ask for, and what their seller does about it.
func (a *API) selling() {
	huma.Register(a.huma, op("GET", "/v1/services", Public, "What is for sale"), func(ctx context.Context, _ *struct{}) (*body[[]offer.Service], error) {
		return answer(a.services(who(ctx)), nil)
	})
	huma.Register(a.huma, op("PUT", "/v1/services/{name}", Admin, "Set the price and terms of a service, from now on. Who delivers is the config's to say"), func(ctx context.Context, in *struct {
		Named
		Body offer.Service
	}) (*body[offer.Service], error) {
		if in.Body.Name != in.Name {
			return nil, invalid(fmt.Sprintf("the service is called %.64q in the path and %.64q in the body", in.Name, in.Body.Name))
		}
		err := a.shop.SetService(ctx, in.Body)
		v, _ := a.shop.Service(in.Name)
		return answer(v, err)
	})
	huma.Register(a.huma, op("POST", "/v1/services/{name}/test", Sell, "Test fire: deliver without a payment; the books say that it was a test"), func(ctx context.Context, in *struct {
		Named
		Units uint64 `query:"units" default:"1" minimum:"1"`
	}) (*body[earn.Order], error) {
		return answer(a.shop.TestFire(ctx, in.Name, in.Units))
	})
	huma.Register(a.huma, op("POST", "/v1/quotes", Public, "An offer: a price, and the ways to pay it"), func(ctx context.Context, in *struct {
		Body struct {
			Service string `json:"service" maxLength:"64"`
			Units   uint64 `json:"units" default:"1" minimum:"1" required:"false"`
			Session bool   `json:"session,omitempty" doc:"a prepaid session for so many units, instead of one delivery"`
			Place   bool   `json:"place,omitempty" doc:"deliver as soon as it is paid, without a claim"`
		}
	}) (*body[gateway.Offer], error) {
		buyer := who(ctx).Buyer()
		o, err := a.shop.Quote(ctx, gateway.Ask{Service: in.Body.Service, Units: in.Body.Units, Tab: in.Body.Session, Door: "http", Buyer: buyer})
		if err == nil && in.Body.Place {
			_, err = a.shop.Place(ctx, o.Token, buyer)
		}
		return answer(o, err)
	})
	huma.Register(a.huma, op("POST", "/v1/orders", Public, "Claim an offer that is paid: the token, and the preimage or the receipt"), func(ctx context.Context, in *struct{ Body Claim }) (*body[earn.Order], error) {
		p, err := in.Body.proof(who(ctx))
		if err != nil {
			return nil, problem(err)
		}
		return answer(a.shop.Claim(ctx, p))
	})
	huma.Register(a.huma, op("POST", "/v1/sessions", Public, "Open the prepaid session that an offer has paid for, or find it again"), func(ctx context.Context, in *struct{ Body Claim }) (*body[tab.Balance], error) {
		p, err := in.Body.proof(who(ctx))
		if err != nil {
			return nil, problem(err)
		}
		s, err := a.shop.Session(ctx, p)
		if err != nil {
			return nil, problem(err)
		}
		return a.session(ctx, s.Tab)
	})
	huma.Register(a.huma, op("GET", "/v1/sessions/{id}", Public, "What a prepaid session has left"), func(ctx context.Context, in *Ordered) (*body[tab.Balance], error) {
		return a.session(ctx, in.ID)
	})
	huma.Register(a.huma, op("GET", "/v1/orders/{id}", Public, "How an order stands; wait=10s waits for a state that is final. What was delivered is for who claims it"), func(ctx context.Context, in *struct {
		Ordered
		Wait string `query:"wait" maxLength:"8"`
	}) (*body[earn.Order], error) {
		o, err := a.order(ctx, in.ID, in.Wait)
		if !who(ctx).May(Read) {
			o = forStrangers(o)
		}
		return answer(o, err)
	})
	huma.Register(a.huma, op("POST", "/v1/orders/{id}/refund", Admin, "Give an order's money back: to a payment URI, or as credit; or pay out what is left of a session"), func(ctx context.Context, in *struct {
		Ordered
		Body *struct {
			To string `json:"to,omitempty" maxLength:"4096" doc:"payment URI; empty for credit"`
		}
	}) (*body[earn.Order], error) {
		ctx, cancel := context.WithTimeout(ctx, maxWait)
		defer cancel()
		to := ""
		if in.Body != nil {
			to = in.Body.To
		}
		if o, err := a.shop.Order(ctx, in.ID); err == nil && o.State == "quoted" {
			return nil, notFound("order " + in.ID.String() + " is not paid, or so old that only the books know it")
		}
		return answer(a.shop.Refund(ctx, in.ID, to))
	})
	a.proving()
}

// services lists what is for sale. Where it comes from is nobody's business but the
// owner's.
func (a *API) services(p Principal) []offer.Service {
	all := append([]offer.Service{}, a.shop.Services()...)
	if !p.May(Read) {
		for i := range all {
			all[i].From, all[i].Dynamic = "", ""
		}
	}
	return all
}

func (a *API) session(ctx context.Context, id money.OrderID) (*body[tab.Balance], error) {
	b, ok, err := a.shop.Balance(ctx, id)
	if err == nil && !ok {
		err = notFound("there is no session " + id.String())
	}
	return answer(b, err)
}

// forStrangers leaves out what is for the buyer and for the seller. A reading that
// was sold is in the acknowledgement.
func forStrangers(o earn.Order) earn.Order {
	o.Payload, o.Ack, o.Buyer, o.Device, o.Why = nil, nil, "", "", ""
	if o.How != "" && o.How != "credit" && o.How != "never taken" {
		o.How = "paid back"
	}
	return o
}

// A Claim is a proof as JSON.
type Claim struct {
	Token    string         `json:"token" maxLength:"6000"`
	Preimage string         `json:"preimage,omitempty" maxLength:"64" doc:"of the invoice, in hex"`
	Receipt  *money.Receipt `json:"receipt,omitempty"`
	Refund   string         `json:"refund,omitempty" maxLength:"4096" doc:"payment URI that money goes back to"`
}

func (c Claim) proof(by Principal) (p gateway.Proof, err error) {
	p = gateway.Proof{Token: c.Token, Receipt: c.Receipt, Refund: c.Refund, Buyer: "http"}
	if by.Name != "" {
		p.Buyer = by.Name
	}
	if p.Preimage, err = hex.DecodeString(c.Preimage); err != nil {
		err = invalid("the preimage is not hex")
	}
	return p, err
}

// order reads an order, of this machine or of the books.
func (a *API) order(ctx context.Context, id money.OrderID, wait string) (o earn.Order, err error) {
	var d time.Duration
	if wait != "" {
		if d, err = time.ParseDuration(wait); err != nil || d < 0 || d > maxWait {
			return o, invalid("wait is a time of at most 60s, such as 10s")
		}
	}
	o, err = a.shop.Order(ctx, id)
	if err == nil && o.State == "quoted" && a.Books != nil { // or so old that only the books know
		if past, missing := a.Books.Order(ctx, id); missing == nil {
			return past.Order, nil
		}
	}
	if err != nil || d == 0 || final(o) {
		return o, err
	}
	select {
	case a.waits <- struct{}{}:
		defer func() { <-a.waits }()
	default:
		return o, refusal(http.StatusServiceUnavailable, "unavailable", fmt.Sprintf("%d requests wait for orders already; ask without wait", MaxWaits))
	}
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	defer context.AfterFunc(a.closing, cancel)()
	last, err := a.shop.Wait(ctx, id, final)
	switch {
	case ctx.Err() != nil && last.State != "":
		return last, nil
	case ctx.Err() != nil:
		return o, nil
	}
	return last, err
}

func final(o earn.Order) bool {
	switch o.State {
	case "settled", "refunded", "expired":
		return true
	}
	return o.State == "failed" && o.How != ""
}
