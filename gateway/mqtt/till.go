package mqtt

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"coinop.dev/core/earn"
	"coinop.dev/core/money"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
)

// Shop is what sells (gateway.Shop).
type Shop interface {
	Services() []offer.Service
	Service(name string) (offer.Service, bool)
	Quote(context.Context, gateway.Ask) (gateway.Offer, error)
	Claim(context.Context, gateway.Proof) (earn.Order, error)
	Order(context.Context, money.OrderID) (earn.Order, error)
	Wait(ctx context.Context, id money.OrderID, is func(earn.Order) bool) (earn.Order, error)
	// Place has an offer delivered the moment it is paid.
	Place(ctx context.Context, token, buyer string) (earn.Order, error)
	// Goods says that the buyer has what was delivered.
	Goods(context.Context, money.OrderID) error
	// Spend takes units of a service from the prepaid session that a proof opens.
	Spend(ctx context.Context, p gateway.Proof, service string, units uint64) error
}

// Sell is the gateway's shop as this door needs it.
func Sell(s *gateway.Shop) Shop { return shop{s} }

type shop struct{ *gateway.Shop }

func (s shop) Spend(ctx context.Context, p gateway.Proof, service string, units uint64) error {
	session, err := s.Session(ctx, p)
	if err != nil {
		return err
	}
	drawn, err := s.Draw(ctx, session.Tab, service, units)
	if err != nil {
		return err
	}
	drawn.Settle(units)
	return nil
}

const (
	// MaxRequest bounds a buyer's request in bytes: a token and a receipt.
	MaxRequest = 16 << 10
	// MaxID bounds the name that a buyer gives to a request, in bytes.
	MaxID = 64
	// MaxAsking bounds the requests that are being answered. One more is told to
	// come again.
	MaxAsking = 256
	// MaxWaiting bounds the receipts that are waited for. Whoever has no place
	// asks for its order again.
	MaxWaiting = 4096
	// MaxKept is how many buyers' answers are remembered, keptEach how many of
	// each: an offer that is asked for again is the same, until it ends.
	MaxKept  = 2048
	keptEach = 8
	// answerWithin is how long a shop may take: an invoice comes over the network.
	answerWithin = 15 * time.Second
	// receiptWithin is how long a delivery is waited for; a service has a day.
	receiptWithin = 25 * time.Hour
)

// What a buyer can ask to do.
const (
	doServices = "services" // what is for sale
	doOffer    = "offer"    // units of a service: a price, and ways to pay it
	doPlace    = "place"    // deliver this token's offer when somebody has paid it
	doPay      = "pay"      // here is a token, and the proof that it is paid
	doOrder    = "order"    // how does an order stand
	doGot      = "got"      // what an order has bought is here
)

// A request is what a buyer publishes on coinop/offers/{client}, or a device on
// its event/pay.
type request struct {
	ID       string         `json:"id"`
	Do       string         `json:"do"`
	Service  string         `json:"service,omitempty"`
	Units    uint64         `json:"units,omitempty"`
	Session  bool           `json:"session,omitempty"` // prepay so many units
	Token    string         `json:"token,omitempty"`
	Preimage string         `json:"preimage,omitempty"` // hex
	Receipt  *money.Receipt `json:"receipt,omitempty"`
	Refund   string         `json:"refund,omitempty"`
	Order    money.OrderID  `json:"order,omitzero"`
}

// An answer has the id of its request, the state of what it is about, and one of
// the others.
type answer struct {
	ID       string          `json:"id"`
	State    string          `json:"state"`
	Offer    *gateway.Offer  `json:"offer,omitempty"`
	Order    *earn.Order     `json:"order,omitempty"`
	Services []offer.Service `json:"services,omitempty"`
	Error    *problem        `json:"error,omitempty"`
}

// A problem says by its kind what may be done next (money.Kind).
type problem struct {
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
}

// parseRequest reads a request. What it returns with an error has the id, if
// there is one to answer.
func parseRequest(payload []byte) (r request, err error) {
	if len(payload) > MaxRequest {
		return r, fmt.Errorf("request is %d bytes; the limit is %d", len(payload), MaxRequest)
	}
	if err := readJSON(payload, &r); err != nil {
		return request{}, err
	}
	switch {
	case r.ID == "" || len(r.ID) > MaxID:
		return request{}, fmt.Errorf("id has %d bytes; it must have 1 to %d, and name the request", len(r.ID), MaxID)
	case r.Do == doServices:
	case r.Do == doOffer && offer.ValidName(r.Service) && r.Units > 0:
	case r.Do == doOffer:
		return r, errors.New("an offer is asked for with service and units")
	case r.Do == doPay && r.Token != "" && (r.Receipt == nil || r.Preimage == ""):
		if _, err := hex.DecodeString(r.Preimage); err != nil {
			return r, errors.New("preimage is not hex")
		}
	case r.Do == doPay:
		return r, errors.New("to pay, show the token and one of preimage and receipt")
	case r.Do == doPlace && r.Token != "":
	case (r.Do == doOrder || r.Do == doGot) && r.Order != money.OrderID{}:
	default:
		return r, fmt.Errorf("do is %.20q; it must be services, offer, place, pay, order or got, with what belongs to it", r.Do)
	}
	return r, nil
}

// readJSON is strict: what nobody knows is a mistake of whoever sends it.
func readJSON(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the object")
	}
	return nil
}

// A till answers buyers.
type till struct {
	d       *Door
	asking  chan struct{}
	working sync.WaitGroup

	mu      sync.Mutex
	buyers  map[string]*list.Element // of *buyer, by Who.owner
	recent  list.List                // the last one asked first
	waiting map[waited]bool
}

type waited struct {
	owner string
	order money.OrderID
}

// A buyer is the answers that are repeated, the oldest first.
type buyer struct {
	owner string
	mu    sync.Mutex // held while one is made
	kept  []kept
}

type kept struct {
	id    string
	asked [32]byte
	until step.Time
	answer
}

func (t *till) open(d *Door) {
	t.d, t.asking = d, make(chan struct{}, MaxAsking)
	t.buyers, t.waiting = map[string]*list.Element{}, map[waited]bool{}
}

var errBusy = &money.Error{Kind: money.Refused, Err: fmt.Errorf("%d requests are being answered; ask again", MaxAsking)}

// work runs f unless too many run already.
func (t *till) work(f func(context.Context)) bool {
	select {
	case t.asking <- struct{}{}:
	default:
		return false
	}
	t.working.Go(func() {
		defer func() { <-t.asking }()
		ctx, cancel := context.WithTimeout(t.d.ctx, answerWithin)
		defer cancel()
		f(ctx)
	})
	return true
}

// back is how the answers to a message find their way.
type back struct {
	who   Who
	topic string
	match []byte
}

func (s *session) back(in Incoming) back {
	b := back{s.who, in.Reply, in.Match}
	if b.topic == "" || !s.who.mayAnswerOn(b.topic) {
		b.topic = Topic{s.who.Tenant, s.who.Name, Receipt, ""}.String()
		if !s.who.IsDevice() {
			b.topic = Topic{Name: s.who.Name, Class: Reply}.String()
		}
	}
	return b
}

// reply publishes an answer to whoever the client is by now.
func (d *Door) reply(b back, a answer) {
	raw, err := json.Marshal(a)
	if err != nil {
		d.Log.Error("mqtt: write JSON", "err", err)
		return
	}
	d.mu.Lock()
	s := d.sessions[b.who.owner()]
	d.mu.Unlock()
	if s != nil {
		s.peer.Publish(Message{Topic: b.topic, Match: b.match, Payload: raw, QoS: 1})
	}
}

// ask takes a buyer's request. It is acknowledged when it can be read, and
// answered on its reply topic.
func (s *session) ask(in Incoming) Verdict {
	to := s.back(in)
	r, err := parseRequest(in.Payload)
	if err == nil && s.d.Shop == nil {
		err = errors.New("nothing is for sale here")
	}
	if err != nil {
		s.d.reply(to, wrong(r.ID, err))
		return refuse(PayloadInvalid, err)
	}
	if !s.d.till.work(func(ctx context.Context) { s.d.reply(to, s.d.till.answer(ctx, to, r)) }) {
		s.d.reply(to, failed(r.ID, errBusy))
		return refuse(ServerBusy, errBusy)
	}
	return Verdict{}
}

func failed(id string, err error) answer {
	kind := money.KindOf(err)
	state := "failed"
	if kind == money.Pending {
		state = "unknown"
	}
	return answer{ID: id, State: state, Error: &problem{kind.Error(), err.Error()}}
}

func (t *till) answer(ctx context.Context, to back, r request) answer {
	switch r.Do {
	case doServices:
		return answer{ID: r.ID, State: "quoted", Services: t.d.Shop.Services()}
	case doOffer:
		return t.offer(ctx, to.who, r)
	case doPay:
		secret, _ := hex.DecodeString(r.Preimage)
		return t.claim(ctx, to, r.ID, gateway.Proof{Token: r.Token, Preimage: secret, Receipt: r.Receipt, Refund: r.Refund})
	case doPlace:
		order, err := t.d.Shop.Place(ctx, r.Token, "mqtt/"+to.who.String())
		return t.follow(to, r.ID, order, err)
	case doGot:
		if err := t.d.Shop.Goods(ctx, r.Order); err != nil {
			return failed(r.ID, err)
		}
	}
	order, err := t.d.Shop.Order(ctx, r.Order)
	if err != nil {
		return failed(r.ID, err)
	}
	// What was bought is for whoever shows the proof again.
	order.Payload, order.Ack = nil, nil
	return answer{ID: r.ID, State: order.State, Order: &order}
}

// offer quotes, once for each id of a buyer: to ask again is to get the same.
func (t *till) offer(ctx context.Context, who Who, r request) answer {
	asked := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%t", r.Service, r.Units, r.Session))
	b := t.buyer(who)
	b.mu.Lock()
	defer b.mu.Unlock()
	now := t.d.Now()
	b.kept = slices.DeleteFunc(b.kept, func(k kept) bool { return k.until < now })
	for _, k := range b.kept {
		if k.id == r.ID && k.asked != asked {
			return wrong(r.ID, fmt.Errorf("id %q has named another request; take a new one", r.ID))
		}
		if k.id == r.ID {
			return k.answer
		}
	}
	o, err := t.d.Shop.Quote(ctx, gateway.Ask{Service: r.Service, Units: r.Units, Buyer: "mqtt/" + who.String(), Door: "mqtt", Tab: r.Session})
	if err != nil {
		return failed(r.ID, err)
	}
	a := answer{ID: r.ID, State: "quoted", Offer: &o}
	if len(b.kept) == keptEach {
		b.kept = slices.Delete(b.kept, 0, 1)
	}
	b.kept = append(b.kept, kept{r.ID, asked, o.Until, a})
	return a
}

func (t *till) buyer(who Who) *buyer {
	t.mu.Lock()
	defer t.mu.Unlock()
	owner := who.owner()
	if e := t.buyers[owner]; e != nil {
		t.recent.MoveToFront(e)
		return e.Value.(*buyer)
	}
	if t.recent.Len() >= MaxKept {
		old := t.recent.Remove(t.recent.Back()).(*buyer)
		delete(t.buyers, old.owner)
	}
	b := &buyer{owner: owner}
	t.buyers[owner] = t.recent.PushFront(b)
	return b
}

// claim takes a proof, and sends the receipt when there is one. To show the same
// proof again is to get the order as it stands.
func (t *till) claim(ctx context.Context, to back, id string, p gateway.Proof) answer {
	p.Buyer = "mqtt/" + to.who.String()
	order, err := t.d.Shop.Claim(ctx, p)
	return t.follow(to, id, order, err)
}

// follow answers with an order, and sees to it that its end is told.
func (t *till) follow(to back, id string, order earn.Order, err error) answer {
	if err != nil {
		return failed(id, err)
	}
	if !final(order) {
		t.await(to, id, order.ID)
	}
	return answer{ID: id, State: order.State, Order: &order}
}

// final reports whether nothing more will happen to an order that a buyer must
// hear of.
func final(o earn.Order) bool {
	return o.Tab || slices.Contains([]string{"delivered", "settled", "refunded", "expired", "failed"}, o.State)
}

// await sends the receipt once the order is delivered, or not to be.
func (t *till) await(to back, id string, order money.OrderID) {
	key := waited{to.who.owner(), order}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting[key] || len(t.waiting) >= MaxWaiting {
		return
	}
	t.waiting[key] = true
	t.working.Go(func() {
		ctx, cancel := context.WithTimeout(t.d.ctx, receiptWithin)
		defer cancel()
		o, err := t.d.Shop.Wait(ctx, order, final)
		t.mu.Lock()
		delete(t.waiting, key)
		t.mu.Unlock()
		if err != nil {
			t.d.Log.Debug("mqtt: no receipt", "order", order, "err", err)
			return
		}
		t.d.reply(to, answer{ID: id, State: o.State, Order: &o})
	})
}

// wrong is an answer to what makes no sense.
func wrong(id string, err error) answer {
	return failed(id, &money.Error{Kind: money.Invalid, Err: err})
}
