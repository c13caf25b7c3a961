package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"coinop.dev/core/money"
	"coinop.dev/gateway"
	"coinop.dev/world/books"
)

// maxKey bounds an Idempotency-Key, in bytes.
const maxKey = 128

// idempotent answers a POST that was answered before, by its Idempotency-Key, with
// the same bytes, and does nothing again. A key is its caller's: two callers may
// use the same. Strangers' requests are idempotent by their token, and answers with
// secrets in them are not kept.
func (a *API) idempotent(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	p := who(ctx.Context())
	key := r.Header.Get("Idempotency-Key")
	if r.Method != http.MethodPost || key == "" || a.Books == nil || p.Name == "" || ctx.Operation().Metadata["secret"] != nil {
		next(ctx)
		return
	}
	if len(key) > maxKey {
		Problems(w, invalid("the Idempotency-Key has more than 128 bytes"))
		return
	}
	body, err := io.ReadAll(r.Body) // from memory
	if err != nil {
		Problems(w, err)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	digest := sha256.Sum256(append([]byte(r.Method+" "+r.URL.RequestURI()+"\n"), body...))
	key = p.Name + " " + key
	answered, err := a.Books.Begin(r.Context(), key, hex.EncodeToString(digest[:]), a.Machine.Engine.Host.Now())
	switch {
	case err != nil:
		Problems(w, err)
	case answered != nil:
		w.Header().Set("Idempotency-Replayed", "true")
		w.Header().Set("Content-Type", answered.Type)
		w.WriteHeader(answered.Status)
		io.WriteString(w, answered.Body)
	default:
		c := &copied{exchange: ctx, status: http.StatusOK}
		next(huma.WithValue(c, orderKey{}, gateway.Derived("coinop/idempotent/"+key, money.OrderID{})))
		a.keep(r, key, c)
	}
}

// orderKey is where an operation finds the ID of an order that follows from its
// Idempotency-Key.
type orderKey struct{}

// keep files an answer, unless nothing can have happened or nobody knows yet: then
// the key is free, and the same order is asked for again.
func (a *API) keep(r *http.Request, key string, c *copied) {
	ctx := a.Machine.Engine.Context() // the caller may be gone
	var err error
	switch c.status {
	case http.StatusAccepted, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		err = a.Books.Abandon(ctx, key)
	default:
		if c.long {
			err = errors.New("it is too long")
			break
		}
		err = a.Books.Answer(ctx, key, books.Answer{Status: c.status, Type: c.media, Body: c.body.String()})
	}
	if err != nil {
		a.Machine.Engine.Log.Warn("an answer is not kept", "path", r.URL.Path, "err", err)
	}
}

// exchange is huma's context, embedded under another name than that of its method.
type exchange = huma.Context

// copied is an answer that is kept as it is sent.
type copied struct {
	exchange
	status int
	media  string
	body   bytes.Buffer
	long   bool // too long to keep
}

// Unwrap makes it a context of the adapter's.
func (c *copied) Unwrap() huma.Context { return c.exchange }

func (c *copied) SetStatus(status int) {
	c.status = status
	c.exchange.SetStatus(status)
}

func (c *copied) SetHeader(name, value string) {
	if name == "Content-Type" {
		c.media = value
	}
	c.exchange.SetHeader(name, value)
}

func (c *copied) BodyWriter() io.Writer { return c }

func (c *copied) Write(b []byte) (int, error) {
	if c.body.Len()+len(b) > books.MaxAnswer {
		c.long = true
	} else {
		c.body.Write(b)
	}
	return c.exchange.BodyWriter().Write(b)
}
