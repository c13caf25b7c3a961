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

	"coinop.dev"
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
	uri, body, media := r.base+path, io.Reader(nil), ""
	switch what := what.(type) {
	case nil:
	case url.Values:
		uri += "?" + what.Encode()
	default:
		raw, err := json.Marshal(what)
		if err != nil {
			return err
		}
		body, media = bytes.NewReader(raw), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, method, uri, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	res, err := r.client.Do(req)
	if err != nil {
		return exit{fmt.Errorf("is coinop serve running? %w", err), exitConnect}
	}
	defer res.Body.Close()
	if w, ok := into.(io.Writer); ok && res.StatusCode == http.StatusOK {
		_, err := io.Copy(w, res.Body)
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, coinop.MaxConfig))
	if err != nil {
		return exit{err, exitConnect}
	}
	if res.StatusCode/100 != 2 {
		var problem struct{ Detail string }
		json.Unmarshal(raw, &problem)
		err := fmt.Errorf("%s %s: %s", method, path, cmp.Or(problem.Detail, res.Status))
		switch res.StatusCode {
		case http.StatusNotFound:
			return exit{err, exitNotFound}
		case http.StatusBadRequest, http.StatusUnprocessableEntity:
			return usage{err}
		}
		return err
	}
	if into == nil || len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, into)
}
