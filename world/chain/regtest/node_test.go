package regtest_test

import (
	"testing"

	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/regtest"
)

func open(t *testing.T, o regtest.Options) *regtest.Node {
	t.Helper()
	n, err := regtest.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestSource(t *testing.T) {
	t.Parallel()
	chaintest.Test(t, func(t *testing.T) (chain.Source, chaintest.Miner) {
		n := open(t, regtest.Options{})
		return n, n
	})
}

func TestOpenURL(t *testing.T) {
	r := chain.Registry{}
	r.Register("regtest", regtest.OpenURL)
	t.Chdir(t.TempDir())
	for _, uri := range []string{"regtest:", "regtest:dir", "regtest:?listen=127.0.0.1:0"} {
		s, err := r.Open(t.Context(), uri)
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, uri := range []string{"regtest://host", "regtest:?port=1", "regtest:?listen=nowhere", "regtest:#x"} {
		if s, err := r.Open(t.Context(), uri); err == nil || s != nil {
			t.Errorf("%s gives %v, error %v", uri, s, err)
		}
	}
}
