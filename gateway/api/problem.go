package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"coinop.dev/core/money"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/core/tab"
	"coinop.dev/gateway/fleet"
	"coinop.dev/world/books"
	"coinop.dev/world/drive"
)

// A Problem is an error as RFC 9457 has it. Code is one of NIP-47's words, or the
// kind of error in core/money: pending means that nobody knows, and a caller must
// not do the same again under another ID.
type Problem struct {
	Type   string         `json:"type,omitempty"`
	Title  string         `json:"title"`
	Status int            `json:"status"`
	Detail string         `json:"detail,omitempty"`
	Code   string         `json:"code,omitempty"`
	Limit  string         `json:"limit,omitempty"` // which one said no
	Left   *money.Amount  `json:"left_msat,omitempty"`
	Renews step.Time      `json:"renews_ms,omitempty"`
	Order  *money.OrderID `json:"order,omitempty"` // that is pending: name it when asking again
	Bad    []fleet.Bad    `json:"bad,omitempty"`   // mistakes of a list, and where they are
}

// refusal is a problem of which there is no more to say.
func refusal(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code}
}

func invalid(detail string) *Problem { return refusal(http.StatusBadRequest, "invalid", detail) }

func notFound(what string) *Problem { return refusal(http.StatusNotFound, "NOT_FOUND", what) }

func (p *Problem) Error() string { return p.Detail }

// GetStatus makes it huma's.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes it huma's.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders makes it huma's.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="coinop"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	return h
}

// retryAfter is when to try again what cannot be had now, in seconds.
const retryAfter = 2

// statuses are what kinds of errors are answered with. Pending is no failure: the
// order may be looked at.
var statuses = map[money.Kind]int{
	money.Invalid: http.StatusBadRequest, money.Refused: http.StatusForbidden, money.Unpaid: http.StatusPaymentRequired,
	money.Pending: http.StatusAccepted, money.Broken: http.StatusInternalServerError,
}

// codes are those of errors that huma finds itself. Any other of its is invalid.
var codes = map[int]string{
	http.StatusNotFound: "NOT_FOUND", http.StatusMethodNotAllowed: "NOT_IMPLEMENTED", http.StatusInternalServerError: "INTERNAL",
}

// known are errors of the books and of the machine that are about no money.
var known = []struct {
	err    error
	status int
	code   string
}{
	{books.ErrUnknown, http.StatusNotFound, "NOT_FOUND"},
	{books.ErrCursor, http.StatusBadRequest, "invalid"},
	{books.ErrForgotten, http.StatusGone, "invalid"},
	{books.ErrTooMany, http.StatusForbidden, "QUOTA_EXCEEDED"},
	{books.ErrChanged, http.StatusConflict, "invalid"},
	{books.ErrKeyReused, http.StatusUnprocessableEntity, "invalid"},
	{books.ErrUnderWay, http.StatusConflict, "pending"},
	{drive.ErrStopped, http.StatusServiceUnavailable, "unavailable"},
	{drive.ErrBusy, http.StatusServiceUnavailable, "unavailable"},
	{context.Canceled, http.StatusServiceUnavailable, "unavailable"},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, "unavailable"},
}

// problem turns an error into what is answered.
func problem(err error) *Problem {
	var is *Problem
	var ours *money.Error
	var kind money.Kind
	switch {
	case errors.As(err, &is):
		return is
	case !errors.As(err, &ours) && !errors.As(err, &kind):
		return impersonal(err)
	}
	kind = money.KindOf(err)
	p := refusal(statuses[kind], kind.Error(), err.Error())
	p.Title = kind.Error()
	var refusal *spend.Refusal
	var short *tab.Short
	var list *fleet.ImportError
	switch {
	case errors.As(err, &refusal):
		left := refusal.Left
		p.Limit, p.Left, p.Renews, p.Code = refusal.Limit, &left, refusal.Renews, "QUOTA_EXCEEDED"
	case errors.As(err, &short):
		p.Left, p.Code, p.Status = &short.Left, "INSUFFICIENT_BALANCE", http.StatusPaymentRequired
	case errors.As(err, &list):
		p.Bad = list.Bad
	case kind == money.Unpaid:
		p.Type = "https://paymentauth.org/problems/payment-required"
	}
	return p
}

// impersonal is the problem of an error that is about no money.
func impersonal(err error) *Problem {
	for _, k := range known {
		if errors.Is(err, k.err) {
			return refusal(k.status, k.code, err.Error())
		}
	}
	return refusal(http.StatusServiceUnavailable, "unavailable", err.Error())
}

// Problems answers an error as a problem.
func Problems(w http.ResponseWriter, err error) {
	p := problem(err)
	w.Header().Set("Content-Type", "application/problem+json")
	for key, values := range p.GetHeaders() {
		w.Header()[key] = values
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}
