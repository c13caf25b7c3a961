package coinop

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"coinop.dev/core/offer"
	"coinop.dev/core/spend"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
)

// Limits are what a machine may spend.
type Limits struct {
	Order     Amount       `toml:"order"`
	UnitPrice Amount       `toml:"unit_price"`
	Total     Amount       `toml:"total"`
	Payee     Amount       `toml:"payee"`
	Period    spend.Period `toml:"period"`
	PerMinute int          `toml:"per_minute"`
}

// A Service is something that a machine sells, as its config says it.
type Service struct {
	Item  string `toml:"item"`
	Title string `toml:"title"`
	Unit  string `toml:"unit"`
	// Price is "5 sat", or "0.30 EUR" at the rate of the moment, for Per units
	// (default 1). Dynamic is a URL to ask instead.
	Price   Price  `toml:"price"`
	Per     uint64 `toml:"per"`
	Dynamic string `toml:"dynamic"`
	Free    uint64 `toml:"free"`   // units a day for each buyer
	Shadow  bool   `toml:"shadow"` // count, and do not charge
	Min     uint64 `toml:"min"`
	Max     uint64 `toml:"max"`
	// Within is how long its device has to acknowledge a delivery, such as 10s; then
	// the money goes back.
	Within string `toml:"within"`
	Hold   bool   `toml:"hold"` // take the money only when it is delivered
	// From says who delivers: "device:NAME", "http://…", readings from
	// "data:lines:FILE", "data:files:FOLDER" or "data:device:NAME", or what is built in
	// or has been given to Open.
	From string `toml:"from"`
	// Path and Host are what the paywall asks money for, of a service "http://…":
	// "/api/", "api.example.org" (patterns of http.ServeMux). Default: /ITEM/, which
	// the service behind does not see, and any host.
	Path string `toml:"path"`
	Host string `toml:"host"`
	// Estimate is how many units a request is reckoned at before it is served
	// (default 1), Bundle how many a session is offered for.
	Estimate uint64 `toml:"estimate"`
	Bundle   uint64 `toml:"bundle"`
}

// A Price is in bitcoin or in a currency.
type Price struct {
	Amount Amount
	Fiat   offer.Fiat
}

// MarshalText writes what UnmarshalText reads.
func (p Price) MarshalText() ([]byte, error) {
	if p.Fiat != (offer.Fiat{}) {
		return []byte(p.Fiat.String()), nil
	}
	return p.Amount.MarshalText()
}

// UnmarshalText reads "5 sat" or "0.30 EUR".
func (p *Price) UnmarshalText(text []byte) (err error) {
	number, currency, ok := strings.Cut(strings.TrimSpace(string(text)), " ")
	if !ok || len(currency) != 3 || strings.EqualFold(currency, "sat") || strings.EqualFold(currency, "btc") {
		return p.Amount.UnmarshalText(text)
	}
	whole, frac, _ := strings.Cut(number, ".")
	if len(frac) > 6 || currency != strings.ToUpper(currency) {
		return fmt.Errorf("price %.40q: write it as 0.30 EUR, with at most 6 decimals", text)
	}
	micro, err := strconv.ParseUint(whole+(frac + "000000")[:6], 10, 63)
	if err != nil {
		return fmt.Errorf("price %.40q: write it as 5 sat or 0.30 EUR", text)
	}
	p.Fiat = offer.Fiat{Currency: currency, Micro: micro}
	return nil
}

func (s Service) service() (offer.Service, error) {
	v := offer.Service{
		Name: s.Item, Title: s.Title, Unit: s.Unit, Per: s.Per, Price: s.Price.Amount, Fiat: s.Price.Fiat, Dynamic: s.Dynamic,
		Free: s.Free, Shadow: s.Shadow, Min: s.Min, Max: s.Max, Hold: s.Hold, From: s.From,
	}
	if s.Within != "" {
		d, err := time.ParseDuration(s.Within)
		if err != nil {
			return v, fmt.Errorf("service %s: within = %.20q is not a time such as 10s", s.Item, s.Within)
		}
		v.Within = step.Time(d.Milliseconds())
	}
	if s.From == "" {
		return v, fmt.Errorf("service %s: from is missing; it says who delivers", s.Item)
	}
	return v, v.Check()
}

// A Rate says where the price of a bitcoin in a currency comes from.
type Rate struct {
	Currency string `toml:"currency"`
	Fixed    string `toml:"fixed"` // such as "90000"
	URL      string `toml:"url"`   // answers with JSON
	Field    string `toml:"field"` // in which this is the price, such as data/EUR
}

func (r Rate) source() *gateway.RateSource {
	return &gateway.RateSource{Currency: r.Currency, Fixed: r.Fixed, URL: r.URL, Field: cmp.Or(r.Field, "price")}
}

// Gateway is the part of a config that coinop serve reads: at which doors the
// machine sells, besides the links of other machines.
type Gateway struct {
	// PublicURL is under which the HTTP door is reached from outside.
	PublicURL string `toml:"public_url"`
	Metrics   string `toml:"metrics"` // address for /metrics, /healthz and /readyz
	Books     string `toml:"books"`   // URI; default SQLite in Data, or the store's database
	Drain     string `toml:"drain"`   // how long requests may take to end at a stop; default 10s
	// InsecureHTTP lets HTTP be on another address than loopback without TLS: behind
	// somebody else's proxy.
	InsecureHTTP bool `toml:"insecure_http"`
	// Origins are those whose pages may buy through a browser; "*" for all.
	Origins []string `toml:"origins"`
	TLS     struct {
		Cert string `toml:"cert"`
		Key  string `toml:"key"`
	} `toml:"tls"`
	MQTT struct {
		Listen   string `toml:"listen"` // of the broker that is built in; or else
		Broker   string `toml:"broker"` // the owner's own: mqtt://host:1883
		User     string `toml:"user"`
		Password string `toml:"password_file"`
		TLS      bool   `toml:"tls"` // the listener has the machine's certificate
	} `toml:"mqtt"`
	CoAP struct {
		Listen string `toml:"listen"` // UDP, without encryption
		DTLS   string `toml:"dtls"`
	} `toml:"coap"`
	// Fleet is for gateways that share their devices: they have one secret, one
	// database for their books, and each a number of its own.
	Fleet struct {
		Secret string `toml:"secret_file"` // 32 bytes in hex
		Number int    `toml:"number"`
	} `toml:"fleet"`
	Serial []struct {
		Port   string `toml:"port"`   // serial:///dev/ttyUSB0?baud=115200
		Device string `toml:"device"` // of the fleet
	} `toml:"serial"`
	// PrivateWebhooks lets webhooks go to this computer and to private networks.
	PrivateWebhooks bool `toml:"private_webhooks"`
	Webhooks        []struct {
		URL    string   `toml:"url"`
		Secret string   `toml:"secret_file"`
		Events []string `toml:"events"`
	} `toml:"webhook"`
}

func (g *Gateway) doors() bool {
	return g.Metrics != "" || g.MQTT.Listen != "" || g.MQTT.Broker != "" || g.CoAP.Listen != "" || g.CoAP.DTLS != "" || len(g.Serial) > 0
}

// Doors reports whether the machine is a gateway: it sells at doors, besides the
// links of other machines.
func (c *Config) Doors() bool { return c.HTTP != "" || c.Gateway.doors() }
