package paywall

import (
	"errors"
	"fmt"
	"slices"
)

// A Proof is what a request shows for having paid, in whichever dialect. At most
// one of its fields is set.
type Proof struct {
	L402    *Paid
	Payment *Credential
	X402    *X402Payment
}

// Paid is an L402 token with the preimage of its invoice.
type Paid struct {
	Token    string
	Preimage [32]byte
}

// None reports whether there was no payment credential at all.
func (p Proof) None() bool { return p.L402 == nil && p.Payment == nil && p.X402 == nil }

var errMany = errors.New("there are two different payment credentials; send one")

// ReadProof finds the payment credential among a request's headers, which have
// the form of http.Header. It is the only reader of credentials, so what it does
// not take is never metered, and never served either. An error means that there
// is one and it is malformed: such a request must be refused.
func ReadProof(header map[string][]string) (p Proof, err error) {
	for _, v := range header["Authorization"] {
		scheme, text := credentials(v)
		switch scheme {
		case "l402", "lsat":
			token, preimage, err := readL402(text)
			if err != nil {
				return Proof{}, err
			}
			// Old clients send the same credential under both names.
			if paid := (Paid{token, preimage}); p.None() {
				p.L402 = &paid
			} else if p.L402 == nil || *p.L402 != paid {
				return Proof{}, errMany
			}
		case "payment":
			if !p.None() {
				return Proof{}, errMany
			}
			c, err := readPayment(text)
			if err != nil {
				return Proof{}, err
			}
			p.Payment = &c
		}
	}
	for _, v := range slices.Concat(header[X402Signature], header[X402Legacy]) {
		if !p.None() {
			return Proof{}, errMany
		}
		x, err := readX402(v)
		if err != nil {
			return Proof{}, err
		}
		p.X402 = &x
	}
	return p, nil
}

// Strip removes payment credentials from a request's headers, so that what is
// behind the paywall never sees them. Other credentials stay.
func Strip(header map[string][]string) {
	kept := slices.DeleteFunc(slices.Clone(header["Authorization"]), func(v string) bool {
		scheme, _ := credentials(v)
		return scheme == "l402" || scheme == "lsat" || scheme == "payment"
	})
	if header["Authorization"] = kept; len(kept) == 0 {
		delete(header, "Authorization")
	}
	delete(header, X402Signature)
	delete(header, X402Legacy)
}

// A Problem is an RFC 9457 answer to a request that was not served.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`

	ChallengeID string `json:"challengeId,omitempty"`
	RetryAfter  int    `json:"retryAfter,omitempty"` // seconds
	// Of a balance or budget that is too small: in msat, with units if told.
	Limit *uint64 `json:"limit_msat,omitempty"`
	Left  *uint64 `json:"left_msat,omitempty"`
}

// Error makes a problem an error.
func (p *Problem) Error() string { return fmt.Sprintf("%s: %s", p.Title, p.Detail) }

// Problems of the Payment scheme (paymentauth.org/problems), and those that have
// no type of their own.
var (
	PaymentRequired     = problem("payment-required", "Payment Required", 402)
	InsufficientBalance = problem("session/insufficient-balance", "Insufficient Balance", 402)
	PaymentExpired      = problem("payment-expired", "Payment Expired", 402)
	VerificationFailed  = problem("verification-failed", "Verification Failed", 402)
	InvalidChallenge    = problem("invalid-challenge", "Invalid Challenge", 402)
	MalformedCredential = problem("malformed-credential", "Malformed Credential", 402)
	MethodUnsupported   = problem("method-unsupported", "Method Unsupported", 400)

	NotFound        = Problem{Type: "about:blank", Title: "Not Found", Status: 404}
	Forbidden       = Problem{Type: "about:blank", Title: "Forbidden", Status: 403}
	BadRequest      = Problem{Type: "about:blank", Title: "Bad Request", Status: 400}
	TooManyRequests = Problem{Type: "about:blank", Title: "Too Many Requests", Status: 429}
	NotImplemented  = Problem{Type: "about:blank", Title: "Not Implemented", Status: 501}
	BadGateway      = Problem{Type: "about:blank", Title: "Bad Gateway", Status: 502}
	Unavailable     = Problem{Type: "about:blank", Title: "Service Unavailable", Status: 503}
)

func problem(slug, title string, status int) Problem {
	return Problem{Type: "https://paymentauth.org/problems/" + slug, Title: title, Status: status}
}

// With returns p with a detail that says what to do.
func (p Problem) With(format string, args ...any) *Problem {
	p.Detail = fmt.Sprintf(format, args...)
	return &p
}
