package paywall

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"coinop.dev/core/keys"
	"coinop.dev/core/money"
)

const (
	// MaxCredential bounds a credential of the Payment scheme or of x402, in
	// characters; the draft asks servers to take 4 KiB at least, and a stamped
	// receipt in base64 has up to that.
	MaxCredential = 16 << 10

	// Intents of the Payment scheme.
	Charge  = "charge"  // one delivery
	Session = "session" // a prepaid balance

	// Lightning is the method of draft-lightning-charge and -session. Our own
	// rails are methods by the scheme of their URIs: oneway, payword.
	Lightning = "lightning"
)

// A Challenge of the Payment scheme (draft-httpauth-payment, section 5.1). Its
// texts are those of the header and of the credential that echoes them.
type Challenge struct {
	ID          string `json:"id"`
	Realm       string `json:"realm"`
	Method      string `json:"method"`
	Intent      string `json:"intent"`
	Request     string `json:"request"`           // base64url of canonical JSON
	Expires     string `json:"expires,omitempty"` // RFC 3339
	Digest      string `json:"digest,omitempty"`
	Description string `json:"description,omitempty"` // for people; the ID does not bind it
	Opaque      string `json:"opaque,omitempty"`      // base64url of canonical JSON
}

// Seal sets the challenge's ID: a MAC over everything that a credential must echo
// unchanged. It makes the server need no memory of what it offered.
func (c Challenge) Seal(key keys.Secret) (Challenge, error) {
	if c.ambiguous() {
		return c, fmt.Errorf("realm %q, method %q and intent %q must not be empty or contain |", c.Realm, c.Method, c.Intent)
	}
	c.ID = c.id(key.Reveal())
	return c, nil
}

// Sealed reports whether key sealed this challenge as it stands.
func (c Challenge) Sealed(key keys.Secret) bool {
	return !c.ambiguous() && hmac.Equal([]byte(c.id(key.Reveal())), []byte(c.ID))
}

// ambiguous reports slots that could be cut elsewhere under the same MAC.
func (c Challenge) ambiguous() bool {
	return c.Realm == "" || c.Method == "" || c.Intent == "" || strings.Contains(c.Realm+c.Method+c.Intent+c.Request+c.Expires+c.Digest+c.Opaque, "|")
}

func (c Challenge) id(key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(c.slots()))
	return encode64(mac.Sum(nil))
}

// slots are the seven of section 5.1.2; those that are absent are empty.
func (c Challenge) slots() string {
	return strings.Join([]string{c.Realm, c.Method, c.Intent, c.Request, c.Expires, c.Digest, c.Opaque}, "|")
}

// Header is the value of WWW-Authenticate.
func (c Challenge) Header() string {
	return join("Payment",
		param{"id", c.ID}, param{"realm", c.Realm}, param{"method", c.Method}, param{"intent", c.Intent}, param{"request", c.Request},
		param{"expires", c.Expires}, param{"digest", c.Digest}, param{"description", c.Description}, param{"opaque", c.Opaque})
}

// Payment reads a challenge of the Payment scheme.
func (o Offer) Payment() (c Challenge, ok bool) {
	p := o.Params
	c = Challenge{
		ID: p["id"], Realm: p["realm"], Method: p["method"], Intent: p["intent"], Request: p["request"],
		Expires: p["expires"], Digest: p["digest"], Description: p["description"], Opaque: p["opaque"],
	}
	return c, o.Scheme == "payment" && c.ID != "" && c.Realm != "" && c.Method != "" && c.Intent != "" && c.Request != ""
}

// A Request is what a challenge asks for: the shared fields of the intents, those
// of the session intent, and the details of the method.
type Request struct {
	Amount      string `json:"amount"`   // charge: the price; session: the price of a unit
	Currency    string `json:"currency"` // sat for Lightning; msat for coinop's rails
	Description string `json:"description,omitempty"`
	ExternalID  string `json:"externalId,omitempty"` // our order, in hex

	UnitType       string `json:"unitType,omitempty"`
	DepositAmount  string `json:"depositAmount,omitempty"`
	DepositInvoice string `json:"depositInvoice,omitempty"`
	PaymentHash    string `json:"paymentHash,omitempty"`

	Details *Details `json:"methodDetails,omitempty"`
}

// Details are what a method adds to a request.
type Details struct {
	Invoice     string `json:"invoice,omitempty"` // Lightning: BOLT 11
	PaymentHash string `json:"paymentHash,omitempty"`
	Network     string `json:"network,omitempty"`
	Pay         string `json:"pay,omitempty"` // our rails: the URI to pay; the order is externalId
}

// Encode is the text of the parameter request.
func (r Request) Encode() string { return encode64(canonical(r)) }

// ReadRequest reads the parameter request.
func (c Challenge) ReadRequest() (r Request, err error) {
	return r, read64(c.Request, "the challenge's request", &r)
}

// opaque is what our own challenges carry for themselves.
type opaque struct {
	Token string `json:"token"`
}

// WithToken returns c with the shop's token of the offer inside.
func (c Challenge) WithToken(token string) Challenge {
	c.Opaque = encode64(canonical(opaque{token}))
	return c
}

// Token is the shop's token that WithToken put in.
func (c Challenge) Token() (string, error) {
	var o opaque
	return o.Token, read64(c.Opaque, "the challenge's opaque", &o)
}

// A Credential answers a challenge (section 5.2).
type Credential struct {
	Challenge Challenge `json:"challenge"`
	Source    string    `json:"source,omitempty"` // who pays, as a DID; never needed
	Payload   Payload   `json:"payload"`
}

// A Payload proves a payment: by a preimage for Lightning, by a receipt for
// coinop's own rails.
type Payload struct {
	Preimage string         `json:"preimage,omitempty"` // 64 lower-case hex digits
	Receipt  *money.Receipt `json:"receipt,omitempty"`

	// Of sessions: open, bearer, topUp or close.
	Action        string `json:"action,omitempty"`
	SessionID     string `json:"sessionId,omitempty"`     // payment hash of the first deposit, in hex
	ReturnInvoice string `json:"returnInvoice,omitempty"` // where what is left goes
	TopUpPreimage string `json:"topUpPreimage,omitempty"`
}

// Header is the value of Authorization.
func (c Credential) Header() string { return "Payment " + encode64(canonical(c)) }

// readPayment reads what follows the scheme in Authorization.
func readPayment(text string) (c Credential, err error) {
	if len(text) > MaxCredential {
		return c, fmt.Errorf("the credential is %d characters; the limit is %d", len(text), MaxCredential)
	}
	// Presence of the payload cannot be told from a zero Payload.
	present := struct {
		*Credential
		Payload *Payload `json:"payload"`
	}{Credential: &c}
	if err := read64(text, "the credential", &present); err != nil {
		return c, err
	}
	switch {
	case c.Challenge.ID == "" || c.Challenge.Realm == "" || c.Challenge.Method == "" || c.Challenge.Intent == "" || c.Challenge.Request == "":
		return c, errors.New("the credential must echo its challenge: id, realm, method, intent and request")
	case present.Payload == nil:
		return c, errors.New("the credential has no payload")
	}
	c.Payload = *present.Payload
	return c, nil
}

// A Receipt is the value of Payment-Receipt (section 5.3).
type Receipt struct {
	Status      string `json:"status"` // success
	Method      string `json:"method"`
	Timestamp   string `json:"timestamp"` // RFC 3339
	Reference   string `json:"reference"` // Lightning: the payment hash; else our order
	ChallengeID string `json:"challengeId,omitempty"`
}

// Header is the value of Payment-Receipt.
func (r Receipt) Header() string { return encode64(canonical(r)) }

// ReadReceipt reads Payment-Receipt.
func ReadReceipt(header string) (r Receipt, err error) { return r, read64(header, "the receipt", &r) }

// read64 reads base64url of a JSON object.
func read64(text, what string, into any) error {
	b, err := decode64(text)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if len(b) == 0 || b[0] != '{' {
		return fmt.Errorf("%s is no JSON object", what)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s is not what it should be: %w", what, err)
	}
	return nil
}
