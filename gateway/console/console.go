// Package console is a gateway in a browser: what it earns, sells and owes, its
// devices, its channels; and the page of a service for people who stand before a
// machine with a phone.
//
// Pages are whole without a script: forms are posted and answered with a redirect.
// With scripts they are drawn again as the books tell of events. Nothing is loaded
// from elsewhere, no script or style stands in a page, and every change needs the
// session's cookie and its form token.
package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"slices"
	"time"

	"coinop.dev"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
	"coinop.dev/gateway/fleet"
	"coinop.dev/world/books"
)

// Scopes of who looks at the console.
const (
	read  = "read"  // see everything
	sell  = "sell"  // test fire
	admin = "admin" // change everything
)

// A Principal is who a token belongs to, and what it may do.
type Principal struct {
	Name string
	May  func(scope string) bool
}

// Options are what a console is made of.
type Options struct {
	Machine *coinop.Machine // a gateway
	Books   *books.Books
	Fleet   *fleet.Fleet // nil: no devices
	// Principal reads an operator's token that came, or once came, with a request
	// like r. It is asked for every request, so a token that is revoked is out.
	Principal func(r *http.Request, token string) (Principal, error)
	// Faults are plain sentences about what is wrong; nil for none.
	Faults func() []string
	// Lab is the file of the last measurements' report, if there is one.
	Lab string
	Log *slog.Logger // nil: silence
}

// A Console serves /console/ and /pay/.
type Console struct {
	Options
	shop     *gateway.Shop
	sessions *sessions
	pays     *pays
	streams  chan struct{} // room for event streams
	closing  context.Context
	close    context.CancelFunc
	handler  http.Handler
}

//go:embed static page
var files embed.FS

const (
	// csp lets pages load what is embedded here, and images that stand in them.
	csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
		"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	// maxForm bounds what is posted, in bytes.
	maxForm = 32 << 10
	// patience is how long a page may take to be put together.
	patience = 10 * time.Second
)

// New returns the console of a gateway.
func New(o Options) *Console {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Console{Options: o, shop: o.Machine.Shop, streams: make(chan struct{}, maxStreams)}
	c.sessions = newSessions()
	c.pays = newPays(c.shop.Root().Derive("coinop/console/pay"))
	c.closing, c.close = context.WithCancel(context.Background())
	c.handler = c.routes()
	return c
}

// Close ends what waits, so that a server can stop.
func (c *Console) Close() { c.close() }

// ServeHTTP serves the console.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.handler.ServeHTTP(w, r) }

func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /console/static/{file}", c.static())
	mux.HandleFunc("GET /console/login", c.loginPage)
	mux.HandleFunc("POST /console/login", c.login)
	mux.HandleFunc("GET /pay/{service}", c.payPage)
	mux.HandleFunc("POST /pay/{service}", c.place)
	mux.HandleFunc("GET /pay/{service}/{order}", c.payState)

	look := func(pattern string, h handler) { mux.HandleFunc("GET /console/"+pattern, c.within(read, h)) }
	look("{$}", c.overview)
	look("events", c.events)
	look("orders", c.orders)
	look("orders/{id}", c.order)
	look("services", c.services)
	look("services/{name}", c.service)
	look("devices", c.devices)
	look("devices/{name}", c.device)
	look("channels", c.channels)
	look("sessions", c.prepaid)
	look("webhooks", c.webhooks)
	look("statement", c.statement)
	look("export", c.export)
	look("lab", c.lab)

	act := func(pattern, scope string, h handler) { mux.HandleFunc("POST /console/"+pattern, c.within(scope, h)) }
	act("logout", read, c.logout)
	act("orders/{id}/refund", admin, c.refund)
	act("services/{name}", admin, c.setService)
	act("services/{name}/test", sell, c.testFire)
	act("devices", admin, c.addDevice)
	act("devices/{name}/budget", admin, c.budget)
	act("devices/{name}/revoke", admin, c.revoke)
	act("webhooks/redeliver", admin, c.redeliver)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		v, err := c.who(r)
		if err != nil {
			v = nil
		}
		c.fail(w, r, v, notFound("There is no such page."))
	})

	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.fail(w, r, nil, &trouble{http.StatusForbidden, "Another web site asked for this, so nothing was done."})
	}))
	guarded := sameOrigin.Handler(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", csp)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		guarded.ServeHTTP(w, r)
	})
}

// static serves the embedded files. Their names do not change with what is in
// them, so browsers ask again each time and are mostly told "the same".
func (c *Console) static() http.HandlerFunc {
	type asset struct {
		body       []byte
		etag, kind string
	}
	assets := map[string]asset{}
	list, err := fs.ReadDir(files, "static")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, f := range list {
		body, _ := files.ReadFile("static/" + f.Name())
		kind := mime.TypeByExtension(path.Ext(f.Name()))
		if kind == "" {
			kind = "text/plain; charset=utf-8"
		}
		assets[f.Name()] = asset{body, fmt.Sprintf(`"%x"`, sha256.Sum256(body))[:18] + `"`, kind}
	}
	return func(w http.ResponseWriter, r *http.Request) {
		a, ok := assets[r.PathValue("file")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", a.kind)
		w.Header().Set("Etag", a.etag)
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
	}
}

// A handler serves whoever is logged in. What it returns as an error is shown as a
// page.
type handler func(w http.ResponseWriter, r *http.Request, v *visit) error

// A visit is one request of somebody who is logged in.
type visit struct {
	Principal
	*session
}

// Sells and Admins say which buttons there are.
func (v *visit) Sells() bool  { return v.May(sell) }
func (v *visit) Admins() bool { return v.May(admin) }

// trouble is an error with its status and a sentence for people.
type trouble struct {
	status int
	text   string
}

func (t *trouble) Error() string { return t.text }

func notFound(text string) error { return &trouble{http.StatusNotFound, text} }
func badForm(text string) error  { return &trouble{http.StatusUnprocessableEntity, text} }

// sentence says an error to a person, and with what status.
func sentence(err error) (int, string) {
	var t *trouble
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &t):
		return t.status, t.text
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("The form has more than %d bytes.", maxForm)
	case errors.Is(err, books.ErrUnknown):
		return http.StatusNotFound, "The books know nothing of it."
	case errors.Is(err, books.ErrCursor):
		return http.StatusBadRequest, "That page of the list is gone. Begin again with the newest."
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout, "The gateway took too long to answer. Try again in a moment."
	case errors.Is(err, money.Invalid):
		return http.StatusUnprocessableEntity, capital(err.Error())
	case errors.Is(err, money.Refused), errors.Is(err, money.Unpaid):
		return http.StatusConflict, capital(err.Error())
	}
	return http.StatusInternalServerError, capital(err.Error())
}

// fail shows an error.
func (c *Console) fail(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	status, text := sentence(err)
	if status >= http.StatusInternalServerError {
		c.Log.Warn("console", "path", r.URL.Path, "err", err)
	}
	c.render(w, r, v, status, "error", "Something is not right", text)
}

// A view is what every page is made from.
type view struct {
	*visit // nil for nobody
	Title  string
	Page   string // its template
	Path   string // with query: where it is drawn again from
	Name   string // of the machine
	HasLab bool
	Flash  string
	Data   any
	words
}

// In reports whether somebody is logged in.
func (p view) In() bool { return p.visit != nil }

// Words are for templates that call them by name.
func (p view) Words() words { return p.words }

// Table is a list of orders for the template that they share.
func (p view) Table(orders []books.Order) any {
	return struct {
		Words  words
		Orders []books.Order
	}{p.words, orders}
}

// menu is what the navigation lists: path, title, and the pages below it.
var menu = []struct {
	path, title string
	pages       []string
}{
	{"", "Overview", []string{"overview"}},
	{"orders", "Orders", []string{"orders", "order"}},
	{"services", "Services", []string{"services", "service"}},
	{"devices", "Devices", []string{"devices", "device", "added"}},
	{"channels", "Channels", []string{"channels"}},
	{"sessions", "Sessions", []string{"sessions"}},
	{"webhooks", "Webhooks", []string{"webhooks"}},
	{"statement", "Statement", []string{"statement"}},
}

type link struct {
	Path, Title string
	Here        bool
}

// Menu is the navigation of this page.
func (p view) Menu() (list []link) {
	for _, m := range menu {
		list = append(list, link{m.path, m.title, slices.Contains(m.pages, p.Page)})
	}
	return list
}

// render draws a page.
func (c *Console) render(w http.ResponseWriter, r *http.Request, v *visit, status int, page, title string, data any) {
	name := c.Machine.Config.Name
	if name == "" {
		name = "coinop"
	}
	p := view{visit: v, Title: title, Page: page, Path: r.URL.RequestURI(), Name: name, HasLab: c.hasLab(), Data: data, words: c.words()}
	if v != nil && r.Header.Get("HX-Request") == "" {
		p.Flash = v.takeFlash()
	}
	var b bytes.Buffer
	if err := pages[page].ExecuteTemplate(&b, "base", p); err != nil {
		c.Log.Error("console", "page", page, "err", err)
		http.Error(w, "The page could not be drawn.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// show is render for a page that is all right.
func (c *Console) show(w http.ResponseWriter, r *http.Request, v *visit, page, title string, data any) error {
	c.render(w, r, v, http.StatusOK, page, title, data)
	return nil
}

// back sends a browser on after a form, with a sentence of what was done.
func (c *Console) back(w http.ResponseWriter, r *http.Request, v *visit, to, done string) error {
	v.flash(done)
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

func (c *Console) now() step.Time { return c.Machine.Engine.Host.Now() }

// words are those of amounts, at the rate of the moment.
func (c *Console) words() words {
	w := words{Now: c.now()}
	for _, r := range c.Machine.Config.Rates {
		if rate, ok := c.shop.Rate(r.Currency); ok {
			w.Rate = rate
			break
		}
	}
	return w
}

// pages are the templates, each with what they share.
var pages = func() map[string]*template.Template {
	base := template.Must(template.New("").Funcs(funcs).ParseFS(files, "page/base.html"))
	list, err := fs.Glob(files, "page/*.html")
	if err != nil {
		panic(err) // it is embedded
	}
	all := map[string]*template.Template{}
	for _, f := range slices.DeleteFunc(list, func(f string) bool { return f == "page/base.html" }) {
		name := path.Base(f)
		all[name[:len(name)-len(".html")]] = template.Must(template.Must(base.Clone()).ParseFS(files, f))
	}
	return all
}()

// noKey is the key of a device that has none.
var noKey keys.Public

// noRate is a price in bitcoin.
var noRate offer.Rate
