// Package page is the live web page of "coinop demo": two machines or three, the
// coins between them, and buttons that try to break it.
//
// The demo publishes a State four times a second into a Hub; the Hub's Handler
// serves the page, the stream of states (Server-Sent Events), the newest state
// as JSON and the buttons' actions. The page is seven files in the binary: no
// build step, no request to anywhere else.
package page

import "math"

// A State is one picture of the demo. Every number carries its unit in its
// JSON name. All times are measured from the start of the demo.
type State struct {
	Scenario string  `json:"scenario"` // sensor, charger
	Rail     string  `json:"rail"`     // oneway, payword, lightning, bitcoin, nano, iota
	Phase    Phase   `json:"phase"`
	ElapsedS float64 `json:"elapsed_s"`
	ForS     float64 `json:"for_s"` // 0: until stopped

	Payments  uint64  `json:"payments"`
	RatePerS  float64 `json:"rate_per_s"` // over the last second; over bitcoin, ten
	Delivered uint64  `json:"delivered_units"`
	Unit      string  `json:"unit"`   // readings, Wh
	Source    string  `json:"source"` // where the goods come from: "this computer", "a simulated meter"

	PriceMsat        uint64 `json:"price_msat"`
	PaidMsat         uint64 `json:"paid_msat"`
	CapacityMsat     uint64 `json:"capacity_msat"`
	LeftMsat         uint64 `json:"left_msat"`
	AtRiskBuyerMsat  uint64 `json:"at_risk_buyer_msat"`  // paid, not yet delivered
	AtRiskSellerMsat uint64 `json:"at_risk_seller_msat"` // delivered, not yet paid

	P50Ms float64 `json:"p50_ms"`
	P99Ms float64 `json:"p99_ms"`

	Link   Link    `json:"link"`
	Buyer  Machine `json:"buyer"`
	Seller Machine `json:"seller"`
	Chain  Chain   `json:"chain"`

	Route   *Route   `json:"route,omitempty"`   // over lightning
	Custody *Custody `json:"custody,omitempty"` // over bitcoin
	Network *Network `json:"network,omitempty"` // over nano and iota
	Lattice *Lattice `json:"lattice,omitempty"` // over nano
	Tangle  *Tangle  `json:"tangle,omitempty"`  // over iota

	Readings []Reading `json:"readings"` // newest last; at most MaxReadings are shown
	Events   []Event   `json:"events"`   // newest last; at most MaxEvents are shown
}

// A Phase says how far the demo is.
type Phase string

const (
	Opening Phase = "opening"
	Paying  Phase = "paying"
	Closing Phase = "closing"
	Settled Phase = "settled"
	Stopped Phase = "stopped" // ended without settling
)

// A Link is the wire between the machines.
type Link string

const (
	Up   Link = "up"
	Down Link = "down"
)

// A Life is what a machine is doing.
type Life string

const (
	Running    Life = "running"
	Killed     Life = "killed"
	Restarting Life = "restarting"
)

// A Route is what a demo over Lightning shows besides: the router between buyer
// and seller, and a channel on either side of it. CapacityMsat and LeftMsat of
// the State are the near channel's, and AtRiskBuyerMsat is what hangs in the
// router's channels and is too small for the chain to enforce.
type Route struct {
	Router      Machine `json:"router"`
	Near        Channel `json:"near"` // buyer to router
	Far         Channel `json:"far"`  // router to seller
	FeesMsat    uint64  `json:"fees_msat"`
	FeeBaseMsat uint64  `json:"fee_base_msat"` // of one payment
	FeePPM      uint64  `json:"fee_ppm"`       // and this share of it
	MaxDustMsat uint64  `json:"max_dust_msat"` // in one channel
	Liquidity   string  `json:"liquidity"`     // the router's, in a sentence
	LeftSat     int64   `json:"left_sat"`      // settled, but in outputs that nobody has taken
	Cheat       *Cheat  `json:"cheat,omitempty"`
}

// A Channel is one of a Route, as its end nearer to the buyer sees it.
type Channel struct {
	SCID         string `json:"short_channel_id"` // "" until it is deep enough
	CapacityMsat uint64 `json:"capacity_msat"`
	NearMsat     uint64 `json:"near_msat"`
	FarMsat      uint64 `json:"far_msat"`
	HTLCs        int    `json:"htlcs"` // in flight
	Usable       bool   `json:"usable"`
	Depth        int32  `json:"depth_blocks"`
	FundingTxid  string `json:"funding_txid"`
	CloseTxid    string `json:"close_txid"`
}

// A Cheat is a revoked commitment that the router has published, and what came
// of it. PenaltyTxid is "" until it is punished.
type Cheat struct {
	RevokedTxid string `json:"revoked_txid"`
	PenaltyTxid string `json:"penalty_txid"`
	CapacitySat int64  `json:"capacity_sat"`
	Owed        int64  `json:"owed_sat"`    // was the seller's at that moment
	Claimed     int64  `json:"claimed_sat"` // the router's by the revoked commitment
	SellerSat   int64  `json:"seller_sat"`  // what they have got in the end
	RouterSat   int64  `json:"router_sat"`
	FeesSat     int64  `json:"fees_sat"`
	LeftSat     int64  `json:"left_sat"` // in outputs that nobody has taken
}

// A Custody is what a demo over the chain shows besides: the gateway between
// buyer and seller, which has the buyer's public keys only, and the limits within
// which the buyer, who has the key, consents to what the gateway proposes.
type Custody struct {
	Gateway        Machine   `json:"gateway"`
	Account        string    `json:"account"`
	Descriptor     string    `json:"descriptor"` // all the gateway knows of the keys: public
	Records        int       `json:"gateway_records"`
	Private        int       `json:"gateway_private_records"` // of them with a private key of the buyer's
	Consents       uint64    `json:"consents"`
	PerPaymentMsat uint64    `json:"per_payment_msat"`
	PerDayMsat     uint64    `json:"per_day_msat"`
	LeftMsat       uint64    `json:"left_msat"` // of a day
	MaxFeeMsat     uint64    `json:"max_fee_msat"`
	DeviceTip      int32     `json:"device_tip"` // the buyer's own headers end here
	Waiting        int       `json:"waiting"`    // orders that are not settled
	Txs            []Tx      `json:"txs"`        // newest last; at most MaxTxs are shown
	Mined          int       `json:"mined_txs"`
	Orders         int       `json:"mined_orders"`
	FeesSat        int64     `json:"fees_sat"`
	Bumps          int       `json:"bumps"`
	FullMsatPerVB  uint64    `json:"full_msat_per_vb"` // what full blocks ask for; 0: there is room
	Refusals       []Refusal `json:"refusals"`
	Last           *Refusal  `json:"last_refusal,omitempty"`
	Signed         int       `json:"lies_signed"` // a bug if it is not 0
}

// A Tx is a transaction that pays orders.
type Tx struct {
	TxID     string `json:"txid"`
	Orders   int    `json:"orders"`
	FeeSat   int64  `json:"fee_sat"`
	State    string `json:"state"` // proposed, published, bumping, mined
	Height   int32  `json:"height"`
	Versions int    `json:"versions"`
}

// A Refusal is a lie of the gateway's, and why the buyer did not sign it.
type Refusal struct {
	Lie    string `json:"lie"`
	Reason string `json:"reason"`
	Text   string `json:"text"`
	Count  int    `json:"count"`
}

// A Machine is the buyer, the seller, or between them.
type Machine struct {
	Name        string `json:"name"`
	State       Life   `json:"state"`
	NodeKey     string `json:"node_key"`     // hex
	OnchainSat  int64  `json:"onchain_sat"`  // read from the chain, not from its own books
	ChannelMsat uint64 `json:"channel_msat"` // its side of the channel
	HoldsMsat   uint64 `json:"holds_msat"`   // by what the nodes of a ledger say, whole msat
	Kills       int    `json:"kills"`
}

// A Chain is what the chain says.
type Chain struct {
	Height       int32  `json:"height"`
	Tip          string `json:"tip"` // block hash, hex
	FundingTxid  string `json:"funding_txid"`
	FundingDepth int32  `json:"funding_depth_blocks"`
	CloseTxid    string `json:"close_txid"`
	FeesSat      int64  `json:"fees_sat"`
	StartSat     int64  `json:"start_sat"` // what all wallets held at first; 0: not known
	Conserved    *bool  `json:"conserved"` // nil until the balances are read back
}

// A Reading is one delivery that was paid.
type Reading struct {
	AtMs     int64  `json:"at_ms"`
	Name     string `json:"name"`
	Value    string `json:"value"` // with its unit, as a person reads it
	PaidMsat uint64 `json:"paid_msat"`
}

// A Level colours an Event.
type Level string

const (
	Info Level = "info"
	Warn Level = "warn" // also a mark on the chart
	Good Level = "good"
)

// An Event is one line of the log.
type Event struct {
	AtMs  int64  `json:"at_ms"`
	Level Level  `json:"level"`
	Text  string `json:"text"`
}

const (
	// MaxReadings and MaxEvents are what the page has room for.
	MaxReadings = 12
	MaxEvents   = 30
	// MaxTxs is how many transactions there is room for.
	MaxTxs = 6
)

// fit returns s as JSON can carry it: bounded lists, no null list, no NaN.
func (s State) fit() State {
	s.Readings = newest(s.Readings, MaxReadings)
	s.Events = newest(s.Events, MaxEvents)
	finite(&s.ElapsedS, &s.ForS, &s.RatePerS, &s.P50Ms, &s.P99Ms)
	s.Network, s.Lattice, s.Tangle = s.Network.fit(), s.Lattice.fit(), s.Tangle.fit()
	return s
}

// finite makes 0 of what is no number.
func finite(all ...*float64) {
	for _, f := range all {
		if math.IsNaN(*f) || math.IsInf(*f, 0) {
			*f = 0
		}
	}
}

func newest[T any](list []T, n int) []T {
	if list == nil {
		return []T{}
	}
	return list[max(0, len(list)-n):]
}
