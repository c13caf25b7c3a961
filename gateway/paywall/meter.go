package paywall

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev/core/money"
	"coinop.dev/core/paywall"
	"coinop.dev/core/tab"
	"coinop.dev/gateway"
)

// growth bounds how much more than its estimate a response that goes on reserves
// at a time, in estimates: what a crash can cost a customer.
const growth = 64

// meter is the response to one request: it measures what is delivered, draws more
// when that outgrows the estimate, and settles when it is over. It hides whatever
// else the server's ResponseWriter can do, so that nothing goes past it.
type meter struct {
	*buyer
	rw      http.ResponseWriter
	rc      *http.ResponseController
	free    string        // why nothing is charged, if nothing is
	session money.OrderID // unless it is free
	by      measure
	head    bool // no body goes out
	upload  upload
	cancel  context.CancelCauseFunc

	mu       sync.Mutex
	start    time.Time
	drawn    []reserved
	held     uint64 // units drawn ever
	spent    uint64 // those of draws that are settled already
	bytes    uint64 // of the body that went out
	status   int    // 0 until the headers have gone
	told     uint64 // units, by upstream
	hasTold  bool
	failed   error // to the client
	settled  bool
	deadline time.Time
}

var errShort = errors.New("the session has nothing left for the rest")

// reserved is one draw.
type reserved struct {
	*gateway.Drawn
	units uint64
}

// measure is how a service's unit is counted: so many bytes or seconds of the
// response, or neither.
type measure struct{ bytes, seconds uint64 }

var measures = map[string]measure{
	"b": {bytes: 1}, "byte": {bytes: 1}, "bytes": {bytes: 1},
	"kb": {bytes: 1000}, "kib": {bytes: 1 << 10}, "mb": {bytes: 1e6}, "mib": {bytes: 1 << 20}, "gb": {bytes: 1e9}, "gib": {bytes: 1 << 30},
	"s": {seconds: 1}, "second": {seconds: 1}, "seconds": {seconds: 1},
	"min": {seconds: 60}, "minute": {seconds: 60}, "minutes": {seconds: 60}, "h": {seconds: 3600}, "hour": {seconds: 3600}, "hours": {seconds: 3600},
}

func newMeter(b *buyer, rw http.ResponseWriter) *meter {
	return &meter{buyer: b, rw: rw, rc: http.NewResponseController(rw), by: measures[strings.ToLower(b.service.Unit)]}
}

// draw reserves more units.
func (m *meter) draw(ctx context.Context, units uint64) error {
	d, err := m.o.Shop.Draw(ctx, m.session, m.service.Name, units)
	if err != nil {
		return err
	}
	for _, d := range m.drawn[:max(len(m.drawn)-1, 0)] { // the last was drawn because these were not enough
		d.Settle(d.units)
		m.spent += d.units
	}
	m.drawn = append(m.drawn[max(len(m.drawn)-1, 0):], reserved{d, units})
	m.held += units
	return nil
}

// run serves the request and settles.
func (m *meter) run(r *http.Request, next http.Handler) {
	ctx, cancel := context.WithCancelCause(r.Context())
	m.cancel, m.start = cancel, time.Now()
	defer cancel(nil)
	r = r.WithContext(ctx)
	r.Header = r.Header.Clone()
	paywall.Strip(r.Header) // what proves a payment is for the paywall alone
	r.Header.Del(HeaderUnits)
	m.head = r.Method == http.MethodHead
	m.upload = upload{ReadCloser: http.MaxBytesReader(m.rw, r.Body, m.o.MaxBody), rc: m.rc, idle: m.idle}
	r.Body = &m.upload
	defer m.keepTime()()
	whole := false
	defer func() {
		m.settle(whole)
		if whole && m.overdrawn() {
			panic(http.ErrAbortHandler) // so that the client does not take it for all there is
		}
	}()
	next.ServeHTTP(m, r)
	whole = true
}

// keepTime draws for the seconds of a response as they pass, and cuts it off when
// the session has no more. It returns what stops it.
func (m *meter) keepTime() func() {
	if m.by.seconds == 0 || m.free != "" {
		return func() {}
	}
	var t *time.Timer
	due := func() time.Duration {
		return time.Until(m.start.Add(time.Duration(m.held*m.by.seconds) * time.Second))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t = time.AfterFunc(due(), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.cover(m.held+1) != nil {
			m.failed = errShort
			m.cancel(errShort)
			return
		}
		t.Reset(due())
	})
	return func() { t.Stop() }
}

// cover draws until units are reserved, and some more. If the session is short of
// that it draws what there is, and the error is errShort.
func (m *meter) cover(units uint64) error {
	if m.free != "" || units <= m.held {
		return nil
	}
	if m.settled {
		return errShort
	}
	ctx, stop := context.WithTimeout(m.o.Shop.Machine().Context(), m.idle)
	defer stop()
	var short *tab.Short
	need := units - m.held
	more := max(need, min(m.held, growth*m.route.Units))
	err := m.draw(ctx, more)
	if errors.As(err, &short) && need < more {
		err = m.draw(ctx, need)
	}
	if errors.As(err, &short) && need > 1 {
		if part := need * uint64(short.Left) / uint64(short.Want); part > 0 {
			m.draw(ctx, part)
		}
	}
	if err != nil {
		return errShort
	}
	return nil
}

// overdrawn reports that the response was cut off because nobody pays for more.
func (m *meter) overdrawn() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Is(m.failed, errShort) && m.status != 0
}

// settle says what the request has cost.
func (m *meter) settle(whole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rc.SetWriteDeadline(time.Time{})
	m.rc.SetReadDeadline(time.Time{})
	used := m.used(whole)
	m.settled = true
	used -= min(used, m.spent)
	for _, d := range m.drawn {
		n := min(used, d.units)
		d.Settle(n)
		used -= n
	}
}

// used is how many units were delivered.
func (m *meter) used(whole bool) uint64 {
	m.readUnits(m.rw.Header(), HeaderUnits) // of a trailer that was announced
	m.readUnits(m.rw.Header(), http.TrailerPrefix+HeaderUnits)
	if m.status == 0 && whole {
		m.status = http.StatusOK // the server sends an empty answer
	}
	cut := !whole || m.failed != nil
	switch {
	case m.status == 0 || m.status >= http.StatusInternalServerError:
		return 0
	case m.upload.broken.Load() && m.status >= http.StatusBadRequest:
		return 0 // upstream could not do anything with half a request
	case m.hasTold:
		m.cover(m.told)
		return m.told
	case m.by.bytes > 0:
		return ceil(m.bytes, m.by.bytes)
	case m.by.seconds > 0:
		return ceil(uint64(time.Since(m.start)/time.Millisecond), m.by.seconds*1000)
	case cut && m.bytes == 0:
		return 0
	case strings.HasPrefix(strings.ToLower(m.service.Unit), "request"):
		return 1
	}
	return m.route.Units // the estimate
}

func ceil(n, per uint64) uint64 { return (n + per - 1) / per }

// readUnits takes what upstream says of units out of the headers.
func (m *meter) readUnits(h http.Header, name string) {
	text := h.Get(name)
	if h.Del(name); text == "" {
		return
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && n <= MaxBundle {
		m.told, m.hasTold = n, true
	}
}

// Header is http.ResponseWriter's.
func (m *meter) Header() http.Header { return m.rw.Header() }

// WriteHeader sends the headers, with what is left of the session.
func (m *meter) WriteHeader(status int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeHeader(status)
}

func (m *meter) writeHeader(status int) {
	if m.status != 0 {
		return
	}
	h := m.rw.Header()
	if status >= 200 {
		m.status = status
		m.readUnits(h, HeaderUnits)
		if h.Del(HeaderFree); m.free != "" {
			h.Set(HeaderFree, m.free)
		}
		if h.Del(HeaderLeft); len(m.drawn) > 0 {
			h.Set(HeaderLeft, strconv.FormatUint(uint64(m.left(status)), 10))
			h.Set("Cache-Control", private(h.Get("Cache-Control")))
		}
		if status >= http.StatusInternalServerError {
			h.Del("Payment-Receipt") // nothing was paid for this
		}
	}
	m.rw.WriteHeader(status)
}

// left is what the session has beside this request, as far as that is known when
// its headers go out.
func (m *meter) left(status int) money.Amount {
	d := m.drawn[len(m.drawn)-1]
	if status >= http.StatusInternalServerError {
		return d.Left + d.Reserved
	}
	return d.Left
}

// private keeps what was paid for out of shared caches.
func private(control string) string {
	if strings.Contains(control, "no-store") {
		return control
	}
	return "private"
}

// Write sends a part of the body that is paid for.
func (m *meter) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeHeader(http.StatusOK)
	if m.failed != nil {
		return 0, m.failed
	}
	short := false
	if m.by.bytes > 0 && !m.head && m.status < http.StatusInternalServerError {
		if m.cover(ceil(m.bytes+uint64(len(b)), m.by.bytes)) != nil {
			short = true
			b = b[:min(uint64(len(b)), m.held*m.by.bytes-m.bytes)]
		}
	}
	m.extend()
	n, err := m.rw.Write(b)
	if !m.head {
		m.bytes += uint64(n)
	}
	switch {
	case err != nil && !errors.Is(err, http.ErrBodyNotAllowed):
		m.failed = err
	case short:
		m.rc.Flush() // what is paid for, before the connection is broken off
		m.failed, err = errShort, errShort
	}
	return n, err
}

// extend gives the client time for the next bytes. The deadline is not moved
// for every few of them.
func (m *meter) extend() {
	if now := time.Now(); m.deadline.Sub(now) < m.idle*9/10 {
		m.deadline = now.Add(m.idle)
		m.rc.SetWriteDeadline(m.deadline)
	}
}

// FlushError is for http.ResponseController.
func (m *meter) FlushError() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeHeader(http.StatusOK)
	m.extend()
	err := m.rc.Flush()
	if err != nil && !errors.Is(err, http.ErrNotSupported) && m.failed == nil {
		m.failed = err
	}
	return err
}

// Flush is http.Flusher's.
func (m *meter) Flush() { m.FlushError() }

// upload is a request's body, whose sender has to go on sending.
type upload struct {
	io.ReadCloser
	rc       *http.ResponseController
	idle     time.Duration
	deadline time.Time
	broken   atomic.Bool // it was too long, or its sender went away
}

func (u *upload) Read(b []byte) (int, error) {
	if now := time.Now(); u.deadline.Sub(now) < u.idle*9/10 {
		u.deadline = now.Add(u.idle)
		u.rc.SetReadDeadline(u.deadline)
	}
	n, err := u.ReadCloser.Read(b)
	if err != nil {
		u.broken.Store(err != io.EOF)
		u.rc.SetReadDeadline(time.Time{}) // the server still watches whether the client is there
	}
	return n, err
}
