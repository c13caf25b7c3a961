package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	fleetcore "coinop.dev/core/fleet"
	"coinop.dev/core/macaroon"
	"coinop.dev/gateway"
)

// Scopes of credentials. Admin has all of them.
const (
	Public = ""      // no credential
	Read   = "read"  // look at everything
	Sell   = "sell"  // bills, test fire
	Pay    = "pay"   // spend, within the credential's budget
	Admin  = "admin" // everything
)

// Scopes lists those that a credential can have.
var Scopes = []string{Read, Sell, Pay, Admin}

// A Principal is who asks.
type Principal struct {
	Name  string // "operator/NAME", "device/NAME", or "" for nobody
	Grant *fleetcore.Grant

	from       netip.Prefix // where the request comes from
	method     string
	conditions macaroon.Conditions
	narrowed   bool // its holder has added caveats, or it was baked with some
}

// May reports whether the principal has a scope.
func (p Principal) May(scope string) bool {
	switch {
	case scope == Public:
		return true
	case p.Grant != nil:
		return scope == Pay && p.conditions.Allows("scope", Pay)
	case p.Name == "":
		return false
	}
	return p.conditions.Allows("scope", Admin) || p.conditions.Allows("scope", scope)
}

// Buyer is what the shop is told of who buys: the free tier of strangers goes by
// their network.
func (p Principal) Buyer() string {
	switch {
	case p.Name != "":
		return p.Name
	case !p.from.IsValid():
		return "http/local"
	}
	return "http/" + p.from.Addr().String()
}

var (
	errNobody  = unauthorized("this needs a credential: Authorization: Bearer …, as in console.token of the data folder")
	errForeign = unauthorized("the credential is not one of this gateway's")
)

func unauthorized(detail string) *Problem {
	return refusal(http.StatusUnauthorized, "UNAUTHORIZED", detail)
}

// What this door does about each caveat. A credential with another one is refused:
// who takes it must hold to all of it.
var (
	ofOperators = []string{"scope", "expires", "method", "ip", "payee", "max_payment_msat"}
	ofDevices   = append([]string{"device", "service", "price_per_unit_max_msat", "budget_msat", "budget_renewal", "per_minute"}, ofOperators...)
)

func held(m macaroon.Macaroon, known []string) error {
	for _, caveat := range m.Caveats {
		if key, _, _ := strings.Cut(caveat, "="); !slices.Contains(known, key) {
			return fmt.Errorf("the credential has the caveat %.40q, which this door cannot hold to", key)
		}
	}
	return nil
}

// Who reads the credential of a request: Authorization: Bearer, or lnd's
// Grpc-Metadata-Macaroon in hex. A request without one is nobody's.
func (a *API) Who(r *http.Request) (p Principal, err error) {
	if text := r.Header.Get("Grpc-Metadata-Macaroon"); text != "" {
		if len(text) > 2*macaroon.MaxSize {
			return p, errForeign
		}
		raw, err := hex.DecodeString(text)
		if err != nil {
			return p, errForeign
		}
		m, err := macaroon.Decode(raw)
		if err != nil {
			return p, unauthorized(err.Error())
		}
		return a.verify(m, r)
	}
	header := r.Header.Get("Authorization")
	if header == "" {
		return Principal{from: gateway.Client(r), method: r.Method}, nil
	}
	scheme, text, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return p, errNobody
	}
	m, err := macaroon.Parse(strings.TrimSpace(text))
	if err != nil {
		return p, unauthorized(err.Error())
	}
	return a.verify(m, r)
}

// verify reads a credential that was shown with a request.
func (a *API) verify(m macaroon.Macaroon, r *http.Request) (p Principal, err error) {
	p, err = a.Principal(m)
	if err != nil {
		return Principal{}, err
	}
	p.from, p.method = gateway.Client(r), r.Method
	if !p.conditions.Allows("method", p.method) {
		return Principal{}, refusal(http.StatusForbidden, "RESTRICTED", "the credential is not for "+p.method)
	}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); p.conditions.Value("ip") != "" &&
		(err != nil || !p.conditions.Allows("ip", at.Addr().Unmap().WithZone("").String())) {
		return Principal{}, refusal(http.StatusForbidden, "RESTRICTED", "the credential is not for this address")
	}
	return p, nil
}

// Principal reads a credential, whoever shows it from wherever.
func (a *API) Principal(m macaroon.Macaroon) (p Principal, err error) {
	no := func(err error) (Principal, error) { return Principal{}, unauthorized(err.Error()) }
	now := a.Machine.Engine.Host.Now()
	switch kind, _, _ := strings.Cut(string(m.ID), "/"); kind {
	case "operator":
		if err := m.Verify(operatorRoot(a.shop), p.conditions.Add); err != nil {
			return no(err)
		}
		if err := held(m, ofOperators); err != nil {
			return no(err)
		}
		t, err := a.tokens.find(m.ID)
		switch {
		case err != nil:
			return Principal{}, err
		case p.conditions.Expired(now):
			return no(errors.New("the token has expired; take the one of console.token, or bake another"))
		}
		p.Name, p.narrowed = "operator/"+t.Name, len(m.Caveats) > 1
	case "device":
		if a.Fleet == nil {
			return no(errForeign)
		}
		g, err := fleetcore.Verify(a.FleetRoot, m, now)
		if err == nil {
			err = held(m, ofDevices)
		}
		if err != nil {
			return no(err)
		}
		if d, in := a.Fleet.Device(g.Device); !in || d.Generation != g.Generation {
			return no(fmt.Errorf("device %s is not in service, or was replaced", g.Device))
		}
		p.Name, p.Grant, p.conditions, p.narrowed = "device/"+g.Device, &g, g.Conditions, true
	default:
		return no(errForeign)
	}
	return p, nil
}

// Admit is Who with a scope that is needed. Whoever has no good credential may not
// ask often.
func (a *API) Admit(r *http.Request, scope string) (Principal, error) {
	p, err := a.Who(r)
	if (err != nil || p.Name == "") && a.public.Take(gateway.Client(r), time.Now()) > 0 {
		return p, refusal(http.StatusTooManyRequests, "RATE_LIMITED",
			fmt.Sprintf("callers without a credential may ask %d times a second, and %d all together", clientRate, publicRate))
	}
	switch {
	case err != nil:
		return p, err
	case p.May(scope):
		return p, nil
	case p.Name == "":
		return p, errNobody
	}
	return p, refusal(http.StatusForbidden, "RESTRICTED", fmt.Sprintf("%s may not do this: it needs the scope %s", p.Name, scope))
}

type principalKey struct{}

// who is the principal of an operation under way. Huma's handlers get nothing but a
// context, so it is there.
func who(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}

// authorize asks for the scope that an operation names.
func (a *API) authorize(ctx huma.Context, next func(huma.Context)) {
	scope, _ := ctx.Operation().Metadata["scope"].(string)
	r, w := humago.Unwrap(ctx)
	p, err := a.Admit(r, scope)
	if err != nil {
		Problems(w, err)
		return
	}
	next(huma.WithValue(ctx, principalKey{}, p))
}
