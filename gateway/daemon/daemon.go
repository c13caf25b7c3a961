// Package daemon runs a gateway: one machine that sells at every door that its
// config opens. It is what coinop serve is, for programs and tests that want to be
// one too.
package daemon

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev"
	"coinop.dev/core/keys"
	"coinop.dev/gateway/api"
	"coinop.dev/gateway/fleet"
	"coinop.dev/gateway/hooks"
	"coinop.dev/gateway/paywall"
	"coinop.dev/world/books"
)

// Options are what a gateway is made of beside its config.
type Options struct {
	Config  coinop.Config
	Log     *slog.Logger
	Machine []coinop.Option // who delivers, and which chain
	// Serve adds handlers to the API before it is served; nil for none.
	Serve func(*Daemon)
}

const (
	// TokenFile has the operator's token, in the data folder.
	TokenFile = "console.token"
	// drainTime is how long what is under way may take at a stop, unless the config
	// says otherwise.
	drainTime = 10 * time.Second
)

// A Daemon is a gateway that runs.
type Daemon struct {
	Machine *coinop.Machine
	Books   *books.Books
	API     *api.API
	Fleet   *fleet.Fleet
	Token   string // the operator's
	Log     *slog.Logger

	config coinop.Config
	at     map[string]string     // where each door is
	away   atomic.Pointer[error] // why the books are not kept
	*metrics
	readings  readings
	data      http.Handler // nil without services of data
	fleetRoot keys.Secret
	announce  func() // prices, over MQTT; nil without that door

	stop    context.CancelFunc
	running sync.WaitGroup
	closing []func(context.Context) error // doors first
}

// Open starts a gateway. What was under way when it was stopped goes on.
func Open(ctx context.Context, o Options) (d *Daemon, err error) {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	c := o.Config
	d = &Daemon{config: c, Log: o.Log, at: map[string]string{}}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return d, err
	}
	opts := append([]coinop.Option{coinop.Log(o.Log), coinop.AsGateway(d.openFleet, d.ready)}, o.Machine...)
	if d.Machine, err = coinop.OpenIdle(life, c, opts...); err != nil {
		return d, err
	}
	if d.Books, err = books.Open(ctx, booksURI(c), d.name()); err != nil {
		return d, fmt.Errorf("books: %w", err)
	}
	d.running.Go(func() {
		err := d.Books.Follow(life, d.Machine.Engine.Host, d.booksFault)
		if err != nil && life.Err() == nil {
			d.booksFault(err)
			o.Log.Error("the books are not kept", "err", err)
		}
	})
	if err := d.Machine.OpenRails(ctx); err != nil {
		return d, err
	}
	if err := d.writeToken(); err != nil {
		return d, err
	}
	h, err := d.openHooks(life)
	if err != nil {
		return d, err
	}
	if err := d.openData(ctx, d.Machine.Deliverers()); err != nil {
		return d, err
	}
	d.metrics = newMetrics(d)
	d.Machine.Engine.Host.Hear(d.metrics.hear)
	d.API = api.New(api.Options{Machine: d.Machine, Books: d.Books, Fleet: d.Fleet, FleetRoot: d.fleetRoot, Hooks: h, Paths: paths(c)})
	if o.Serve != nil {
		o.Serve(d)
	}
	return d, d.openDoors(life)
}

// name is the gateway's in its books and among others: the first half of its key.
func (d *Daemon) name() string { return d.Machine.Key.Public().String()[:32] }

// booksURI names the books: those of the config, or else they are in the store's
// database, or in a file.
func booksURI(c coinop.Config) string {
	shared := ""
	if strings.HasPrefix(c.Store, "postgres:") || strings.HasPrefix(c.Store, "postgresql:") {
		shared = c.Store
	}
	return cmp.Or(c.Books, shared, "sqlite://"+filepath.ToSlash(filepath.Join(c.Data, "books.sqlite")))
}

// writeToken puts the operator's token where the commands find it.
func (d *Daemon) writeToken() (err error) {
	if d.Token, err = api.Token(d.Machine.Shop, "first", api.Admin); err != nil {
		return err
	}
	path := filepath.Join(d.config.Data, TokenFile)
	if was, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(was)) == d.Token {
		return nil
	}
	return os.WriteFile(path, []byte(d.Token+"\n"), 0o600)
}

// openHooks delivers events to the webhooks of the config, and to those that the
// API is told of.
func (d *Daemon) openHooks(life context.Context) (*hooks.Hooks, error) {
	h := hooks.New(d.Books, hooks.Options{Private: d.config.PrivateWebhooks, Log: d.Log})
	for i, w := range d.config.Webhooks {
		p := books.Endpoint{ID: fmt.Sprintf("config-%d", i+1), URL: w.URL, Types: w.Events, At: d.Machine.Engine.Host.Now()}
		if w.Secret != "" {
			raw, err := os.ReadFile(w.Secret)
			if err != nil {
				return nil, fmt.Errorf("webhook %s: %w", p.ID, err)
			}
			p.Secret = strings.TrimSpace(string(raw))
		}
		if err := h.Check(p); err != nil {
			return nil, fmt.Errorf("webhook %s: %w", p.ID, err)
		}
		if err := d.Books.PutEndpoint(life, p); err != nil {
			return nil, fmt.Errorf("webhook %s: %w", p.ID, err)
		}
	}
	d.running.Go(func() { h.Run(life) })
	return h, nil
}

// At says where each door is: "http", "mqtt", "metrics".
func (d *Daemon) At() map[string]string { return d.at }

// openDoors opens what the config names.
func (d *Daemon) openDoors(life context.Context) error {
	c := d.config
	cert, err := certificate(c)
	if err != nil {
		return err
	}
	if c.Metrics != "" {
		if err := d.openMetrics(c.Metrics); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	if c.HTTP != "" {
		if err := d.openHTTP(c, cert); err != nil {
			return fmt.Errorf("http: %w", err)
		}
	}
	return d.openOthers(life, cert)
}

// certificate is the TLS of all doors, or nil.
func certificate(c coinop.Config) (*tls.Config, error) {
	if c.TLS.Cert == "" && c.TLS.Key == "" {
		return nil, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		return &pair, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var at time.Time
	var last *tls.Certificate
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		// Read again now and then: whoever renews it need not tell.
		mu.Lock()
		defer mu.Unlock()
		if time.Since(at) > time.Minute {
			if pair, err := load(); err == nil {
				last, at = pair, time.Now()
			}
		}
		return last, nil
	}}, nil
}

// paths are the patterns of the paywall, by service.
func paths(c coinop.Config) map[string]string {
	all := map[string]string{}
	for _, s := range c.Sell {
		if walled(s) {
			all[s.Item] = cmp.Or(s.Host+s.Path, "/"+s.Item+"/")
		}
	}
	return all
}

// walled reports whether a service is an HTTP one behind the paywall.
func walled(s coinop.Service) bool {
	return strings.HasPrefix(s.From, "http://") || strings.HasPrefix(s.From, "https://")
}

// openHTTP serves the API, the paywall, and what else is added, at one address.
func (d *Daemon) openHTTP(c coinop.Config, cert *tls.Config) error {
	mux := http.NewServeMux()
	mux.Handle("/v1/", d.API)
	mux.Handle("/.well-known/", d.API)
	if d.data != nil {
		mux.Handle("/v1/data", d.data)
		mux.Handle("/v1/data/", d.data)
	}
	mux.Handle("/openapi.json", d.API)
	if err := d.mount(mux); err != nil {
		return err
	}
	var routes []paywall.Route
	for _, s := range c.Sell {
		if walled(s) {
			routes = append(routes, paywall.Route{Pattern: s.Host + s.Path, Service: s.Item, Units: s.Estimate, Bundle: s.Bundle})
		}
	}
	wall, err := paywall.New(paywall.Options{Shop: d.Machine.Shop, Realm: cmp.Or(c.Name, "coinop"), Routes: routes, Origins: c.Origins})
	if err != nil {
		return err
	}
	mux.Handle("/", wall)
	l, err := listen(c.HTTP)
	if err != nil {
		return err
	}
	scheme := "http"
	if cert != nil {
		l, scheme = tls.NewListener(l, cert), "https"
	} else if err := loopback(l.Addr(), c.InsecureHTTP); err != nil {
		l.Close()
		return err
	}
	server := paywall.Server(secured(mux))
	server.ErrorLog = slog.NewLogLogger(d.Log.Handler(), slog.LevelDebug)
	d.serve(server, l)
	d.at["http"] = scheme + "://" + l.Addr().String()
	return nil
}

// listen takes an address, or unix:/path.
func listen(addr string) (net.Listener, error) {
	l, err := socket(addr)
	if err != nil {
		return nil, err
	}
	return &crowd{Listener: l, most: MaxConnections}, nil
}

func socket(addr string) (net.Listener, error) {
	path, unix := strings.CutPrefix(addr, "unix:")
	if !unix {
		return net.Listen("tcp", addr)
	}
	if old, err := os.Stat(path); err == nil && old.Mode()&fs.ModeSocket != 0 {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, fmt.Errorf("%s: another process listens there", path)
		}
		os.Remove(path)
	}
	return net.Listen("unix", path)
}

// loopback refuses to talk in the clear to anybody but this computer.
func loopback(addr net.Addr, anyway bool) error {
	if a, ok := addr.(*net.TCPAddr); !ok || a.IP.IsLoopback() || anyway {
		return nil
	}
	return fmt.Errorf("%s is not on loopback and there is no [tls] certificate; name one, or say insecure_http = true if a proxy before it has one", addr)
}

// secured puts the headers of a careful server on everything.
func secured(next http.Handler) http.Handler {
	protected := http.NewCrossOriginProtection()
	protected.AddInsecureBypassPattern("/v1/") // by token, never by cookie
	guarded := protected.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/console") {
			guarded.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (d *Daemon) serve(s *http.Server, l net.Listener) {
	d.running.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.Log.Error("http", "err", err)
		}
	})
	d.closing = append(d.closing, func(ctx context.Context) error {
		if err := s.Shutdown(ctx); err != nil {
			s.Close()
		}
		return nil
	})
}

// Close drains: doors take nothing new, what is under way ends or is cut after the
// drain time, and then the machine stops.
func (d *Daemon) Close() error {
	limit := drainTime
	if t, err := time.ParseDuration(d.config.Drain); err == nil && t >= 0 {
		limit = t
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if d.API != nil {
		d.API.Close()
	}
	var all sync.WaitGroup
	for _, end := range d.closing {
		all.Go(func() { end(ctx) })
	}
	all.Wait()
	d.release()
	d.stop()
	var errs []error
	if d.Machine != nil {
		errs = append(errs, d.Machine.Close())
	}
	d.running.Wait()
	if d.Books != nil {
		errs = append(errs, d.Books.Close())
	}
	return errors.Join(errs...)
}

// Stopped is closed when the machine has stopped by itself.
func (d *Daemon) Stopped() <-chan struct{} { return d.Machine.Engine.Stopped() }
