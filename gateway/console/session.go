package console

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"coinop.dev/core/macaroon"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
)

const (
	// maxSessions bounds the browsers that are logged in; one more puts out the one
	// that was quiet for longest.
	maxSessions = 64
	// sessionIdle is how long a browser may be quiet, and sessionLife how long it is
	// logged in at most.
	sessionIdle = 12 * step.Hour
	sessionLife = 7 * step.Day
	// onceLife is how long a link that logs in once is good, and maxOnce how many
	// there are.
	onceLife = 5 * step.Minute
	maxOnce  = 16
	// tryRate and tryBurst bound the wrong tokens that one network may show: a token
	// is guessed by nobody, but each try costs a few hashes.
	tryRate  = rate.Limit(0.2)
	tryBurst = 5
	// maxNetworks bounds the networks that are remembered; one that is forgotten
	// begins anew.
	maxNetworks = 4096
	// cookie names the session, and exists below /console/ only.
	cookie     = "coinop-console"
	cookiePath = "/console/"
	// oncePrefix tells a code from a token.
	oncePrefix = "once."
)

// A session is one browser that is logged in. It remembers the token, which is
// asked about again for every request.
type session struct {
	Form        string // token of forms
	token       string
	begun, seen step.Time
	mu          sync.Mutex
	said        string
}

// flash keeps a sentence for the next page.
func (s *session) flash(text string) { s.mu.Lock(); s.said = text; s.mu.Unlock() }

func (s *session) takeFlash() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.said
	s.said = ""
	return text
}

type digest = [sha256.Size]byte

// sessions are those who are logged in, under a hash of what their cookie says.
type sessions struct {
	mu    sync.Mutex
	in    map[digest]*session
	once  map[digest]oneTime
	tries *gateway.Limiter
}

type oneTime struct {
	token string
	until step.Time
}

func newSessions() *sessions {
	return &sessions{in: map[digest]*session{}, once: map[digest]oneTime{}, tries: newLimiter(tryRate, tryBurst)}
}

func (s *sessions) open(token string, now step.Time) (id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.in) >= maxSessions {
		var oldest digest
		for at, have := range s.in {
			if first := s.in[oldest]; first == nil || have.seen < first.seen {
				oldest = at
			}
		}
		delete(s.in, oldest)
	}
	id = rand.Text() + rand.Text()
	s.in[sha256.Sum256([]byte(id))] = &session{Form: rand.Text(), token: token, begun: now, seen: now}
	return id
}

func (s *sessions) find(id string, now step.Time) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := sha256.Sum256([]byte(id))
	have := s.in[at]
	if have == nil {
		return nil
	}
	if now-have.seen > sessionIdle || now-have.begun > sessionLife {
		delete(s.in, at)
		return nil
	}
	have.seen = now
	return have
}

func (s *sessions) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.in, sha256.Sum256([]byte(id)))
}

// LoginOnce returns a path whose fragment logs a browser in with a token: once, and
// for a few minutes. What stands behind # is in no server's log.
func (c *Console) LoginOnce(token string) string {
	s, now := c.sessions, c.now()
	code := oncePrefix + rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, o := range s.once {
		if o.until <= now || len(s.once) >= maxOnce {
			delete(s.once, at)
		}
	}
	s.once[sha256.Sum256([]byte(code))] = oneTime{token, now + onceLife}
	return "/console/login#" + code
}

// redeem is the token that a login shows, or that its code stands for.
func (s *sessions) redeem(text string, now step.Time) string {
	if !strings.HasPrefix(text, oncePrefix) {
		return text
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := sha256.Sum256([]byte(text))
	o := s.once[at]
	delete(s.once, at)
	if o.until <= now {
		return ""
	}
	return o.token
}

// within lets a handler serve whoever is logged in and has a scope.
func (c *Console) within(scope string, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := c.who(r)
		if err != nil {
			c.forget(w, r)
			c.toLogin(w, r)
			return
		}
		if r.Method == http.MethodPost {
			err = r.ParseForm()
			if err == nil && subtle.ConstantTimeCompare([]byte(r.PostForm.Get("form")), []byte(v.Form)) != 1 {
				err = &trouble{http.StatusForbidden, "This form is of another login, so nothing was done. Go back, load the page again and repeat it."}
			}
		}
		if err == nil && !v.May(scope) {
			err = &trouble{http.StatusForbidden, fmt.Sprintf("Your token may not do this: it needs the scope %s.", scope)}
		}
		if err == nil {
			err = h(w, r, v)
		}
		if err != nil {
			c.fail(w, r, v, err)
		}
	}
}

// who reads the session of a request, and whether its token is still good.
func (c *Console) who(r *http.Request) (*visit, error) {
	k, err := r.Cookie(cookie)
	if err != nil {
		return nil, err
	}
	s := c.sessions.find(k.Value, c.now())
	if s == nil {
		return nil, http.ErrNoCookie
	}
	p, err := c.Principal(r, s.token)
	if err != nil {
		return nil, err
	}
	if !p.May(read) {
		return nil, http.ErrNoCookie
	}
	return &visit{p, s}, nil
}

// toLogin leads to the login, also those pages that draw themselves again.
func (c *Console) toLogin(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("HX-Request") != "" {
		w.Header().Set("HX-Redirect", "/console/login")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	http.Redirect(w, r, "/console/login", http.StatusSeeOther)
}

func (c *Console) loginPage(w http.ResponseWriter, r *http.Request) {
	if _, err := c.who(r); err == nil {
		http.Redirect(w, r, "/console/", http.StatusSeeOther)
		return
	}
	c.render(w, r, nil, http.StatusOK, "login", "Log in", "")
}

func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	no := func(status int, text string) { c.render(w, r, nil, status, "login", "Log in", text) }
	from, now := gateway.Client(r), time.Now()
	if !c.sessions.tries.May(from, now) {
		w.Header().Set("Retry-After", "5")
		no(http.StatusTooManyRequests, "Too many wrong tokens came from your network. Wait a few seconds and try again.")
		return
	}
	if err := r.ParseForm(); err != nil {
		no(http.StatusBadRequest, "The form could not be read.")
		return
	}
	token := c.sessions.redeem(strings.TrimSpace(r.PostForm.Get("token")), c.now())
	wrong := "That token is not one of this gateway's, or it was revoked or has expired. Take the one in the file console.token of the gateway's data folder."
	if token == "" || len(token) > 2*macaroon.MaxSize {
		c.sessions.tries.Take(from, now)
		no(http.StatusUnauthorized, wrong)
		return
	}
	p, err := c.Principal(r, token)
	switch {
	case err != nil:
		c.sessions.tries.Take(from, now)
		no(http.StatusUnauthorized, wrong)
		return
	case !p.May(read):
		no(http.StatusForbidden, "That token may not look at the console: it needs the scope read.")
		return
	}
	http.SetCookie(w, c.cookie(r, c.sessions.open(token, c.now()), int(sessionLife/step.Second)))
	http.Redirect(w, r, "/console/", http.StatusSeeOther)
}

func (c *Console) cookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookie, Value: value, Path: cookiePath, MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: c.secure(r),
	}
}

// secure reports whether browsers reach this server over TLS.
func (c *Console) secure(r *http.Request) bool {
	return r.TLS != nil || strings.HasPrefix(c.Machine.Config.PublicURL, "https:")
}

// forget removes a cookie that is good for nothing.
func (c *Console) forget(w http.ResponseWriter, r *http.Request) {
	if _, err := r.Cookie(cookie); err == nil {
		http.SetCookie(w, c.cookie(r, "", -1))
	}
}

func (c *Console) logout(w http.ResponseWriter, r *http.Request, _ *visit) error {
	if k, err := r.Cookie(cookie); err == nil {
		c.sessions.drop(k.Value)
	}
	c.forget(w, r)
	http.Redirect(w, r, "/console/login", http.StatusSeeOther)
	return nil
}

// newLimiter bounds what each network may do.
func newLimiter(each rate.Limit, burst int) *gateway.Limiter {
	return gateway.NewLimiter(each, burst, maxNetworks, nil)
}
