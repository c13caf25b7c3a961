package coinop

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/earn"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/node"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/gateway"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/till"
	"coinop.dev/world/chain"
	"coinop.dev/world/generation"
	"coinop.dev/world/secret"
	"coinop.dev/world/store"
)

// A Machine is a running machine as its config describes it: its store and key, its
// purse, its till and their rails.
type Machine struct {
	Config Config
	Home   secret.Home // of the key
	Key    keys.Secret
	DB     store.DB
	Chain  chain.Source // nil for a machine whose rails need none
	Engine *engine.Machine
	Purse  *purse.Purse
	Till   *till.Till    // nil for a machine that only pays
	Shop   *gateway.Shop // nil unless it is a gateway
	Addr   string        // where it listens for other machines

	options   options
	ownsChain bool
	beside    []func() error // what closes residents

	mu    sync.Mutex
	rails []*rail.Rail
}

type options struct {
	chain   chain.Source
	log     *slog.Logger
	deliver map[string]till.Device
	gateway bool
	cores   func(context.Context, *engine.Machine) error
	ready   func() error
	railURI func(string) (string, error)
	beside  []Resident
	now     func() step.Time
}

// An Option changes how a machine is opened.
type Option func(*options)

// OnChain gives the machine a view of the chain that is open already, instead of
// the one that its config names.
func OnChain(source chain.Source) Option { return func(o *options) { o.chain = source } }

// Log says where the machine logs to; default nowhere.
func Log(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// Deliver says who delivers the services whose From is a name.
func Deliver(from string, device till.Device) Option {
	return func(o *options) {
		if o.deliver == nil {
			o.deliver = map[string]till.Device{}
		}
		o.deliver[from] = device
	}
}

// AsGateway makes the machine sell at doors too: it has a Shop, sessions and a
// journal. cores adds more cores before the till is opened, and ready says whether
// new sales may begin; both may be nil.
func AsGateway(cores func(context.Context, *engine.Machine) error, ready func() error) Option {
	return func(o *options) { o.gateway, o.cores, o.ready = true, cores, ready }
}

// RailURI completes the URI of every rail before it is opened.
func RailURI(complete func(uri string) (string, error)) Option {
	return func(o *options) { o.railURI = complete }
}

// A Resident opens what runs on a machine besides, such as a ledger's node, and
// returns what closes it; nil if there is nothing.
type Resident func(context.Context, *engine.Machine) (shut func() error, err error)

// Beside has something run on the machine from before its rails are opened until it
// is closed.
func Beside(r Resident) Option { return func(o *options) { o.beside = append(o.beside, r) } }

// Clock is what the machine takes for the time; default the computer's. Timers run by
// the computer's all the same.
func Clock(now func() step.Time) Option { return func(o *options) { o.now = now } }

// Open opens a machine with all its rails. What was under way when it was stopped
// goes on.
func Open(ctx context.Context, c Config, opts ...Option) (*Machine, error) {
	m, err := OpenIdle(ctx, c, opts...)
	if err != nil {
		return nil, err
	}
	if err := m.OpenRails(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// OpenIdle opens everything but the rails: OpenRails does that.
func OpenIdle(ctx context.Context, c Config, opts ...Option) (m *Machine, err error) {
	m = &Machine{Config: c}
	for _, option := range opts {
		option(&m.options)
	}
	m.Chain = m.options.chain
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if m.Home, err = c.Home(); err != nil {
		return m, err
	}
	if m.Key, err = secret.MachineKey(m.Home, rand.Reader); err != nil {
		return m, err
	}
	if m.DB, err = store.Default.Open(c.StoreURI()); err != nil {
		return m, err
	}
	o := engine.Options{Key: m.Key, DB: m.DB, Log: m.options.log, Now: m.options.now}
	if c.Remembers() {
		if o.Start, err = m.begin(); err != nil {
			return m, err
		}
		o.Backup = c.BackupFile()
	}
	if m.Chain == nil && c.Chain != "" {
		if m.Chain, err = chain.Default.Open(ctx, c.Chain); err != nil {
			return m, fmt.Errorf("%w: %w", ErrNoChain, err)
		}
		m.ownsChain = true
	}
	o.Chain = m.Chain
	m.Engine = engine.New(ctx, o)
	for _, open := range m.options.beside {
		shut, err := open(ctx, m.Engine)
		if err != nil {
			return m, err
		}
		if shut != nil {
			m.beside = append(m.beside, shut)
		}
	}
	if m.Purse, err = purse.Open(ctx, m.Engine, purse.Options{Limits: c.SpendLimits(), Journal: m.options.gateway}); err != nil {
		return m, err
	}
	if c.Listen != "" {
		addr, err := m.Engine.Listen(c.Listen)
		if err != nil {
			return m, err
		}
		m.Addr = addr.String()
	}
	return m, m.openTill(ctx)
}

// ErrNoChain means that the chain that the config names cannot be reached.
var ErrNoChain = errors.New("the chain cannot be opened")

// begin counts the start. It fails if the store may be an old copy, unless the
// owner accepts that: then Lightning channels are given up first.
func (m *Machine) begin() (uint64, error) {
	counter := m.Config.Counter(m.Home, m.Key.Public())
	start, err := generation.Begin(m.DB, counter)
	var stale *generation.Stale
	if !m.Config.AcceptStale || !errors.As(err, &stale) {
		return start, err
	}
	records, err := node.GiveUp(m.DB, m.Key)
	if err == nil {
		err = m.DB.Commit(records)
	}
	if err != nil {
		return 0, err
	}
	return generation.Accept(m.DB, counter, 0)
}

// openTill opens the till if the machine earns. Its rails come after it, so that
// their outcomes find its book, and the cores that deliver before it.
func (m *Machine) openTill(ctx context.Context) (err error) {
	if m.Addr == "" && !m.options.gateway {
		return nil
	}
	if m.options.gateway {
		if err := gateway.AddCores(ctx, m.Engine); err != nil {
			return err
		}
		if m.options.cores != nil {
			if err := m.options.cores(ctx, m.Engine); err != nil {
				return err
			}
		}
	}
	services := m.Config.Services()
	from := map[string]string{}
	var items []trade.Item
	for _, v := range services {
		from[v.Name] = v.From
		if v.Price > 0 && v.Per <= 1 {
			items = append(items, trade.Item{Name: v.Name, Unit: v.Unit, Price: v.Price})
		}
	}
	device := func(ctx context.Context, d earn.Deliver) ([]byte, error) {
		if f := m.options.deliver[from[d.Item]]; f != nil {
			return f(ctx, d)
		}
		return nil, fmt.Errorf("nothing delivers %q", d.Item)
	}
	var payTo []string
	for _, uri := range m.earning() {
		scheme, _, _ := strings.Cut(uri, ":")
		payTo = append(payTo, fmt.Sprintf("%s://%v@%s", scheme, m.Key.Public(), m.Addr))
	}
	m.Till, err = till.Open(ctx, m.Engine, till.Options{Items: items, PayTo: payTo, Device: device, Journal: m.options.gateway})
	if err != nil || !m.options.gateway {
		return err
	}
	o := gateway.Options{Machine: m.Engine, Purse: m.Purse, Rails: m.Rails, Services: services, Ready: m.options.ready}
	for _, r := range m.Config.Rates {
		o.Rates = append(o.Rates, r.source())
	}
	m.Shop, err = gateway.Open(ctx, o)
	return err
}

// Deliverers are those that were given to Open, by the From of services.
func (m *Machine) Deliverers() map[string]till.Device { return m.options.deliver }

// earning lists the rails that name no payee.
func (m *Machine) earning() (uris []string) {
	for _, uri := range m.Config.Rails {
		if u, err := rail.Default.Parse(uri); err == nil && u.Host == "" && u.User == nil && !u.Query().Has("balance") {
			uris = append(uris, uri)
		}
	}
	return uris
}

// OpenRails opens the rails of the config, those that earn first.
func (m *Machine) OpenRails(ctx context.Context) error {
	earning := m.earning()
	for _, uri := range earning {
		if m.Addr != "" && !strings.Contains(uri, "host=") {
			sep := "?"
			if strings.Contains(uri, "?") {
				sep = "&"
			}
			uri += sep + "host=" + m.Addr
		}
		if _, err := m.OpenRail(ctx, uri); err != nil {
			return err
		}
	}
	for _, uri := range m.Config.Rails {
		if slices.Contains(earning, uri) {
			continue
		}
		if _, err := m.OpenRail(ctx, uri); err != nil {
			return err
		}
	}
	return nil
}

// OpenRail opens one more rail.
func (m *Machine) OpenRail(ctx context.Context, uri string) (*rail.Rail, error) {
	if complete := m.options.railURI; complete != nil {
		var err error
		if uri, err = complete(uri); err != nil {
			return nil, err
		}
	}
	r, err := rail.Default.Open(ctx, uri, rail.Env{Machine: m.Engine, Rail: m.Rail})
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.rails = append(m.rails, r)
	m.mu.Unlock()
	if _, earns := rail.As[rail.Biller](r); !earns {
		err = m.Purse.Hold(ctx, r)
	}
	return r, err
}

// Rails lists the open rails.
func (m *Machine) Rails() []*rail.Rail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.rails)
}

// Rail finds an open rail by its scheme.
func (m *Machine) Rail(scheme string) *rail.Rail {
	for _, r := range m.Rails() {
		if r.Scheme() == scheme {
			return r
		}
	}
	return nil
}

// PayTo lists the payment URIs under which the machine is paid.
func (m *Machine) PayTo() (uris []string) {
	for _, r := range m.Rails() {
		if b, ok := rail.As[rail.Biller](r); ok {
			uris = append(uris, b.PayTo())
		}
	}
	return uris
}

// Wallet is where the machine's money on chain is.
func (m *Machine) Wallet() keys.Secret { return tx.WalletKey(m.Key) }

// Close stops the machine and closes what it stood on. It does not close channels.
func (m *Machine) Close() error {
	var errs []error
	for _, shut := range slices.Backward(m.beside) {
		errs = append(errs, shut())
	}
	if m.Engine != nil {
		errs = append(errs, m.Engine.Close())
	}
	if m.DB != nil {
		errs = append(errs, m.DB.Close())
	}
	if m.ownsChain {
		errs = append(errs, m.Chain.Close())
	}
	if m.Home != nil {
		errs = append(errs, m.Home.Close())
	}
	return errors.Join(errs...)
}

// Pay pays a bill: a payment URI that says how much. Each call is an order of its
// own unless the URI names one; that is paid once, however often it is called.
func (m *Machine) Pay(ctx context.Context, uri string) (Receipt, error) {
	o, err := Bill(uri)
	if err != nil {
		return Receipt{}, err
	}
	return m.Purse.Pay(ctx, o)
}

// Buy pays a seller for units of an item and waits for the goods. payee is a
// payment URI of the seller's.
func (m *Machine) Buy(ctx context.Context, payee, item string, units uint64, price Amount) ([]byte, Receipt, error) {
	_, rest, _ := strings.Cut(payee, "://")
	rest, _, _ = strings.Cut(rest, "?")
	seller, _, err := engine.Address(rest)
	if err != nil {
		return nil, Receipt{}, invalid(err)
	}
	due, ok := price.Times(units)
	if !ok {
		return nil, Receipt{}, invalid(fmt.Errorf("%d units at %v are more than all the bitcoin there can be", units, price))
	}
	r, goods, err := m.Purse.Buy(ctx, Order{ID: purse.NewOrderID(), To: rail.Payee(payee), Amount: due, For: item, Units: units}, seller)
	return goods.Payload, r, err
}

// Bill reads a payment URI with an amount into an order.
func Bill(uri string) (o Order, err error) {
	u, err := rail.Default.Parse(uri)
	if err != nil {
		return o, invalid(err)
	}
	q := u.Query()
	o = Order{ID: purse.NewOrderID(), To: rail.Payee(uri)}
	if id := q.Get("order"); id != "" {
		if err := o.ID.UnmarshalText([]byte(id)); err != nil {
			return o, invalid(err)
		}
	}
	if o.Amount, err = money.ParseAmount(q.Get("amount_msat") + "msat"); err != nil {
		return o, invalid(fmt.Errorf("%.80q does not say how much: it has no amount_msat", uri))
	}
	return o, nil
}
