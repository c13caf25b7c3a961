//go:build !omit_gateway

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// gatewayCommands ask a gateway that coinop serve runs.
func gatewayCommands(u *ui) []*cobra.Command {
	return []*cobra.Command{
		deviceCommand(u), serviceCommand(u), ordersCommand(u), statementCommand(u), exportCommand(u),
		eventsCommand(u), webhookCommand(u), credentialCommand(u), consoleCommand(u),
	}
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

// A family is a command with others under it, which ask one running gateway.
type family struct {
	*cobra.Command
	u    *ui
	path string
}

func (u *ui) family(c *cobra.Command) *family {
	f := &family{Command: c, u: u}
	f.PersistentFlags().StringVarP(&f.path, "config", "c", "coinop.toml", "the machine's TOML file")
	return f
}

// gateway finds the running one.
func (f *family) gateway() (*running, error) {
	config, err := readConfig(f.path)
	if err != nil {
		return nil, err
	}
	return config.running()
}

// add adds a command; what comes after its name in use are its arguments.
func (f *family) add(use, short string, do func(ctx context.Context, r *running, args []string) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	f.asks(c, do)
	f.AddCommand(c)
	return c
}

// asks makes a command one that asks the gateway.
func (f *family) asks(c *cobra.Command, do func(ctx context.Context, r *running, args []string) error) {
	_, what, _ := strings.Cut(c.Use, " ")
	c.Args = func(c *cobra.Command, args []string) error {
		least, most := strings.Count(what, "<"), strings.Count(what, "<")+strings.Count(what, "[")
		if len(args) < least || len(args) > most {
			return usage{errors.New(strings.TrimSpace("write " + c.CommandPath() + " " + what))}
		}
		return nil
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := f.gateway()
		if err != nil {
			return err
		}
		return do(cmd.Context(), r, args)
	}
}

// columns writes rows under a head, as wide as they need.
func columns(w io.Writer, head string, rows func(row func(cells ...any))) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.ReplaceAll(head, " ", "\t"))
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			text := clean(fmt.Sprint(c))
			fmt.Fprint(t, cmp.Or(text, "-"))
		}
		fmt.Fprintln(t)
	})
	t.Flush()
}

// when is a time for people, where they are.
func when(t step.Time) string {
	if t == 0 {
		return ""
	}
	return time.UnixMilli(int64(t)).Local().Format(time.DateTime)
}

// amount is money for people; nothing is "".
func amount(a money.Amount) string {
	if a == 0 {
		return ""
	}
	return a.String()
}

// duration reads 90s, 24h, or 30d.
func duration(text string) (step.Time, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int64
		if _, err := fmt.Sscanf(days, "%d", &n); err == nil && n > 0 && n <= maxDays && fmt.Sprint(n) == days {
			return step.Time(n) * step.Day, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxDays*24*time.Hour {
		return 0, usage{fmt.Errorf("%.20q is not a time such as 90s, 24h or 30d", text)}
	}
	return step.Time(d.Milliseconds()), nil
}

// maxDays bounds how long something may be good.
const maxDays = 36500

// later is the Unix time in that many seconds, minutes, days; "" is never, 0.
func later(text string) (step.Time, error) {
	if text == "" {
		return 0, nil
	}
	d, err := duration(text)
	return step.Time(time.Now().UnixMilli()) + d, err
}
