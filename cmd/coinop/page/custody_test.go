package page

import (
	"context"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// kept is pretend over the chain, with a gateway in between.
func kept(s float64) State {
	st := pretend(s)
	st.Scenario, st.Rail, st.Unit, st.Source = "charger", "bitcoin", "mWh", "a simulated meter"
	n := uint64(s)
	st.Payments, st.RatePerS, st.Delivered, st.PriceMsat, st.PaidMsat = n, 1, 2000*n, 500, 1_000_000*n
	st.CapacityMsat, st.LeftMsat, st.AtRiskBuyerMsat, st.AtRiskSellerMsat, st.P50Ms, st.P99Ms = 0, 0, 3_000_000, 0, 3008.8, 6023.8
	fees := int64(78 * n)
	st.Buyer.Name, st.Buyer.OnchainSat = "meter", 1_000_000-int64(n)*1000-fees
	st.Seller.Name, st.Seller.OnchainSat, st.Seller.Kills = "charger", int64(n)*1000, 0
	st.Chain.StartSat, st.Chain.FundingTxid, st.Chain.FundingDepth, st.Chain.FeesSat = 1_000_000, "", 0, fees
	st.Custody = &Custody{
		Gateway: Machine{Name: "gateway", State: Running, NodeKey: "02e6ce93de1456d9d6680eccf8"}, Account: "meter-7",
		Descriptor: "wpkh([64377277/84h/1h/0h]tpubDCceFxiP4npg3e8BsoKyzZugiVQop8QtN45JVJLAfGpYKJrttsJz9v8owpg7BqY2GyVREbFgKMJch5kZyGGi4Pm5ysZFyriUcU5EFE5RysZ/<0;1>/*)#xw4n97zq",
		Records:    204, Consents: n/3 + 2, PerPaymentMsat: 2_000_000, PerDayMsat: 1_000_000_000, LeftMsat: 1_000_000_000 - (n*1000+uint64(fees))*1000,
		MaxFeeMsat: 10_000_000, DeviceTip: 118, Waiting: 2, Mined: int(n / 3), Orders: int(n), FeesSat: fees, Bumps: 1,
	}
	for i := range int32(5) {
		st.Custody.Txs = append(st.Custody.Txs, Tx{TxID: strings.Repeat(string('a'+i)+"3f9c0de", 8), Orders: 3, FeeSat: 234, State: "mined", Height: 113 + i, Versions: 1 + int(i)%2})
	}
	st.Custody.Txs = append(st.Custody.Txs, Tx{TxID: strings.Repeat("f3f9c0de", 8), Orders: 2, FeeSat: 203, State: "published", Versions: 1})
	st.Events = []Event{
		{51, Info, "a Bitcoin regtest chain starts, with the mainnet's consensus rules"}, {90, Info, "the gateway follows the chain; it has no keys"},
		{296, Good, "the meter has claimed its account with a public descriptor; its key, limits and counter stay with it"},
	}
	for i := range st.Readings {
		st.Readings[i].Name, st.Readings[i].Value, st.Readings[i].PaidMsat = "meter (simulated)", "114.000 Wh at 7412 W", 1_000_000
		st.Readings[i].AtMs = int64(s*1000) - int64(12-i)*900
	}
	return st
}

// liedTo is kept after every kind of lie.
func liedTo(s float64) State {
	st := kept(s)
	for _, why := range []string{"order", "change", "fee", "amount", "paid", "replayed", "changed", "not asked", "output", "proof", "sighash"} {
		st.Custody.Refusals = append(st.Custody.Refusals, Refusal{Lie: "a lie", Reason: why, Text: "no", Count: 1})
	}
	st.Custody.Refusals[1].Count = 2
	st.Custody.Last = &Refusal{
		Lie: "the change goes to the gateway, and is said to be the meter's", Reason: "change", Count: 2,
		Text: "output 1 is not change: it pays bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080, and the key at 1/7 is paid by bcrt1q9vza2e8x573nczrlzms0wvx3gsqjx7vavgkx0l",
	}
	st.Events = append(st.Events, Event{31000, Warn, "the gateway lies: the change goes to the gateway, and is said to be the meter's"}, Event{31020, Good, "the meter refuses (change): " + st.Custody.Last.Text})
	return st
}

func full(s float64) State {
	st := kept(s)
	st.Custody.FullMsatPerVB = 1900
	return st
}

func keptOpening() State {
	st := kept(0.4)
	st.Phase, st.RatePerS, st.Payments, st.Readings, st.P50Ms, st.P99Ms = Opening, 0, 0, nil, 0, 0
	st.Buyer.OnchainSat, st.Custody = 0, &Custody{Gateway: st.Custody.Gateway, Account: "meter-7", PerPaymentMsat: 2_000_000, PerDayMsat: 1_000_000_000, LeftMsat: 1_000_000_000, MaxFeeMsat: 10_000_000}
	return st
}

func keptEnd(s State) State {
	yes := true
	s.Phase, s.RatePerS, s.ElapsedS, s.AtRiskBuyerMsat = Settled, 0, s.ElapsedS+3, 0
	s.Chain.CloseTxid, s.Chain.Conserved = strings.Repeat("f3f9c0de", 8), &yes
	last := &s.Custody.Txs[len(s.Custody.Txs)-1]
	last.State, last.Height = "mined", 118
	return s
}

// Over the chain the page has a third machine, who knows what, and the lies.
func TestCustodyInBrowser(t *testing.T) {
	ctx := browse(t)
	h := NewHub()
	server := serve(t, h, map[string]func(context.Context) error{"lie": func(context.Context) error { return nil }, "slow": nil, "kill-gateway": nil})
	h.Publish(kept(30))
	must(t, ctx, chromedp.Navigate(server.URL))
	text := func(id, want string) {
		t.Helper()
		wait(t, ctx, `document.getElementById('`+id+`').textContent.includes('`+want+`')`)
	}
	text("router-name", "Gateway")
	text("router-screen", "nothing")
	text("router-channel", "0 in 204 records")
	text("fees-is", "transactions of 3.0 payments")
	text("risk-b", "78 sat")
	text("lie-is", "No lie told yet")
	wait(t, ctx, `document.querySelectorAll('#txs li').length === 6 && document.getElementById('c-fund').parentElement.hidden`)
	wait(t, ctx, `!document.querySelector('[data-do=lie]').hidden && document.querySelector('[data-do=kill-router]').hidden`)
	h.Publish(liedTo(31))
	text("lie-is", "12 lies refused, 0 signed")
	text("lie-why", "output 1 is not change")
	wait(t, ctx, `document.querySelectorAll('#lies i').length === 11`)
	h.Publish(full(32))
	text("status", "Blocks are full and ask for 1.9 sat/vB")
	text("txs", "left out: blocks ask for 1.9 sat/vB")
	h.Publish(keptEnd(kept(33)))
	text("s-consents", "0 lies signed")
	text("stamp", "✓")
}
