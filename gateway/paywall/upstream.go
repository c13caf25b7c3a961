package paywall

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"coinop.dev/core/offer"
	"coinop.dev/core/paywall"
)

// newTransport goes upstream, with a limit to everything.
func newTransport() *http.Transport {
	return &http.Transport{
		ResponseHeaderTimeout: headerTime, TLSHandshakeTimeout: headerTime, IdleConnTimeout: time.Minute,
		MaxIdleConnsPerHost: 256, MaxResponseHeaderBytes: MaxHeader, ForceAttemptHTTP2: true,
	}
}

// newUpstream is the reverse proxy to where a service is.
func newUpstream(v offer.Service, prefix string, transport http.RoundTripper, log *slog.Logger) (http.Handler, error) {
	target, err := url.Parse(v.From)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return nil, fmt.Errorf("from %q is not where an HTTP service is; write http://host:port/path", v.From)
	}
	return &httputil.ReverseProxy{
		Transport:     transport,
		BufferPool:    &buffers,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		FlushInterval: 100 * time.Millisecond,
		Rewrite: func(p *httputil.ProxyRequest) {
			strip(p.Out.URL, prefix)
			p.SetURL(target)
			p.SetXForwarded()
		},
		ModifyResponse: func(r *http.Response) error {
			r.Header.Del("Payment-Receipt") // ours is set already
			return nil
		},
		ErrorHandler: func(rw http.ResponseWriter, r *http.Request, err error) {
			rw.Header().Del("Payment-Receipt")
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				answer(rw, tooLarge.With("the request's body is more than %d bytes", large.Limit))
				return
			}
			answer(rw, paywall.BadGateway.With("%s does not answer; nothing was charged", v.Name))
		},
	}, nil
}

// strip takes a route's prefix off a path.
func strip(u *url.URL, prefix string) {
	u.Path = strings.TrimPrefix(u.Path, prefix)
	if u.RawPath != "" {
		u.RawPath = strings.TrimPrefix(u.RawPath, prefix)
	}
}

// copySize is how much of a response is in memory, in bytes.
const copySize = 32 << 10

// buffers lends the proxies memory to copy with.
var buffers pool

type pool struct{ sync.Pool }

func (p *pool) Get() []byte {
	if b, ok := p.Pool.Get().(*[copySize]byte); ok {
		return b[:]
	}
	return make([]byte, copySize)
}

func (p *pool) Put(b []byte) { p.Pool.Put((*[copySize]byte)(b)) }
