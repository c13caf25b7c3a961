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
	noRail     = "no rail of this build yet"
	noContract = "no rail of this build yet: it needs a chain with contracts"
)

// Others are all of them, in the survey's order; docs/rails says how far each is.
var Others = []Other{
	{"BCCAPI", Direct, "its service ended in 2013; a device with the key and a gateway with the chain, as this build has it, pays by the transactions of Bitcoin, on chain: see there"},
	{"LoRa gateway with Ethereum (Özyılmaz, Yurdakul)", Direct, noContract},
	{"Hyperledger gateway", Direct, "no rail of this build yet: it needs a Fabric peer"},
	{"Ptarmigan", Channel, "its program has stood still since 2021 and cannot pay a node of today; a node as small, as this build has it, is Lightning: see there"},
	{"IoT payment gateway and watchdog (Hannon, Jin)", Channel, noRail},
	{"TBVP (Pouraghily, Wolf)", Channel, noContract},
	{"Lightning module (Robert, Kubler, Ghatpande)", Channel, "its program is not published; it pays over Lightning: see there"},
	{"LNGate (Kurt et al.)", Channel, "no rail of this build yet: it needs a key that device and gateway have half each"},
	{"Raiden", Channel, noContract},
	{"µRaiden", Channel, noContract},
	{"IoTeX", NewCoin, noRail},
	{"ITC (IoT Chain)", NewCoin, noRail},
	{"Waltonchain", NewCoin, noRail},
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
