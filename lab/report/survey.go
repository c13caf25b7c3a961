package report

// A Quote is a figure of somebody else's. It is shown beside ours and never taken
// for one.
type Quote struct {
	Rails           []string // of the report, that it speaks of
	Rate, Fee, Time string   // payments a second, fee, time to confirmation; "" is none
	Source          string
	Survey          bool // the survey itself, not another source
}

const theSurvey = "“Cryptocurrency solutions to enable micro-payments in consumer IoT”"

// Quotes are what the survey and its sources say.
var Quotes = []Quote{
	{[]string{"bitcoin"}, "7/s", "about US$ 10", "10 min", theSurvey + ", Table II, direct integration", true},
	{[]string{"lightning", "lightning-routed", "lnd", "lnd-routed"}, "", "below US$ 0.01", "1–5 s", theSurvey + ", Lightning", true},
	{[]string{"iota"}, "above 1,000/s", "0", "minutes", theSurvey + ", Table II, new coins", true},
	{[]string{"nano"}, "161/s live, 1,800/s on a beta network", "0", "0.2 s", "Nano's documentation", false},
}

// An Other is a system of the survey that this build does not run. It keeps its row.
type Other struct {
	Title  string
	Class  Class
	Reason string // why nothing of it is measured
}

const (
	noContracts = "it needs a chain with contracts, and no rail of this build has one"
	noCode      = "its makers have published no program that could be run beside ours"
)

// Others are all of them, in the survey's order.
var Others = []Other{
	{"BCCAPI", Direct, "its service ended in 2013; keys on the device and the chain at a gateway are rail bitcoin's coinop account, whose transactions are the row above"},
	{"LoRa gateway with Ethereum (Özyılmaz, Yurdakul)", Direct, noContracts},
	{"Hyperledger gateway", Direct, "it needs a Fabric peer, which is no part of this build"},
	{"Ptarmigan", Channel, "it has stood still since 2021 and knows no payment secret, without which no node of today is paid"},
	{"IoT payment gateway and watchdog (Hannon, Jin)", Channel, noCode},
	{"TBVP (Pouraghily, Wolf)", Channel, noContracts},
	{"Lightning module (Robert, Kubler, Ghatpande)", Channel, noCode},
	{"LNGate (Kurt et al.)", Channel, "it needs keys that device and gateway hold together, which no rail of this build has"},
	{"Raiden", Channel, noContracts}, {"µRaiden", Channel, noContracts},
	{"IoTeX", NewCoin, noContracts}, {"ITC (IoT Chain)", NewCoin, "no rail of this build; its published program lacks what the survey describes"},
	{"Waltonchain", NewCoin, "no rail of this build; its published program lacks what the survey describes"},
}

// quote finds what is said of a rail, the survey's first.
func quote(rail string) *Quote {
	for i := range Quotes {
		for _, name := range Quotes[i].Rails {
			if name == rail {
				return &Quotes[i]
			}
		}
	}
	return nil
}
