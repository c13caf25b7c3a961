package data

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
	"coinop.dev/gateway"
)

// maxAnswer bounds what a seller may answer, in bytes: the JSON of an offer of
// sealed.MaxChunks chunks, or of a reading.
const maxAnswer = 256 << 10

// A Client asks a seller over HTTP. It pays nothing: see Buy and Reader.
type Client struct {
	URL  string // of the seller, without /v1/data
	HTTP *http.Client
	// Insecure shows a stream's ticket to hosts without TLS that are not on this
	// machine: whoever listens on the way can then read what is bought.
	Insecure bool
}

// List asks what there is.
func (c Client) List(ctx context.Context) (l Listing, err error) {
	return l, c.json(ctx, http.MethodGet, "", &l)
}

// Offer asks for the newest reading of a service.
func (c Client) Offer(ctx context.Context, service string) (o Offer, err error) {
	err = c.json(ctx, http.MethodPost, "/"+url.PathEscape(service), &o)
	if err == nil && o.Service != service {
		err = refused(fmt.Errorf("%.80q was asked for, and %.80q is offered", service, o.Service))
	}
	return o, err
}

// Stream opens a stream of a service's newest readings, at most so many.
func (c Client) Stream(ctx context.Context, service string, chunks int) (s Stream, err error) {
	return s, c.json(ctx, http.MethodPost, fmt.Sprintf("/%s/streams?chunks=%d", url.PathEscape(service), chunks), &s)
}

// Chunk fetches chunk i, sealed.
func (c Client) Chunk(ctx context.Context, service string, id sealed.ID, i int) (sealed.Message, error) {
	return c.message(ctx, http.MethodGet, chunkPath(service, id, i), "", nil)
}

// Key claims the key of chunk i of a stream, from a seller that may have forgotten
// it.
func (c Client) Key(ctx context.Context, s Stream, id sealed.ID, i int) (sealed.Message, error) {
	path, ticket := chunkPath(s.Service, id, i)+"/key", hex.EncodeToString(s.Ticket[:])
	msg, err := c.message(ctx, http.MethodPost, path, ticket, nil)
	if errors.Is(err, ErrGone) {
		msg, err = c.message(ctx, http.MethodPost, path, ticket, s.Offer)
	}
	return msg, err
}

func chunkPath(service string, id sealed.ID, i int) string {
	return "/" + url.PathEscape(service) + "/" + place(id, i)
}

func (c Client) json(ctx context.Context, method, path string, to any) error {
	b, err := c.do(ctx, method, path, "", nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

func (c Client) message(ctx context.Context, method, path, ticket string, body []byte) (sealed.Message, error) {
	b, err := c.do(ctx, method, path, ticket, body)
	if err != nil {
		return nil, err
	}
	return sealed.Decode(b)
}

func (c Client) do(ctx context.Context, method, path, ticket string, body []byte) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.URL, "/")+"/v1/data"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if ticket != "" {
		if name := r.URL.Hostname(); r.URL.Scheme != "https" && !c.Insecure && !gateway.Loopback(name) {
			return nil, refused(fmt.Errorf("%s has no TLS, so anybody on the way could read what is bought; set Insecure to go on all the same", name))
		}
		r.Header.Set("Authorization", "Bearer "+ticket)
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxAnswer:
		return nil, invalid(fmt.Errorf("the seller answers with more than %d bytes", maxAnswer))
	case resp.StatusCode != http.StatusOK:
		return nil, said(resp.StatusCode, b)
	}
	return b, nil
}

// said is a seller's refusal as an error.
func said(status int, body []byte) error {
	var p struct {
		Detail string `json:"detail"`
	}
	json.Unmarshal(body, &p)
	err := fmt.Errorf("the seller answers %d: %.300q", status, p.Detail)
	switch {
	case status == http.StatusPaymentRequired:
		return unpaid(err)
	case status == http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrGone, refused(err))
	case status == http.StatusServiceUnavailable || status >= 500:
		return &money.Error{Kind: money.Pending, Op: "data", Err: err}
	}
	return refused(err)
}
