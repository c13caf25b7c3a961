package data

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/core/sealed"
)

const (
	// MaxSealing bounds the offers that are made at a time; one more is told to come
	// back.
	MaxSealing = 16
	// maxBody bounds a request's body, in bytes: an offer of MaxChunks chunks.
	maxBody = 64 << 10
	// messageType is what messages of core/sealed are served as.
	messageType = "application/vnd.coinop.sealed"
)

// Handler serves what the seller has, to be mounted at /v1/data and /v1/data/:
//
//	GET  /v1/data                              what there is (Listing)
//	POST /v1/data/{service}                    an Offer of the newest reading
//	POST /v1/data/{service}/streams?chunks=n   a Stream of the newest n
//	GET  /v1/data/{service}/{stream}/{i}       chunk i, sealed
//	POST /v1/data/{service}/{stream}/{i}/key   the key of chunk i, for its order and
//	                                           Authorization: Bearer <ticket>
//
// The body of the last may be the stream's offer, for a seller that has forgotten
// it. Errors are problems of RFC 9457; 402 says that money has not come yet.
func (s *Seller) Handler() http.Handler {
	mux := http.NewServeMux()
	sealing := make(chan struct{}, MaxSealing)
	limited := func(serve func(*http.Request) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			select {
			case sealing <- struct{}{}:
				defer func() { <-sealing }()
			default:
				w.Header().Set("Retry-After", "1")
				problem(w, http.StatusServiceUnavailable, "refused", fmt.Sprintf("%d offers are being made; come back", MaxSealing))
				return
			}
			answer(w, r, serve)
		}
	}
	mux.HandleFunc("GET /v1/data", limited(func(r *http.Request) (any, error) { return s.List(r.Context()), nil }))
	mux.HandleFunc("POST /v1/data/{service}", limited(func(r *http.Request) (any, error) {
		return s.Offer(r.Context(), r.PathValue("service"), buyer(r))
	}))
	mux.HandleFunc("POST /v1/data/{service}/streams", limited(func(r *http.Request) (any, error) {
		n, err := strconv.Atoi(r.URL.Query().Get("chunks"))
		if err != nil {
			return nil, invalid(errors.New("say how many chunks: ?chunks=10"))
		}
		return s.Stream(r.Context(), r.PathValue("service"), buyer(r), n)
	}))
	mux.HandleFunc("GET /v1/data/{service}/{stream}/{i}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, r, func(r *http.Request) (any, error) {
			id, i, err := chunkOf(r)
			if err != nil {
				return nil, err
			}
			return s.Chunk(id, i)
		})
	})
	mux.HandleFunc("POST /v1/data/{service}/{stream}/{i}/key", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		answer(w, r, s.claim)
	})
	return mux
}

// buyer is who asks, as far as HTTP can tell: the free tier goes by it.
func buyer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "http/" + host
}

// chunkOf reads which chunk a request is about.
func chunkOf(r *http.Request) (id sealed.ID, i int, err error) {
	if id, i, err = parsePlace(r.PathValue("stream") + "/" + r.PathValue("i")); err != nil {
		err = invalid(err)
	}
	return id, i, err
}

// claim gives a key to whoever has the ticket and has paid.
func (s *Seller) claim(r *http.Request) (any, error) {
	id, i, err := chunkOf(r)
	if err != nil {
		return nil, err
	}
	var t Ticket
	text, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if err := t.UnmarshalText([]byte(text)); err != nil || !bearer {
		return nil, errNoTicket
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, invalid(err)
	}
	var shown *sealed.Offer
	if len(body) > 0 {
		if shown, err = readOffer(body); err != nil {
			return nil, invalid(err)
		}
	}
	return s.Key(r.Context(), r.PathValue("service"), id, i, t, shown)
}

func readOffer(b []byte) (*sealed.Offer, error) {
	msg, err := sealed.Decode(b)
	if err != nil {
		return nil, err
	}
	o, ok := msg.(*sealed.Offer)
	if !ok {
		return nil, fmt.Errorf("a %T is no offer of a stream", msg)
	}
	return o, nil
}

var errNoTicket = errors.New("a stream answers only its buyer: Authorization: Bearer <ticket>")

// answer serves a value: messages as they are, anything else as JSON.
func answer(w http.ResponseWriter, r *http.Request, serve func(*http.Request) (any, error)) {
	v, err := serve(r)
	if err != nil {
		fail(w, err)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if msg, ok := v.(sealed.Message); ok {
		h.Set("Content-Type", messageType)
		w.Write(msg.Append(nil))
		return
	}
	h.Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// fail says what is wrong.
func fail(w http.ResponseWriter, err error) {
	status, code, detail := judge(err)
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="coinop data"`)
	}
	problem(w, status, code, detail)
}

// judge gives an error its status and its words. What is wrong inside is not said.
func judge(err error) (status int, code, detail string) {
	var known *money.Error
	switch {
	case errors.Is(err, errNoTicket):
		return http.StatusUnauthorized, "invalid", err.Error()
	case errors.Is(err, ErrGone):
		return http.StatusNotFound, "gone", ErrGone.Error()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, "pending", "it took too long; ask again"
	case !errors.As(err, &known):
		return http.StatusInternalServerError, "broken", "something is broken here"
	}
	switch known.Kind {
	case money.Unpaid:
		return http.StatusPaymentRequired, "unpaid", err.Error()
	case money.Invalid:
		return http.StatusBadRequest, "invalid", err.Error()
	case money.Refused:
		return http.StatusConflict, "refused", err.Error()
	}
	return http.StatusInternalServerError, known.Kind.Error(), "something is broken here"
}

func problem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "code": code, "detail": detail,
	})
}
