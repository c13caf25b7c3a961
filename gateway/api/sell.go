package api

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/gateway"
	"coinop.dev/world/books"
)

type (
	named struct {
		Name string `path:"name" maxLength:"64"`
	}
	ordered struct {
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

// maxWait bounds how long a request for an order may wait for its state.
const maxWait = 60 * time.Second

// selling is what buyers ask for, and what their seller does about it.
func (a *API) selling() {
	huma.Register(a.huma, op("GET", "/v1/services", Public, "What is for sale"), func(context.Context, *struct{}) (*body[[]offer.Service], error) {
		return answer(a.shop.Services(), nil)
	})
	huma.Register(a.huma, op("PUT", "/v1/services/{name}", Admin, "Set the price and terms of a service, from now on"), func(ctx context.Context, in *struct {
		named
		Body offer.Service
	}) (*body[offer.Service], error) {
		in.Body.Name = in.Name
		err := a.shop.SetService(ctx, in.Body)
		v, _ := a.shop.Service(in.Name)
		return answer(v, err)
	})
	huma.Register(a.huma, op("POST", "/v1/services/{name}/test", Sell, "Test fire: deliver without a payment; the books say that it was a test"), func(ctx context.Context, in *struct {
		named
		Units uint64 `query:"units" default:"1"`
	}) (*body[earn.Order], error) {
		return answer(a.shop.TestFire(ctx, in.Name, in.Units))
	})
	huma.Register(a.huma, op("POST", "/v1/quotes", Public, "An offer: a price, and the ways to pay it"), func(ctx context.Context, in *struct {
		Body struct {
			Service string `json:"service" maxLength:"64"`
			Units   uint64 `json:"units" default:"1" required:"false"`
			Session bool   `json:"session,omitempty" doc:"a prepaid session for so many units, instead of one delivery"`
			Place   bool   `json:"place,omitempty" doc:"deliver as soon as it is paid, without a claim"`
		}
	}) (*body[gateway.Offer], error) {
		o, err := a.shop.Quote(ctx, gateway.Ask{Service: in.Body.Service, Units: in.Body.Units, Tab: in.Body.Session, Door: "http", Buyer: who(ctx).Name})
		if err == nil && in.Body.Place {
			_, err = a.shop.Place(ctx, o.Token, "http")
		}
		return answer(o, err)
	})
	huma.Register(a.huma, op("POST", "/v1/orders", Public, "Claim an offer that is paid: the token, and the preimage or the receipt"), func(ctx context.Context, in *struct{ Body Claim }) (*body[earn.Order], error) {
		o, err := a.shop.Claim(ctx, in.Body.proof())
		return answer(o, err)
	})
	huma.Register(a.huma, op("GET", "/v1/orders", Read, "Orders, newest first"), func(ctx context.Context, in *struct{ orderFilter }) (*body[orderPage], error) {
		page, next, err := a.Books.Orders(ctx, in.filter())
		return answer(orderPage{page, next}, err)
	})
	huma.Register(a.huma, op("GET", "/v1/orders/{id}", Public, "How an order stands; wait=10s waits for a state that is final. What was delivered is for who claims it"), func(ctx context.Context, in *struct {
		ordered
		Wait string `query:"wait" maxLength:"8"`
	}) (*body[earn.Order], error) {
		o, err := a.order(ctx, in.ID, in.Wait)
		if !who(ctx).May(Read) {
			o.Payload = nil
		}
		return answer(o, err)
	})
	huma.Register(a.huma, op("POST", "/v1/orders/{id}/refund", Admin, "Give an order's money back: to a payment URI, or as credit; or pay out what is left of a session"), func(ctx context.Context, in *struct {
		ordered
		Body struct {
			To string `json:"to,omitempty" maxLength:"4096" doc:"payment URI; empty for credit"`
		}
	}) (*body[earn.Order], error) {
		ctx, cancel := context.WithTimeout(ctx, maxWait)
		defer cancel()
		return answer(a.shop.Refund(ctx, in.ID, in.Body.To))
	})
	huma.Register(a.huma, op("GET", "/v1/sessions/{id}", Public, "What a prepaid session has left"), func(ctx context.Context, in *ordered) (*body[tab.Balance], error) {
		b, ok, err := a.shop.Balance(ctx, in.ID)
		if err == nil && !ok {
			err = notFound("there is no session " + in.ID.String())
		}
		return answer(b, err)
	})
}

// A Claim is a proof as JSON.
type Claim struct {
	Token    string         `json:"token" maxLength:"6000"`
	Preimage string         `json:"preimage,omitempty" maxLength:"64" doc:"of the invoice, in hex"`
	Receipt  *money.Receipt `json:"receipt,omitempty"`
	Refund   string         `json:"refund,omitempty" maxLength:"4096" doc:"payment URI that money goes back to"`
}

func (c Claim) proof() gateway.Proof {
	p := gateway.Proof{Token: c.Token, Receipt: c.Receipt, Refund: c.Refund, Buyer: "http"}
	p.Preimage, _ = hex.DecodeString(c.Preimage) // what is no hex proves nothing
	return p
}

// order reads an order, of this machine or of the books.
func (a *API) order(ctx context.Context, id money.OrderID, wait string) (o earn.Order, err error) {
	if wait == "" {
		o, err = a.shop.Order(ctx, id)
	} else {
		var d time.Duration
		if d, err = time.ParseDuration(wait); err != nil || d < 0 || d > maxWait {
			return o, &Problem{Title: "invalid", Status: http.StatusBadRequest, Detail: "wait is a time of at most 60s, such as 10s", Code: "invalid"}
		}
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		o, err = a.shop.Wait(ctx, id, final)
		if ctx.Err() != nil && o.State != "" {
			err = nil
		}
	}
	if err == nil && o.State == "quoted" && a.Books != nil {
		if past, missing := a.Books.Order(ctx, id); missing == nil {
			return past.Order, nil
		}
	}
	return o, err
}

func final(o earn.Order) bool {
	return o.State == "settled" || o.State == "refunded" || o.State == "failed" && o.How != ""
}

// orderFilter chooses orders of the books.
type orderFilter struct {
	Service string    `query:"service" maxLength:"64"`
	Device  string    `query:"device" maxLength:"64"`
	Buyer   string    `query:"buyer" maxLength:"80"`
	State   string    `query:"state" maxLength:"16"`
	From    step.Time `query:"from_ms"`
	To      step.Time `query:"to_ms"`
	Cursor  string    `query:"cursor" maxLength:"200"`
	Limit   int       `query:"limit" minimum:"0" maximum:"1000"`
}

func (f orderFilter) filter() books.Filter {
	return books.Filter{Service: f.Service, Device: f.Device, Buyer: f.Buyer, State: f.State, From: f.From, To: f.To, Cursor: f.Cursor, Limit: f.Limit}
}

type orderPage struct {
	Orders []books.Order `json:"orders"`
	Next   string        `json:"next,omitempty" doc:"the cursor of the next page"`
}
