package paywall

import (
	"encoding/json"
	"net/http"
	"strings"

	"coinop.dev/core/money"
	"coinop.dev/core/offer"
)

// manifestPaths are where clients look for what is sold, before they are asked to
// pay for it.
var manifestPaths = []string{"/.well-known/l402.json", "/.well-known/l402-services"}

// manifest is L402's discovery manifest (discovery-spec.md, section 5).
type manifest struct {
	Version    string            `json:"version"`
	Provider   provider          `json:"provider"`
	Currencies []string          `json:"currencies"`
	Macaroons  []int             `json:"macaroon_versions"`
	Methods    []string          `json:"payment_methods"`
	OpenAPI    string            `json:"openapi"`
	Services   []listed          `json:"services"`
	Caveats    map[string]caveat `json:"caveats"`
}

type provider struct {
	Name string `json:"name"`
}

type listed struct {
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	Resources   []resource `json:"resources"`
}

type resource struct {
	Path    string  `json:"path"`
	Method  string  `json:"method,omitempty"`
	Pricing pricing `json:"pricing"`
}

type pricing struct {
	Model string       `json:"model"` // fixed
	Price money.Amount `json:"price_msat"`
}

type caveat struct {
	Type        string `json:"type"`
	Attenuation string `json:"attenuation"`
}

// serveManifest lists what has a fixed price. That of the rest, which follows a
// currency or is asked for, is in the challenge: the manifest has no words for a
// price that changes without an endpoint for quotes.
func (w *Wall) serveManifest(rw http.ResponseWriter, _ *http.Request) {
	m := manifest{
		Version: "1.0", Provider: provider{w.o.Realm}, Currencies: []string{"msat"}, Macaroons: []int{0}, Methods: []string{"bolt11"},
		OpenAPI: "/openapi.json", Services: []listed{},
		Caveats: map[string]caveat{
			"services": {"service_list", "subset"}, "service": {"string", "subset"}, "method": {"string", "subset"}, "ip": {"string", "subset"},
			"expires": {"timestamp", "earlier"},
		},
	}
	for _, rt := range w.routes {
		v, ok := w.o.Shop.Service(rt.Service)
		if !ok || v.Price == 0 {
			continue
		}
		v.Max = 0
		due, err := v.Due(max(rt.Units, v.Min, 1), offer.Rate{}, 0)
		if err != nil {
			continue
		}
		method, path, ok := strings.Cut(rt.Pattern, " ")
		if !ok {
			method, path = "", rt.Pattern
		}
		m.Services = append(m.Services, listed{v.Name, v.Title, []resource{{path[strings.Index(path, "/"):], method, pricing{"fixed", due}}}})
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("Access-Control-Allow-Origin", "*") // it is for everybody
	rw.Header().Set("Cache-Control", "max-age=60")
	json.NewEncoder(rw).Encode(m)
}
