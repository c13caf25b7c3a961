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
