package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"coinop.dev/core/money"
)

// tokenFile has the token of a running machine's operator, in its data folder.
const tokenFile = "console.token"

// A running machine is asked at the http address of its config, with the token of
// its data folder.
type running struct {
	base, token string
	client      *http.Client
}

// running finds the machine that coinop serve runs from this config.
func (c *Config) running() (*running, error) {
	if c.HTTP == "" {
		return nil, usage{errors.New("the config has no http address; the running machine is asked there")}
	}
	raw, err := os.ReadFile(filepath.Join(c.Data, tokenFile))
	if err != nil {
		return nil, exit{fmt.Errorf("is coinop serve running? It makes the token that this needs: %w", err), exitConnect}
	}
	r := &running{base: "http://" + c.HTTP, token: strings.TrimSpace(string(raw)), client: http.DefaultClient}
	if path, unix := strings.CutPrefix(c.HTTP, "unix:"); unix {
		r.base = "http://coinop"
		r.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}
	}
	if c.TLS.Cert != "" { // it need not be signed by anybody: it is this one
		roots := x509.NewCertPool()
		if pem, err := os.ReadFile(c.TLS.Cert); err == nil {
			roots.AppendCertsFromPEM(pem)
		}
		r.base = "https://" + c.HTTP
		r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	}
	return r, nil
}

// call asks with form values, or with a body of JSON.
func (r *running) call(ctx context.Context, method, path string, what, into any) error {
	q := request{method: method, path: path, body: what}
	if values, form := what.(url.Values); form {
		q.query, q.body = values, nil
	}
	return r.read(ctx, q, into)
}

const (
	// answerTime is how long a gateway may take for an answer that it need not wait
	// for itself.
	answerTime = 75 * time.Second
	// maxReply bounds an answer, in bytes: 1,000 devices with all their faults.
	maxReply = 32 << 20
)

// A request is what a running gateway is asked.
type request struct {
	method, path string
	query        url.Values
	body         any       // sent as JSON, unless it is
	raw          io.Reader // of a media type
	media        string
	header       http.Header
	size         int64 // of raw
}

// A problem is an answer that says no, as RFC 9457 has it.
type problem struct {
	Status int           `json:"status"`
	Detail string        `json:"detail"`
	Code   string        `json:"code"`
	Limit  string        `json:"limit"`
	Left   *money.Amount `json:"left_msat"`
	Order  string        `json:"order"`
}

// err is the problem as an error that has the exit code of its kind.
func (p problem) err(what string) error {
	err := fmt.Errorf("%s: %s", what, cmp.Or(p.Detail, http.StatusText(p.Status)))
	switch {
	case p.Code == "pending":
		return exit{err, exitUnknown}
	case p.Code == "QUOTA_EXCEEDED", p.Code == "refused":
		return exit{err, exitRefused}
	case p.Status == http.StatusUnauthorized, p.Status == http.StatusForbidden:
		return exit{err, exitAuth}
	case p.Status == http.StatusNotFound:
		return exit{err, exitNotFound}
	case p.Status == http.StatusBadRequest, p.Status == http.StatusUnprocessableEntity:
		return usage{err}
	}
	return err
}

// send asks, and returns an answer that says yes; its body is the caller's to
// close.
func (r *running) send(ctx context.Context, q request) (*http.Response, error) {
	uri := r.base + q.path
	if len(q.query) > 0 {
		uri += "?" + q.query.Encode()
	}
	body := q.raw
	if q.body != nil {
		raw, err := json.Marshal(q.body)
		if err != nil {
			return nil, err
		}
		body, q.media = bytes.NewReader(raw), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, q.method, uri, body)
	if err != nil {
		return nil, err
	}
	if q.size > 0 {
		req.ContentLength = q.size
	}
	for key, values := range q.header {
		req.Header[key] = values
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if q.media != "" {
		req.Header.Set("Content-Type", q.media)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return nil, exit{fmt.Errorf("is coinop serve running? %w", err), exitConnect}
	}
	if res.StatusCode/100 == 2 && !strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") {
		return res, nil
	}
	defer res.Body.Close()
	p := problem{}
	raw, _ := io.ReadAll(io.LimitReader(res.Body, maxReply))
	json.Unmarshal(raw, &p)
	p.Status = res.StatusCode
	return nil, p.err(q.method + " " + q.path)
}

// ask sends a body of JSON, or nil, and reads the answer into what into points to.
func (r *running) ask(ctx context.Context, method, path string, body, into any) error {
	return r.read(ctx, request{method: method, path: path, body: body}, into)
}

// look is ask for what there is.
func (r *running) look(ctx context.Context, path string, query url.Values, into any) error {
	return r.read(ctx, request{method: http.MethodGet, path: path, query: query}, into)
}

func (r *running) read(ctx context.Context, q request, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	res, err := r.send(ctx, q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	switch {
	case err != nil:
		return exit{err, exitConnect}
	case len(raw) > maxReply:
		return fmt.Errorf("%s: the answer has more than %d bytes; ask for less", q.path, maxReply)
	case into == nil || len(raw) == 0:
		return nil
	}
	return json.Unmarshal(raw, into)
}
