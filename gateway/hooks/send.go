package hooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"coinop.dev/core/step"
	"coinop.dev/world/books"
)

// Headers of a delivery.
const (
	HeaderSignature = "X-Signature-256"
	HeaderDelivery  = "X-Delivery-Id"
	HeaderTimestamp = "X-Timestamp"
)

const (
	// maxAnswer is how much of an answer is read, in bytes, and maxHeader of its
	// headers: what it says does not matter.
	maxAnswer = 4 << 10
	maxHeader = 16 << 10
)

// payload is the body of a delivery.
type payload struct {
	Delivery string    `json:"delivery"`
	Sent     step.Time `json:"sent_ms"`
	books.Event
}

// Sign is the value of X-Signature-256 for a body.
func Sign(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// send posts one event. It follows no redirect, and waits no longer than Timeout for
// the last byte of the answer.
func (h *Hooks) send(ctx context.Context, p books.Endpoint, id string, e books.Event) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.o.Timeout)
	defer cancel()
	sent := h.o.Now()
	body, err := json.Marshal(payload{id, sent, e})
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, bytes.NewReader(body))
	if err != nil {
		return 0, errors.New("the endpoint's URL is none")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "coinop-hooks")
	req.Header.Set(HeaderDelivery, id)
	req.Header.Set(HeaderTimestamp, strconv.FormatInt(int64(sent), 10))
	req.Header.Set(HeaderSignature, Sign(p.Secret, body))
	res, err := h.client.Do(req)
	if err != nil {
		return 0, why(err)
	}
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, maxAnswer); err != nil && err != io.EOF {
		return res.StatusCode, why(err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return res.StatusCode, fmt.Errorf("the endpoint answers %d", res.StatusCode)
	}
	return res.StatusCode, nil
}

// why is an error without the URL, which may have a secret in its path.
func why(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the endpoint did not answer in time")
	}
	return err
}

// newClient returns one that goes only where it may, whatever a name resolves to.
func newClient(o Options) *http.Client {
	h := &Hooks{o: o}
	dialer := &net.Dialer{Timeout: o.Timeout, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return h.allowed(at.Addr())
	}}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: MaxConcurrency, MaxIdleConns: 64,
			IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: o.Timeout, MaxResponseHeaderBytes: maxHeader,
		},
	}
}

// Networks that are nobody's to send events to: link-local ones, where clouds have
// their metadata, and what is no address of a computer.
var never = prefixes("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "192.0.0.0/24", "::/128",
	"fe80::/10", "ff00::/8", "fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32")

// Networks that are allowed if Options.Private says so.
var private = prefixes("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15",
	"::1/128", "fc00::/7", "fec0::/10")

// Networks of IPv6 that lead to an address of IPv4, and where that stands in it.
var tunnels = map[netip.Prefix]int{
	netip.MustParsePrefix("64:ff9b::/96"): 12, netip.MustParsePrefix("64:ff9b:1::/48"): 12, netip.MustParsePrefix("2002::/16"): 2, netip.MustParsePrefix("::/96"): 12,
}

func prefixes(list ...string) (all []netip.Prefix) {
	for _, text := range list {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// allowed reports whether events may be sent to an address.
func (h *Hooks) allowed(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	for _, p := range never {
		if p.Contains(addr) {
			return fmt.Errorf("%v is a link-local or reserved address; events are not sent there", addr)
		}
	}
	for _, p := range private {
		if p.Contains(addr) {
			if h.o.Private {
				return nil
			}
			return fmt.Errorf("%v is a private address; allow them for webhooks if you mean it", addr)
		}
	}
	if addr.Is6() {
		b := addr.As16()
		for p, at := range tunnels {
			if p.Contains(addr) {
				return h.allowed(netip.AddrFrom4([4]byte(b[at : at+4])))
			}
		}
	}
	return nil
}
