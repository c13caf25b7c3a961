package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"coinop.dev/world/books"
)

type (
	Hooked struct {
		ID string `path:"id" maxLength:"64"`
	}
	// A webhook is what an operator says of an endpoint. Its secret goes in and never
	// comes out.
	webhook struct {
		URL    string   `json:"url" maxLength:"1024"`
		Secret string   `json:"secret,omitempty" maxLength:"256" doc:"signs what is sent; at least 16 bytes. None keeps the one before"`
		Types  []string `json:"types,omitempty" maxItems:"32" doc:"order.paid, or order. for all of orders; none: all"`
		Off    bool     `json:"off,omitempty"`
	}
	deliveryPage struct {
		Deliveries []books.Delivery `json:"deliveries"`
		Next       uint64           `json:"next,omitempty" doc:"before= of the next page"`
	}
	pinged struct {
		Status int    `json:"status" doc:"of the answer; 0 if there was none"`
		Error  string `json:"error,omitempty"`
	}
)

// webhooks is about who is told of events.
func (a *API) webhooks() {
	huma.Register(a.huma, op("GET", "/v1/webhooks", Read, "Endpoints that are told of events"), func(ctx context.Context, _ *struct{}) (*body[[]books.Endpoint], error) {
		list, err := a.Books.Endpoints(ctx)
		return answer(append([]books.Endpoint{}, list...), err)
	})
	huma.Register(a.huma, op("POST", "/v1/webhooks", Admin, "Add an endpoint under a new name"), func(ctx context.Context, in *struct{ Body webhook }) (*body[books.Endpoint], error) {
		return answer(a.putWebhook(ctx, "hook-"+strings.ToLower(rand.Text()[:8]), in.Body))
	})
	huma.Register(a.huma, op("PUT", "/v1/webhooks/{id}", Admin, "Add an endpoint, or change it"), func(ctx context.Context, in *struct {
		Hooked
		Body webhook
	}) (*body[books.Endpoint], error) {
		return answer(a.putWebhook(ctx, in.ID, in.Body))
	})
	huma.Register(a.huma, op("DELETE", "/v1/webhooks/{id}", Admin, "Forget an endpoint and its deliveries"), func(ctx context.Context, in *Hooked) (*struct{}, error) {
		if err := a.Books.DropEndpoint(ctx, in.ID); err != nil {
			return nil, problem(err)
		}
		return nil, nil
	})
	huma.Register(a.huma, op("POST", "/v1/webhooks/{id}/ping", Admin, "Send an endpoint an event of type ping, and wait for its answer"), func(ctx context.Context, in *Hooked) (*body[pinged], error) {
		p, err := a.endpoint(ctx, in.ID)
		if err != nil {
			return nil, problem(err)
		}
		status, err := a.Hooks.Ping(ctx, p)
		out := pinged{Status: status}
		if err != nil {
			out.Error = err.Error()
		}
		return answer(out, nil)
	})
	huma.Register(a.huma, op("GET", "/v1/webhooks/{id}/deliveries", Read, "What was delivered to an endpoint, newest first"), func(ctx context.Context, in *struct {
		Hooked
		Before uint64 `query:"before"`
		Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	}) (*body[deliveryPage], error) {
		if _, err := a.endpoint(ctx, in.ID); err != nil {
			return nil, problem(err)
		}
		list, err := a.Books.Deliveries(ctx, in.ID, min(in.Before, 1<<62), in.Limit)
		page := deliveryPage{Deliveries: append([]books.Delivery{}, list...)}
		if len(list) == in.Limit {
			page.Next = list[len(list)-1].Event
		}
		return answer(page, err)
	})
	huma.Register(a.huma, op("POST", "/v1/webhooks/{id}/deliveries/{delivery}/redeliver", Admin, "Deliver an event again, now. A delivery is named by its event's number, or as its receiver knows it"), func(ctx context.Context, in *struct {
		Hooked
		Delivery string `path:"delivery" maxLength:"96"`
	}) (*struct{}, error) {
		event, err := strconv.ParseUint(strings.TrimPrefix(in.Delivery, in.ID+"-"), 10, 63)
		if err != nil {
			return nil, notFound(fmt.Sprintf("%.40q names no delivery", in.Delivery))
		}
		if err := a.Books.Redeliver(ctx, in.ID, event, a.Machine.Engine.Host.Now()); err != nil {
			return nil, problem(err)
		}
		return nil, nil
	})
}

func (a *API) endpoint(ctx context.Context, id string) (books.Endpoint, error) {
	list, err := a.Books.Endpoints(ctx)
	for _, p := range list {
		if p.ID == id {
			return p, nil
		}
	}
	if err == nil {
		err = notFound(fmt.Sprintf("there is no webhook %.64q", id))
	}
	return books.Endpoint{}, err
}

func (a *API) putWebhook(ctx context.Context, id string, w webhook) (books.Endpoint, error) {
	p := books.Endpoint{ID: id, URL: w.URL, Secret: w.Secret, Types: w.Types, Off: w.Off, At: a.Machine.Engine.Host.Now()}
	if was, err := a.endpoint(ctx, id); err == nil {
		p.At = was.At
		if p.Secret == "" {
			p.Secret = was.Secret
		}
	}
	if err := a.Hooks.Check(p); err != nil {
		return p, invalid(err.Error())
	}
	return p, a.Books.PutEndpoint(ctx, p)
}
