package railtest_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"coinop.dev/core/money"
	"coinop.dev/rail"
)

type nothing struct{}

func (nothing) Open(_ context.Context, u *url.URL, _ rail.Env) (rail.Conn, error) {
	return conn{}, rail.Query(u).Close()
}

type conn struct{}

func (conn) Pay(context.Context, money.Order) (money.Receipt, error) { return money.Receipt{}, nil }
func (conn) Verify(money.Receipt) error                              { return nil }
func (conn) Close() error                                            { return nil }

func TestRegistry(t *testing.T) {
	var g rail.Registry
	g.Register("oneway", nothing{})
	g.Register("fake", nothing{})
	if got := strings.Join(g.Schemes(), " "); got != "fake oneway" {
		t.Errorf("schemes are %s", got)
	}
	for uri, want := range map[string]string{
		"oneway://a@b:1?x=1":                 "",
		"cash:":                              `no rail is called "cash"; this build has fake, oneway`,
		"":                                   "no rail is called",
		"://":                                "missing protocol scheme",
		"oneway:" + strings.Repeat("x", 600): "the limit is 512",
	} {
		_, err := g.Parse(uri)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.30s: got %v, want %q", uri, err, want)
		}
	}
	for name, register := range map[string]func(){
		"nil":   func() { g.Register("x", nil) },
		"twice": func() { g.Register("fake", nothing{}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is taken", name)
				}
			}()
			register()
		}()
	}
}

// A receipt of a rail that is wrong leaves the order pending: the money may
// have moved.
func TestARailThatLies(t *testing.T) {
	var g rail.Registry
	g.Register("fake", nothing{})
	r, err := g.Open(t.Context(), "fake:", rail.Env{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Pay(t.Context(), money.Order{ID: money.OrderID{1}, To: "fake:", Amount: 5}); money.KindOf(err) != money.Pending {
		t.Errorf("a receipt for another order: %v", err)
	}
}

// FuzzParse: whatever a config says, it is an error or a URI of a known rail.
func FuzzParse(f *testing.F) {
	for _, uri := range []string{"oneway://02ab@h:1?capacity=200000sat&life=5", "fake:?balance=1000sat", "oneway:?host=[::1]:9", "oneway://%zz", "fake:;", "fake:?a=b;c"} {
		f.Add(uri)
	}
	var g rail.Registry
	g.Register("oneway", nothing{})
	g.Register("fake", nothing{})
	f.Fuzz(func(t *testing.T, uri string) {
		u, err := g.Parse(uri)
		if err != nil {
			return
		}
		if u.Scheme != "oneway" && u.Scheme != "fake" {
			t.Errorf("%q is parsed as a %q", uri, u.Scheme)
		}
		q := rail.Query(u)
		amount, n := q.Amount("capacity", 7), q.Int("life", 5, 1, 9)
		q.Text("host", "")
		if err := q.Close(); err == nil && (amount > money.MaxAmount || n < 1 || n > 9) {
			t.Errorf("%q gives %v and %d", uri, amount, n)
		}
		g.Open(t.Context(), uri, rail.Env{})
	})
}
