package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	fleetcore "coinop.dev/core/fleet"
	"coinop.dev/core/keys"
	"coinop.dev/core/macaroon"
	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/gateway"
)

const (
	// MaxTokens bounds the operators' tokens that are good at a time.
	MaxTokens = 256
	tokensKey = "api/tokens"
)

// operatorRoot is the key under which operators' tokens are baked.
func operatorRoot(s *gateway.Shop) keys.Secret { return s.Root().Derive("gateway/operators") }

// A Credential is an operator's token, as it is remembered: the token itself is not.
type Credential struct {
	Name    string    `json:"name"`
	Number  uint64    `json:"number"` // no two have the same, ever
	Scopes  []string  `json:"scopes"`
	Expires step.Time `json:"expires_ms,omitempty"`
	At      step.Time `json:"at_ms"`
}

// tokens are the tokens that are good. Any other one that was ever baked is revoked:
// the list needs no room for those, and their numbers do not come back.
type tokens struct {
	shop *gateway.Shop
	mu   sync.Mutex
	file *tokensFile // nil until it is read
}

// tokensFile is all of them, in one record.
type tokensFile struct {
	Last  uint64       `json:"last"` // number that was given
	Valid []Credential `json:"valid"`
}

// read reads the list the first time. It is called with mu held.
func (t *tokens) read() error {
	if t.file != nil {
		return nil
	}
	file := &tokensFile{}
	raw, err := t.shop.Machine().DB.Get(tokensKey)
	if err == nil && raw != nil {
		err = json.Unmarshal(raw, file)
	}
	if err != nil {
		return fmt.Errorf("operators' tokens: %w", err)
	}
	t.file = file
	return nil
}

// Token bakes the credential of an operator. It is the same each time until that is
// revoked.
func Token(s *gateway.Shop, name string, scopes ...string) (string, error) {
	t := tokens{shop: s}
	_, text, err := t.bake(Credential{Name: name, Scopes: scopes})
	return text, err
}

func (c Credential) check() error {
	if !offer.ValidName(c.Name) {
		return fmt.Errorf("%.80q is no name: 1 to 64 of a-z 0-9 . _ -", c.Name)
	}
	if len(c.Scopes) == 0 {
		return errors.New("a credential needs a scope: " + strings.Join(Scopes, ", "))
	}
	for _, scope := range c.Scopes {
		if !slices.Contains(Scopes, scope) {
			return fmt.Errorf("there is no scope %.40q; there are %s", scope, strings.Join(Scopes, ", "))
		}
	}
	return nil
}

func (c Credential) id() []byte { return fmt.Appendf(nil, "operator/%d/%s", c.Number, c.Name) }

// token is the credential itself.
func (c Credential) token(s *gateway.Shop) (string, error) {
	caveats := []string{"scope=" + strings.Join(c.Scopes, ",")}
	if c.Expires > 0 {
		caveats = append(caveats, "expires="+strconv.FormatInt(int64(c.Expires/step.Second), 10))
	}
	m, err := macaroon.Bake(operatorRoot(s), c.id(), "", caveats...)
	if err != nil {
		return "", err
	}
	return m.Text(), nil
}

// bake makes a token, or the one again that has this name and these terms.
func (t *tokens) bake(c Credential) (Credential, string, error) {
	if err := c.check(); err != nil {
		return c, "", invalid(err.Error())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.read(); err != nil {
		return c, "", err
	}
	now := t.shop.Machine().Host.Now()
	next := tokensFile{Last: t.file.Last + 1}
	for _, have := range t.file.Valid {
		if have.Expires > 0 && have.Expires <= now {
			continue
		}
		if have.Name == c.Name {
			if !slices.Equal(have.Scopes, c.Scopes) || have.Expires != c.Expires {
				return c, "", refusal(http.StatusConflict, "invalid", fmt.Sprintf("there is a credential %s with other terms; revoke it, or take another name", c.Name))
			}
			text, err := have.token(t.shop)
			return have, text, err
		}
		next.Valid = append(next.Valid, have)
	}
	if len(next.Valid) >= MaxTokens {
		return c, "", refusal(http.StatusForbidden, "QUOTA_EXCEEDED", fmt.Sprintf("%d credentials are good, which is the limit; revoke one", MaxTokens))
	}
	c.Number, c.At = next.Last, now
	next.Valid = append(next.Valid, c)
	text, err := c.token(t.shop)
	if err == nil {
		err = t.write(next)
	}
	return c, text, err
}

func (t *tokens) write(next tokensFile) error {
	raw, err := json.Marshal(next)
	if err == nil {
		err = t.shop.Machine().DB.Commit([]step.Record{{Key: tokensKey, Value: raw}})
	}
	if err == nil {
		t.file = &next
	}
	return err
}

// revoke ends a token, and all that were narrowed from it.
func (t *tokens) revoke(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.read(); err != nil {
		return err
	}
	at := slices.IndexFunc(t.file.Valid, func(c Credential) bool { return c.Name == name })
	if at < 0 {
		return notFound("there is no credential " + name)
	}
	return t.write(tokensFile{Last: t.file.Last, Valid: slices.Delete(slices.Clone(t.file.Valid), at, at+1)})
}

func (t *tokens) list() ([]Credential, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.read(); err != nil {
		return nil, err
	}
	return append([]Credential{}, t.file.Valid...), nil
}

var errRevoked = unauthorized("the token was revoked")

// find returns the credential that an identifier names, if it is good.
func (t *tokens) find(id []byte) (Credential, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.read(); err != nil {
		return Credential{}, err
	}
	for _, c := range t.file.Valid {
		if string(c.id()) == string(id) {
			return c, nil
		}
	}
	return Credential{}, errRevoked
}

type (
	baked struct {
		Credential
		Token string `json:"token" doc:"shown now and never again"`
	}
	// Inspected is what a credential says of itself.
	Inspected struct {
		Kind    string   `json:"kind" doc:"operator or device"`
		Name    string   `json:"name"`
		Caveats []string `json:"caveats"`
		Valid   bool     `json:"valid"`
		Why     string   `json:"why,omitempty" doc:"it is not"`
	}
)

// baking is about operators' credentials.
func (a *API) baking() {
	huma.Register(a.huma, op("GET", "/v1/credentials", Read, "Operators' credentials that are good"), func(context.Context, *struct{}) (*body[[]Credential], error) {
		return answer(a.tokens.list())
	})
	huma.Register(a.huma, secret(op("POST", "/v1/credentials", Admin, "Bake a credential. Asked again with the same terms it is the same one")), func(ctx context.Context, in *struct {
		Body struct {
			Name    string    `json:"name" maxLength:"64"`
			Scopes  []string  `json:"scopes" minItems:"1" maxItems:"4" enum:"read,sell,pay,admin"`
			Expires step.Time `json:"expires_ms,omitempty" minimum:"0"`
		}
	}) (*body[baked], error) {
		// Else whoever was given a token for a day could bake one for ever.
		if who(ctx).narrowed {
			return nil, refusal(http.StatusForbidden, "RESTRICTED", "a credential that was narrowed bakes no others; narrow it further")
		}
		if e := in.Body.Expires; e != 0 && e <= a.Machine.Engine.Host.Now() {
			return nil, invalid("expires_ms has passed")
		}
		c, text, err := a.tokens.bake(Credential{Name: in.Body.Name, Scopes: in.Body.Scopes, Expires: in.Body.Expires - in.Body.Expires%step.Second})
		return answer(baked{c, text}, err)
	})
	huma.Register(a.huma, op("DELETE", "/v1/credentials/{name}", Admin, "Revoke a credential, and all that were narrowed from it"), func(_ context.Context, in *Named) (*struct{}, error) {
		if err := a.tokens.revoke(in.Name); err != nil {
			return nil, problem(err)
		}
		return nil, nil
	})
	huma.Register(a.huma, op("POST", "/v1/credentials/inspect", Read, "What a credential says, and whether it is good"), func(_ context.Context, in *struct {
		Body struct {
			Token string `json:"token" maxLength:"6000"`
		}
	}) (*body[Inspected], error) {
		m, err := macaroon.Parse(strings.TrimSpace(in.Body.Token))
		if err != nil {
			return nil, invalid(err.Error())
		}
		return answer(a.inspect(m), nil)
	})
}

func (a *API) inspect(m macaroon.Macaroon) Inspected {
	i := Inspected{Caveats: append([]string{}, m.Caveats...)}
	if parts := strings.SplitN(string(m.ID), "/", 3); len(parts) == 3 && offer.ValidName(parts[2]) {
		i.Kind, i.Name = parts[0], parts[2]
	}
	p, err := a.Principal(m)
	if i.Valid = err == nil; err != nil {
		i.Why = err.Error()
	} else {
		i.Kind, i.Name, _ = strings.Cut(p.Name, "/")
	}
	return i
}

// narrow adds what a holder of a device's credential may do at most.
func narrow(m macaroon.Macaroon, l fleetcore.Limits) (macaroon.Macaroon, error) {
	var caveats []string
	number := func(key string, v uint64) {
		if v > 0 {
			caveats = append(caveats, key+"="+strconv.FormatUint(v, 10))
		}
	}
	number("max_payment_msat", uint64(l.Order))
	number("price_per_unit_max_msat", uint64(l.UnitPrice))
	number("budget_msat", uint64(l.Total))
	number("per_minute", uint64(l.PerMinute))
	return m.Narrow(caveats...)
}
