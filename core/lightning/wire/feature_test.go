package wire_test

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/lightning/wire"
)

func TestFeatures(t *testing.T) {
	ours := wire.NewFeatures(wire.DataLossProtect.Optional(), wire.StaticRemoteKey, wire.Anchors.Optional())
	if ours != "\x80\x10\x02" {
		t.Errorf("got %x", string(ours))
	}
	for _, c := range []struct {
		feature           wire.Feature
		offered, required bool
	}{
		{wire.DataLossProtect, true, false},
		{wire.DataLossProtect.Optional(), true, false},
		{wire.StaticRemoteKey, true, true},
		{wire.StaticRemoteKey.Optional(), true, true},
		{wire.Anchors, true, false},
		{wire.Keysend, false, false},
		{1 << 31, false, false},
	} {
		if ours.Offers(c.feature) != c.offered || ours.Requires(c.feature) != c.required {
			t.Errorf("%v: offered %v, required %v", c.feature, ours.Offers(c.feature), ours.Requires(c.feature))
		}
	}
	if got := ours.String(); got != "{1 option_data_loss_protect, 12 option_static_remotekey, 23 option_anchors}" {
		t.Errorf("got %s", got)
	}
}

func TestChannelTypesAreTheirBits(t *testing.T) {
	if wire.ChannelStaticRemoteKey != wire.NewFeatures(12) || wire.ChannelAnchors != wire.NewFeatures(12, 22) {
		t.Error("the constants have other bits")
	}
	private := wire.ChannelAnchors.With(wire.SCIDAlias, wire.ZeroConf)
	if !slices.Equal(private.Bits(9), []wire.Feature{12, 22, 46, 50}) || wire.ChannelAnchors != "\x40\x10\x00" {
		t.Errorf("got %v", private)
	}
	if !wire.ChannelAnchors.Equal("\x00\x40\x10\x00") || wire.ChannelAnchors.Equal(wire.ChannelStaticRemoteKey) {
		t.Error("padding makes a difference")
	}
}

// BOLT 1: an even bit we do not know ends the connection, an odd one does not.
func TestUnknownFeatures(t *testing.T) {
	known := wire.NewFeatures(1, 13, 23)
	if got := wire.NewFeatures(0, 12, 22, 101).Unknown(known); got != nil {
		t.Errorf("got %v", got)
	}
	if got := wire.NewFeatures(0, 16, 100, 101).Unknown(known); !slices.Equal(got, []wire.Feature{16, 100}) {
		t.Errorf("got %v", got)
	}
	flood := wire.Features(strings.Repeat("\xff", 65_000))
	if got := flood.Unknown(known); len(got) != wire.MaxListed {
		t.Errorf("%d are named", len(got))
	}
	if got := flood.String(); len(got) > 1000 || !strings.HasSuffix(got, "...}") {
		t.Errorf("got %s", got)
	}
}

func TestFeatureDependencies(t *testing.T) {
	for _, good := range []wire.Features{"", wire.NewFeatures(51, 47), wire.NewFeatures(61, 26), wire.NewFeatures(17), wire.NewFeatures(23)} {
		if err := good.Check(); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
	err := wire.NewFeatures(wire.ZeroConf.Optional()).Check()
	if err == nil || err.Error() != "feature 50 option_zeroconf needs feature 46 option_scid_alias, which is not offered" {
		t.Errorf("got %v", err)
	}
}

// A set of bits is the same whatever the order it was made in, and Or is union.
func TestFeaturesAreSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var a, b []wire.Feature
		for range rng.IntN(8) {
			a = append(a, wire.Feature(rng.IntN(300)))
		}
		for range rng.IntN(8) {
			b = append(b, wire.Feature(rng.IntN(300)))
		}
		both := slices.Concat(a, b)
		union := wire.NewFeatures(a...).Or(wire.NewFeatures(b...))
		rng.Shuffle(len(both), func(i, j int) { both[i], both[j] = both[j], both[i] })
		slices.Sort(a)
		if got := wire.NewFeatures(a...).Bits(100); !reflect.DeepEqual(got, slices.Compact(a)) {
			t.Fatalf("%v has %v", a, got)
		}
		if union != wire.NewFeatures(both...) {
			t.Fatalf("%v or %v is %v", a, b, union)
		}
	}
}
