package console

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
)

const (
	// maxOffers bounds the offers whose payment URIs are remembered. When there are
	// more the oldest ones' pages say to begin again; their orders are not touched.
	maxOffers = 4096
	// placeRate and placeBurst bound the offers that one network may have made, and
	// lookRate and lookBurst the pages that it may load.
	placeRate, placeBurst = rate.Limit(1), 20
	lookRate, lookBurst   = rate.Limit(20), 100
	// maxWaits bounds the pages that wait for a payment; one more asks now and then.
	maxWaits = 1024
	// waitFor is how long such a page waits before it is told that nothing changed.
	waitFor = 11 * time.Second
	// payCookie shows that a browser has placed an order: what was delivered is
	// shown to it only.
	payCookie = "coinop-order"
)

// pays are the offers that people look at on a page.
type pays struct {
	root   keys.Secret // of cookies
	places *gateway.Limiter
	looks  *gateway.Limiter
	waits  chan struct{}

	mu     sync.Mutex
	offers map[money.OrderID]gateway.Offer
	order  []money.OrderID // as they were made
}

func newPays(root keys.Secret) *pays {
	return &pays{
		root: root, places: newLimiter(placeRate, placeBurst), looks: newLimiter(lookRate, lookBurst),
		waits: make(chan struct{}, maxWaits), offers: map[money.OrderID]gateway.Offer{},
	}
}

func (p *pays) keep(o gateway.Offer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.order) >= maxOffers {
		delete(p.offers, p.order[0])
		p.order = p.order[1:]
	}
	o.Token = ""
	p.offers[o.Order], p.order = o, append(p.order, o.Order)
}

func (p *pays) find(id money.OrderID) (gateway.Offer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o, ok := p.offers[id]
	return o, ok
}

// mark is what the cookie of an order's buyer says.
func (p *pays) mark(id money.OrderID) string {
	h := hmac.New(sha256.New, p.root.Reveal())
	h.Write(id[:])
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// A payView is what the public page shows. Nothing in it is the owner's business.
type payView struct {
	Service offer.Service
	Units   uint64
	Due     money.Amount
	Why     string // it cannot be bought now
	Error   string
	Free    bool

	Order money.OrderID
	State string
	Final bool
	Says  string
	Ways  []payWay
	Until step.Time
	Path  string
	Goods string
}

type payWay struct {
	Name, URI string
	Link      template.URL
	QR        qrCode
	Hold      bool
}

var errBusy = &trouble{http.StatusTooManyRequests, "Too many pages were loaded from your network. Wait a few seconds and load this one again."}

// forPay finds the service of a public page, for whoever does not ask too often.
func (c *Console) forPay(w http.ResponseWriter, r *http.Request, l *gateway.Limiter) (offer.Service, bool) {
	if l.Take(gateway.Client(r), time.Now()) > 0 {
		w.Header().Set("Retry-After", "5")
		c.failPay(w, r, errBusy)
		return offer.Service{}, false
	}
	v, ok := c.shop.Service(r.PathValue("service"))
	if !ok {
		c.failPay(w, r, notFound("Nothing of that name is for sale here. Scan the code on the machine again."))
	}
	return v, ok
}

func (c *Console) failPay(w http.ResponseWriter, r *http.Request, err error) {
	status, text := sentence(err)
	c.render(w, r, nil, status, "payerror", "This did not work", text)
}

// units reads how many units are wanted, within what is sold at once.
func units(v offer.Service, text string) uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 53)
	if err != nil || n < max(v.Min, 1) {
		n = max(v.Min, 1)
	}
	if v.Max > 0 {
		n = min(n, v.Max)
	}
	return n
}

// payPage says what a service costs. It makes no offer yet: those who only look
// cost nothing.
func (c *Console) payPage(w http.ResponseWriter, r *http.Request) {
	v, ok := c.forPay(w, r, c.pays.looks)
	if !ok {
		return
	}
	p := payView{Service: v, Units: units(v, r.URL.Query().Get("units")), Free: v.Shadow}
	p.Due, p.Why = c.due(v, p.Units)
	c.render(w, r, nil, http.StatusOK, "pay", title(v), p)
}

// place makes an offer and tells the till of it, so that the machine acts as soon
// as it is paid.
func (c *Console) place(w http.ResponseWriter, r *http.Request) {
	v, ok := c.forPay(w, r, c.pays.places)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	if err := r.ParseForm(); err != nil {
		c.failPay(w, r, &trouble{http.StatusBadRequest, "The form could not be read. Load the page again."})
		return
	}
	buyer := "http/local"
	if from := gateway.Client(r); from.IsValid() {
		buyer = "http/" + from.Addr().String()
	}
	o, err := c.shop.Quote(ctx, gateway.Ask{Service: v.Name, Units: units(v, r.PostForm.Get("units")), Buyer: buyer, Door: "pay"})
	if err == nil && o.Free {
		_, err = c.shop.Claim(ctx, gateway.Proof{Token: o.Token, Buyer: buyer})
	} else if err == nil {
		_, err = c.shop.Place(ctx, o.Token, buyer)
	}
	if err != nil {
		c.Log.Info("console: pay page", "service", v.Name, "err", err)
		c.failPay(w, r, &trouble{http.StatusServiceUnavailable, "This machine cannot sell that at the moment. Nothing was charged. Try again in a minute, or tell its owner."})
		return
	}
	c.pays.keep(o)
	to := fmt.Sprintf("/pay/%s/%v", v.Name, o.Order)
	http.SetCookie(w, &http.Cookie{
		Name: payCookie, Value: c.pays.mark(o.Order), Path: to, MaxAge: int(step.Day / step.Second), HttpOnly: true,
		SameSite: http.SameSiteStrictMode, Secure: c.secure(r),
	})
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// payState shows how an order stands. A page that says what it has seen is answered
// when that has changed.
func (c *Console) payState(w http.ResponseWriter, r *http.Request) {
	v, ok := c.forPay(w, r, c.pays.looks)
	if !ok {
		return
	}
	var id money.OrderID
	if id.UnmarshalText([]byte(r.PathValue("order"))) != nil {
		c.failPay(w, r, notFound("There is no such order. Begin again."))
		return
	}
	offered, known := c.pays.find(id)
	seen := r.URL.Query().Get("seen")
	o, err := c.waitPay(r.Context(), id, seen, offered.Until)
	if err == nil && !known && o.State == "quoted" {
		err = notFound("This offer is over. If you have not paid yet, begin again; if you have, show this page's address to the owner of the machine.")
	}
	if err == nil && o.Item != "" && o.Item != v.Name {
		err = notFound("There is no such order. Begin again.")
	}
	if err != nil {
		c.failPay(w, r, err)
		return
	}
	p := c.payView(v, o, offered)
	if seen != "" && seen == p.State {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if k, err := r.Cookie(payCookie); err == nil && hmac.Equal([]byte(k.Value), []byte(c.pays.mark(id))) && len(o.Payload) > 0 {
		p.Goods = readable(o.Payload)
	}
	c.render(w, r, nil, http.StatusOK, "paystate", title(v), p)
}

// waitPay reads an order; if a page has seen that state, when it changes.
func (c *Console) waitPay(ctx context.Context, id money.OrderID, seen string, until step.Time) (earn.Order, error) {
	o, err := c.shop.Order(ctx, id)
	if err != nil || o.State != seen {
		return o, err
	}
	select {
	case c.pays.waits <- struct{}{}:
		defer func() { <-c.pays.waits }()
	default:
		return o, nil
	}
	limit := waitFor
	if left := time.Duration(until-c.now()) * time.Millisecond; o.State == "quoted" && left > 0 {
		limit = min(limit, left+10*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer context.AfterFunc(c.closing, cancel)()
	changed, err := c.shop.Wait(ctx, id, func(o earn.Order) bool { return o.State != seen })
	if err != nil {
		return o, nil // nothing has changed
	}
	return changed, nil
}

func (c *Console) payView(v offer.Service, o earn.Order, offered gateway.Offer) payView {
	p := payView{Service: v, Units: offered.Units, Due: offered.Due, Order: o.ID, State: o.State, Until: offered.Until, Free: offered.Free}
	if p.Units == 0 {
		p.Units, p.Due = o.Units, o.Due
	}
	p.Path = fmt.Sprintf("/pay/%s/%v", v.Name, o.ID)
	if o.State == "quoted" && offered.Until <= c.now() {
		p.State = "expired"
	}
	for _, w := range offered.Ways {
		if p.State != "quoted" {
			break
		}
		way := payWay{Name: railTitle(w.Rail), URI: w.Pay, QR: drawQR(w.Pay), Hold: w.Hold}
		if strings.HasPrefix(strings.ToLower(w.Pay), w.Rail+":") { // a payment URI, and no script
			way.Link = template.URL(w.Pay)
		}
		p.Ways = append(p.Ways, way)
	}
	p.Says, p.Final = paySays(p.State, o)
	return p
}

// paySays says to a buyer how an order stands, and whether that is the end.
func paySays(state string, o earn.Order) (says string, final bool) {
	switch state {
	case "quoted":
		if o.Paid > 0 {
			return fmt.Sprintf("%s came in. Pay the rest and the machine starts.", sats(o.Paid)), false
		}
		return "Waiting for your payment.", false
	case "pending":
		return "Your payment is on its way.", false
	case "held":
		return "Your money is held until the machine has delivered. It is starting.", false
	case "paid":
		return "Paid. The machine is starting.", false
	case "delivered", "settled":
		return "Delivered. Thank you.", true
	case "refunded":
		if o.Credit > 0 {
			return "The machine could not deliver. Your money is kept as credit: show this page to its owner to have it back.", true
		}
		return "The machine could not deliver. Your money went back.", true
	case "expired":
		return "This offer is over, and you were charged nothing.", true
	case "failed":
		return "This order has failed. If you have paid, show this page to the owner of the machine.", true
	}
	return "Nobody knows yet how this ended. Keep this page and look again.", false
}
